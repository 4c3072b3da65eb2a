//! Chains that an owner kept too long, or took from the wrong queue, after long lives and restores.

use std::sync::Arc;

use virtside::{
    DriverMem, Features, FlatMem, Refusal, Shared, Step, device::TakenQueue, queue::Chain,
    snapshot::EngineSnapshot, testing::Registers,
};
use virtside_tests::{
    BASE, Line, N, Q, SIZE,
    in_order::{FORMATS, Format, HolderRig, InOrderDriver},
    reg,
};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

const STALE: Result<(), virtside::error::DeviceError> =
    Err(virtside::error::DeviceError::Refused(Refusal::StaleToken));

fn pop(rig: &mut HolderRig, queue: &mut Queue) -> Chain<N> {
    let mut chain = Chain::new();
    rig.drivers[usize::from(queue.number())].room(4);
    assert_eq!(queue.pop(&rig.ram.flat(BASE), &mut chain), Ok(true));
    chain
}

/// Two live queues in this format, saved and restored.
fn restored(format: Format, features: Features) -> HolderRig {
    let mut rig = HolderRig::with(format, features, 2, SIZE, 4);
    let state: EngineSnapshot<(), Q, N, 4> = rig.engine.save().expect("nothing is outstanding");
    rig.renew(4);
    assert_eq!(rig.engine.restore(&state), Ok(()));
    rig
}

#[test]
fn a_chain_from_before_ten_thousand_queue_resets_is_stale() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::RING_RESET, 1, SIZE, 4);
        let mut queue = rig.engine.take_queue(0).expect("it is live");
        let old = pop(&mut rig, &mut queue);
        assert_eq!(queue.complete(&old, 4), Ok(()));
        drop(queue);
        for count in 0..10_000 {
            let _ = rig.engine.store(reg::QUEUE_SEL, 0);
            let _ = rig.engine.store(reg::QUEUE_RESET, 1);
            rig.drivers[0] = InOrderDriver::new(rig.ram, format, 0, SIZE);
            let config = rig.drivers[0].config();
            assert_eq!(rig.engine.configure(&config).refusal(), None);
            let mut queue = rig.engine.take_queue(0).expect("it is live");
            let own = pop(&mut rig, &mut queue);
            assert_eq!(queue.complete(&old, 4), STALE, "{format:?} after {count}");
            assert_eq!(queue.complete(&own, 4), Ok(()));
        }
    }
}

#[test]
fn a_chain_of_a_life_before_the_restore_is_stale() {
    for &format in FORMATS {
        let mut rig = restored(format, Features::IN_ORDER);
        let mut queue = rig.engine.take_queue(0).expect("it is live");
        let old: Vec<_> = (0..4).map(|_| pop(&mut rig, &mut queue)).collect();
        for chain in &old {
            assert_eq!(queue.complete(chain, 4), Ok(()));
        }
        assert!(rig.engine.put_back(queue).is_ok());
        assert_eq!(rig.drivers[0].take().len(), 4);
        let state: EngineSnapshot<(), Q, N, 4> = rig.engine.save().expect("nothing is out");
        // The same engine, which was reset; and again.
        for _ in 0..50 {
            let _ = rig.engine.store(reg::STATUS, 0);
            assert_eq!(rig.engine.restore(&state), Ok(()));
            let mut queue = rig.engine.take_queue(0).expect("it is live");
            for chain in &old {
                assert_eq!(queue.complete(chain, 4), STALE, "{format:?}");
            }
            assert_eq!(queue.in_flight(), 0);
            drop(queue);
        }
        // The ring goes on where it was.
        let _ = rig.engine.store(reg::STATUS, 0);
        assert_eq!(rig.engine.restore(&state), Ok(()));
        rig.fill();
        assert_eq!(rig.send(&[4; 3]), Step::Idle);
        assert_eq!(rig.drivers[0].numbers(), [4, 5, 6]);
    }
}

#[test]
fn a_chain_of_another_restored_queue_is_stale_for_ever() {
    for &format in FORMATS {
        for features in [Features::empty(), Features::IN_ORDER] {
            let mut rig = restored(format, features);
            let mut one = rig.engine.take_queue(0).expect("it is live");
            let mut other = rig.engine.take_queue(1).expect("it is live");
            for _ in 0..8 {
                let strangers = pop(&mut rig, &mut other);
                assert_eq!(other.complete(&strangers, 4), Ok(()));
            }
            other.flush();
            let strangers = pop(&mut rig, &mut other);
            for count in 0..70_000 {
                let own = pop(&mut rig, &mut one);
                assert_eq!(
                    one.complete(&strangers, 4),
                    STALE,
                    "{format:?} {features:?} after {count}"
                );
                assert_eq!(one.complete(&own, 4), Ok(()));
                one.flush();
                assert_eq!(rig.drivers[0].take().len(), 1);
            }
        }
    }
}

#[test]
fn a_chain_of_a_device_ten_thousand_resets_ago_is_stale() {
    let mut rig = HolderRig::with(Format::Split, Features::empty(), 4, SIZE, 4);
    let mut queue = rig.engine.take_queue(0).expect("it is live");
    let old = pop(&mut rig, &mut queue);
    assert_eq!(queue.complete(&old, 4), Ok(()));
    drop(queue);
    for count in 0..10_000 {
        rig.restart(4, SIZE);
        let mut queue = rig.engine.take_queue(0).expect("it is live");
        let own = pop(&mut rig, &mut queue);
        assert_eq!(queue.complete(&old, 4), STALE, "after {count}");
        assert_eq!(queue.complete(&own, 4), Ok(()));
        drop(queue);
    }
}

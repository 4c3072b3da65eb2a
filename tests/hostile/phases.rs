//! Orders of reset, suspension, queue reset, save, restore, memory changes and taken queues.

use std::sync::Arc;

use virtside::{
    DriverMem, Features, FlatMem, HostFault, Refusal, Shared, Step,
    device::{QueueState, Stop, TakenQueue},
    error::FaultPolicy,
    mmio::{Phase, Reply},
    queue::Chain,
    snapshot::EngineSnapshot,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, Line, N, Q, TestEngine, TestRam, config, driver, engine_over,
    in_order::{FORMATS, HolderRig},
    layout,
    probe::{Probe, answer, assert_works, pending, probe, publish, reset_queue},
    ram, reg,
    rings::{EchoMem, GuardedMem},
    status::{FAILED, LIVE, LIVE_SUSPEND, NEEDS_RESET, SUSPENDED},
    test_engine,
};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;
type State = EngineSnapshot<(), Q, N, 4>;

const FEATURES: Features = Features::VERSION_1
    .union(Features::RING_RESET)
    .union(Features::SUSPEND);

fn live() -> (TestEngine<Probe>, TestRam) {
    let (mut engine, ram) = probe();
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    engine.poll(BUDGET);
    (engine, ram)
}

/// Queue 0 is taken, with one chain in flight.
fn busy() -> (TestEngine<Probe>, TestRam, Queue, Chain<N>) {
    let (mut engine, ram) = live();
    let mut queue = engine.take_queue(0).expect("it is live");
    let mut chain = Chain::new();
    publish(&mut driver(ram, 0), 0, b"in flight");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    (engine, ram, queue, chain)
}

fn status(engine: &mut TestEngine<Probe>) -> u32 {
    engine.load(reg::STATUS)
}

fn suspend(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
}

fn resume(engine: &mut TestEngine<Probe>) {
    assert_eq!(status(engine), SUSPENDED);
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(status(engine), LIVE);
}

fn queue_reset(engine: &mut TestEngine<Probe>, queue: u16) -> u32 {
    let _ = engine.store(reg::QUEUE_SEL, queue.into());
    engine.load(reg::QUEUE_RESET)
}

fn carried(mut engine: TestEngine<Probe>, ram: TestRam) -> TestEngine<Probe> {
    let state: State = engine.save().expect("nothing is out or outstanding");
    let mut new = engine_over(Probe::default(), ram.flat(BASE), 4);
    assert_eq!(new.restore(&state), Ok(()));
    new
}

#[test]
fn a_queue_reset_outlasts_a_suspension_and_a_restore() {
    for carry in [false, true] {
        let (mut engine, ram, mut queue, chain) = busy();
        assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
        assert_eq!(queue_reset(&mut engine, 0), 1);
        suspend(&mut engine);
        assert_eq!(engine.phase(), Phase::Suspending);
        assert_eq!(queue_reset(&mut engine, 0), 1);
        assert_eq!(
            queue.pop(&ram.flat(BASE), &mut Chain::new()),
            Err(Stop::Asked)
        );
        assert_eq!(queue.complete(&chain, 0), Ok(()));
        assert!(engine.put_back(queue).is_ok());
        assert_eq!(status(&mut engine), SUSPENDED);
        if carry {
            engine = carried(engine, ram);
        }
        assert_eq!(queue_reset(&mut engine, 0), 0);
        // Its registers are frozen until the device is awake.
        assert!(engine.configure(&config(0)).refusal().is_some());
        resume(&mut engine);
        let mut driver = driver(ram, 0);
        assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn a_queue_reset_while_suspended_is_carried_over() {
    let (mut engine, ram) = live();
    suspend(&mut engine);
    assert_eq!(status(&mut engine), SUSPENDED);
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(queue_reset(&mut engine, 0), 0);
    let mut engine = carried(engine, ram);
    resume(&mut engine);
    let mut one = driver(ram, 0);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_works(&mut engine, &mut one, 0);
    let mut other = driver(ram, 1);
    assert_works(&mut engine, &mut other, 1);
}

#[test]
fn a_queue_dropped_during_a_suspension_can_be_reset_after_it() {
    for carry in [false, true] {
        let (mut engine, ram, queue, _) = busy();
        suspend(&mut engine);
        drop(queue);
        assert_eq!(status(&mut engine), SUSPENDED);
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        if carry {
            engine = carried(engine, ram);
            assert_eq!(engine.queue_state(0), QueueState::Failed);
        }
        resume(&mut engine);
        assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
        let mut driver = driver(ram, 0);
        assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn memory_that_changes_during_a_suspension_is_followed() {
    let (mut engine, ram, mut queue, chain) = busy();
    let to = virtside_tests::ram();
    let mut bytes = vec![0; virtside_tests::BYTES];
    ram.read(0, &mut bytes);
    to.write(0, &bytes);
    suspend(&mut engine);
    *engine.memory_mut() = to.flat(BASE);
    assert!(!engine.memory_changed().is_done());
    queue.abandon(&chain);
    assert!(engine.memory_changed().is_done());
    assert_eq!(status(&mut engine), SUSPENDED);
    assert!(engine.put_back(queue).is_ok());
    let before = bytes;
    resume(&mut engine);
    let mut other = FakeDriver::new(to.flat(BASE), layout(1));
    assert_works(&mut engine, &mut other, 1);
    let mut after = vec![0; virtside_tests::BYTES];
    ram.read(0, &mut after);
    assert!(before == after, "the old memory was touched");
}

#[test]
fn a_ring_lost_during_a_suspension_is_told_once_awake() {
    let ram = ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let mut engine = engine_over(Probe::default(), mem.clone(), 4);
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    engine.poll(BUDGET);
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    mem.deny(config(0).device, 8);
    assert!(engine.memory_changed().is_done());
    assert_eq!(
        engine.take_host_fault(),
        Some(HostFault::RingGone { queue: 0 })
    );
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    assert_eq!(engine.device().notify().asserted(), 0);
    assert_eq!(
        engine.store(reg::STATUS, LIVE_SUSPEND | NEEDS_RESET),
        Reply::Done(0)
    );
    assert_eq!(engine.load(reg::STATUS), LIVE | NEEDS_RESET);
    assert_eq!(
        (engine.device().notify().asserted(), pending(&mut engine)),
        (1, 2)
    );
    // The other queue goes on.
    let mut other = driver(ram, 1);
    publish(&mut other, 1, b"still here");
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"still here"[..]));
}

#[test]
fn a_driver_that_gives_up_mid_suspension_can_start_again() {
    for carry in [false, true] {
        let (mut engine, ram, mut queue, chain) = busy();
        suspend(&mut engine);
        assert_eq!(
            engine.store(reg::STATUS, LIVE_SUSPEND | FAILED),
            Reply::Done(0)
        );
        assert_eq!(engine.phase(), Phase::Failed);
        assert_eq!(
            queue.pop(&ram.flat(BASE), &mut Chain::new()),
            Err(Stop::Asked)
        );
        assert_eq!(queue.complete(&chain, 0), Ok(()));
        let _ = engine.put_back(queue);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        if carry {
            engine = carried(engine, ram);
            assert_eq!(engine.phase(), Phase::Failed);
        }
        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        let mut one = driver(ram, 0);
        assert!(engine.bring_up(FEATURES, &[config(0)]));
        assert_works(&mut engine, &mut one, 0);
    }
}

#[test]
fn a_device_without_slots_can_still_lend_its_queues() {
    let (mut engine, ram) = test_engine(Probe::default(), 0);
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    let mut one = driver(ram, 0);
    publish(&mut one, 0, b"nobody");
    let _ = engine.kick(0);
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let mut queue = engine.take_queue(0).expect("it is live");
    let mut chain = Chain::<N>::new();
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert!(queue.flush());
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(one.take_used().map(|used| used.1), Some(0));
    suspend(&mut engine);
    let mut engine = {
        let state: State = engine.save().expect("nothing is out");
        let mut new = engine_over(Probe::default(), ram.flat(BASE), 0);
        assert_eq!(new.restore(&state), Ok(()));
        new
    };
    resume(&mut engine);
}

#[test]
fn chains_that_wait_for_their_turn_free_their_slots_at_a_fault() {
    for &format in FORMATS {
        for policy in [
            FaultPolicy::StopQueue,
            FaultPolicy::Reject,
            FaultPolicy::NeedsReset,
        ] {
            let mut rig = HolderRig::with(format, Features::IN_ORDER, 2, 16, 5);
            rig.engine = std::mem::replace(
                &mut rig.engine,
                virtside_tests::test_engine(virtside_tests::in_order::Holder::new(), 1).0,
            )
            .with_policy(policy);
            // The first is kept, two more wait for it.
            rig.choose(|asked| (asked.queue != 0 || asked.number != 0).then_some(asked.room));
            assert_eq!(rig.send(&[4; 3]), Step::Blocked);
            let fault = virtside::DriverFault::BadRequest { head: 0 };
            rig.engine.model_mut().blames = Some((3, fault));
            assert_ne!(rig.send(&[4]), Step::More);
            for _ in 0..5 {
                rig.drivers[1].room(4);
            }
            rig.engine.model_mut().blames = None;
            let _ = rig.kick(1);
            assert_eq!(
                rig.drivers[1].numbers(),
                [0, 1, 2, 3, 4],
                "{format:?} {policy:?}"
            );
            if policy == FaultPolicy::Reject {
                rig.answer(0, 4);
                assert_eq!(rig.driver().numbers(), [0, 1, 2, 3]);
            } else {
                assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
            }
        }
    }
}

#[test]
fn a_chain_of_4_gib_in_hand_is_carried_over() {
    const HALF: u32 = 1 << 31;
    for more in [0, 1] {
        for writable in [false, true] {
            let ram = ram();
            let mut engine = engine_over(Probe::default(), EchoMem(ram.flat(BASE)), 4);
            engine.model_mut().holds = true;
            assert!(engine.bring_up(FEATURES, &[config(0)]));
            let mut one = driver(ram, 0);
            let half = |addr, len, writable| Buffer {
                addr,
                len,
                writable,
            };
            one.send(0, &[half(DATA, HALF, writable), half(DATA, HALF, true)]);
            assert_eq!(engine.kick(0), Reply::Done(0));
            assert_eq!(engine.poll(BUDGET), Step::Blocked);
            let mut state: State = engine.save().expect("it has room for four");
            state.device.chains[0].segments[1].len += more;
            let mut new = engine_over(Probe::default(), EchoMem(ram.flat(BASE)), 4);
            let restored = new.restore(&state);
            if more == 0 {
                assert_eq!(restored, Ok(()));
                new.model_mut().holds = true;
                assert_eq!(new.poll(BUDGET), Step::Blocked);
                let token = new.model().held[0];
                assert_eq!(new.complete_with(token, u32::MAX), Ok(()));
                // More than there is room for does not count.
                let used = if writable { u32::MAX } else { 0 };
                assert_eq!(one.take_used(), Some((0, used)));
            } else {
                assert!(restored.is_err());
            }
        }
    }
}

#[test]
fn a_refused_queue_number_is_no_reason_to_touch_memory() {
    let (mut engine, _) = live();
    for queue in [2, 3, 4, 0x1_0000, u32::MAX] {
        assert!(engine.store(reg::QUEUE_NOTIFY, queue).refusal().is_some());
    }
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(matches!(
        engine.take_queue(3),
        Err(Refusal::QueueNotReady { queue: 3 })
    ));
    assert!(matches!(
        engine.take_queue(4),
        Err(Refusal::NoSuchQueue { queue: 4 })
    ));
}

#[test]
fn an_engine_with_a_queue_out_survives_being_taken_apart() {
    let (mut engine, ram, queue, chain) = busy();
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    let (model, device, transport, slots) = engine.into_parts();
    let mut engine = virtside::Engine::from_parts(model, device, transport, slots);
    assert_eq!(queue_reset(&mut engine, 0), 1);
    let mut queue = queue;
    assert_eq!(
        queue.pop(&ram.flat(BASE), &mut Chain::new()),
        Err(Stop::Asked)
    );
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert!(engine.put_back(queue).is_ok());
    // It serves nothing more, whoever kicks it.
    publish(&mut driver(ram, 0), 0, b"too late");
    assert_eq!(engine.notify_queue(0), Ok(()));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.counters().chains, 0);
    assert_eq!(queue_reset(&mut engine, 0), 0);
    assert_eq!(engine.queue_state(0), QueueState::Off);
}

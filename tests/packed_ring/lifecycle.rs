//! Wrap counters of a packed queue: 1 after a queue reset, unchanged by a suspension.

use virtside::{
    Features, FlatMem, Refusal, Step,
    device::QueueState,
    mmio::Reply,
    testing::{Buffer, CountingMem, Counts, PackedDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, TestEngine, TestRam, engine_over,
    probe::{Event, Probe, pending, reset_queue},
    ram, reg,
};

use crate::PACKED;

type Counted = TestEngine<Probe, CountingMem<'static, FlatMem>>;

/// A live device with a packed queue of this size, and a count of its ring accesses.
fn live(size: u16) -> (Counted, PackedDriver<FlatMem>, TestRam, &'static Counts) {
    let (ram, counts): (_, &'static Counts) = (ram(), Box::leak(Box::default()));
    let model = Probe {
        wishes: Features::RING | Features::RING_PACKED,
        ..Probe::default()
    };
    let mut engine = engine_over(model, CountingMem::new(ram.flat(BASE), counts), 4);
    let driver = PackedDriver::new(ram.flat(BASE), BASE, size);
    let features = PACKED | Features::RING_RESET | Features::SUSPEND;
    assert!(engine.bring_up(features, &[driver.config(0)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    (engine, driver, ram, counts)
}

fn chain() -> [Buffer; 2] {
    [Buffer::readable(DATA, 4), Buffer::writable(DATA + 0x100, 4)]
}

/// Sends and serves `chains` chains, which wrap at the end of the ring.
#[track_caller]
fn assert_works(engine: &mut Counted, driver: &mut PackedDriver<FlatMem>, chains: u16) {
    for id in 0..chains {
        driver.send(id, &chain());
        assert_eq!(engine.kick(0), Reply::Done(0));
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.take_used(2), Some((id, 4, true)));
    }
}

#[test]
fn after_a_reset_a_queue_starts_at_slot_0_with_counters_of_1() {
    let (mut engine, mut driver, ram, _) = live(5);
    // An odd number of rounds, so that the counters are 0 now.
    assert_works(&mut engine, &mut driver, 4);
    assert!(!driver.next_avail().1);
    for size in [5, 3, 16, 7] {
        assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
        assert_eq!(engine.load(reg::QUEUE_RESET), 0);
        assert_eq!(engine.queue_state(0), QueueState::Off);
        // The chains that were available before the reset are not any more.
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        let start = BASE + 0x1000 * u64::from(size);
        driver = PackedDriver::new(ram.flat(BASE), start, size);
        assert_eq!(engine.configure(&driver.config(0)), Reply::Done(0));
        assert_works(&mut engine, &mut driver, 3 * size + 1);
    }
    assert_eq!(engine.load(reg::STATUS), 15);
}

#[test]
fn chains_in_hand_when_the_queue_is_reset_are_never_answered() {
    let (mut engine, mut driver, ram, _) = live(8);
    engine.model_mut().holds = true;
    driver.send(3, &chain());
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let token = engine.model().held[0];
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(engine.complete(token), Err(Refusal::StaleToken));
    assert_eq!(driver.take_used(2), None);
    engine.model_mut().holds = false;
    let mut driver = PackedDriver::new(ram.flat(BASE), BASE, 8);
    assert_eq!(engine.configure(&driver.config(0)), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 20);
    assert_eq!(engine.complete(token), Err(Refusal::StaleToken));
}

#[test]
fn a_queue_that_comes_back_costs_one_store_and_a_reset_none() {
    let (mut engine, mut driver, _, counts) = live(8);
    assert_works(&mut engine, &mut driver, 1);
    counts.clear();
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    engine.lay_out(&driver.config(0));
    assert_eq!(counts.rings(), 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!((counts.rings(), counts.stores()), (1, 1));
}

#[test]
fn a_suspended_queue_is_not_touched_and_continues() {
    let (mut engine, mut driver, _, counts) = live(5);
    for _ in 0..7 {
        assert_works(&mut engine, &mut driver, 3);
        assert_eq!(engine.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
        assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0x1b);
        counts.clear();
        driver.send(9, &chain());
        engine.device().shared().doorbell().ring(0);
        engine.backend_ready(0);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!((counts.rings(), pending(&mut engine)), (0, 0));
        assert_eq!(driver.take_used(2), None);
        assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0x0f);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.take_used(2), Some((9, 4, true)));
        assert_eq!(pending(&mut engine), 1);
    }
}

#[test]
fn a_suspension_waits_for_chains_in_hand() {
    let (mut engine, mut driver, _, _) = live(5);
    engine.model_mut().holds = true;
    driver.send(3, &chain());
    driver.send(4, &chain());
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(1), Step::More);
    let token = engine.model().held[0];
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(engine.load(reg::STATUS), 0x0f);
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(pending(&mut engine), 1);
    assert_eq!(engine.load(reg::STATUS), 0x1b);
    assert_eq!(driver.take_used(2), Some((3, 4, true)));
    assert_eq!(driver.take_used(2), None);
    assert_eq!(
        engine.model().count(Event::Served(0)),
        2,
        "this chain is answered, and no other"
    );
}

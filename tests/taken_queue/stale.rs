//! Stale queues and chains: a queue taken before a reset does not affect the device after it, and a
//! chain does not give back another one with its head.

use virtside::{
    DriverFault, Features, Refusal, Step,
    device::{PutBackError, QueueState, Stop},
    mmio::Reply,
    queue::Chain,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, DATA, N, TestEngine, TestRam, config, driver,
    probe::{Probe, answer, assert_works, pending, publish, seen},
    reg,
};

use crate::{Queue, in_flight, mem, out, reset_waits, stop_waits};

/// A live device after a reset, and its stopped queue 0 from before the reset.
struct AfterReset {
    engine: TestEngine<Probe>,
    ram: TestRam,
    old: Queue,
    driver: FakeDriver<virtside::FlatMem>,
}

fn after_reset() -> AfterReset {
    let mut o = in_flight();
    let ticket = reset_waits(&mut o.engine);
    o.queue.abandon_all();
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    bring_up(o.engine, o.ram, o.queue)
}

/// Such a device whose old queue has a driver fault.
fn after_reset_from_fault() -> AfterReset {
    let mut o = out();
    o.driver.set_avail_idx(1000);
    assert!(matches!(
        o.queue.pop(&mem(o.ram), &mut o.chain),
        Err(Stop::Driver(_))
    ));
    assert_eq!(o.engine.store(reg::STATUS, 0), Reply::Done(0));
    bring_up(o.engine, o.ram, o.queue)
}

fn bring_up(mut engine: TestEngine<Probe>, ram: TestRam, old: Queue) -> AfterReset {
    let driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    AfterReset {
        engine,
        ram,
        old,
        driver,
    }
}

#[test]
fn it_cannot_be_put_back() {
    let mut r = after_reset();
    let before = seen(&r.engine);
    assert!(matches!(
        r.engine.put_back(r.old),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(seen(&r.engine), before);
    assert_works(&mut r.engine, &mut r.driver, 0);
}

#[test]
fn it_cannot_be_put_back_in_place_of_a_taken_one() {
    let mut r = after_reset();
    let new = r.engine.take_queue(0).expect("a live queue");
    assert!(matches!(
        r.engine.put_back(r.old),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(r.engine.queue_state(0), QueueState::Taken);
    assert!(!new.is_stopped());
    assert!(r.engine.put_back(new).is_ok());
    assert_works(&mut r.engine, &mut r.driver, 0);
}

#[test]
fn putting_back_a_faulty_one_does_not_stop_its_successor() {
    let mut r = after_reset_from_fault();
    let before = seen(&r.engine);
    assert!(matches!(
        r.engine.put_back(r.old),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(seen(&r.engine), before);
    assert_works(&mut r.engine, &mut r.driver, 0);
}

#[test]
fn putting_back_a_faulty_one_of_a_stopped_queue_leaves_it_off() {
    let mut o = out();
    o.driver.set_avail_idx(1000);
    assert!(o.queue.pop(&mem(o.ram), &mut o.chain).is_err());
    assert_eq!(o.engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(o.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(o.engine.queue_state(0), QueueState::Off);
    assert!(matches!(
        o.engine.put_back(o.queue),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(o.engine.queue_state(0), QueueState::Off);
    assert_eq!(o.engine.queue_config(0), None);
}

#[test]
fn it_takes_no_chains() {
    let mut r = after_reset();
    let mut chain = virtside::queue::Chain::new();
    publish(&mut r.driver, 0, b"not for it");
    assert_eq!(r.old.pop(&mem(r.ram), &mut chain), Err(Stop::Asked));
    assert_eq!(r.old.enable_kicks(), Err(Stop::Asked));
    r.old.disable_kicks();
    assert!(!r.old.flush());
    assert_eq!(r.driver.used_flags(), 0);
    assert_eq!(r.engine.kick(0), Reply::Done(0));
    assert_eq!(r.engine.poll(BUDGET), Step::Idle);
    assert_eq!(
        answer(&mut r.driver, 0).as_deref(),
        Some(&b"not for it"[..])
    );
}

#[test]
fn it_gets_no_kicks_of_its_successor() {
    let mut r = after_reset();
    publish(&mut r.driver, 0, b"text");
    assert_eq!(r.engine.kick(0), Reply::Done(0));
    assert!(!r.old.was_kicked());
    assert_eq!(r.engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut r.driver, 0).as_deref(), Some(&b"text"[..]));

    let new = r.engine.take_queue(0).expect("a live queue");
    assert!(new.was_kicked());
    assert_eq!(r.engine.kick(0), Reply::Done(0));
    assert!(!r.old.was_kicked());
    assert!(new.was_kicked());
}

#[test]
fn a_fault_reported_late_does_not_fail_its_successor() {
    let mut r = after_reset();
    let before = seen(&r.engine);
    r.old.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(seen(&r.engine), before);
    assert_eq!(r.engine.load(reg::STATUS), 15);
    assert_eq!(pending(&mut r.engine), 0);
    assert_works(&mut r.engine, &mut r.driver, 0);
}

#[test]
fn dropping_it_does_not_stop_its_successor() {
    for from_fault in [false, true] {
        let mut r = if from_fault {
            after_reset_from_fault()
        } else {
            after_reset()
        };
        let mut new = r.engine.take_queue(0).expect("a live queue");
        let mut chain = virtside::queue::Chain::new();
        publish(&mut r.driver, 0, b"text");
        assert_eq!(new.pop(&mem(r.ram), &mut chain), Ok(true));
        drop(r.old);
        // Otherwise a reset would not wait for the queue that works.
        assert!(!new.is_stopped());
        let ticket = reset_waits(&mut r.engine);
        assert_eq!(r.engine.finish(ticket), Reply::Pending(ticket));
        new.abandon(&chain);
        assert_eq!(r.engine.finish(ticket), Reply::Done(0));
    }
}

#[test]
fn abandoning_its_chains_again_does_not_stop_its_successor() {
    let mut r = after_reset();
    let new = r.engine.take_queue(0).expect("a live queue");
    r.old.abandon_all();
    let ticket = reset_waits(&mut r.engine);
    assert_eq!(r.engine.finish(ticket), Reply::Pending(ticket));
    drop(new);
    assert_eq!(r.engine.finish(ticket), Reply::Done(0));
}

#[test]
fn one_whose_queue_was_stopped_cannot_be_put_back() {
    let mut o = in_flight();
    let ticket = stop_waits(&mut o.engine);
    o.queue.abandon(&o.chain);
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    let before = seen(&o.engine);
    assert!(matches!(
        o.engine.put_back(o.queue),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(seen(&o.engine), before);
    assert_eq!(o.engine.queue_state(0), QueueState::Off);
}

/// Asserts that a stale chain gives nothing back: another chain with its head is in flight, and has
/// less room.
#[track_caller]
fn gives_nothing_back(
    stale: &Chain<N>,
    queue: &mut Queue,
    driver: &mut FakeDriver<virtside::FlatMem>,
    ram: TestRam,
) {
    let head = stale.head();
    driver.send(head, &[Buffer::writable(DATA, 2)]);
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&mem(ram), &mut chain), Ok(true));
    assert_eq!(chain.head(), head);
    let used = driver.used_idx();
    for written in [0, 8] {
        assert_eq!(
            queue.complete(stale, written),
            Err(Refusal::StaleToken.into())
        );
    }
    queue.abandon(stale);
    assert_eq!((queue.in_flight(), driver.used_idx()), (1, used));
    assert_eq!(queue.complete(&chain, 2), Ok(()));
    assert_eq!(driver.take_used(), Some((head.into(), 2)));
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_clone_of_a_returned_chain_gives_nothing_of_its_successor() {
    let mut o = out();
    for abandoned in [false, true] {
        o.driver.send(3, &[Buffer::writable(DATA, 16)]);
        assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Ok(true));
        let stale = o.chain.clone();
        if abandoned {
            o.queue.abandon(&o.chain);
        } else {
            assert_eq!(o.queue.complete(&o.chain, 16), Ok(()));
            assert_eq!(o.driver.take_used(), Some((3, 16)));
        }
        gives_nothing_back(&stale, &mut o.queue, &mut o.driver, o.ram);
    }
}

#[test]
fn a_chain_from_before_a_reset_gives_nothing_of_its_successor() {
    let mut o = out();
    let mut stale = Vec::new();
    for _ in 0..20 {
        o.driver.send(0, &[Buffer::writable(DATA, 16)]);
        assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Ok(true));
        stale.push(o.chain.clone());
        let ticket = reset_waits(&mut o.engine);
        o.queue.abandon_all();
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
        let r = bring_up(o.engine, o.ram, o.queue);
        (o.engine, o.driver) = (r.engine, r.driver);
        o.queue = o.engine.take_queue(0).expect("a live queue");
        for stale in &stale {
            gives_nothing_back(stale, &mut o.queue, &mut o.driver, o.ram);
        }
    }
}

#[test]
fn a_chain_of_another_queue_gives_nothing_back() {
    let mut o = out();
    let mut other = o.engine.take_queue(1).expect("a live queue");
    driver(o.ram, 1).send(0, &[Buffer::writable(DATA, 16)]);
    assert_eq!(other.pop(&mem(o.ram), &mut o.chain), Ok(true));
    gives_nothing_back(&o.chain, &mut o.queue, &mut o.driver, o.ram);
    assert_eq!(other.complete(&o.chain, 16), Ok(()));
}

#[test]
fn dropping_it_late_does_not_fail_a_stopped_successor() {
    for put_back_between in [false, true] {
        let mut r = after_reset();
        let mut new = r.engine.take_queue(0).expect("a live queue");
        if put_back_between {
            assert!(r.engine.put_back(new).is_ok());
            new = r.engine.take_queue(0).expect("a live queue");
        }
        assert!(!r.engine.memory_changed().is_done());
        assert_eq!(new.enable_kicks(), Err(Stop::Asked));
        assert!(r.engine.memory_changed().is_done(), "the queue has stopped");
        drop(r.old);
        assert_eq!(r.engine.queue_state(0), QueueState::Taken);
        assert_eq!(r.engine.notify_queue(0), Ok(()));
        assert!(r.engine.put_back(new).is_ok());
        assert_works(&mut r.engine, &mut r.driver, 0);
    }
}

#[test]
fn dropping_the_stopped_successor_fails_it() {
    let mut r = after_reset();
    let mut new = r.engine.take_queue(0).expect("a live queue");
    assert!(!r.engine.memory_changed().is_done());
    assert_eq!(new.enable_kicks(), Err(Stop::Asked));
    drop(new);
    assert_eq!(r.engine.queue_state(0), QueueState::Failed);
    drop(r.old);
    assert_eq!(r.engine.queue_state(0), QueueState::Failed);
}

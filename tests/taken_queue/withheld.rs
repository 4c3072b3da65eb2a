//! A driver reuses a ring's memory as soon as its write completes. Therefore the write does not
//! complete before the ring's owner has stopped.

use virtside::{
    Features, Refusal, Step,
    device::{QueueState, Stop},
    mmio::{Access, Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BUDGET, config, driver,
    probe::{answer, assert_works, pending, publish, ready, seen},
    reg,
};

use crate::{Out, echo, in_flight, mem, out, reset_waits, stop_waits};

#[test]
fn a_reset_waits_until_chains_in_flight_are_given_back() {
    let mut o = in_flight();
    let ticket = reset_waits(&mut o.engine);
    assert_eq!(o.engine.finish(ticket), Reply::Pending(ticket));
    assert!(o.queue.is_stopped());
    assert_eq!(
        o.queue.pop(&mem(o.ram), &mut o.chain.clone()),
        Err(Stop::Asked)
    );
    assert_eq!(
        o.engine.finish(ticket),
        Reply::Pending(ticket),
        "a chain is in flight"
    );
    // The device still uses the rings: the driver waits.
    let written = echo(&mem(o.ram), &o.chain);
    assert_eq!(o.queue.complete(&o.chain, written), Ok(()));
    assert_eq!(answer(&mut o.driver, 0).as_deref(), Some(&b"in flight"[..]));
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    assert_eq!(
        (o.engine.load(reg::STATUS), o.engine.phase()),
        (0, Phase::Reset)
    );
    assert_eq!(o.engine.queue_state(0), QueueState::Off);
}

#[test]
fn stopping_a_queue_waits_for_chains_in_flight() {
    let mut o = in_flight();
    let ticket = stop_waits(&mut o.engine);
    assert_eq!(o.engine.finish(ticket), Reply::Pending(ticket));
    assert_eq!(o.queue.complete(&o.chain, 0), Ok(()));
    assert_eq!(
        o.engine.finish(ticket),
        Reply::Pending(ticket),
        "the owner was not told yet"
    );
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    assert_eq!(ready(&mut o.engine, 0), 0);
    assert_eq!(o.engine.queue_state(0), QueueState::Off);
    assert_eq!(o.engine.phase(), Phase::Live);
    // The other queue continues.
    let mut other = driver(o.ram, 1);
    assert_works(&mut o.engine, &mut other, 1);
}

#[test]
fn an_idle_queue_must_be_told_too() {
    for stop in [false, true] {
        let Out {
            mut engine,
            ram,
            mut queue,
            mut chain,
            ..
        } = out();
        let ticket = if stop {
            stop_waits(&mut engine)
        } else {
            reset_waits(&mut engine)
        };
        assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
        assert_eq!(queue.pop(&mem(ram), &mut chain), Err(Stop::Asked));
        assert_eq!(engine.finish(ticket), Reply::Done(0));
    }
}

#[test]
fn being_asked_to_stop_is_a_kick() {
    // Otherwise an owner that sleeps until it is kicked would keep the driver waiting forever.
    for stop in [false, true] {
        let mut o = out();
        assert!(o.queue.was_kicked());
        let ticket = if stop {
            stop_waits(&mut o.engine)
        } else {
            reset_waits(&mut o.engine)
        };
        assert!(o.queue.was_kicked());
        assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    }
}

#[test]
fn nothing_new_is_popped_once_a_queue_was_asked_to_stop() {
    let mut o = out();
    publish(&mut o.driver, 0, b"never served");
    let _ = reset_waits(&mut o.engine);
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    assert_eq!(o.queue.enable_kicks(), Err(Stop::Asked));
    assert_eq!(o.queue.in_flight(), 0);
}

#[test]
fn while_the_driver_waits_no_other_access_is_executed() {
    let mut o = in_flight();
    let ticket = reset_waits(&mut o.engine);
    let before = seen(&o.engine);
    for offset in (0..0x110).step_by(4) {
        assert_eq!(o.engine.access(Access::read(offset)), Reply::Busy);
        for value in [0, 1, 15, u32::MAX] {
            assert_eq!(o.engine.store(offset, value), Reply::Busy, "{offset:#x}");
        }
    }
    assert_eq!(seen(&o.engine), before);
    assert_eq!(o.engine.finish(ticket), Reply::Pending(ticket));
}

#[test]
fn abandoning_the_chains_completes_the_drivers_write() {
    for all in [false, true] {
        let mut o = in_flight();
        let ticket = reset_waits(&mut o.engine);
        if all {
            o.queue.abandon_all();
        } else {
            o.queue.abandon(&o.chain);
        }
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
        assert_eq!(o.driver.used_idx(), 0);
        let stale = Refusal::StaleToken;
        assert_eq!(o.queue.complete(&o.chain, 0), Err(stale.into()));
    }
}

#[test]
fn dropping_the_queue_completes_the_drivers_write() {
    for stop in [false, true] {
        let mut o = in_flight();
        let ticket = if stop {
            stop_waits(&mut o.engine)
        } else {
            reset_waits(&mut o.engine)
        };
        drop(o.queue);
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    }
}

#[test]
fn putting_the_queue_back_completes_the_drivers_write() {
    for stop in [false, true] {
        let mut o = out();
        let ticket = if stop {
            stop_waits(&mut o.engine)
        } else {
            reset_waits(&mut o.engine)
        };
        assert!(o.engine.put_back(o.queue).is_ok());
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
        assert_eq!(o.engine.queue_state(0), QueueState::Off);
        publish(&mut o.driver, 0, b"never served");
        assert_eq!(o.engine.poll(BUDGET), Step::Idle);
        assert_eq!(o.driver.used_idx(), 0);
    }
}

#[test]
fn a_reset_waits_for_every_taken_queue() {
    let mut o = in_flight();
    let second = o.engine.take_queue(1).expect("a live queue");
    assert_eq!((o.queue.number(), second.number()), (0, 1));
    let ticket = reset_waits(&mut o.engine);
    drop(second);
    assert_eq!(o.engine.finish(ticket), Reply::Pending(ticket));
    o.queue.abandon(&o.chain);
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
}

#[test]
fn stopping_one_queue_does_not_wait_for_another() {
    let mut o = in_flight();
    assert_eq!(o.engine.store(reg::QUEUE_SEL, 1), Reply::Done(0));
    assert_eq!(o.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert!(!o.queue.is_stopped());
    assert_eq!(o.queue.complete(&o.chain, 0), Ok(()));
    assert_eq!(o.driver.used_idx(), 1);
}

#[test]
fn other_queues_are_served_while_the_driver_waits() {
    let mut o = in_flight();
    let mut other = driver(o.ram, 1);
    let ticket = stop_waits(&mut o.engine);
    publish(&mut other, 1, b"meanwhile");
    o.engine.device().shared().doorbell().ring(1);
    assert_eq!(o.engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"meanwhile"[..]));
    o.queue.abandon(&o.chain);
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    assert_eq!(pending(&mut o.engine), 1);
}

#[test]
fn failed_asks_a_taken_queue_to_stop() {
    let mut o = in_flight();
    assert_eq!(o.engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    assert!(o.queue.is_stopped());
    assert_eq!(
        o.queue.pop(&mem(o.ram), &mut o.chain.clone()),
        Err(Stop::Asked)
    );
    let ticket = reset_waits(&mut o.engine);
    o.queue.abandon(&o.chain);
    assert_eq!(o.engine.finish(ticket), Reply::Done(0));
    let mut fresh = driver(o.ram, 0);
    assert!(o.engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut o.engine, &mut fresh, 0);
}

#[test]
fn after_a_withheld_reset_the_device_works_again() {
    let mut o = in_flight();
    for _ in 0..5 {
        let ticket = reset_waits(&mut o.engine);
        o.queue.abandon_all();
        assert_eq!(o.engine.finish(ticket), Reply::Done(0));
        assert_eq!(
            o.engine.finish(ticket),
            Reply::Refused(Refusal::StaleTicket)
        );
        let mut fresh = driver(o.ram, 0);
        assert!(o.engine.bring_up(Features::RING, &[config(0)]));
        assert_works(&mut o.engine, &mut fresh, 0);
        o.queue = o.engine.take_queue(0).expect("a live queue");
    }
}

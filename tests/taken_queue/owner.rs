//! Taking a queue, serving it, and putting it back.

use virtside::{
    DriverFault, Features, HostFault, Refusal, Step,
    device::{PutBackError, QueueState, Stop},
    mmio::Reply,
    model::Start,
    queue::Chain,
    testing::Registers,
};
use virtside_tests::{
    BUDGET, TestEngine, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg, test_engine,
};

use crate::{Out, in_flight, mem, out, serve_one};

/// Asserts that queue `queue` cannot be taken and that nothing changed; returns the reason.
#[track_caller]
fn refused(engine: &mut TestEngine<Probe>, queue: u16) -> Refusal {
    let before = seen(engine);
    let refusal = match engine.take_queue(queue) {
        Ok(_) => panic!("queue {queue} was taken"),
        Err(refusal) => refusal,
    };
    assert_eq!(seen(engine), before);
    refusal
}

#[test]
fn no_queue_is_taken_before_the_driver_is_live() {
    let (mut engine, _) = probe();
    assert_eq!(refused(&mut engine, 0), Refusal::WrongPhase);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(refused(&mut engine, 0), Refusal::WrongPhase);
    engine.model_mut().start = Start::Later;
    assert!(matches!(engine.go_live(), Reply::Pending(_)));
    assert_eq!(refused(&mut engine, 0), Refusal::WrongPhase);
}

#[test]
fn a_queue_that_is_not_there_is_not_taken() {
    let Out { mut engine, .. } = out();
    for queue in [4, 77, u16::MAX] {
        let absent = u32::from(queue);
        assert_eq!(
            refused(&mut engine, queue),
            Refusal::NoSuchQueue { queue: absent }
        );
    }
    for queue in [2, 3] {
        assert_eq!(
            refused(&mut engine, queue),
            Refusal::QueueNotReady { queue }
        );
    }
    assert_eq!(refused(&mut engine, 0), Refusal::QueueTaken { queue: 0 });
}

#[test]
fn a_stopped_or_broken_queue_is_not_taken() {
    let (mut engine, ram) = probe();
    let broken = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_eq!(engine.store(reg::QUEUE_SEL, 1), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    broken.set_avail_idx(1000);
    engine.poll(BUDGET);
    for queue in [0, 1] {
        assert_eq!(
            refused(&mut engine, queue),
            Refusal::QueueNotReady { queue }
        );
    }
}

#[test]
fn no_queue_is_taken_where_a_reply_cannot_be_withheld() {
    let (engine, _) = probe();
    let mut engine = engine.without_take_queue();
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(refused(&mut engine, 0), Refusal::NotNegotiated);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
}

#[test]
fn only_its_owner_serves_a_taken_queue() {
    let mut o = out();
    assert_eq!(o.engine.queue_state(0), QueueState::Taken);
    assert_eq!(o.queue.number(), 0);
    publish(&mut o.driver, 0, b"mine");
    assert_eq!(o.engine.kick(0), Reply::Done(0));
    assert_eq!(o.engine.poll(BUDGET), Step::Idle);
    assert_eq!(o.driver.used_idx(), 0);
    assert_eq!(o.engine.model().count(Event::Served(0)), 0);

    assert_eq!(serve_one(&mut o.queue, &mem(o.ram), &mut o.chain), Ok(true));
    assert_eq!(answer(&mut o.driver, 0).as_deref(), Some(&b"mine"[..]));
    assert_eq!(pending(&mut o.engine), 1);
    assert_eq!(o.engine.device().notify().asserted(), 1);
    assert_eq!(
        serve_one(&mut o.queue, &mem(o.ram), &mut o.chain),
        Ok(false)
    );
}

#[test]
fn a_queue_that_is_put_back_continues_where_it_was() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    let mut chain = Chain::new();
    for _ in 0..15 {
        assert_works(&mut engine, &mut driver, 0);
        let mut queue = engine.take_queue(0).expect("a live queue");
        publish(&mut driver, 0, b"out");
        assert_eq!(serve_one(&mut queue, &mem(ram), &mut chain), Ok(true));
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"out"[..]));
        // The returned queue finds this chain without a kick.
        publish(&mut driver, 0, b"back");
        assert!(engine.put_back(queue).is_ok());
        assert_eq!(engine.queue_state(0), QueueState::Live);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"back"[..]));
    }
    assert_eq!(driver.used_idx(), 45);
}

#[test]
fn the_other_queues_are_served_meanwhile() {
    let mut o = in_flight();
    let mut other = driver(o.ram, 1);
    for _ in 0..20 {
        assert_works(&mut o.engine, &mut other, 1);
    }
    let written = crate::echo(&mem(o.ram), &o.chain);
    assert_eq!(o.queue.complete(&o.chain, written), Ok(()));
    assert_eq!(answer(&mut o.driver, 0).as_deref(), Some(&b"in flight"[..]));
}

#[test]
fn a_queue_with_chains_in_flight_is_given_back_to_its_owner() {
    let o = in_flight();
    let (mut engine, mut queue, chain) = (o.engine, o.queue, o.chain);
    queue = match engine.put_back(queue) {
        Err(PutBackError::Returned(queue)) => queue,
        other => panic!("it was put back: {:?}", other.is_ok()),
    };
    assert_eq!(engine.queue_state(0), QueueState::Taken);
    queue.abandon(&chain);
    assert_eq!(queue.in_flight(), 0);
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(o.driver.used_idx(), 0);
}

#[test]
fn kicks_of_a_taken_queue_reach_its_owner_once() {
    let o = out();
    let (mut engine, queue) = (o.engine, o.queue);
    assert!(
        queue.was_kicked(),
        "the owner polls for earlier chains itself"
    );
    assert!(!queue.was_kicked());
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert!(!queue.was_kicked(), "queue 1 was kicked");
    for _ in 0..3 {
        assert_eq!(engine.kick(0), Reply::Done(0));
        // The device drains its doorbell in between.
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert!(queue.was_kicked());
        assert!(!queue.was_kicked());
    }
    assert_eq!(engine.notify_queue(0), Ok(()));
    assert!(queue.was_kicked(), "the host may kick it too");
}

#[test]
fn an_interrupt_is_sent_only_if_the_driver_wants_it() {
    let mut o = out();
    o.driver.set_avail_flags(1);
    publish(&mut o.driver, 0, b"quietly");
    assert_eq!(serve_one(&mut o.queue, &mem(o.ram), &mut o.chain), Ok(true));
    assert_eq!(answer(&mut o.driver, 0).as_deref(), Some(&b"quietly"[..]));
    assert_eq!(o.engine.device().notify().asserted(), 0);
    o.driver.set_avail_flags(0);
    assert!(!o.queue.flush(), "the interrupt was decided already");
    publish(&mut o.driver, 0, b"loudly");
    assert_eq!(serve_one(&mut o.queue, &mem(o.ram), &mut o.chain), Ok(true));
    assert_eq!(o.engine.device().notify().asserted(), 1);
}

#[test]
fn a_chain_is_given_back_once_and_with_no_more_than_it_holds() {
    let mut o = in_flight();
    let writable = o.chain.writable_len() as u32;
    let too_much = HostFault::WrittenTooMuch {
        written: writable + 1,
        writable,
    };
    assert_eq!(
        o.queue.complete(&o.chain, writable + 1),
        Err(too_much.into())
    );
    assert_eq!((o.queue.in_flight(), o.driver.used_idx()), (1, 0));
    assert_eq!(o.queue.complete(&o.chain, writable), Ok(()));
    let stale = Refusal::StaleToken;
    assert_eq!(o.queue.complete(&o.chain, 0), Err(stale.into()));
    assert_eq!((o.queue.in_flight(), o.driver.used_idx()), (0, 1));
}

#[test]
fn a_broken_ring_stops_a_taken_queue_and_needs_a_reset() {
    let mut o = out();
    o.driver.set_avail_idx(1000);
    let fault = DriverFault::AvailIndexJump { idx: 1000, next: 0 };
    let popped = o.queue.pop(&mem(o.ram), &mut o.chain);
    assert_eq!(popped, Err(Stop::Driver(fault)));
    assert_eq!(o.engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut o.engine), 2);
    assert_eq!(o.engine.device().notify().asserted(), 1);
    // The queue cannot be used any more, neither by its owner nor by the device.
    o.driver.set_avail_idx(0);
    assert!(o.queue.pop(&mem(o.ram), &mut o.chain).is_err());
    let put = o.engine.put_back(o.queue);
    assert!(matches!(put, Err(PutBackError::Discarded)));
    assert_eq!(o.engine.queue_state(0), QueueState::Failed);
    assert_eq!(o.engine.driver_fault(0), Some(fault));
    assert_eq!(
        o.engine.take_queue(0).err(),
        Some(Refusal::QueueNotReady { queue: 0 })
    );
    assert_eq!(o.engine.device().notify().asserted(), 1);
    // The queue delays no reset.
    assert_eq!(o.engine.store(reg::STATUS, 0), Reply::Done(0));
}

#[test]
fn a_fault_that_the_owner_reports_stops_the_queue_too() {
    let mut o = in_flight();
    o.queue.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(o.engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut o.engine), 2);
    assert!(o.queue.pop(&mem(o.ram), &mut o.chain).is_err());
    o.queue.abandon_all();
    assert!(matches!(
        o.engine.put_back(o.queue),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(o.engine.queue_state(0), QueueState::Failed);
}

#[test]
fn a_dropped_queue_has_failed_until_a_reset() {
    for busy in [false, true] {
        let o = if busy { in_flight() } else { out() };
        let (mut engine, mut driver) = (o.engine, o.driver);
        drop(o.queue);
        publish(&mut driver, 0, b"never served");
        assert_eq!(engine.kick(0), Reply::Done(0));
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), 0);
        assert!(engine.take_queue(0).is_err());
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        // A reset has nothing left to wait for.
        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        driver = virtside_tests::driver(o.ram, 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn a_request_pending_when_its_queue_is_taken_is_answered() {
    let model = Probe {
        holds: true,
        ..Probe::default()
    };
    let (mut engine, ram) = test_engine(model, 4);
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    publish(&mut driver, 0, b"held");
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(refused(&mut engine, 0), Refusal::QueueBusy { queue: 0 });
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert!(engine.take_queue(0).is_ok());
}

#[test]
fn kicks_are_turned_off_and_on_by_the_owner() {
    let mut o = out();
    o.queue.disable_kicks();
    assert_eq!(o.driver.used_flags(), 1);
    publish(&mut o.driver, 0, b"unheard");
    assert_eq!(
        o.queue.enable_kicks(),
        Ok(true),
        "the owner must check the ring again"
    );
    assert_eq!(o.driver.used_flags(), 0);
    assert_eq!(serve_one(&mut o.queue, &mem(o.ram), &mut o.chain), Ok(true));
    assert_eq!(o.queue.enable_kicks(), Ok(false));
}

#[test]
fn chains_given_back_before_a_fault_interrupt() {
    let mut o = in_flight();
    assert_eq!(o.queue.complete(&o.chain, 0), Ok(()));
    o.driver.set_avail_idx(1000);
    // The owner serves batches, and flushes when no chain is left.
    assert!(o.queue.pop(&mem(o.ram), &mut o.chain).is_err());
    o.queue.flush();
    assert_eq!(pending(&mut o.engine), 1 | 2);
    assert_eq!(o.driver.used_idx(), 1);
}

#[test]
fn a_fault_leaves_the_chain_in_flight_that_has_its_head() {
    for same_buffer in [false, true] {
        let mut o = in_flight();
        let innocent = o.chain.clone();
        if !same_buffer {
            o.chain = Chain::new();
        }
        o.driver.offer(innocent.head());
        o.driver.publish();
        let head = innocent.head();
        let stop = o.queue.pop(&mem(o.ram), &mut o.chain);
        assert_eq!(stop, Err(Stop::Driver(DriverFault::HeadInFlight { head })));
        o.queue.abandon(&o.chain);
        let refused = o.queue.complete(&o.chain, 0);
        assert_eq!(refused, Err(Refusal::StaleToken.into()));
        assert_eq!((o.queue.in_flight(), o.driver.used_idx()), (1, 0));
        assert_eq!(o.queue.complete(&innocent, 0), Ok(()));
        assert_eq!(o.driver.take_used(), Some((head.into(), 0)));
    }
}

//! DRIVER_OK when the device accepts, refuses, or answers later.

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::{Access, Phase, Reply, Ticket},
    model::Start,
    testing::Registers,
};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg,
    status::NEEDS_RESET,
};

/// A device with queues 0 and 1 whose driver has written DRIVER_OK and has to wait.
fn waiting() -> (TestEngine<Probe>, TestRam, Ticket) {
    let (mut engine, ram) = probe();
    engine.model_mut().start = Start::Later;
    let ticket = wait(&mut engine);
    (engine, ram, ticket)
}

fn wait(engine: &mut TestEngine<Probe>) -> Ticket {
    assert!(engine.negotiate(Features::VERSION_1));
    for queue in 0..2 {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
    }
    match engine.go_live() {
        Reply::Pending(ticket) => ticket,
        other => panic!("DRIVER_OK was answered {other:?}"),
    }
}

/// Asserts DRIVER_OK with DEVICE_NEEDS_RESET, one configuration interrupt, and no running queue.
#[track_caller]
fn assert_refused(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(engine.phase(), Phase::Live);
    assert!(!engine.device().shared().is_live());
    assert_eq!(pending(engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.model().count(Event::Served(0)), 0);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn a_device_that_refuses_to_start_needs_a_reset() {
    let (mut engine, ram) = probe();
    engine.model_mut().start = Start::Refuse;
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"never served");
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut engine);
    assert_eq!(driver.used_idx(), 0);
    // The model may accept the next attempt.
    engine.model_mut().start = Start::Accept;
    driver = virtside_tests::driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn while_the_driver_waits_every_other_access_is_busy() {
    let (mut engine, _, ticket) = waiting();
    let before = seen(&engine);
    for offset in (0..0x110).step_by(4) {
        assert_eq!(engine.access(Access::read(offset)), Reply::Busy);
        assert_eq!(engine.store(offset, 0), Reply::Busy, "{offset:#x}");
        assert_eq!(engine.store(offset, 1), Reply::Busy, "{offset:#x}");
    }
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.phase(), Phase::SettingUp);
    assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
}

#[test]
fn accepting_completes_the_drivers_write() {
    let (mut engine, ram, ticket) = waiting();
    let mut driver = driver(ram, 0);
    let responder = engine.responder().expect("the driver waits");
    assert!(!engine.device().shared().is_live());
    assert!(responder.accept());
    assert!(engine.device().shared().is_live());
    assert!(
        engine.responder().is_none(),
        "there is nothing left to answer"
    );
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_eq!(engine.device().notify().asserted(), 0);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn nothing_runs_before_the_answer_and_then_every_queue_does() {
    let (mut engine, ram, ticket) = waiting();
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        publish(driver, queue, b"early");
    }
    // One queue is kicked, in an interrupt handler; the other is not.
    engine.device().shared().doorbell().ring(1);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(engine.take_queue(0).is_err());
    assert_eq!(engine.queue_state(0), QueueState::Ready);
    assert_eq!((drivers[0].used_idx(), drivers[1].used_idx()), (0, 0));

    assert!(engine.responder().expect("the driver waits").accept());
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        assert_eq!(answer(driver, queue).as_deref(), Some(&b"early"[..]));
    }
}

#[test]
fn a_poll_between_the_answer_and_the_reply_serves_already() {
    // One thread may accept and another complete the driver's access.
    let (mut engine, ram, ticket) = waiting();
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"early");
    assert!(engine.responder().expect("the driver waits").accept());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"early"[..]));
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn refusing_completes_the_drivers_write_with_needs_reset() {
    let (mut engine, _, ticket) = waiting();
    engine.responder().expect("the driver waits").refuse();
    assert_eq!(engine.finish(ticket), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut engine);
}

#[test]
fn dropping_the_responder_refuses() {
    let (mut engine, _, ticket) = waiting();
    drop(engine.responder());
    assert_eq!(engine.finish(ticket), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut engine);
}

#[test]
fn a_ticket_of_another_access_is_stale() {
    let (mut engine, _, old) = waiting();
    assert!(engine.responder().expect("the driver waits").accept());
    assert_eq!(engine.finish(old), Reply::Done(0));
    // No access is outstanding.
    assert_eq!(engine.finish(old), Reply::Refused(Refusal::StaleTicket));
    let new = wait(&mut engine);
    assert_ne!(old, new);
    assert_eq!(engine.finish(old), Reply::Refused(Refusal::StaleTicket));
    assert_eq!(engine.finish(new), Reply::Pending(new));
}

#[test]
fn the_responder_is_given_out_once_for_each_driver_ok() {
    let (mut engine, ram, ticket) = waiting();
    for (round, ticket) in [Some(ticket), None].into_iter().enumerate() {
        let ticket = ticket.unwrap_or_else(|| wait(&mut engine));
        let responder = engine.responder().expect("the driver waits");
        // A second responder would refuse when it is dropped.
        assert!(engine.responder().is_none());
        assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
        assert!(responder.accept());
        assert_eq!(engine.finish(ticket), Reply::Done(0));
        assert!(engine.responder().is_none());
        assert_eq!(engine.load(reg::STATUS), 15, "round {round}");
        let mut driver = driver(ram, 0);
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn a_reset_does_not_overtake_the_answer() {
    // Therefore no answer can be from before a reset.
    let (mut engine, ram, ticket) = waiting();
    let responder = engine.responder().expect("the driver waits");
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Busy);
    assert!(responder.accept());
    assert_eq!(
        engine.store(reg::STATUS, 0),
        Reply::Busy,
        "the reply is still due"
    );
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert!(!engine.device().shared().is_live());
    assert!(engine.responder().is_none());
    engine.model_mut().start = Start::Accept;
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn there_is_no_responder_unless_the_driver_waits() {
    let (mut engine, _) = probe();
    assert!(engine.responder().is_none());
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert!(engine.responder().is_none());
    assert_eq!(engine.model().count(Event::Ready(Features::VERSION_1)), 1);
}

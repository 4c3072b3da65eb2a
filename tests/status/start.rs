//! A device that accepts, refuses, or says later whether it starts.

use virtside::{
    Features, QueueState, Refusal, Start, Step,
    mmio::{Access, Phase, Reply, Ticket},
    testing::Registers,
};
use virtside_tests::{
    BUDGET, Guest, TestRam, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg,
    status::NEEDS_RESET,
};

/// A device with queues 0 and 1 whose driver has written DRIVER_OK, and has to wait.
fn waiting() -> (Guest<Probe>, TestRam, Ticket) {
    let (mut guest, ram) = probe();
    guest.model_mut().start = Start::Later;
    let ticket = wait(&mut guest);
    (guest, ram, ticket)
}

fn wait(guest: &mut Guest<Probe>) -> Ticket {
    assert!(guest.negotiate(Features::VERSION_1));
    for queue in 0..2 {
        assert_eq!(guest.configure(&config(queue)), Reply::Done(0));
    }
    match guest.go_live() {
        Reply::Pending(ticket) => ticket,
        other => panic!("DRIVER_OK was answered {other:?}"),
    }
}

/// DRIVER_OK and DEVICE_NEEDS_RESET, one configuration interrupt, and nothing runs.
#[track_caller]
fn assert_refused(guest: &mut Guest<Probe>) {
    assert_eq!(guest.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(guest.phase(), Phase::Live);
    assert!(!guest.device().shared().is_live());
    assert_eq!(pending(guest), 2);
    assert_eq!(guest.device().notify().asserted(), 1);
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.model().count(Event::Served(0)), 0);
    assert_eq!(guest.device().notify().asserted(), 1);
}

#[test]
fn a_device_that_refuses_to_start_needs_a_reset() {
    let (mut guest, ram) = probe();
    guest.model_mut().start = Start::Refuse;
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"in vain");
    assert!(guest.negotiate(Features::VERSION_1));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    assert_eq!(guest.go_live(), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut guest);
    assert_eq!(driver.used_idx(), 0);
    // It may have changed its mind by the next time.
    guest.model_mut().start = Start::Accept;
    driver = virtside_tests::driver(ram, 0);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn while_the_driver_waits_every_other_access_is_busy() {
    let (mut guest, _, ticket) = waiting();
    let before = seen(&guest);
    for offset in (0..0x110).step_by(4) {
        assert_eq!(guest.access(Access::read(offset)), Reply::Busy);
        assert_eq!(guest.store(offset, 0), Reply::Busy, "{offset:#x}");
        assert_eq!(guest.store(offset, 1), Reply::Busy, "{offset:#x}");
    }
    assert_eq!(seen(&guest), before);
    assert_eq!(guest.phase(), Phase::SettingUp);
    assert_eq!(guest.finish(ticket), Reply::Pending(ticket));
}

#[test]
fn accepting_completes_the_drivers_write() {
    let (mut guest, ram, ticket) = waiting();
    let mut driver = driver(ram, 0);
    let responder = guest.responder().expect("the driver waits");
    assert!(!guest.device().shared().is_live());
    assert!(responder.accept());
    assert!(guest.device().shared().is_live());
    assert!(
        guest.responder().is_none(),
        "there is nothing left to answer"
    );
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 15);
    assert_eq!(guest.device().notify().asserted(), 0);
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn nothing_runs_before_the_answer_and_then_every_queue_does() {
    let (mut guest, ram, ticket) = waiting();
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        publish(driver, queue, b"early");
    }
    // One of them is even kicked, in an interrupt handler; the other is not.
    guest.device().shared().doorbell().ring(1);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert!(guest.take_queue(0).is_err());
    assert_eq!(guest.queue_state(0), QueueState::Ready);
    assert_eq!((drivers[0].used_idx(), drivers[1].used_idx()), (0, 0));

    assert!(guest.responder().expect("the driver waits").accept());
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        assert_eq!(answer(driver, queue).as_deref(), Some(&b"early"[..]));
    }
}

#[test]
fn a_poll_between_the_answer_and_the_reply_serves_already() {
    // The one who accepts and the one who answers the driver may be two.
    let (mut guest, ram, ticket) = waiting();
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"early");
    assert!(guest.responder().expect("the driver waits").accept());
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"early"[..]));
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn refusing_completes_the_drivers_write_with_needs_reset() {
    let (mut guest, _, ticket) = waiting();
    guest.responder().expect("the driver waits").refuse();
    assert_eq!(guest.finish(ticket), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut guest);
}

#[test]
fn dropping_the_responder_refuses() {
    let (mut guest, _, ticket) = waiting();
    drop(guest.responder());
    assert_eq!(guest.finish(ticket), Reply::Refused(Refusal::NotReady));
    assert_refused(&mut guest);
}

#[test]
fn a_ticket_of_another_access_is_stale() {
    let (mut guest, _, old) = waiting();
    assert!(guest.responder().expect("the driver waits").accept());
    assert_eq!(guest.finish(old), Reply::Done(0));
    // Nothing is outstanding.
    assert_eq!(guest.finish(old), Reply::Refused(Refusal::StaleTicket));
    let new = wait(&mut guest);
    assert_ne!(old, new);
    assert_eq!(guest.finish(old), Reply::Refused(Refusal::StaleTicket));
    assert_eq!(guest.finish(new), Reply::Pending(new));
}

#[test]
fn the_responder_is_given_out_once_for_each_driver_ok() {
    let (mut guest, ram, ticket) = waiting();
    for (round, ticket) in [Some(ticket), None].into_iter().enumerate() {
        let ticket = ticket.unwrap_or_else(|| wait(&mut guest));
        let responder = guest.responder().expect("the driver waits");
        // Another one that is dropped would refuse.
        assert!(guest.responder().is_none());
        assert_eq!(guest.finish(ticket), Reply::Pending(ticket));
        assert!(responder.accept());
        assert_eq!(guest.finish(ticket), Reply::Done(0));
        assert!(guest.responder().is_none());
        assert_eq!(guest.load(reg::STATUS), 15, "round {round}");
        let mut driver = driver(ram, 0);
        assert_works(&mut guest, &mut driver, 0);
    }
}

#[test]
fn a_reset_does_not_overtake_the_answer() {
    // So no answer can be one from before a reset.
    let (mut guest, ram, ticket) = waiting();
    let responder = guest.responder().expect("the driver waits");
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Busy);
    assert!(responder.accept());
    assert_eq!(
        guest.store(reg::STATUS, 0),
        Reply::Busy,
        "the reply is still due"
    );
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    assert!(!guest.device().shared().is_live());
    assert!(guest.responder().is_none());
    guest.model_mut().start = Start::Accept;
    let mut driver = driver(ram, 0);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn there_is_no_responder_unless_the_driver_waits() {
    let (mut guest, _) = probe();
    assert!(guest.responder().is_none());
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    assert!(guest.responder().is_none());
    assert_eq!(guest.model().count(Event::Ready(Features::VERSION_1)), 1);
}

//! Keeping a queue quiet, and going on.

use virtside::{
    Features, FlatMem, Refusal, Step,
    device::{QueueState, Quiesce, Stop},
    mmio::Reply,
    queue::Chain,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, config, driver, engine_over,
    probe::{Event, Probe, answer, probe, publish, reset_queue},
    reg, status,
};

/// A live device with queues 0 and 1, and a driver of queue 0.
fn live() -> (TestEngine<Probe>, FakeDriver<FlatMem>) {
    live_with(Features::empty())
}

/// That device with these features, too.
fn live_with(features: Features) -> (TestEngine<Probe>, FakeDriver<FlatMem>) {
    let (mut engine, ram) = probe();
    let driver = driver(ram, 0);
    let features = Features::VERSION_1 | features;
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    engine.poll(BUDGET);
    (engine, driver)
}

/// Sends a request on queue 0.
fn send(engine: &mut TestEngine<Probe>, driver: &mut FakeDriver<FlatMem>, text: &[u8]) {
    publish(driver, 0, text);
    assert_eq!(engine.kick(0), Reply::Done(0));
}

#[test]
fn a_quiet_queue_is_served_again_when_it_resumes() {
    let (mut engine, mut driver) = live();
    send(&mut engine, &mut driver, b"before");
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    send(&mut engine, &mut driver, b"while");
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0), None);
    assert_eq!(engine.queue_state(0), QueueState::Live);
    engine.resume_queue(0);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    for text in [b"before".as_slice(), b"while"] {
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
    }
}

#[test]
fn another_queue_is_served_meanwhile() {
    let (mut engine, ram) = probe();
    let mut other = driver(ram, 1);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    publish(&mut other, 1, b"other");
    assert_eq!(engine.kick(1), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"other"[..]));
}

#[test]
fn chains_in_hand_are_finished_first() {
    let (mut engine, mut driver) = live();
    engine.model_mut().holds = true;
    send(&mut engine, &mut driver, b"held");
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    send(&mut engine, &mut driver, b"waits");
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    engine.poll(BUDGET);
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    engine.backend_ready(0);
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0), None, "no more chains are taken");
}

#[test]
fn the_owner_of_a_taken_queue_is_asked_to_stop() {
    let (mut engine, mut driver) = live();
    let mut taken = engine.take_queue(0).expect("a live queue");
    publish(&mut driver, 0, b"taken");
    let mut chain = Chain::new();
    let mem = engine.device().memory().clone();
    assert_eq!(taken.pop(&mem, &mut chain), Ok(true));
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    assert_eq!(taken.pop(&mem, &mut Chain::new()), Err(Stop::Asked));
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    assert_eq!(taken.complete(&chain, 0), Ok(()));
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert_eq!(engine.device().ring_position(0), None, "it is still out");
    assert!(engine.put_back(taken).is_ok());
    let position = engine.device().ring_position(0).expect("a live queue");
    assert_eq!((position.next_avail, position.next_used), (1, 1));
    send(&mut engine, &mut driver, b"quiet");
    engine.poll(BUDGET);
    assert_eq!(driver.take_used(), Some((0, 0)));
    assert_eq!(driver.take_used(), None);
    let busy = Refusal::QueueNotReady { queue: 0 };
    assert_eq!(engine.take_queue(0).map(|_| ()), Err(busy));
    engine.resume_queue(0);
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"quiet"[..]));
}

#[test]
fn a_driver_may_stop_or_reset_a_quiet_queue() {
    let (mut engine, mut driver) = live();
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.queue_state(0), QueueState::Off);
    engine.resume_queue(0);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    driver.set_next(0, 0);
    send(&mut engine, &mut driver, b"anew");
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"anew"[..]));
}

#[test]
fn a_quiet_queue_that_is_stopped_and_set_up_again_is_served() {
    let (mut engine, mut driver) = live_with(Features::RING_RESET);
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    send(&mut engine, &mut driver, b"again");
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"again"[..]));
}

#[test]
fn a_quiet_queue_stays_quiet_after_a_resume_of_the_device() {
    let (mut engine, mut driver) = live_with(Features::SUSPEND);
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert_eq!(
        engine.store(reg::STATUS, status::LIVE_SUSPEND),
        Reply::Done(0)
    );
    assert_eq!(
        engine.store(reg::STATUS, status::LIVE_SUSPEND),
        Reply::Done(0)
    );
    send(&mut engine, &mut driver, b"text");
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0), None);
    engine.resume_queue(0);
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
}

#[test]
fn a_saved_quiet_queue_is_served_by_the_restored_device() {
    let (mut engine, mut driver) = live();
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    publish(&mut driver, 0, b"moved");
    let state = engine.save::<4>().expect("no queue is taken");
    let mem = engine.device().memory().clone();
    let mut restored = engine_over(Probe::default(), mem, 4);
    restored.restore(&state).expect("a saved state");
    restored.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"moved"[..]));
}

#[test]
fn queues_that_are_not_there_are_quiet() {
    let (mut engine, _) = live();
    for queue in [3, 4, u16::MAX] {
        assert_eq!(engine.quiesce(queue), Quiesce::Done);
        engine.resume_queue(queue);
        assert_eq!(engine.device().ring_position(queue), None);
    }
    assert_eq!(engine.model().count(Event::Stopped(3)), 0);
}

#[test]
fn before_the_driver_is_live_a_queue_cannot_be_quieted() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert_eq!(engine.quiesce(0), Quiesce::Done);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    send(&mut engine, &mut driver, b"text");
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
}

#[test]
fn a_queue_quieted_while_off_is_served_once_it_is_set_up() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 1);
    let features = Features::VERSION_1 | Features::RING_RESET;
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    assert_eq!(reset_queue(&mut engine, 1), Reply::Done(0));
    assert_eq!(engine.quiesce(1), Quiesce::Done);
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    publish(&mut driver, 1, b"text");
    assert_eq!(engine.kick(1), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(answer(&mut driver, 1).as_deref(), Some(&b"text"[..]));
}

#[test]
fn an_owner_at_work_is_waited_for_after_failed_too() {
    let (mut engine, mut driver) = live();
    let mut taken = engine.take_queue(0).expect("a live queue");
    publish(&mut driver, 0, b"taken");
    let mut chain = Chain::new();
    let mem = engine.device().memory().clone();
    assert_eq!(taken.pop(&mem, &mut chain), Ok(true));
    assert_eq!(
        engine.store(reg::STATUS, status::LIVE | status::FAILED),
        Reply::Done(0)
    );
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    assert_eq!(taken.pop(&mem, &mut Chain::new()), Err(Stop::Asked));
    assert_eq!(engine.quiesce(0), Quiesce::Pending);
    assert_eq!(taken.complete(&chain, 0), Ok(()));
    assert_eq!(engine.quiesce(0), Quiesce::Done);
}

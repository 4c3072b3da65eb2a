//! Before DRIVER_OK the device accesses no driver memory and sends no interrupt.

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg,
};

/// Every byte of the first two queues' rings.
fn rings(ram: TestRam) -> Vec<u8> {
    let mut bytes = vec![0; 0x2000];
    assert_eq!(ram.read(0, &mut bytes), 0x2000);
    bytes
}

/// A device before set-up, with a request published on queue 0.
fn published() -> (TestEngine<Probe>, FakeDriver<virtside::FlatMem>, TestRam) {
    let (engine, ram) = probe();
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"early");
    // A mark where the device would write its flags.
    driver.write(driver.layout().device, &[0xff; 4]);
    (engine, driver, ram)
}

/// Asserts that no request was taken or answered, no byte of the rings changed, and no interrupt
/// was sent.
#[track_caller]
fn assert_untouched(engine: &mut TestEngine<Probe>, ram: TestRam, before: &[u8]) {
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(rings(ram), before);
    assert_eq!(engine.counters().chains, 0);
    assert_eq!(engine.model().count(Event::Served(0)), 0);
    assert_eq!(pending(engine), 0);
    let line = engine.device().notify();
    assert_eq!((line.asserted(), line.is_high()), (0, false));
}

#[test]
fn published_chains_are_neither_taken_nor_interrupt() {
    let (mut engine, _, ram) = published();
    let before = rings(ram);
    assert_untouched(&mut engine, ram, &before);
    assert!(engine.negotiate(Features::RING));
    assert_untouched(&mut engine, ram, &before);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.queue_state(0), QueueState::Ready);
    assert_untouched(&mut engine, ram, &before);
    // Neither a kick, nor a poll by the host, nor a doorbell rung in an interrupt handler changes
    // this.
    assert_eq!(engine.kick(0), Reply::Refused(Refusal::WrongPhase));
    engine.backend_ready(0);
    assert_eq!(engine.notify_queue(0), Ok(()));
    engine.device().shared().doorbell().ring(0);
    assert_untouched(&mut engine, ram, &before);
}

#[test]
fn chains_published_early_are_served_at_driver_ok() {
    let (mut engine, mut driver, _) = published();
    driver.write(driver.layout().device, &[0; 4]);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"early"[..]));
    assert_eq!(pending(&mut engine), 1);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn every_configured_queue_is_live_at_driver_ok() {
    let (mut engine, ram) = probe();
    let mut first = driver(ram, 0);
    let mut second = driver(ram, 1);
    publish(&mut first, 0, b"one");
    publish(&mut second, 1, b"two");
    assert!(engine.bring_up(Features::VERSION_1, &[config(1), config(0)]));
    assert_eq!(engine.queue_state(0), QueueState::Live);
    assert_eq!(engine.queue_state(1), QueueState::Live);
    assert_eq!(engine.queue_state(2), QueueState::Off);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut first, 0).as_deref(), Some(&b"one"[..]));
    assert_eq!(answer(&mut second, 1).as_deref(), Some(&b"two"[..]));
}

#[test]
fn a_kick_of_a_queue_that_is_not_ready_is_refused() {
    let (mut engine, _) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    let before = seen(&engine);
    assert_eq!(
        engine.kick(0),
        Reply::Refused(Refusal::QueueNotReady { queue: 0 })
    );
    assert_eq!(seen(&engine), before);
    assert!(engine.device().shared().doorbell().is_silent());
}

#[test]
fn driver_ok_with_no_queues_at_all_is_harmless() {
    let (mut engine, ram) = probe();
    let before = rings(ram);
    assert!(engine.bring_up(Features::VERSION_1, &[]));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_untouched(&mut engine, ram, &before);
    for queue in 0..4 {
        assert!(engine.kick(queue).refusal().is_some());
        assert!(engine.take_queue(queue).is_err());
    }
    assert_untouched(&mut engine, ram, &before);
    // Queues can no longer be set up, but the driver can reset the device and start again.
    assert!(engine.configure(&config(0)).refusal().is_some());
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
}

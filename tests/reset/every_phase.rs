//! Status = 0 in every phase of the device.

use virtside::{
    Features, QueueConfig, Refusal, Step,
    device::QueueState,
    mmio::{Phase, Reply},
    model::Start,
    shared::InterruptStatus,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Event, Probe, assert_works, probe, publish, ready, seen},
    reg,
};

/// Asserts that the device is in its initial state and that a driver can bring it up.
#[track_caller]
fn assert_reset_cures(engine: &mut TestEngine<Probe>, ram: TestRam) {
    let resets = engine.model().count(Event::Reset);
    let raised = engine.device().notify().asserted();
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
    let seen = seen(engine);
    assert_eq!((seen.status, seen.phase), (0, Phase::Reset));
    assert_eq!(
        (seen.accepted, seen.features),
        (Features::empty(), Features::empty())
    );
    assert!(
        seen.queues
            .iter()
            .all(|queue| *queue == (QueueState::Off, None))
    );
    assert_eq!(
        (seen.interrupts, seen.high),
        (InterruptStatus::empty(), false)
    );
    assert_eq!(seen.raised, raised, "a reset sends no interrupt");
    for queue in 0..5 {
        assert_eq!(ready(engine, queue), 0);
        assert_eq!(engine.driver_fault(queue), None);
    }
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
    assert_eq!(engine.load(reg::QUEUE_RESET), 0);
    assert_eq!(engine.transport().last_refusal(), None);
    assert!(engine.device().shared().doorbell().is_silent());
    assert!(engine.responder().is_none());
    assert_eq!(engine.model().count(Event::Reset), resets + 1);
    assert_eq!(engine.poll(BUDGET), Step::Idle);

    engine.model_mut().start = Start::Accept;
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_eq!(engine.load(reg::STATUS), 15);
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        assert_works(engine, driver, queue);
    }
}

#[test]
fn a_device_in_reset_may_be_reset() {
    let (mut engine, ram) = probe();
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_reset_cures(&mut engine, ram);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_negotiating_device_may_be_reset() {
    let (mut engine, ram) = probe();
    assert_eq!(engine.store(reg::STATUS, 1), Reply::Done(0));
    assert_reset_cures(&mut engine, ram);
    assert!(!engine.negotiate(Features::RING_PACKED));
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_device_that_is_being_set_up_may_be_reset() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::RING));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    engine.lay_out(&config(1));
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_device_that_refused_a_queue_may_be_reset() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::RING));
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    assert!(engine.configure(&bad).refusal().is_some());
    assert_reset_cures(&mut engine, ram);
    // The driver has also asked for a queue that does not exist.
    assert!(engine.negotiate(Features::RING));
    assert_eq!(engine.store(reg::QUEUE_SEL, 99), Reply::Done(0));
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_live_device_may_be_reset() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::RING, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
    engine.update_config(|_| ());
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_device_that_did_not_start_may_be_reset() {
    let (mut engine, ram) = probe();
    engine.model_mut().start = Start::Refuse;
    assert!(!engine.bring_up(Features::RING, &[config(0)]));
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_device_that_needs_a_reset_may_be_reset() {
    let (mut engine, ram) = probe();
    let driver = driver(ram, 0);
    assert!(engine.bring_up(Features::RING, &[config(0)]));
    driver.set_avail_idx(1000);
    engine.poll(BUDGET);
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_failed_device_may_be_reset() {
    for status in [0, 1, 3, 11, 15] {
        let (mut engine, ram) = probe();
        if status == 15 {
            assert!(engine.bring_up(Features::RING, &[config(0)]));
        } else if status == 11 {
            assert!(engine.negotiate(Features::RING));
        }
        let reply = engine.store(reg::STATUS, status | 128);
        assert_eq!(reply, Reply::Done(0));
        assert_eq!(engine.phase(), Phase::Failed);
        assert_reset_cures(&mut engine, ram);
    }
}

#[test]
fn a_value_that_is_zero_only_in_its_low_byte_is_no_reset() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    let value = 0x100;
    let refusal = Refusal::BadValue {
        offset: reg::STATUS,
        value,
    };
    assert_eq!(engine.store(reg::STATUS, value), Reply::Refused(refusal));
    assert_works(&mut engine, &mut driver, 0);
}

/// A live device with a request on queue 0 that was kicked but not polled; the device is then
/// reset.
fn reset_with_a_kick() -> (TestEngine<Probe>, FakeDriver<virtside::FlatMem>, TestRam) {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
    publish(&mut driver, 0, b"never served");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    (engine, driver, ram)
}

/// The contents of all memory.
fn memory(ram: TestRam) -> Vec<u8> {
    let mut bytes = vec![0; virtside_tests::BYTES];
    assert_eq!(ram.read(0, &mut bytes), bytes.len());
    bytes
}

#[test]
fn after_a_reset_no_memory_of_the_driver_is_touched() {
    // The driver may already use the memory for something else.
    let (mut engine, _, ram) = reset_with_a_kick();
    ram.write(0, &[0xa5; 0x2000]);
    let before = memory(ram);
    let served = engine.model().count(Event::Served(0));
    let push = |engine: &mut TestEngine<Probe>| {
        engine.backend_ready(0);
        engine.device().shared().doorbell().ring(0);
        assert!(engine.notify_queue(0).is_err());
        assert!(engine.kick(0).refusal().is_some());
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert!(engine.take_queue(0).is_err());
    };
    push(&mut engine);
    // The memory is not touched during the next set-up either, before DRIVER_OK.
    assert_eq!(engine.store(reg::STATUS, 1), Reply::Done(0));
    push(&mut engine);
    assert!(engine.negotiate(Features::VERSION_1));
    push(&mut engine);
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    push(&mut engine);
    assert!(memory(ram) == before, "memory changed");
    assert_eq!(engine.model().count(Event::Served(0)), served);
}

#[test]
fn after_a_reset_no_interrupt_is_sent() {
    let (mut engine, _, _) = reset_with_a_kick();
    let raised = engine.device().notify().asserted();
    engine.update_config(|_| ());
    engine.backend_ready(0);
    engine.device().shared().doorbell().ring(0);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
    let line = engine.device().notify();
    assert_eq!((line.asserted(), line.is_high()), (raised, false));
}

#[test]
fn no_queue_is_live_between_a_reset_and_the_next_driver_ok() {
    let (mut engine, _, ram) = reset_with_a_kick();
    let is_live = |engine: &TestEngine<Probe>| engine.queue_state(0) == QueueState::Live;
    assert!(!is_live(&engine));
    assert!(engine.negotiate(Features::VERSION_1));
    assert!(!is_live(&engine));
    let mut driver = driver(ram, 0);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert!(!is_live(&engine));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert!(is_live(&engine));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn indices_start_at_zero_again() {
    let (mut engine, ram) = probe();
    for requests in [5, 20, 1] {
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        for _ in 0..requests {
            assert_works(&mut engine, &mut driver, 0);
        }
        assert_eq!(driver.used_idx(), requests);
    }
}

#[test]
fn selectors_start_at_zero_again() {
    let (mut engine, _) = probe();
    for offset in [
        reg::DEVICE_FEATURES_SEL,
        reg::DRIVER_FEATURES_SEL,
        reg::QUEUE_SEL,
    ] {
        assert_eq!(engine.store(offset, 1), Reply::Done(0));
    }
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::DEVICE_FEATURES), 0x3000_0000);
    assert_eq!(engine.store(reg::DRIVER_FEATURES, 1 << 29), Reply::Done(0));
    assert_eq!(engine.transport().driver_features(), Features::EVENT_IDX);
}

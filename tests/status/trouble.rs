//! DEVICE_NEEDS_RESET: when it is set, how often it interrupts, and how it is cleared.

use virtside::{
    DriverFault, Features, QueueConfig, Refusal, Step,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BUDGET, config, driver,
    probe::{Event, assert_works, pending, probe, publish, seen},
    reg,
    status::NEEDS_RESET,
};

#[test]
fn a_broken_ring_sets_it_with_one_configuration_interrupt() {
    let (mut engine, ram) = probe();
    let (first, second) = (driver(ram, 0), driver(ram, 1));
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    first.set_avail_idx(1000);
    assert_eq!(engine.kick(0), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(
        pending(&mut engine),
        2,
        "only a configuration change is pending"
    );
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(engine.queue_state(0), QueueState::Failed);
    assert_eq!(
        engine.driver_fault(0),
        Some(DriverFault::AvailIndexJump { idx: 1000, next: 0 })
    );
    // The bit is set already: a second violation sends no interrupt.
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    second.set_avail_idx(1000);
    assert_eq!(engine.kick(1), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(engine.queue_state(1), QueueState::Failed);
    assert_eq!(pending(&mut engine), 0);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn a_fault_that_the_model_finds_sets_it_too() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    let fault = DriverFault::BadRequest { head: 0 };
    engine.model_mut().blames = Some(fault);
    publish(&mut driver, 0, b"bad");
    assert_eq!(engine.kick(0), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(engine.driver_fault(0), Some(fault));
    assert_eq!((pending(&mut engine), driver.used_idx()), (2, 0));
    assert_eq!(engine.model().count(Event::Stopped(0)), 1);
}

#[test]
fn only_a_reset_clears_it() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    driver.set_avail_idx(1000);
    engine.poll(BUDGET);
    let before = seen(&engine);
    // A write without the bit does not count as an attempt to clear it.
    for value in [15, 15 | NEEDS_RESET] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&engine), before);
    }
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);

    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
    assert_eq!(engine.driver_fault(0), None);
    driver = virtside_tests::driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn other_queues_continue_when_a_reset_is_needed() {
    let (mut engine, ram) = probe();
    let (broken, mut sound) = (driver(ram, 0), driver(ram, 1));
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    broken.set_avail_idx(1000);
    assert_eq!(engine.kick(0), Reply::Done(0));
    engine.poll(BUDGET);
    assert_works(&mut engine, &mut sound, 1);
    // A kick of the failed queue is accepted and has no effect.
    broken.set_avail_idx(0);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(broken.used_idx(), 0);
}

#[test]
fn failed_stays_possible_when_a_reset_is_needed() {
    let (mut engine, ram) = probe();
    let driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    driver.set_avail_idx(1000);
    engine.poll(BUDGET);
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15 | 128 | NEEDS_RESET);
    assert_eq!(engine.phase(), Phase::Failed);
}

/// Asserts what a driver sees after DRIVER_OK when one of its queues was refused.
#[track_caller]
fn assert_not_ready(queues: &[QueueConfig], sel: u32) {
    let (mut engine, ram) = probe();
    let mut sound = driver(ram, 1);
    publish(&mut sound, 1, b"waits");
    assert!(engine.negotiate(Features::VERSION_1));
    for config in queues {
        let _ = engine.configure(config);
    }
    // Like most drivers, this one does not read QueueReady back.
    assert_eq!(engine.store(reg::QUEUE_SEL, sel), Reply::Done(0));
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_eq!(engine.device().notify().asserted(), 0);

    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(pending(&mut engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    assert!(!engine.device().shared().is_live());
    assert_eq!(engine.model().count(Event::Ready(Features::VERSION_1)), 0);
    // No queue runs, not even a valid one, and no other interrupt is sent.
    let _ = engine.kick(1);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(sound.used_idx(), 0);
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(engine.device().notify().asserted(), 1);
    assert!(engine.take_queue(1).is_err());
    // After a reset and a valid set-up the device works.
    sound = driver(ram, 1);
    assert!(engine.bring_up(Features::VERSION_1, &[config(1)]));
    assert_works(&mut engine, &mut sound, 1);
}

#[test]
fn driver_ok_after_a_refused_queue_needs_a_reset() {
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    assert_not_ready(&[config(1), bad], 0);
}

#[test]
fn driver_ok_after_a_queue_that_does_not_exist_needs_a_reset() {
    assert_not_ready(&[config(1)], 3);
    assert_not_ready(&[config(1)], 4);
    assert_not_ready(&[config(1)], 0x1_0001);
}

#[test]
fn a_corrected_queue_does_not_prevent_driver_ok() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.negotiate(Features::VERSION_1));
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    assert!(engine.configure(&bad).refusal().is_some());
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn an_abandoned_refused_queue_does_not_prevent_driver_ok() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 1);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    assert!(engine.configure(&bad).refusal().is_some());
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_works(&mut engine, &mut driver, 1);
}

#[test]
fn a_queue_whose_memory_is_gone_interrupts_at_driver_ok() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    *engine.memory_mut() = ram.flat(virtside_tests::BASE + 0x100_0000);
    assert!(engine.memory_changed().is_done());
    assert_eq!(engine.load(reg::STATUS), 11 | NEEDS_RESET);
    assert_eq!(
        engine.device().notify().asserted(),
        0,
        "no interrupt before DRIVER_OK"
    );
    // A driver that does not read the status would wait for its requests forever.
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(pending(&mut engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    *engine.memory_mut() = ram.flat(virtside_tests::BASE);
    assert!(engine.memory_changed().is_done());
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
}

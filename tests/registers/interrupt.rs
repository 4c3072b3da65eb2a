//! InterruptStatus, InterruptACK, and the interrupt line.

use virtside::{
    Features, Step,
    mmio::Reply,
    shared::InterruptStatus,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Probe, answer, pending, probe, publish, seen},
    reg,
};

/// A live device with queues 0 and 1.
fn live() -> (TestEngine<Probe>, FakeDriver<virtside::FlatMem>, TestRam) {
    let (mut engine, ram) = probe();
    let first = driver(ram, 0);
    let _ = driver(ram, 1);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_line(&mut engine, 0, 0);
    (engine, first, ram)
}

/// Serves one chain, which makes a used buffer pending.
fn use_buffer(engine: &mut TestEngine<Probe>, driver: &mut FakeDriver<virtside::FlatMem>) {
    publish(driver, 0, b"x");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
}

fn acknowledge(engine: &mut TestEngine<Probe>, bits: u32) {
    assert_eq!(engine.store(reg::INTERRUPT_ACK, bits), Reply::Done(0));
}

/// Asserts what is pending and how often the line was raised, and that the line is high only while
/// a bit is pending.
#[track_caller]
fn assert_line(engine: &mut TestEngine<Probe>, bits: u32, raised: u32) {
    assert_eq!(pending(engine), bits);
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (bits != 0, raised));
}

#[test]
fn a_used_buffer_is_bit_0_until_it_is_acknowledged() {
    let (mut engine, mut driver, _) = live();
    use_buffer(&mut engine, &mut driver);
    for _ in 0..3 {
        assert_line(&mut engine, reg::USED_BUFFER, 1);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
    }
    acknowledge(&mut engine, reg::USED_BUFFER);
    assert_line(&mut engine, 0, 1);
}

#[test]
fn a_configuration_change_is_bit_1_until_it_is_acknowledged() {
    let (mut engine, _, _) = live();
    engine.update_config(|model| model.space[0] = 9);
    assert_line(&mut engine, reg::CONFIG_CHANGE, 1);
    acknowledge(&mut engine, reg::CONFIG_CHANGE);
    assert_line(&mut engine, 0, 1);
}

#[test]
fn acknowledging_one_event_leaves_the_other_and_the_line_high() {
    for (first, second) in [
        (reg::USED_BUFFER, reg::CONFIG_CHANGE),
        (reg::CONFIG_CHANGE, reg::USED_BUFFER),
    ] {
        let (mut engine, mut driver, _) = live();
        use_buffer(&mut engine, &mut driver);
        engine.update_config(|_| ());
        assert_line(&mut engine, reg::USED_BUFFER | reg::CONFIG_CHANGE, 2);
        acknowledge(&mut engine, first);
        assert_eq!(pending(&mut engine), second);
        assert!(engine.device().notify().is_high());
        // The device sends another edge, because the remaining event would go unnoticed otherwise.
        assert_eq!(engine.device().notify().asserted(), 3);
        acknowledge(&mut engine, second);
        assert_line(&mut engine, 0, 3);
    }
}

#[test]
fn both_events_may_be_acknowledged_at_once() {
    let (mut engine, mut driver, _) = live();
    use_buffer(&mut engine, &mut driver);
    engine.update_config(|_| ());
    acknowledge(&mut engine, reg::USED_BUFFER | reg::CONFIG_CHANGE);
    assert_line(&mut engine, 0, 2);
}

#[test]
fn acknowledging_what_is_not_pending_clears_nothing_else() {
    let (mut engine, mut driver, _) = live();
    acknowledge(&mut engine, reg::USED_BUFFER | reg::CONFIG_CHANGE);
    assert_line(&mut engine, 0, 0);
    use_buffer(&mut engine, &mut driver);
    acknowledge(&mut engine, reg::CONFIG_CHANGE);
    assert_eq!(pending(&mut engine), reg::USED_BUFFER);
    assert!(engine.device().notify().is_high());
    acknowledge(&mut engine, 0);
    assert_eq!(pending(&mut engine), reg::USED_BUFFER);
}

#[test]
fn undefined_bits_read_zero_and_are_ignored_when_acknowledged() {
    let (mut engine, mut driver, _) = live();
    acknowledge(&mut engine, u32::MAX);
    assert_line(&mut engine, 0, 0);
    use_buffer(&mut engine, &mut driver);
    engine.update_config(|_| ());
    acknowledge(&mut engine, !(reg::USED_BUFFER | reg::CONFIG_CHANGE));
    assert_eq!(pending(&mut engine), reg::USED_BUFFER | reg::CONFIG_CHANGE);
    assert_eq!(
        engine.device().shared().interrupt_status(),
        InterruptStatus::USED_BUFFER | InterruptStatus::CONFIG_CHANGE
    );
    acknowledge(&mut engine, u32::MAX);
    assert_eq!(pending(&mut engine), 0);
    assert!(!engine.device().notify().is_high());
}

#[test]
fn an_event_after_the_acknowledgement_is_pending_again() {
    let (mut engine, mut driver, _) = live();
    for raised in 1..=3 {
        use_buffer(&mut engine, &mut driver);
        assert_line(&mut engine, reg::USED_BUFFER, raised);
        acknowledge(&mut engine, reg::USED_BUFFER);
        assert_line(&mut engine, 0, raised);
    }
}

#[test]
fn an_event_while_one_is_pending_is_kept() {
    let (mut engine, mut driver, _) = live();
    use_buffer(&mut engine, &mut driver);
    use_buffer(&mut engine, &mut driver);
    assert_line(&mut engine, reg::USED_BUFFER, 2);
    acknowledge(&mut engine, reg::USED_BUFFER);
    assert_line(&mut engine, 0, 2);
    assert_eq!(driver.used_idx(), 2);
}

#[test]
fn reading_does_not_acknowledge() {
    let (mut engine, mut driver, _) = live();
    use_buffer(&mut engine, &mut driver);
    let before = seen(&engine);
    for _ in 0..3 {
        assert_eq!(pending(&mut engine), reg::USED_BUFFER);
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn bit_0_is_shared_and_a_driver_may_find_a_queue_idle() {
    let (mut engine, mut first, ram) = live();
    let mut second = driver(ram, 1);
    for (queue, busy) in [(0, true), (1, false)] {
        publish(if busy { &mut first } else { &mut second }, queue, b"x");
        assert_eq!(engine.kick(queue), Reply::Done(0));
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(pending(&mut engine), reg::USED_BUFFER);
        acknowledge(&mut engine, reg::USED_BUFFER);
        // The driver scans both queues.
        assert_eq!(answer(&mut first, 0).is_some(), busy);
        assert_eq!(answer(&mut second, 1).is_some(), !busy);
    }
}

#[test]
fn buffers_of_several_queues_in_one_poll_are_one_interrupt() {
    let (mut engine, mut first, ram) = live();
    let mut second = driver(ram, 1);
    publish(&mut first, 0, b"x");
    publish(&mut second, 1, b"y");
    engine.device().shared().doorbell().ring(0);
    engine.device().shared().doorbell().ring(1);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_line(&mut engine, reg::USED_BUFFER, 1);
    assert_eq!((first.used_idx(), second.used_idx()), (1, 1));
}

#[test]
fn a_reset_clears_what_is_pending_and_lowers_the_line() {
    let (mut engine, mut driver, _) = live();
    use_buffer(&mut engine, &mut driver);
    engine.update_config(|_| ());
    assert_line(&mut engine, reg::USED_BUFFER | reg::CONFIG_CHANGE, 2);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_line(&mut engine, 0, 2);
    // Events during reset cause no interrupt, neither now nor later.
    engine.update_config(|_| ());
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_line(&mut engine, 0, 2);
}

#[test]
fn a_driver_that_polls_may_never_acknowledge() {
    let (mut engine, mut driver, _) = live();
    driver.set_avail_flags(1);
    for _ in 0..40 {
        use_buffer(&mut engine, &mut driver);
        assert!(answer(&mut driver, 0).is_some());
    }
    assert_line(&mut engine, 0, 0);
    assert_eq!(engine.counters().suppressed, 40);
}

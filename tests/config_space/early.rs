//! Configuration changes while the driver sets the device up.

use virtside::{Features, mmio::Reply, shared::InterruptStatus, testing::Registers};
use virtside_tests::{config, reg, test_block, test_engine};

#[test]
fn a_change_during_set_up_is_announced_when_the_driver_is_live() {
    let (mut engine, _) = test_engine(test_block(), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    engine.update_config(|_| ());
    assert_eq!(
        engine.load(reg::INTERRUPT_STATUS),
        0,
        "no interrupt before DRIVER_OK"
    );
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(
        engine.load(reg::INTERRUPT_STATUS),
        InterruptStatus::CONFIG_CHANGE.bits()
    );
}

#[test]
fn a_change_before_the_driver_starts_is_not_announced() {
    let (mut engine, _) = test_engine(test_block(), 1);
    engine.update_config(|_| ());
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
}

//! A queue that cannot be enabled again sets DEVICE_NEEDS_RESET, because the driver does not read
//! QueueReady back.

use virtside::{
    Refusal,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    TestEngine, config,
    probe::{Probe, assert_works, pending, ready},
    reg,
};

use crate::{FEATURES, enable, live, other_layout, reset_at_once};

/// Asserts that the device needs a reset, and sent so many interrupts for it.
#[track_caller]
fn assert_needs_reset(engine: &mut TestEngine<Probe>, interrupts: u32) {
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(engine), 2);
    assert_eq!(engine.device().notify().asserted(), interrupts);
}

#[test]
fn the_device_needs_a_reset_and_interrupts_once() {
    let (mut engine, [_, mut other], ram) = live();
    reset_at_once(&mut engine);
    let mut odd = other_layout().config(0);
    odd.size = 3;
    let why = Refusal::QueueSize {
        queue: 0,
        size: 3,
        max: 16,
    };
    assert_eq!(engine.configure(&odd), Reply::Refused(why));
    assert_needs_reset(&mut engine, 1);
    assert_eq!(engine.transport().last_refusal(), Some(why));
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(ready(&mut engine, 0), 0);
    // The device interrupts once, for any number of attempts, and also after an acknowledge.
    assert_eq!(engine.configure(&odd), Reply::Refused(why));
    assert_needs_reset(&mut engine, 1);
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    assert_eq!(engine.configure(&odd), Reply::Refused(why));
    assert_eq!(pending(&mut engine), 0);
    // The other queues continue, and this one may be enabled with good parameters.
    assert_works(&mut engine, &mut other, 1);
    let mut driver = enable(&mut engine, ram, other_layout());
    assert_works(&mut engine, &mut driver, 0);
    assert_eq!(engine.load(reg::STATUS), 79);
    assert!(engine.bring_up(FEATURES, &[config(0)]));
    assert_eq!(engine.load(reg::STATUS), 15);
}

#[test]
fn every_check_of_the_first_set_up_applies_again() {
    let good = other_layout().config(0);
    let mut cases = Vec::new();
    for size in [0, 3, 32, 0x1_0008, u32::MAX] {
        let mut config = good;
        config.size = size;
        cases.push(config);
    }
    for addr in [0, good.desc + 8, !15, config(1).desc] {
        let mut config = good;
        config.desc = addr;
        cases.push(config);
    }
    let mut overlap = good;
    overlap.device = good.driver;
    cases.push(overlap);
    for config in cases {
        let (mut engine, _, _) = live();
        reset_at_once(&mut engine);
        assert!(engine.configure(&config).refusal().is_some(), "{config:x?}");
        assert_needs_reset(&mut engine, 1);
        assert_eq!(engine.queue_state(0), QueueState::Off);
    }
}

#[test]
fn the_models_own_check_applies_too() {
    let (mut engine, _, _) = live();
    reset_at_once(&mut engine);
    engine.model_mut().check.unwanted = vec![0];
    let refusal = Refusal::QueueCheck { queue: 0 };
    assert_eq!(
        engine.configure(&other_layout().config(0)),
        Reply::Refused(refusal)
    );
    assert_needs_reset(&mut engine, 1);
    assert_eq!(engine.phase(), Phase::Live);
}

#[test]
fn a_queue_that_conflicts_with_another_cannot_come_back() {
    let (mut engine, _, ram) = live();
    reset_at_once(&mut engine);
    engine.model_mut().check.no_larger = vec![(1, 0)];
    let why = Refusal::QueueCheck { queue: 1 };
    let smaller = other_layout().config(0);
    assert_eq!(engine.configure(&smaller), Reply::Refused(why));
    assert_needs_reset(&mut engine, 1);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(engine.queue_config(0), None);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_queue_that_the_set_check_refuses_cannot_come_back() {
    let (mut engine, _, ram) = live();
    engine.model_mut().check.window = 0x4000;
    reset_at_once(&mut engine);
    let outside = other_layout().config(0);
    assert_eq!(
        engine.configure(&outside),
        Reply::Refused(Refusal::QueueSet)
    );
    assert_needs_reset(&mut engine, 1);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    assert_works(&mut engine, &mut driver, 0);
}

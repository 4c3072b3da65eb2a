//! ConfigGeneration, and the notification of configuration changes.

use virtside::{
    Features, Refusal,
    mmio::{Phase, Reply},
    model::Start,
    testing::Registers,
};
use virtside_tests::{
    BUDGET, TestEngine, config, driver,
    probe::{Probe, assert_works, pending, probe},
    reg,
};

use crate::{PHASES, at};

fn generation(engine: &mut TestEngine<Probe>) -> u32 {
    engine.load(reg::CONFIG_GENERATION)
}

#[test]
fn the_generation_stays_while_nothing_changes() {
    let (mut engine, ram) = probe();
    let first = generation(&mut engine);
    let mut driver = driver(ram, 0);
    for status in [1, 3] {
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        assert_eq!(generation(&mut engine), first);
    }
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
    for offset in 0..12 {
        engine.load(reg::CONFIG + offset);
        assert_eq!(generation(&mut engine), first);
    }
    driver.set_avail_idx(1000);
    assert_eq!(engine.kick(0), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_eq!(
        generation(&mut engine),
        first,
        "the status is not part of the configuration"
    );
}

#[test]
fn every_change_gives_another_generation() {
    let (mut engine, _) = probe();
    let mut seen = vec![generation(&mut engine)];
    for byte in 0..50 {
        engine.update_config(|model| model.space[0] = byte);
        let now = generation(&mut engine);
        assert!(!seen.contains(&now), "generation {now} is repeated");
        assert_eq!(generation(&mut engine), now);
        seen.push(now);
    }
}

#[test]
fn a_change_is_announced_at_once_only_to_a_live_driver() {
    for phase in PHASES {
        let mut engine = at(phase);
        let before = generation(&mut engine);
        let result = engine.update_config(|model| {
            model.space[0] = 0x55;
            "the closure's result"
        });
        assert_eq!(result, "the closure's result");
        assert_ne!(generation(&mut engine), before, "{phase:?}");
        assert_eq!(engine.load(reg::CONFIG) & 0xff, 0x55);
        let announced = u32::from(phase == Phase::Live);
        assert_eq!(
            pending(&mut engine),
            reg::CONFIG_CHANGE * announced,
            "{phase:?}"
        );
        assert_eq!(engine.device().notify().asserted(), announced, "{phase:?}");
    }
}

#[test]
fn a_change_in_reset_is_not_announced_afterwards() {
    // The driver has read nothing yet.
    let (mut engine, _) = probe();
    engine.update_config(|model| model.space[0] = 0x55);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    engine.poll(BUDGET);
    assert_eq!(pending(&mut engine), 0);
    assert_eq!(engine.device().notify().asserted(), 0);
}

#[test]
fn a_change_during_set_up_is_announced_once_the_driver_is_live() {
    // The driver may have read the changed fields before.
    for phase in [Phase::Negotiating, Phase::SettingUp] {
        let mut engine = at(phase);
        engine.update_config(|model| model.space[0] = 0x55);
        assert_eq!(pending(&mut engine), 0);
        if phase == Phase::Negotiating {
            assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, 1), Reply::Done(0));
            assert_eq!(engine.store(reg::DRIVER_FEATURES, 1), Reply::Done(0));
        }
        assert_eq!(engine.go_live(), Reply::Done(0));
        engine.poll(BUDGET);
        assert_eq!(pending(&mut engine), reg::CONFIG_CHANGE, "{phase:?}");
        assert_eq!(engine.device().notify().asserted(), 1);
        // The change is announced once, and not after the next reset.
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        engine.poll(BUDGET);
        assert_eq!(pending(&mut engine), 0);
        assert_eq!(engine.device().notify().asserted(), 1);
    }
}

#[test]
fn a_change_during_an_abandoned_set_up_is_not_announced() {
    let mut engine = at(Phase::SettingUp);
    engine.update_config(|model| model.space[0] = 0x55);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    engine.poll(BUDGET);
    assert_eq!(pending(&mut engine), 0);
}

#[test]
fn a_change_before_the_device_starts_is_announced_at_the_start() {
    let (mut engine, _) = probe();
    engine.model_mut().start = Start::Later;
    assert!(engine.negotiate(Features::VERSION_1));
    let Reply::Pending(ticket) = engine.go_live() else {
        panic!("the device started");
    };
    engine.update_config(|model| model.space[0] = 0x55);
    assert_eq!(engine.device().notify().asserted(), 0);
    assert!(engine.responder().expect("the driver waits").accept());
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_eq!(pending(&mut engine), reg::CONFIG_CHANGE);
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(engine.load(reg::CONFIG) & 0xff, 0x55);
}

#[test]
fn every_change_is_announced_again() {
    let mut engine = at(Phase::Live);
    for announced in 1..4 {
        engine.update_config(|_| ());
        assert_eq!(pending(&mut engine), reg::CONFIG_CHANGE);
        assert_eq!(engine.device().notify().asserted(), announced);
        let reply = engine.store(reg::INTERRUPT_ACK, reg::CONFIG_CHANGE);
        assert_eq!(reply, Reply::Done(0));
        assert_eq!(pending(&mut engine), 0);
    }
}

#[test]
fn the_generation_detects_a_torn_read() {
    let mut engine = at(Phase::Live);
    let set = |model: &mut Probe, value: u64| {
        model.space[..8].copy_from_slice(&value.to_le_bytes());
    };
    engine.update_config(|model| set(model, 0x0000_0001_ffff_ffff));
    let mut reads = 0;
    let value = loop {
        let before = generation(&mut engine);
        let low = engine.load(reg::CONFIG);
        if reads == 0 {
            engine.update_config(|model| set(model, 0x0000_0002_0000_0000));
        }
        let high = engine.load(reg::CONFIG + 4);
        reads += 1;
        if generation(&mut engine) == before {
            break u64::from(high) << 32 | u64::from(low);
        }
    };
    assert_eq!((value, reads), (0x0000_0002_0000_0000, 2));
}

#[test]
fn the_generation_survives_a_reset() {
    // A read that straddles a reset must detect a change before the reset and one after it.
    let mut engine = at(Phase::Live);
    let first = generation(&mut engine);
    engine.update_config(|_| ());
    let second = generation(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(generation(&mut engine), second);
    engine.update_config(|_| ());
    let third = generation(&mut engine);
    assert!(third != second && third != first);
    assert_eq!(pending(&mut engine), 0);
}

#[test]
fn the_generation_cannot_be_written() {
    let mut engine = at(Phase::Live);
    engine.update_config(|_| ());
    let before = generation(&mut engine);
    let offset = reg::CONFIG_GENERATION;
    let refusal = Refusal::ReadOnly { offset };
    assert_eq!(engine.store(offset, 0), Reply::Refused(refusal));
    assert_eq!(generation(&mut engine), before);
}

//! Status writes that suspend and resume a device, and what Status reads meanwhile.

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BUDGET, config, driver,
    probe::{answer, assert_works, pending, probe, publish, seen},
    reg,
    status::{LIVE, LIVE_SUSPEND, SUSPENDED},
};

use crate::{FEATURES, begin, holding, live, resume, suspend};

#[test]
fn suspended_shows_suspend_and_resumed_shows_driver_ok() {
    let (mut engine, [mut first, mut second], _) = live();
    for _ in 0..20 {
        suspend(&mut engine);
        resume(&mut engine);
        assert_works(&mut engine, &mut first, 0);
        assert_works(&mut engine, &mut second, 1);
    }
    assert_eq!(engine.features(), FEATURES);
}

#[test]
fn suspend_may_be_written_with_driver_ok_or_without() {
    for value in [0x1f, 0x1b, 0x5f, 0x3b] {
        let (mut engine, [mut driver, _], _) = live();
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), SUSPENDED, "{value:#x}");
        assert_eq!(engine.phase(), Phase::Suspended);
        resume(&mut engine);
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn driver_ok_may_be_written_with_suspend_or_without() {
    for value in [0x0f, 0x1f, 0x5f, 0x2f] {
        let (mut engine, [mut driver, _], _) = live();
        suspend(&mut engine);
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), LIVE, "{value:#x}");
        assert_eq!(engine.phase(), Phase::Live);
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn what_stands_already_may_be_written_again() {
    let (mut engine, [mut driver, _], _) = live();
    suspend(&mut engine);
    let before = seen(&engine);
    // No value clears a bit that the driver has set.
    for value in [SUSPENDED, 0x0b, SUSPENDED | 0x40] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&engine), before, "{value:#x}");
    }
    for value in [1, 3, 0x10, 0x13, 0x1a, 0x19] {
        assert!(engine.store(reg::STATUS, value).refusal().is_some());
        assert_eq!(seen(&engine), before, "{value:#x}");
    }
    resume(&mut engine);
    assert_eq!(engine.store(reg::STATUS, LIVE), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn while_suspending_only_reset_and_failed_change_status() {
    let (mut engine, [mut driver, _], _) = holding();
    begin(&mut engine);
    let before = seen(&engine);
    for value in [0x1f, 0x1b, 0x0f, 0x0b, 0x1f] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&engine), before, "{value:#x}");
        assert_eq!(engine.load(reg::STATUS), LIVE);
    }
    for value in [3, 0x10, 0x13, 0x100] {
        assert!(engine.store(reg::STATUS, value).refusal().is_some());
        assert_eq!(seen(&engine), before, "{value:#x}");
    }
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    // A DRIVER_OK written during the suspension has no later effect.
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    resume(&mut engine);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
}

#[test]
fn live_driver_ok_is_not_the_drivers_to_clear_without_suspend() {
    let (mut engine, _, _) = live();
    let before = seen(&engine);
    let refusal = Refusal::StatusBitsCleared { missing: 4 };
    assert_eq!(engine.store(reg::STATUS, 0x0b), Reply::Refused(refusal));
    assert_eq!(seen(&engine), before);
}

#[test]
fn before_driver_ok_a_negotiated_suspend_is_ignored() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(FEATURES));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    let before = seen(&engine);
    for value in [0x1b, 0x0b] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0x0b);
        assert_eq!(seen(&engine), before);
    }
    // In a write with DRIVER_OK and SUSPEND, DRIVER_OK applies.
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_works(&mut engine, &mut driver(ram, 0), 0);
}

#[test]
fn suspend_is_ignored_where_it_was_not_negotiated() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    let features = Features::RING.difference(Features::SUSPEND);
    assert!(engine.bring_up(features, &[config(0)]));
    let before = seen(&engine);
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(seen(&engine), before);
    assert!(engine.store(reg::STATUS, SUSPENDED).refusal().is_some());
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.load(reg::STATUS), LIVE);
    driver.set_used_event(0);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_reset_ends_a_suspension_and_one_that_was_begun() {
    for begun in [false, true] {
        let (mut engine, _, ram) = holding();
        begin(&mut engine);
        if !begun {
            let token = engine.model().held[0];
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(engine.load(reg::STATUS), SUSPENDED);
            engine.update_config(|_| ());
        }
        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0);
        assert_eq!(engine.phase(), Phase::Reset);
        assert_eq!(engine.queue_state(0), QueueState::Off);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        engine.model_mut().holds = false;
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(FEATURES, &[config(0)]));
        let raised = engine.device().notify().asserted();
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(pending(&mut engine), 0, "no old change is pending");
        assert_eq!(engine.device().notify().asserted(), raised);
        assert_works(&mut engine, &mut driver, 0);
        suspend(&mut engine);
        resume(&mut engine);
    }
}

#[test]
fn failed_ends_a_suspension_and_one_that_was_begun() {
    for begun in [false, true] {
        let (mut engine, [mut driver, _], _) = holding();
        begin(&mut engine);
        let mut status = LIVE;
        if !begun {
            let token = engine.model().held[0];
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(engine.load(reg::STATUS), SUSPENDED);
            status = SUSPENDED;
        }
        let used = driver.used_idx();
        assert_eq!(engine.store(reg::STATUS, status | 128), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), status | 128);
        assert_eq!(engine.phase(), Phase::Failed);
        let before = seen(&engine);
        // Writing FAILED again has no effect; only a reset leads out of it.
        assert_eq!(engine.store(reg::STATUS, status | 128), Reply::Done(0));
        assert_eq!(seen(&engine), before);
        let _ = engine.store(reg::STATUS, 0x9f);
        assert_eq!(engine.phase(), Phase::Failed);
        publish(&mut driver, 0, b"never served");
        let _ = engine.kick(0);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), used);
        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0);
    }
}

#[test]
fn a_device_that_did_not_start_cannot_be_suspended() {
    let (mut engine, _) = probe();
    assert!(engine.negotiate(FEATURES));
    let mut odd = config(0);
    odd.size = 3;
    assert!(engine.configure(&odd).refusal().is_some());
    let _ = engine.go_live();
    assert_eq!(engine.load(reg::STATUS), 0x4f);
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    for _ in 0..3 {
        assert_eq!(engine.load(reg::STATUS), 0x4f);
    }
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
}

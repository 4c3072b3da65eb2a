//! What a driver writes to Status, and reads there.

use virtside::{
    Features, QueueState, Refusal, Step,
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
    let (mut guest, [mut first, mut second], _) = live();
    for _ in 0..20 {
        suspend(&mut guest);
        resume(&mut guest);
        assert_works(&mut guest, &mut first, 0);
        assert_works(&mut guest, &mut second, 1);
    }
    assert_eq!(guest.features(), FEATURES);
}

#[test]
fn suspend_may_be_written_with_driver_ok_or_without() {
    for value in [0x1f, 0x1b, 0x5f, 0x3b] {
        let (mut guest, [mut driver, _], _) = live();
        assert_eq!(guest.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), SUSPENDED, "{value:#x}");
        assert_eq!(guest.phase(), Phase::Suspended);
        resume(&mut guest);
        assert_works(&mut guest, &mut driver, 0);
    }
}

#[test]
fn driver_ok_may_be_written_with_suspend_or_without() {
    for value in [0x0f, 0x1f, 0x5f, 0x2f] {
        let (mut guest, [mut driver, _], _) = live();
        suspend(&mut guest);
        assert_eq!(guest.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), LIVE, "{value:#x}");
        assert_eq!(guest.phase(), Phase::Live);
        assert_works(&mut guest, &mut driver, 0);
    }
}

#[test]
fn what_stands_already_may_be_written_again() {
    let (mut guest, [mut driver, _], _) = live();
    suspend(&mut guest);
    let before = seen(&guest);
    // Neither lacks a bit that is the driver's to keep.
    for value in [SUSPENDED, 0x0b, SUSPENDED | 0x40] {
        assert_eq!(guest.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&guest), before, "{value:#x}");
    }
    for value in [1, 3, 0x10, 0x13, 0x1a, 0x19] {
        assert!(guest.store(reg::STATUS, value).refusal().is_some());
        assert_eq!(seen(&guest), before, "{value:#x}");
    }
    resume(&mut guest);
    assert_eq!(guest.store(reg::STATUS, LIVE), Reply::Done(0));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn while_suspending_only_reset_and_failed_change_status() {
    let (mut guest, [mut driver, _], _) = holding();
    begin(&mut guest);
    let before = seen(&guest);
    for value in [0x1f, 0x1b, 0x0f, 0x0b, 0x1f] {
        assert_eq!(guest.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&guest), before, "{value:#x}");
        assert_eq!(guest.load(reg::STATUS), LIVE);
    }
    for value in [3, 0x10, 0x13, 0x100] {
        assert!(guest.store(reg::STATUS, value).refusal().is_some());
        assert_eq!(seen(&guest), before, "{value:#x}");
    }
    let token = guest.model().held[0];
    assert_eq!(guest.complete(token), Ok(()));
    // DRIVER_OK that was written too early does not count afterwards.
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    resume(&mut guest);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
}

#[test]
fn live_driver_ok_is_not_the_drivers_to_clear_without_suspend() {
    let (mut guest, _, _) = live();
    let before = seen(&guest);
    let refusal = Refusal::StatusBitsCleared { missing: 4 };
    assert_eq!(guest.store(reg::STATUS, 0x0b), Reply::Refused(refusal));
    assert_eq!(seen(&guest), before);
}

#[test]
fn before_driver_ok_a_negotiated_suspend_is_ignored() {
    let (mut guest, ram) = probe();
    assert!(guest.negotiate(FEATURES));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    let before = seen(&guest);
    for value in [0x1b, 0x0b] {
        assert_eq!(guest.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), 0x0b);
        assert_eq!(seen(&guest), before);
    }
    // With DRIVER_OK in one write, DRIVER_OK counts.
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), LIVE);
    assert_works(&mut guest, &mut driver(ram, 0), 0);
}

#[test]
fn suspend_is_ignored_where_it_was_not_negotiated() {
    let (mut guest, ram) = probe();
    let mut driver = driver(ram, 0);
    let features = Features::RING.difference(Features::SUSPEND);
    assert!(guest.bring_up(features, &[config(0)]));
    let before = seen(&guest);
    assert_eq!(guest.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(seen(&guest), before);
    assert!(guest.store(reg::STATUS, SUSPENDED).refusal().is_some());
    assert_eq!(seen(&guest), before);
    assert_eq!(guest.load(reg::STATUS), LIVE);
    driver.set_used_event(0);
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn a_reset_ends_a_suspension_and_one_that_was_begun() {
    for begun in [false, true] {
        let (mut guest, _, ram) = holding();
        begin(&mut guest);
        if !begun {
            let token = guest.model().held[0];
            assert_eq!(guest.complete(token), Ok(()));
            assert_eq!(guest.load(reg::STATUS), SUSPENDED);
            guest.update_config(|_| ());
        }
        assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), 0);
        assert_eq!(guest.phase(), Phase::Reset);
        assert_eq!(guest.queue_state(0), QueueState::Off);
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        guest.model_mut().holds = false;
        let mut driver = driver(ram, 0);
        assert!(guest.bring_up(FEATURES, &[config(0)]));
        let raised = guest.device().notify().asserted();
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        assert_eq!(pending(&mut guest), 0, "no old change is announced");
        assert_eq!(guest.device().notify().asserted(), raised);
        assert_works(&mut guest, &mut driver, 0);
        suspend(&mut guest);
        resume(&mut guest);
    }
}

#[test]
fn failed_ends_a_suspension_and_one_that_was_begun() {
    for begun in [false, true] {
        let (mut guest, [mut driver, _], _) = holding();
        begin(&mut guest);
        let mut status = LIVE;
        if !begun {
            let token = guest.model().held[0];
            assert_eq!(guest.complete(token), Ok(()));
            assert_eq!(guest.load(reg::STATUS), SUSPENDED);
            status = SUSPENDED;
        }
        let used = driver.used_idx();
        assert_eq!(guest.store(reg::STATUS, status | 128), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), status | 128);
        assert_eq!(guest.phase(), Phase::Failed);
        let before = seen(&guest);
        // The same again is no news; there is no way back but a reset.
        assert_eq!(guest.store(reg::STATUS, status | 128), Reply::Done(0));
        assert_eq!(seen(&guest), before);
        let _ = guest.store(reg::STATUS, 0x9f);
        assert_eq!(guest.phase(), Phase::Failed);
        publish(&mut driver, 0, b"in vain");
        let _ = guest.kick(0);
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), used);
        assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
        assert_eq!(guest.load(reg::STATUS), 0);
    }
}

#[test]
fn a_device_that_did_not_start_cannot_be_suspended() {
    let (mut guest, _) = probe();
    assert!(guest.negotiate(FEATURES));
    let mut odd = config(0);
    odd.size = 3;
    assert!(guest.configure(&odd).refusal().is_some());
    let _ = guest.go_live();
    assert_eq!(guest.load(reg::STATUS), 0x4f);
    assert_eq!(guest.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    for _ in 0..3 {
        assert_eq!(guest.load(reg::STATUS), 0x4f);
    }
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 0);
}

//! A queue that is enabled again uses the parameters written since its reset, and starts at index
//! 0.

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::Reply,
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, config, driver,
    probe::{answer, assert_works, pending, probe, publish, ready, reset_queue, seen},
    reg,
};

use crate::{FEATURES, enable, live, other_layout, reset_at_once};

#[test]
fn it_may_have_another_size_and_other_addresses() {
    let (mut engine, [mut old, mut other], ram) = live();
    for _ in 0..5 {
        assert_works(&mut engine, &mut old, 0);
    }
    reset_at_once(&mut engine);
    // The old rings belong to the driver again.
    let marked = [0x77; 0x400];
    ram.write(0, &marked);
    let mut driver = enable(&mut engine, ram, other_layout());
    assert_eq!(engine.queue_config(0), Some(&other_layout().config(0)));
    for _ in 0..40 {
        assert_works(&mut engine, &mut driver, 0);
        assert_works(&mut engine, &mut other, 1);
    }
    let mut now = [0; 0x400];
    ram.read(0, &mut now);
    assert_eq!(now, marked);
    // Resets the queue once more and enables it with larger rings.
    reset_at_once(&mut engine);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    for _ in 0..40 {
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn its_positions_start_from_zero_in_the_same_rings() {
    for features in [FEATURES, FEATURES | Features::RING] {
        let (mut engine, ram) = probe();
        let mut old = driver(ram, 0);
        assert!(engine.bring_up(features, &[config(0)]));
        for at in 0..21 {
            old.set_used_event(at);
            assert_works(&mut engine, &mut old, 0);
        }
        reset_at_once(&mut engine);
        let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
        assert_works(&mut engine, &mut driver, 0);
        assert_eq!((driver.used_idx(), driver.next_avail()), (1, 1));
    }
}

#[test]
fn its_parameters_are_0_after_the_reset_and_none_is_reused() {
    let (mut engine, _, ram) = live();
    reset_at_once(&mut engine);
    // All parameters but one are written again: the omitted one is 0 and does not keep its old
    // value.
    let good = other_layout().config(0);
    assert_eq!(engine.store(reg::QUEUE_SIZE, good.size), Reply::Done(0));
    assert_eq!(
        engine.store(reg::QUEUE_DRIVER_LOW, good.driver as u32),
        Reply::Done(0)
    );
    assert_eq!(
        engine.store(reg::QUEUE_DEVICE_LOW, good.device as u32),
        Reply::Done(0)
    );
    let reply = engine.store(reg::QUEUE_READY, 1);
    assert!(
        matches!(reply, Reply::Refused(Refusal::Unmapped { .. })),
        "{reply:?}"
    );
    // The driver may correct the parameters.
    let mut driver = enable(&mut engine, ram, other_layout());
    publish(&mut driver, 0, b"text");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
}

#[test]
fn chains_published_before_it_is_ready_need_no_kick() {
    let (mut engine, _, ram) = live();
    reset_at_once(&mut engine);
    let mut driver = FakeDriver::new(ram.flat(BASE), other_layout());
    publish(&mut driver, 0, b"early");
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.used_idx(), 0);
    assert_eq!(engine.configure(&other_layout().config(0)), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"early"[..]));
}

#[test]
fn the_rings_of_a_queue_that_was_reset_are_free_for_another() {
    let (mut engine, _, ram) = live();
    let clash = Layout::packed_at(virtside_tests::layout(0).desc, 8);
    // No other queue may use the rings of a live queue.
    assert_eq!(reset_queue(&mut engine, 2), Reply::Done(0));
    assert!(matches!(
        engine.configure(&clash.config(2)),
        Reply::Refused(Refusal::Overlap { .. })
    ));
    reset_at_once(&mut engine);
    let mut driver = FakeDriver::new(ram.flat(BASE), clash);
    assert_eq!(engine.configure(&clash.config(2)), Reply::Done(0));
    publish(&mut driver, 2, b"in its rings");
    assert_eq!(engine.kick(2), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(
        answer(&mut driver, 2).as_deref(),
        Some(&b"in its rings"[..])
    );
    // Now the first queue cannot use these rings.
    assert!(matches!(
        engine.configure(&config(0)),
        Reply::Refused(Refusal::Overlap { .. })
    ));
}

#[test]
fn its_parameters_are_frozen_again_once_it_is_ready() {
    let (mut engine, _, ram) = live();
    reset_at_once(&mut engine);
    let mut driver = enable(&mut engine, ram, other_layout());
    let before = seen(&engine);
    for offset in reg::PARAMETERS {
        assert!(engine.store(offset, 0).refusal().is_some());
    }
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(seen(&engine), before);
    assert_works(&mut engine, &mut driver, 0);
    // QueueReady = 0 does not unfreeze the parameters.
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert!(engine.configure(&config(0)).refusal().is_some());
    assert_eq!(ready(&mut engine, 0), 0);
}

#[test]
fn it_may_be_reset_and_enabled_a_thousand_times() {
    let (mut engine, _, ram) = live();
    for turn in 0..1000 {
        let layout = if turn % 2 == 0 {
            other_layout()
        } else {
            virtside_tests::layout(0)
        };
        reset_at_once(&mut engine);
        let mut driver = enable(&mut engine, ram, layout);
        assert_works(&mut engine, &mut driver, 0);
    }
    assert_eq!(engine.counters().chains, 1000);
}

#[test]
fn a_queue_at_fault_can_be_reset_and_works_again() {
    let (mut engine, [driver, _], ram) = live();
    driver.set_avail_idx(1000);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.queue_state(0), QueueState::Failed);
    assert!(engine.driver_fault(0).is_some());
    assert_eq!((engine.load(reg::STATUS), pending(&mut engine)), (79, 2));
    reset_at_once(&mut engine);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(engine.driver_fault(0), None);
    let mut driver = enable(&mut engine, ram, other_layout());
    assert_works(&mut engine, &mut driver, 0);
    // DEVICE_NEEDS_RESET stays set until the device is reset.
    assert_eq!(engine.load(reg::STATUS), 79);
    assert_eq!(pending(&mut engine), 3);
}

#[test]
fn a_kick_from_before_the_reset_does_no_harm_after_it() {
    let (mut engine, [mut old, _], ram) = live();
    publish(&mut old, 0, b"old");
    assert_eq!(engine.kick(0), Reply::Done(0));
    reset_at_once(&mut engine);
    let mut driver = enable(&mut engine, ram, other_layout());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((old.used_idx(), driver.used_idx()), (0, 0));
    assert_eq!(pending(&mut engine), 0);
    driver.send(0, &[Buffer::writable(DATA, 1)]);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.used_idx(), 1);
}

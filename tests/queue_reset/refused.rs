//! A queue that cannot come back: the driver hears of it by DEVICE_NEEDS_RESET, because it does not
//! read QueueReady back.

use virtside::{
    QueueState, Refusal,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    Guest, config,
    probe::{Probe, assert_works, pending, ready},
    reg,
};

use crate::{FEATURES, elsewhere, enable, live, reset_at_once};

/// The device needs a reset, and said so this often.
#[track_caller]
fn assert_needs_reset(guest: &mut Guest<Probe>, interrupts: u32) {
    assert_eq!(guest.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(guest), 2);
    assert_eq!(guest.device().notify().asserted(), interrupts);
}

#[test]
fn the_device_needs_a_reset_and_says_so_once() {
    let (mut guest, [_, mut other], ram) = live();
    reset_at_once(&mut guest);
    let mut odd = elsewhere().config(0);
    odd.size = 3;
    let why = Refusal::QueueSize {
        queue: 0,
        size: 3,
        max: 16,
    };
    assert_eq!(guest.configure(&odd), Reply::Refused(why));
    assert_needs_reset(&mut guest, 1);
    assert_eq!(guest.transport().last_refusal(), Some(why));
    assert_eq!(guest.queue_state(0), QueueState::Off);
    assert_eq!(ready(&mut guest, 0), 0);
    // Once, however often it tries, and also if it was acknowledged.
    assert_eq!(guest.configure(&odd), Reply::Refused(why));
    assert_needs_reset(&mut guest, 1);
    assert_eq!(guest.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    assert_eq!(guest.configure(&odd), Reply::Refused(why));
    assert_eq!(pending(&mut guest), 0);
    // The others go on, and so may this one.
    assert_works(&mut guest, &mut other, 1);
    let mut driver = enable(&mut guest, ram, elsewhere());
    assert_works(&mut guest, &mut driver, 0);
    assert_eq!(guest.load(reg::STATUS), 79);
    assert!(guest.bring_up(FEATURES, &[config(0)]));
    assert_eq!(guest.load(reg::STATUS), 15);
}

#[test]
fn whatever_is_wrong_with_a_queue_counts_as_at_its_first_time() {
    let good = elsewhere().config(0);
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
        let (mut guest, _, _) = live();
        reset_at_once(&mut guest);
        assert!(guest.configure(&config).refusal().is_some(), "{config:x?}");
        assert_needs_reset(&mut guest, 1);
        assert_eq!(guest.queue_state(0), QueueState::Off);
    }
}

#[test]
fn the_devices_own_check_counts_too() {
    let (mut guest, _, _) = live();
    reset_at_once(&mut guest);
    guest.model_mut().check.unwanted = vec![0];
    let refusal = Refusal::Policy { queue: 0 };
    assert_eq!(
        guest.configure(&elsewhere().config(0)),
        Reply::Refused(refusal)
    );
    assert_needs_reset(&mut guest, 1);
    assert_eq!(guest.phase(), Phase::Live);
}

#[test]
fn a_queue_that_spoils_another_cannot_come_back() {
    let (mut guest, _, ram) = live();
    reset_at_once(&mut guest);
    guest.model_mut().check.no_larger = vec![(1, 0)];
    let why = Refusal::Policy { queue: 1 };
    let smaller = elsewhere().config(0);
    assert_eq!(guest.configure(&smaller), Reply::Refused(why));
    assert_needs_reset(&mut guest, 1);
    assert_eq!(guest.queue_state(0), QueueState::Off);
    assert_eq!(guest.queue_config(0), None);
    let mut driver = enable(&mut guest, ram, virtside_tests::layout(0));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn a_queue_that_spoils_the_set_cannot_come_back() {
    let (mut guest, _, ram) = live();
    guest.model_mut().check.window = 0x4000;
    reset_at_once(&mut guest);
    let outside = elsewhere().config(0);
    assert_eq!(guest.configure(&outside), Reply::Refused(Refusal::QueueSet));
    assert_needs_reset(&mut guest, 1);
    let mut driver = enable(&mut guest, ram, virtside_tests::layout(0));
    assert_works(&mut guest, &mut driver, 0);
}

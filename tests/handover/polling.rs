//! A host that polls instead of waiting for kicks.

use virtside::{Features, FlatMem, Step, testing::FakeDriver, testing::PackedDriver};
use virtside_tests::{
    BASE, TestRam, config, driver,
    probe::{answer, publish},
    ram,
};

use crate::{Hosted, set_up};

const SPLIT: Features = Features::VERSION_1;

fn polling(features: Features) -> (TestRam, FakeDriver<FlatMem>, Hosted) {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut hosted = set_up(ram, features, &.., &[(config(0), None)]).expect("a valid queue");
    assert_eq!(hosted.poll(), Step::Idle);
    hosted.device.set_polling(true);
    hosted.device.notify_queue(0).expect("a live queue");
    (ram, driver, hosted)
}

#[test]
fn a_polled_queue_needs_no_kick() {
    for features in [SPLIT, SPLIT | Features::EVENT_IDX] {
        let (_, mut driver, mut hosted) = polling(features);
        for text in [b"one".as_slice(), b"two", b"three"] {
            assert_eq!(hosted.poll(), Step::Blocked);
            publish(&mut driver, 0, text);
            assert_eq!(hosted.poll(), Step::Blocked);
            assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
        }
    }
}

#[test]
fn the_driver_of_a_polled_queue_is_told_not_to_kick() {
    let (_, driver, mut hosted) = polling(SPLIT);
    assert_eq!(driver.used_flags(), 0);
    assert_eq!(hosted.poll(), Step::Blocked);
    assert_eq!(driver.used_flags(), 1);
    hosted.device.set_polling(false);
    assert_eq!(hosted.poll(), Step::Idle);
    assert_eq!(driver.used_flags(), 0);
}

#[test]
fn with_event_idx_no_kick_is_asked_for_while_polling() {
    let (_, mut driver, mut hosted) = polling(SPLIT | Features::EVENT_IDX);
    publish(&mut driver, 0, b"text");
    assert_eq!(hosted.poll(), Step::Blocked);
    assert_eq!(driver.avail_event(), 0);
    hosted.device.set_polling(false);
    assert_eq!(hosted.poll(), Step::Idle);
    assert_eq!(driver.avail_event(), 1);
}

#[test]
fn the_driver_of_a_polled_packed_queue_is_told_not_to_kick() {
    let ram = ram();
    let driver = PackedDriver::new(ram.flat(BASE), BASE, 16);
    let features = SPLIT | Features::RING_PACKED;
    let queues = [(driver.config(0), None)];
    let mut hosted = set_up(ram, features, &.., &queues).expect("a valid queue");
    assert_eq!(hosted.poll(), Step::Idle);
    let flags = || {
        let mut bytes = [0; 2];
        driver.read(driver.config(0).device + 2, &mut bytes);
        u16::from_le_bytes(bytes)
    };
    hosted.device.set_polling(true);
    hosted.device.notify_queue(0).expect("a live queue");
    assert_eq!(hosted.poll(), Step::Blocked);
    assert_eq!(flags(), 1, "DISABLE");
    hosted.device.set_polling(false);
    assert_eq!(hosted.poll(), Step::Idle);
    assert_eq!(flags(), 0, "ENABLE");
}

#[test]
fn a_chain_that_comes_at_the_end_of_polling_is_served() {
    let (_, mut driver, mut hosted) = polling(SPLIT);
    assert_eq!(hosted.poll(), Step::Blocked);
    publish(&mut driver, 0, b"late");
    hosted.device.set_polling(false);
    assert_eq!(hosted.poll(), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"late"[..]));
}

//! Suspension and resumption of a device that was set up by messages.

use virtside::{
    Features, FlatMem, Refusal,
    mmio::{Access, Phase},
    testing::FakeDriver,
};
use virtside_tests::{
    config, driver,
    probe::{Event, Probe, answer, publish},
    ram, reg,
    status::{LIVE, LIVE_SUSPEND, NEEDS_RESET, SUSPENDED},
};

use crate::scripted::ScriptedDevice;

const FEATURES: Features = Features::VERSION_1.union(Features::SUSPEND);

fn scripted(probe: Probe) -> (ScriptedDevice<Probe>, FakeDriver<FlatMem>) {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut device = ScriptedDevice::new(probe, ram, FEATURES, &[config(0), config(1)]);
    assert_eq!(status(&mut device), LIVE);
    (device, driver)
}

/// A device with a chain in hand.
fn holding() -> (ScriptedDevice<Probe>, FakeDriver<FlatMem>) {
    let (mut device, mut driver) = scripted(Probe {
        holds: true,
        ..Probe::default()
    });
    publish(&mut driver, 0, b"held");
    device.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(device.model().held.len(), 1);
    (device, driver)
}

fn status(device: &mut ScriptedDevice<Probe>) -> u32 {
    device.load(reg::STATUS) as u32
}

#[test]
fn a_device_is_suspended_and_resumed() {
    let (mut device, mut driver) = scripted(Probe::default());
    for _ in 0..3 {
        device.store(reg::STATUS, LIVE_SUSPEND);
        assert_eq!(status(&mut device), SUSPENDED);
        publish(&mut driver, 0, b"text");
        device.store(reg::QUEUE_NOTIFY, 0);
        device.engine().device().shared().doorbell().ring(0);
        assert_eq!(status(&mut device), SUSPENDED);
        assert_eq!(answer(&mut driver, 0), None);
        device.configure(&config(2));
        assert_eq!(device.load(reg::QUEUE_READY), 0);
        device.store(reg::STATUS, LIVE_SUSPEND);
        assert_eq!(status(&mut device), LIVE);
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
    }
}

#[test]
fn a_chain_in_hand_is_answered_first() {
    let (mut device, mut driver) = holding();
    device.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(status(&mut device), LIVE);
    assert_eq!(device.load(reg::MAGIC_VALUE), 0x7472_6976);
    let token = device.model().held[0];
    let mut done = Vec::new();
    let replies = device.run(
        &[
            Access::read(reg::INTERRUPT_STATUS),
            Access::read(reg::STATUS),
        ],
        |running| done.push(running.complete(token)),
    );
    assert_eq!(replies, [0, SUSPENDED.into()]);
    assert_eq!(done[..2], [Ok(()), Err(Refusal::StaleToken)]);
    assert_eq!(device.load(reg::INTERRUPT_STATUS), 1);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
}

#[test]
fn a_fault_shows_in_the_very_read_that_shows_suspend() {
    let (mut device, _) = holding();
    device.store(reg::STATUS, LIVE_SUSPEND);
    let mut once = true;
    let replies = device.run(
        &[Access::read(reg::STATUS), Access::read(reg::STATUS)],
        |running| {
            if std::mem::take(&mut once) {
                running.require_reset();
            }
        },
    );
    assert_eq!(replies, [LIVE.into(), u64::from(LIVE | NEEDS_RESET)]);
    let token = device.model().held[0];
    let replies = device.run(
        &[Access::read(reg::MAGIC_VALUE), Access::read(reg::STATUS)],
        |running| {
            let _ = running.complete(token);
        },
    );
    assert_eq!(replies[1], u64::from(SUSPENDED | NEEDS_RESET));
}

#[test]
fn a_change_is_held_back_until_the_resume() {
    let (mut device, _) = scripted(Probe::default());
    device.store(reg::STATUS, LIVE_SUSPEND);
    for _ in 0..2 {
        let generation = device.load(reg::CONFIG_GENERATION);
        let _ = device.run(&[Access::read(reg::STATUS)], |running| {
            running.update_config(|model| model.space[0] = 9);
        });
        assert_ne!(device.load(reg::CONFIG_GENERATION), generation);
    }
    assert_eq!(device.load(reg::INTERRUPT_STATUS), 0);
    assert_eq!(device.engine().device().notify().asserted(), 0);
    device.store(reg::STATUS, LIVE);
    assert_eq!(device.load(reg::INTERRUPT_STATUS), 2);
    assert_eq!(device.engine().device().notify().asserted(), 1);
}

#[test]
fn a_reset_ends_a_suspension() {
    let (mut device, _) = holding();
    device.store(reg::STATUS, LIVE_SUSPEND);
    device.store(reg::STATUS, 0);
    assert_eq!(
        device.model().count(Event::Reset),
        2,
        "the bring-up's reset and this one"
    );
    assert!(!device.engine().device().shared().is_live());
    assert_eq!(device.engine().configured_queues().count(), 0);
}

#[test]
fn a_taken_queue_is_waited_for() {
    let (mut device, mut driver) = scripted(Probe::default());
    let queue = device.engine().take_queue(0).expect("a live queue");
    device.store(reg::STATUS, LIVE_SUSPEND);
    for _ in 0..3 {
        assert_eq!(status(&mut device), LIVE);
    }
    assert!(device.engine().put_back(queue).is_ok());
    assert_eq!(status(&mut device), SUSPENDED);
    device.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(status(&mut device), LIVE);
    assert_eq!(device.phase(), Phase::Live);
    publish(&mut driver, 0, b"text");
    device.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
}

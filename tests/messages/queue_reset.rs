//! Queue resets of a device that was set up by messages.

use virtside::{
    Features, FlatMem,
    device::{QueueState, Stop},
    mmio::{Access, Phase},
    queue::Chain,
    testing::{FakeDriver, Layout},
};
use virtside_tests::{
    BASE, TestRam, config, driver,
    probe::{Event, Probe, answer, publish},
    ram, reg,
};

use crate::scripted::ScriptedDevice;

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

/// Smaller rings at other addresses that overlap no others.
fn other_layout() -> Layout {
    Layout::packed_at(BASE + 0x5010, 8)
}

fn scripted(probe: Probe) -> (ScriptedDevice<Probe>, FakeDriver<FlatMem>, TestRam) {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut device = ScriptedDevice::new(probe, ram, FEATURES, &[config(0), config(1)]);
    assert_eq!(device.load(reg::STATUS), 15);
    (device, driver, ram)
}

#[track_caller]
fn assert_works(device: &mut ScriptedDevice<Probe>, driver: &mut FakeDriver<FlatMem>) {
    publish(driver, 0, b"text");
    device.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(answer(driver, 0).as_deref(), Some(&b"text"[..]));
}

#[test]
fn a_queue_is_reset_and_set_up_with_another_layout() {
    let (mut device, mut old, ram) = scripted(Probe::default());
    assert_works(&mut device, &mut old);
    for _ in 0..3 {
        device.store(reg::QUEUE_SEL, 0);
        device.store(reg::QUEUE_RESET, 1);
        assert_eq!(device.load(reg::QUEUE_RESET), 0);
        assert_eq!(device.load(reg::QUEUE_READY), 0);
        assert_eq!(device.engine().queue_state(0), QueueState::Off);
        let mut driver = FakeDriver::new(ram.flat(BASE), other_layout());
        device.configure(&other_layout().config(0));
        assert_eq!(device.load(reg::QUEUE_READY), 1);
        assert_works(&mut device, &mut driver);
    }
    assert_eq!(device.phase(), Phase::Live);
    assert_eq!(device.load(reg::STATUS), 15);
    assert_eq!(device.model().count(Event::Stopped(0)), 3);
}

#[test]
fn a_queue_that_cannot_come_back_needs_a_reset() {
    let (mut device, _, _) = scripted(Probe::default());
    device.store(reg::QUEUE_SEL, 0);
    device.store(reg::QUEUE_RESET, 1);
    let mut odd = other_layout().config(0);
    odd.size = 3;
    for _ in 0..2 {
        device.configure(&odd);
        assert_eq!(device.load(reg::QUEUE_READY), 0);
        assert_eq!(device.load(reg::STATUS), 79);
        assert_eq!(device.load(reg::INTERRUPT_STATUS), 2);
        assert_eq!(device.engine().device().notify().asserted(), 1);
    }
    // The size exceeds the register block's maximum, although the device has room for it.
    let mut large = config(2);
    large.size = 16;
    device.store(reg::QUEUE_SEL, 2);
    device.store(reg::QUEUE_RESET, 1);
    assert_eq!(device.load(reg::QUEUE_SIZE_MAX), 8);
    device.configure(&large);
    assert_eq!(device.load(reg::QUEUE_READY), 0);
}

#[test]
fn it_reads_1_while_the_queue_is_taken_and_others_work() {
    let (mut device, mut driver, ram) = scripted(Probe::default());
    let mut queue = device.engine().take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"text");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    device.store(reg::QUEUE_SEL, 0);
    device.store(reg::QUEUE_RESET, 1);
    for offset in [reg::QUEUE_RESET, reg::QUEUE_READY] {
        assert_eq!(device.load(offset), 1);
        assert_eq!(device.load(reg::MAGIC_VALUE), 0x7472_6976);
    }
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Err(Stop::Asked));
    assert!(device.engine().put_back(queue).is_ok());
    publish(&mut driver, 0, b"never served");
    device.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(driver.used_idx(), 1);
    assert!(device.engine().take_queue(0).is_err());
    assert_eq!(device.load(reg::QUEUE_RESET), 0);
    assert_eq!(device.load(reg::QUEUE_READY), 0);
}

#[test]
fn queue_ready_zero_waits_for_the_queue_that_is_being_reset() {
    let (mut device, _, _) = scripted(Probe::default());
    let mut queue = Some(device.engine().take_queue(0).expect("a live queue"));
    device.store(reg::QUEUE_SEL, 0);
    device.store(reg::QUEUE_RESET, 1);
    let mut waited = 0;
    let replies = device.run(
        &[
            Access::write(reg::QUEUE_READY, 0),
            Access::read(reg::QUEUE_RESET),
        ],
        |_| {
            waited += 1;
            if waited == 3 {
                queue = None;
            }
        },
    );
    assert!(waited > 3 && queue.is_none());
    assert_eq!(replies, [0, 0]);
    assert_eq!(device.engine().queue_state(0), QueueState::Off);
}

#[test]
fn a_pending_chain_of_the_reset_queue_is_stale() {
    let holding = Probe {
        holds: true,
        ..Probe::default()
    };
    let (mut device, mut driver, _) = scripted(holding);
    publish(&mut driver, 0, b"text");
    device.store(reg::QUEUE_NOTIFY, 0);
    let token = device.model().held[0];
    device.store(reg::QUEUE_SEL, 0);
    device.store(reg::QUEUE_RESET, 1);
    let mut outcome = None;
    let _ = device.run(&[Access::read(reg::STATUS)], |running| {
        outcome = Some(running.complete(token));
    });
    assert_eq!(outcome, Some(Err(virtside::Refusal::StaleToken)));
    assert_eq!(driver.used_idx(), 0);
}

#[test]
fn a_queue_left_out_of_the_conversation_may_be_set_up_later() {
    let ram = ram();
    let mut device = ScriptedDevice::new(Probe::default(), ram, FEATURES, &[config(1)]);
    assert_eq!(device.engine().queue_state(0), QueueState::Off);
    device.configure(&other_layout().config(0));
    assert_eq!(device.load(reg::QUEUE_READY), 0);
    device.store(reg::QUEUE_RESET, 1);
    let mut driver = FakeDriver::new(ram.flat(BASE), other_layout());
    device.configure(&other_layout().config(0));
    assert_works(&mut device, &mut driver);
}

#[test]
fn without_negotiation_the_register_has_no_effect() {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let mut device = ScriptedDevice::new(Probe::default(), ram, Features::VERSION_1, &[config(0)]);
    device.store(reg::QUEUE_SEL, 0);
    device.store(reg::QUEUE_RESET, 1);
    assert_eq!(device.load(reg::QUEUE_READY), 1);
    assert_works(&mut device, &mut driver);
}

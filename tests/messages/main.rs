//! A virtio-mmio device that is set up by messages made from register accesses.

mod dropped;
mod queue_reset;
mod scripted;
mod suspend;

use std::sync::Arc;

use scripted::Script;
use virtside::{
    ChainSlot, DeviceBuilder, Features, QueueConfig, Refusal, Shared,
    error::{Area, DeviceError},
    interrupt::CountingNotify,
    mmio::Access,
};
use virtside_std::{Ended, MmioMessages, config_builder_from_stream};
use virtside_tests::{
    BASE, N, Q,
    probe::{Event as Noted, Probe},
    ram, reg,
};

#[cfg(feature = "packed")]
const PACKED: Features = Features::VERSION_1.union(Features::RING_PACKED);
const SPLIT: Features = Features::VERSION_1;

/// The features and queues of a device.
type Built = Result<(Features, Vec<u16>), DeviceError>;

/// Sets one queue up with these features. Returns the device that results, and the driver's loads
/// of Status (to check FEATURES_OK) and QueueReady.
fn set_up(features: Features, queue: QueueConfig) -> (Built, Vec<u64>) {
    let high = |area: u64| (area >> 32) as u32;
    let accesses = vec![
        Access::write(reg::STATUS, 0),
        Access::write(reg::STATUS, 3),
        Access::write(reg::DRIVER_FEATURES_SEL, 0),
        Access::write(reg::DRIVER_FEATURES, features.word(0)),
        Access::write(reg::DRIVER_FEATURES_SEL, 1),
        Access::write(reg::DRIVER_FEATURES, features.word(1)),
        Access::write(reg::STATUS, 0xb),
        Access::read(reg::STATUS),
        Access::write(reg::QUEUE_SEL, queue.queue.into()),
        Access::write(reg::QUEUE_SIZE, queue.size),
        Access::write(reg::QUEUE_DESC_LOW, queue.desc as u32),
        Access::write(reg::QUEUE_DESC_HIGH, high(queue.desc)),
        Access::write(reg::QUEUE_DRIVER_LOW, queue.driver as u32),
        Access::write(reg::QUEUE_DRIVER_HIGH, high(queue.driver)),
        Access::write(reg::QUEUE_DEVICE_LOW, queue.device as u32),
        Access::write(reg::QUEUE_DEVICE_HIGH, high(queue.device)),
        Access::write(reg::QUEUE_READY, 1),
        Access::read(reg::QUEUE_READY),
        Access::write(reg::STATUS, 0xf),
    ];
    let script = Script::default();
    script.extend(accesses.iter().copied());
    let line: &CountingNotify = Box::leak(Box::default());
    let shared = Arc::new(Shared::<Q>::new());
    let model = Probe {
        wishes: Features::RING | Features::RING_PACKED,
        ..Probe::default()
    };
    let mut messages: MmioMessages<_, _, _, _, Q> =
        MmioMessages::new(script.clone(), model, line, Arc::clone(&shared), N as u16);
    let builder = DeviceBuilder::new(shared)
        .map_notify(|()| Ok(line))
        .expect("the memory is mapped");
    let built = config_builder_from_stream::<_, _, _, _, _, Q, N>(
        builder,
        &mut messages,
        &..,
        ram().flat(BASE),
    );
    let built = built.map(|(device, responder)| {
        assert!(responder.accept());
        let mut device = messages.start(device, [ChainSlot::<N>::new()]);
        assert_eq!(device.run(&mut ()).expect("no access fails"), Ended::Stream);
        let engine = device.engine();
        assert_eq!(engine.model().count(Noted::Ready(features)), 1);
        (engine.features(), engine.configured_queues().collect())
    });
    let replies = accesses.into_iter().zip(script.replies());
    let loads = replies.filter(|(access, _)| matches!(access, Access::Read { .. }));
    let loads = loads.map(|(_, value)| value).collect();
    (built, loads)
}

fn queue(size: u32, driver: u64, device: u64) -> QueueConfig {
    QueueConfig {
        queue: 0,
        size,
        desc: BASE,
        driver: BASE + driver,
        device: BASE + device,
    }
}

fn misaligned(driver: u64) -> DeviceError {
    let refusal = Refusal::Misaligned {
        queue: 0,
        area: Area::Driver,
        start: BASE + driver,
    };
    DeviceError::BadQueueConfig(0, refusal)
}

#[cfg(feature = "packed")]
#[test]
fn a_packed_queue_set_up_by_registers_may_have_any_size() {
    for size in [1, 3, 12, 15, 16] {
        let (built, loads) = set_up(PACKED, queue(size, 0x100, 0x200));
        assert_eq!(built, Ok((PACKED, vec![0])), "size {size}");
        assert_eq!(loads, [0xb, 1]);
    }
}

#[cfg(feature = "packed")]
#[test]
fn areas_of_a_packed_queue_have_packed_lengths() {
    // As a split queue, its available ring would overlap the used ring.
    let (built, loads) = set_up(PACKED, queue(16, 0x100, 0x104));
    assert_eq!(built, Ok((PACKED, vec![0])));
    assert_eq!(loads, [0xb, 1]);
}

#[cfg(feature = "packed")]
#[test]
fn a_packed_queue_is_refused_as_a_packed_one_at_queue_ready() {
    // The driver area is aligned enough for an available ring, but not for an event suppression
    // structure.
    let (built, loads) = set_up(PACKED, queue(16, 0x102, 0x200));
    assert_eq!(built, Err(misaligned(0x102)));
    assert_eq!(loads, [0xb], "the conversation ended at QueueReady");
}

#[test]
fn a_split_queue_set_up_by_registers_is_checked_as_a_split_one() {
    let (built, loads) = set_up(SPLIT, queue(16, 0x102, 0x200));
    assert_eq!(built, Ok((SPLIT, vec![0])));
    assert_eq!(loads, [0xb, 1]);
    let odd = Refusal::QueueSize {
        queue: 0,
        size: 12,
        max: 16,
    };
    let (built, _) = set_up(SPLIT, queue(12, 0x100, 0x200));
    assert_eq!(built, Err(DeviceError::BadQueueConfig(0, odd)));
    let (built, _) = set_up(SPLIT, queue(16, 0x101, 0x200));
    assert_eq!(built, Err(misaligned(0x101)));
    let overlap = Refusal::Overlap {
        queue: 0,
        area: Area::Driver,
        with: 0,
    };
    let (built, _) = set_up(SPLIT, queue(16, 0x100, 0x104));
    assert_eq!(built, Err(DeviceError::BadQueueConfig(0, overlap)));
}

//! Checks of the entropy device and its level-triggered interrupt.

use virtio_drivers::{
    device::rng::VirtIORng,
    queue::VirtQueue,
    transport::{DeviceStatus, Transport, mmio::MmioTransport},
};

use crate::{
    Console, find,
    interrupts::ENTROPY as LINE,
    machine::{ENTROPY, load},
    memory::Memory,
};

const REQUESTS: u32 = 1000;
/// Register InterruptStatus.
const INTERRUPT_STATUS: usize = ENTROPY + 0x60;
const VERSION_1: u64 = 1 << 32;

/// A driver that waits for its interrupt. The one of `virtio_drivers` only polls.
struct Driver {
    transport: MmioTransport<'static>,
    queue: VirtQueue<Memory, 8>,
}

impl Driver {
    fn new() -> Self {
        let mut transport = find(ENTROPY);
        transport.set_status(DeviceStatus::empty());
        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        transport.write_driver_features(VERSION_1);
        let agreed = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
        transport.set_status(agreed);
        let queue = VirtQueue::new(&mut transport, 0, false, false).expect("there is a queue");
        transport.set_status(agreed | DeviceStatus::DRIVER_OK);
        Self { transport, queue }
    }

    /// Waits for an interrupt, and then finds the answer in the ring.
    fn request(&mut self, bytes: &mut [u8]) {
        let count = LINE.count();
        // SAFETY: the buffer lives, and is not used, until the request is complete.
        let token = unsafe { self.queue.add(&[], &mut [bytes]) }.expect("the queue has room");
        self.transport.notify(0);
        LINE.wait(count, || self.queue.peek_used() == Some(token));
        // SAFETY: the same buffer.
        let len = unsafe { self.queue.pop_used(token, &[], &mut [bytes]) };
        assert_eq!(len, Ok(bytes.len() as u32));
    }
}

pub fn check(console: &mut Console, ticks_per_ms: u64) {
    let mut rng = VirtIORng::<Memory, _>::new(find(ENTROPY)).expect("there is an entropy device");
    rng.disable_interrupts();
    let mut last = [0; 32];
    for turn in 0..REQUESTS {
        let mut bytes = [0; 32];
        assert_eq!(rng.request_entropy(&mut bytes), Ok(32));
        assert_ne!(bytes, last, "the same bytes in turn {turn}");
        last = bytes;
    }
    drop(rng);
    console.say(format_args!("rng: {REQUESTS} requests of 32 bytes polled"));

    let mut driver = Driver::new();
    let before = LINE.count();
    for turn in 0..REQUESTS {
        let mut bytes = [0; 32];
        driver.request(&mut bytes);
        driver.transport.ack_interrupt();
        assert_ne!(bytes, last, "the same bytes in turn {turn}");
        last = bytes;
    }
    let count = LINE.count() - before;
    console.say(format_args!(
        "rng: {REQUESTS} requests by level interrupt, {count} interrupts"
    ));

    // The handler ends the interrupt although the driver has not acknowledged it. The device raises
    // the line again each time.
    driver.request(&mut [0; 32]);
    for _ in 0..20 {
        LINE.wait(LINE.count(), || true);
    }
    assert_eq!(driver.transport.ack_interrupt().bits(), 1);
    assert_eq!(load(INTERRUPT_STATUS), 0);
    LINE.settle(ticks_per_ms * 20);
    console.say(format_args!(
        "rng: the line stays high until the acknowledgement"
    ));
}

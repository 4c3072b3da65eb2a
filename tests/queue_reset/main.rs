//! VIRTIO_F_RING_RESET: one queue starts anew, and the others go on.

mod in_flight;
mod phases;
mod re_enable;
mod refused;
mod taken;

use virtside::{
    Features, FlatMem,
    mmio::Reply,
    testing::{FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, BUDGET, Guest, TestRam, config, driver,
    probe::{Probe, probe, ready, reset_queue},
    reg,
};

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

/// Smaller rings at other addresses, clear of the others'.
fn elsewhere() -> Layout {
    Layout::packed_at(BASE + 0x5010, 8)
}

/// A live device with queues 0 and 1, and a driver at each.
fn live() -> (Guest<Probe>, [FakeDriver<FlatMem>; 2], TestRam) {
    let (mut guest, ram) = probe();
    let drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(guest.bring_up(FEATURES, &[config(0), config(1)]));
    guest.poll(BUDGET);
    (guest, drivers, ram)
}

/// QueueReset of a queue, as the driver reads it.
fn resetting(guest: &mut impl Registers, queue: u16) -> u32 {
    assert_eq!(guest.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    guest.load(reg::QUEUE_RESET)
}

/// A driver resets queue 0, and it is done at once.
#[track_caller]
fn reset_at_once(guest: &mut impl Registers) {
    assert_eq!(reset_queue(guest, 0), Reply::Done(0));
    assert_eq!(guest.load(reg::QUEUE_RESET), 0);
    assert_eq!(ready(guest, 0), 0);
}

/// A driver sets a queue up with clean rings, and works it.
#[track_caller]
fn enable(guest: &mut Guest<Probe>, ram: TestRam, layout: Layout) -> FakeDriver<FlatMem> {
    let driver = FakeDriver::new(ram.flat(BASE), layout);
    assert_eq!(guest.configure(&layout.config(0)), Reply::Done(0));
    driver
}

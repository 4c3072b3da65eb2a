//! VIRTIO_F_RING_RESET: one queue is reset and set up again while the others continue.

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
    BASE, BUDGET, TestEngine, TestRam, config, driver,
    probe::{Probe, probe, ready, reset_queue},
    reg,
};

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

/// Smaller rings at other addresses that overlap no others.
fn other_layout() -> Layout {
    Layout::packed_at(BASE + 0x5010, 8)
}

/// A live device with queues 0 and 1, and a driver of each.
fn live() -> (TestEngine<Probe>, [FakeDriver<FlatMem>; 2], TestRam) {
    let (mut engine, ram) = probe();
    let drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    engine.poll(BUDGET);
    (engine, drivers, ram)
}

/// QueueReset of a queue as the driver reads it.
fn resetting(engine: &mut impl Registers, queue: u16) -> u32 {
    assert_eq!(engine.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    engine.load(reg::QUEUE_RESET)
}

/// Resets queue 0; the reset is complete at once.
#[track_caller]
fn reset_at_once(engine: &mut impl Registers) {
    assert_eq!(reset_queue(engine, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_RESET), 0);
    assert_eq!(ready(engine, 0), 0);
}

/// Sets a queue up with cleared rings and uses it.
#[track_caller]
fn enable(engine: &mut TestEngine<Probe>, ram: TestRam, layout: Layout) -> FakeDriver<FlatMem> {
    let driver = FakeDriver::new(ram.flat(BASE), layout);
    assert_eq!(engine.configure(&layout.config(0)), Reply::Done(0));
    driver
}

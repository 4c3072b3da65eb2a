//! A device whose options exceed the capacity of its engine.

use virtside::{
    Features,
    memory::Ram,
    mmio::Reply,
    models::{Block, BlockOptions, blk::RamDisk},
    testing::Registers,
};
use virtside_tests::{BASE, N, Q, SIZE, engine_over, reg};

#[test]
fn options_are_limited_to_the_engines_capacity() {
    static RAM: Ram<4096> = Ram::new();
    let options = BlockOptions::new(100).with_queues(64);
    let mut engine = engine_over(
        Block::new(RamDisk::new(vec![0; 4096]), options),
        RAM.flat(BASE),
        1,
    );
    assert_eq!(engine.load(0x10c), u32::from(SIZE) - 2, "seg_max");
    assert_eq!(engine.load(0x120) >> 16, Q as u32, "num_queues");
    assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), N as u32, "QueueSizeMax");
}

#[test]
fn a_largest_size_that_is_no_power_of_two_is_rounded_down() {
    static RAM: Ram<4096> = Ram::new();
    let options = BlockOptions::new(12);
    let mut engine = engine_over(
        Block::new(RamDisk::new(vec![0; 4096]), options),
        RAM.flat(BASE),
        1,
    );
    assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), 8);
}

#[test]
fn a_ready_queue_that_negotiation_hides_can_still_be_stopped() {
    static RAM: Ram<65536> = Ram::new();
    let options = BlockOptions::new(SIZE).with_queues(2);
    let mut engine = engine_over(
        Block::new(RamDisk::new(vec![0; 4096]), options),
        RAM.flat(BASE),
        1,
    );
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    assert_eq!(engine.configure(&virtside_tests::config(1)), Reply::Done(0));
    assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, 1), Reply::Done(0));
    assert_eq!(
        engine.store(reg::DRIVER_FEATURES, Features::VERSION_1.word(1)),
        Reply::Done(0)
    );
    assert_eq!(engine.store(reg::STATUS, 0xb), Reply::Done(0));
    assert_eq!(
        engine.load(reg::QUEUE_SIZE_MAX),
        0,
        "without MQ there is no queue 1"
    );
    assert_eq!(engine.load(reg::QUEUE_READY), 1);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
}

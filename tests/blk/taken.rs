//! A disk with several queues, of which one is served elsewhere.

use virtio_spec::blk::F;
use virtside::{
    ChainSlot, Features, FlatMem, Step,
    mmio::Reply,
    models::{Block, BlockOptions, blk::RamDisk},
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, SECTORS, SIZE, config, drain, driver, models::blk::feature, test_engine,
};

/// Writes the header of a read of `sector` at `at`. Returns the buffers of the request.
fn read(driver: &FakeDriver<FlatMem>, at: u64, sector: u64) -> [Buffer; 3] {
    driver.write(at, &[0; 8]);
    driver.write(at + 8, &sector.to_le_bytes());
    [
        Buffer::readable(at, 16),
        Buffer::writable(at + 0x200, 512),
        Buffer::writable(at + 0x100, 1),
    ]
}

#[test]
fn a_model_over_another_back_end_serves_a_taken_queue() {
    let options = BlockOptions::new(SIZE).with_queues(2);
    let model = Block::new(RamDisk::new(vec![7; SECTORS * 512]), options);
    let (mut engine, ram) = test_engine(model, 4);
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    let features = Features::VERSION_1 | feature(F::MQ);
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    let mut taken = engine.take_queue(1).expect("a live queue");
    let mut other = engine
        .model()
        .with_backend(RamDisk::new(vec![9; SECTORS * 512]));
    for (queue, driver) in (0..2).zip(&mut drivers) {
        let buffers = read(driver, DATA + 0x1000 * queue, 3);
        driver.send(0, &buffers);
    }
    let mem = ram.flat(BASE);
    let mut slots = [ChainSlot::new()];
    let served = taken.serve(&mem, &mut other, &mut slots, BUDGET);
    assert_eq!(served, Ok(Step::Idle));
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(drain(&mut engine), Step::Idle);
    for ((queue, driver), byte) in (0..2).zip(&mut drivers).zip([7, 9]) {
        assert_eq!(driver.take_used(), Some((0, 513)));
        let mut bytes = [0; 512];
        driver.read(DATA + 0x1000 * queue + 0x200, &mut bytes);
        assert_eq!(bytes, [byte; 512]);
    }
}

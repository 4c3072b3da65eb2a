//! Reads of any width at any alignment, up to the end of the space and beyond it.

use virtside::{
    Features, Refusal,
    mmio::{Access, Reply},
    models::{
        Block, BlockOptions, Entropy,
        blk::{RamDisk, Topology},
    },
    testing::Registers,
};
use virtside_tests::{
    CountingSource,
    probe::{probe, seen},
    reg, test_engine,
};

use crate::{PHASES, at, load};

/// The little-endian number that the bytes 1 to 12 give from `offset` on.
fn expected(offset: u32, width: u8) -> u64 {
    (0..u32::from(width)).fold(0, |value, at| {
        value | u64::from(offset + at + 1) << (8 * at)
    })
}

#[test]
fn every_width_is_read_at_every_offset_in_little_endian_order() {
    let (mut engine, _) = probe();
    let mut read = 0;
    for width in [1u8, 2, 4, 8] {
        for offset in 0..=12 - u32::from(width) {
            let value = expected(offset, width);
            assert_eq!(engine.access(load(offset, width)), Reply::Done(value));
            read += 1;
        }
    }
    assert_eq!(read, 12 + 11 + 9 + 5);
    assert_eq!(engine.load(reg::CONFIG), 0x0403_0201);
}

#[test]
fn a_64_bit_field_is_read_in_two_halves() {
    let (mut engine, _) = probe();
    let Reply::Done(whole) = engine.access(load(0, 8)) else {
        panic!("a field of 64 bits cannot be read");
    };
    let halves = [engine.load(reg::CONFIG), engine.load(reg::CONFIG + 4)];
    assert_eq!(u64::from(halves[1]) << 32 | u64::from(halves[0]), whole);
}

#[test]
fn a_read_beyond_the_end_gives_zero_and_is_refused() {
    let (mut engine, _) = probe();
    let before = seen(&engine);
    for width in [1u8, 2, 4, 8] {
        let partly = 13 - u32::from(width);
        for offset in [partly, 12, 13, 0x100, 0xffff, 0x7fff_fff8, 0xffff_fe00] {
            let refusal = Refusal::OutsideConfig {
                offset: reg::CONFIG + offset,
                width,
            };
            let reply = engine.access(load(offset, width));
            assert_eq!(reply, Reply::Refused(refusal));
            assert_eq!(reply.bus_value(), Some(0), "the existing part reads 0, too");
        }
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn reads_at_the_last_offsets_do_not_wrap() {
    let (mut engine, _) = probe();
    for offset in 0xffff_ffe0..=u32::MAX {
        for width in [1, 2, 4, 8] {
            let reply = engine.access(Access::Read { offset, width });
            let refusal = Refusal::OutsideConfig { offset, width };
            assert_eq!(reply, Reply::Refused(refusal));
            let reply = engine.access(Access::Write {
                offset,
                width,
                value: 0,
            });
            assert!(reply.refusal().is_some());
        }
    }
}

#[test]
fn an_invalid_width_is_refused() {
    let (mut engine, _) = probe();
    for width in [0, 3, 5, 6, 7, 9, 12, 16, 64, 255] {
        let reply = engine.access(load(4, width));
        let offset = reg::CONFIG + 4;
        assert_eq!(reply, Reply::Refused(Refusal::BadWidth { offset, width }));
        assert_eq!(reply.bus_value(), Some(0));
    }
}

#[test]
fn fields_are_read_in_every_phase() {
    for phase in PHASES {
        let mut engine = at(phase);
        assert_eq!(engine.access(load(0, 4)), Reply::Done(0x0403_0201));
        assert_eq!(engine.access(load(11, 1)), Reply::Done(12));
    }
}

#[test]
fn fields_of_a_feature_are_read_before_it_is_accepted() {
    let disk = RamDisk::new(vec![0; 0x1_0000]);
    let topology = Topology {
        physical_block_exp: 3,
        alignment_offset: 1,
        min_io_size: 8,
        opt_io_size: 64,
    };
    let options = BlockOptions::new(16)
        .with_block_size(4096)
        .with_size_max(0x1_0000)
        .with_queues(3)
        .with_topology(topology);
    let (mut engine, _) = test_engine(Block::new(disk, options), 1);
    let look = |engine: &mut virtside_tests::TestEngine<_>| {
        [
            // size_max, seg_max, blk_size, physical_block_exp, min_io_size, opt_io_size,
            // writeback, num_queues, max_discard_seg.
            (8, 4),
            (12, 4),
            (20, 4),
            (24, 1),
            (26, 2),
            (28, 4),
            (32, 1),
            (34, 2),
            (40, 4),
        ]
        .map(|(offset, width)| engine.access(load(offset, width)))
    };
    let before = look(&mut engine);
    let expected = [0x1_0000, 14, 4096, 3, 8, 64, 1, 3, 8];
    assert_eq!(before, expected.map(Reply::Done));
    assert_eq!(engine.access(load(0, 8)), Reply::Done(128), "the capacity");
    // The field still reads the same after the driver did not accept the feature.
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    assert_eq!(look(&mut engine), before);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(look(&mut engine)[..6], before[..6]);
}

#[test]
fn a_device_without_a_configuration_space_has_none() {
    let (mut engine, _) = test_engine(Entropy::new(CountingSource::default()), 1);
    for width in [1, 2, 4, 8] {
        let refusal = Refusal::OutsideConfig {
            offset: reg::CONFIG,
            width,
        };
        assert_eq!(engine.access(load(0, width)), Reply::Refused(refusal));
    }
}

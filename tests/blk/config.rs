//! The configuration space, checked field by field as bytes.

use virtside::{
    Features, Refusal,
    mmio::{Access, Reply},
    models::{Block, BlockFeatures, BlockOptions, blk::Topology},
    shared::InterruptStatus,
    testing::Registers,
};
use virtside_tests::{SIZE, models::blk::*, reg};

/// A drive with every feature. Each configuration field has a different value.
fn full() -> Drive {
    let features = BlockFeatures {
        discard: Some(limits(0x0102_0304, 5, 0x0506_0708)),
        write_zeroes: Some(limits(0x1112_1314, 6, 1)),
        ..Disk::new().features
    };
    let options = BlockOptions::new(SIZE)
        .with_block_size(0x2122_2324)
        .with_size_max(0x3132_3334)
        .with_queues(3)
        .with_topology(Topology {
            physical_block_exp: 0x41,
            alignment_offset: 0x42,
            min_io_size: 0x4344,
            opt_io_size: 0x4546_4748,
        });
    let mut disk = Disk::with(features);
    disk.capacity = 0x0807_0605_0403_0201;
    Drive::with(disk, options, Features::from_bits(u128::MAX))
}

#[test]
fn every_field_is_where_the_specification_has_it() {
    let mut drive = full();
    assert_eq!(drive.config(0), [1, 2, 3, 4, 5, 6, 7, 8], "capacity");
    assert_eq!(drive.config(8), [0x34, 0x33, 0x32, 0x31], "size_max");
    assert_eq!(
        drive.config(12),
        [14, 0, 0, 0],
        "seg_max: the queue size minus header and status"
    );
    assert_eq!(drive.config(16), [0; 4], "geometry");
    assert_eq!(drive.config(20), [0x24, 0x23, 0x22, 0x21], "blk_size");
    assert_eq!(drive.config(24), [0x41], "physical_block_exp");
    assert_eq!(drive.config(25), [0x42], "alignment_offset");
    assert_eq!(drive.config(26), [0x44, 0x43], "min_io_size");
    assert_eq!(drive.config(28), [0x48, 0x47, 0x46, 0x45], "opt_io_size");
    assert_eq!(drive.config(32), [1], "writeback");
    assert_eq!(drive.config(33), [0], "unused0");
    assert_eq!(drive.config(34), [3, 0], "num_queues");
    assert_eq!(drive.config(36), [4, 3, 2, 1], "max_discard_sectors");
    assert_eq!(drive.config(40), [5, 0, 0, 0], "max_discard_seg");
    assert_eq!(drive.config(44), [8, 7, 6, 5], "discard_sector_alignment");
    assert_eq!(
        drive.config(48),
        [0x14, 0x13, 0x12, 0x11],
        "max_write_zeroes_sectors"
    );
    assert_eq!(drive.config(52), [6, 0, 0, 0], "max_write_zeroes_seg");
    assert_eq!(drive.config(56), [1], "write_zeroes_may_unmap");
    assert_eq!(drive.config(57), [0; 3], "unused1");
}

#[test]
fn fields_whose_feature_is_not_offered_are_zero() {
    let disk = Disk::with(BlockFeatures::default());
    let mut drive = Drive::with(
        disk,
        BlockOptions::new(SIZE),
        Features::from_bits(u128::MAX),
    );
    // seg_max is 14, because SEG_MAX is always offered.
    assert_eq!(drive.config(12), [14, 0, 0, 0]);
    drive.engine.update_config(|block| {
        let disk = Disk::with(BlockFeatures::default());
        *block = Block::new(disk, BlockOptions::new(2));
    });
    let space: [u8; 60] = drive.config(0);
    assert_eq!(space[..8], 64u64.to_le_bytes());
    assert_eq!(space[8..], [0; 52]);
}

#[test]
fn padding_is_zero_in_every_configuration() {
    for flush in [false, true] {
        for queues in [1, 4] {
            let features = BlockFeatures {
                flush,
                ..Disk::new().features
            };
            let options = BlockOptions::new(SIZE).with_queues(queues);
            let mut drive = Drive::with(Disk::with(features), options, all());
            assert_eq!(drive.config(33), [0]);
            assert_eq!(drive.config(57), [0; 3]);
            assert!(drive.set_config(33, 1).is_some() && drive.set_config(57, 1).is_some());
            assert_eq!(drive.config(33), [0]);
            assert_eq!(drive.config(57), [0; 3]);
        }
    }
}

#[test]
fn fields_read_the_same_in_every_width() {
    let mut drive = full();
    let bytes: [u8; 60] = drive.config(0);
    for width in [1u8, 2, 4, 8] {
        for offset in 0..=60 - u32::from(width) {
            let access = Access::Read {
                offset: reg::CONFIG + offset,
                width,
            };
            let mut expected = [0; 8];
            let at = offset as usize;
            expected[..width.into()].copy_from_slice(&bytes[at..at + usize::from(width)]);
            let expected = u64::from_le_bytes(expected);
            assert_eq!(
                drive.engine.access(access),
                Reply::Done(expected),
                "{access:?}"
            );
        }
    }
}

#[test]
fn the_space_ends_behind_write_zeroes() {
    let mut drive = full();
    for (offset, width) in [
        (60, 1),
        (57, 4),
        (59, 2),
        (53, 8),
        (64, 4),
        (0xffff_fe00, 4),
    ] {
        let access = Access::Read {
            offset: reg::CONFIG + offset,
            width,
        };
        let refusal = Refusal::OutsideConfig {
            offset: reg::CONFIG + offset,
            width,
        };
        assert_eq!(drive.engine.access(access), Reply::Refused(refusal));
    }
}

#[test]
fn nothing_but_the_cache_mode_can_be_written() {
    let mut drive = full();
    let before: [u8; 60] = drive.config(0);
    for offset in (0..64).filter(|offset| *offset != 32) {
        assert!(drive.set_config(offset, 0).is_some(), "offset {offset}");
    }
    // The cache mode cannot be written in another width or together with adjacent fields either.
    for (offset, width) in [(32, 2), (32, 4), (31, 2), (28, 8), (25, 8)] {
        let access = Access::Write {
            offset: reg::CONFIG + offset,
            width,
            value: 0,
        };
        assert!(drive.engine.access(access).refusal().is_some());
    }
    assert_eq!(drive.config::<60>(0), before);
}

#[test]
fn a_change_of_the_disks_size_is_announced() {
    let mut drive = Drive::new();
    let generation = drive.engine.load(reg::CONFIG_GENERATION);
    let before = drive.engine.device().notify().asserted();
    drive
        .engine
        .update_config(|block| block.backend_mut().capacity = 8);
    assert_eq!(drive.engine.device().notify().asserted(), before + 1);
    assert_eq!(
        drive.engine.load(reg::INTERRUPT_STATUS),
        InterruptStatus::CONFIG_CHANGE.bits()
    );
    assert_ne!(drive.engine.load(reg::CONFIG_GENERATION), generation);
    assert_eq!(drive.config(0), [8, 0, 0, 0, 0, 0, 0, 0]);
    // Requests are checked against the new size.
    assert_eq!(drive.ask(T_IN, 7, &[], 512), outcome(S_OK, 513));
    assert_eq!(drive.ask(T_IN, 8, &[], 512), outcome(S_IOERR, 513));
    drive
        .engine
        .update_config(|block| block.backend_mut().capacity = 9);
    assert_eq!(drive.ask(T_IN, 8, &[], 512), outcome(S_OK, 513));
}

#[test]
fn a_change_of_may_unmap_is_announced() {
    let mut drive = Drive::new();
    assert_eq!(drive.config(56), [0]);
    drive.engine.update_config(|block| {
        let disk = block.backend_mut();
        disk.features.write_zeroes = Some(limits(100, 8, 1));
    });
    assert_eq!(
        drive.engine.load(reg::INTERRUPT_STATUS),
        InterruptStatus::CONFIG_CHANGE.bits()
    );
    assert_eq!(drive.config(56), [1]);
}

#[test]
fn a_change_before_driver_ok_gives_no_interrupt() {
    let (mut engine, _) = virtside_tests::test_engine(virtside_tests::test_block(), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    let generation = engine.load(reg::CONFIG_GENERATION);
    engine.update_config(|_| ());
    assert_ne!(engine.load(reg::CONFIG_GENERATION), generation);
    assert_eq!(
        (
            engine.load(reg::INTERRUPT_STATUS),
            engine.device().notify().asserted()
        ),
        (0, 0)
    );
}

#[test]
fn may_unmap_follows_what_write_zeroes_can_do() {
    for (alignment, expected) in [(0, 0), (1, 1), (8, 1)] {
        let features = BlockFeatures {
            write_zeroes: Some(limits(9, 1, alignment)),
            ..Disk::new().features
        };
        let mut drive = Drive::over(Disk::with(features));
        assert_eq!(drive.config(56), [expected]);
    }
}

#[test]
fn the_announced_number_of_ranges_is_accepted() {
    for (max, expected) in [(1, 1), (8, 8), (9, 8), (u32::MAX, 8)] {
        let features = BlockFeatures {
            discard: Some(limits(9, max, 1)),
            write_zeroes: Some(limits(9, max, 1)),
            ..Disk::new().features
        };
        let mut drive = Drive::over(Disk::with(features));
        assert_eq!(drive.config(40), [expected, 0, 0, 0]);
        assert_eq!(drive.config(52), [expected, 0, 0, 0]);
    }
}

//! The offer, depending on the disk and the options.

use virtio_spec::blk::F;
use virtside::testing::Registers;
use virtside::{
    Features,
    models::{BlockFeatures, BlockOptions, blk::Topology},
};
use virtside_tests::{SIZE, models::blk::*, reg, test_engine};

/// The device-specific features that a device over this disk offers with these options.
fn offer(disk: Disk, options: BlockOptions) -> F {
    let (mut engine, _) = test_engine(virtside::models::Block::new(disk, options), 1);
    let offered = engine.offered();
    assert!(offered.contains(Features::RING), "{offered:?}");
    let own = offered.intersection(Features::DEVICE_TYPE).bits();
    F::from_bits_retain(virtio_spec::le128::from_ne(own))
}

fn plain() -> BlockFeatures {
    BlockFeatures::default()
}

#[test]
fn a_plain_disk_offers_little() {
    assert_eq!(
        offer(Disk::with(plain()), BlockOptions::new(SIZE)),
        F::SEG_MAX
    );
}

#[test]
fn a_disk_with_a_cache_offers_flush_and_the_choice_of_its_mode() {
    let features = BlockFeatures {
        flush: true,
        ..plain()
    };
    let expected = F::SEG_MAX | F::FLUSH | F::CONFIG_WCE;
    assert_eq!(
        offer(Disk::with(features), BlockOptions::new(SIZE)),
        expected
    );
}

#[test]
fn the_disk_in_memory_offers_flush() {
    let (mut engine, _) = test_engine(virtside_tests::test_block(), 1);
    assert!(engine.offered().contains(feature(F::FLUSH)));
}

#[test]
fn config_wce_is_never_offered_without_flush() {
    for flush in [false, true] {
        for read_only in [false, true] {
            let features = BlockFeatures {
                flush,
                read_only,
                ..plain()
            };
            let offer = offer(Disk::with(features), BlockOptions::new(SIZE));
            assert!(!offer.contains(F::CONFIG_WCE) || offer.contains(F::FLUSH));
        }
    }
}

#[test]
fn what_the_disk_can_do_is_offered() {
    let limits = Some(limits(9, 1, 1));
    for (features, flag) in [
        (
            BlockFeatures {
                read_only: true,
                ..plain()
            },
            F::RO,
        ),
        (
            BlockFeatures {
                discard: limits,
                ..plain()
            },
            F::DISCARD,
        ),
        (
            BlockFeatures {
                write_zeroes: limits,
                ..plain()
            },
            F::WRITE_ZEROES,
        ),
    ] {
        let offered = offer(Disk::with(features), BlockOptions::new(SIZE));
        assert_eq!(offered, F::SEG_MAX | flag);
    }
}

#[test]
fn what_the_options_say_is_offered() {
    let options = BlockOptions::new(SIZE);
    for (options, flag) in [
        (options.with_block_size(4096), F::BLK_SIZE),
        (options.with_size_max(65536), F::SIZE_MAX),
        (options.with_topology(Topology::default()), F::TOPOLOGY),
        (options.with_queues(2), F::MQ),
        (options.with_queues(1), F::empty()),
        (options.with_queues(0), F::empty()),
        (options.with_id("x"), F::empty()),
        (options.with_max_transfer(1), F::empty()),
    ] {
        assert_eq!(offer(Disk::with(plain()), options), F::SEG_MAX | flag);
    }
}

#[test]
fn a_queue_too_small_for_data_offers_no_seg_max() {
    for size in [1, 2] {
        assert_eq!(
            offer(Disk::with(plain()), BlockOptions::new(size)),
            F::empty()
        );
    }
}

#[test]
fn zoned_lifetime_secure_erase_and_geometry_are_never_offered() {
    let options = BlockOptions::new(SIZE)
        .with_block_size(512)
        .with_size_max(4096)
        .with_topology(Topology::default())
        .with_queues(4);
    let mut features = Disk::new().features;
    for read_only in [false, true] {
        features.read_only = read_only;
        let offer = offer(Disk::with(features), options);
        let never = F::ZONED | F::LIFETIME | F::SECURE_ERASE | F::GEOMETRY;
        assert!(!offer.intersects(never), "{offer:?}");
    }
}

#[test]
fn the_bits_are_where_the_specification_has_them() {
    let options = BlockOptions::new(SIZE)
        .with_block_size(512)
        .with_size_max(4096)
        .with_topology(Topology::default())
        .with_queues(2);
    let features = BlockFeatures {
        read_only: true,
        ..Disk::new().features
    };
    let (mut engine, _) = test_engine(
        virtside::models::Block::new(Disk::with(features), options),
        1,
    );
    // SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES.
    let own = [1, 2, 5, 6, 9, 10, 11, 12, 13, 14]
        .iter()
        .fold(0, |all, bit| all | 1u128 << bit);
    // INDIRECT_DESC, EVENT_IDX, VERSION_1, RING_PACKED, RING_RESET, SUSPEND.
    let packed = u128::from(cfg!(feature = "packed")) << 34;
    let ring = 1 << 28 | 1 << 29 | 1u128 << 32 | packed | 1 << 40 | 1 << 43;
    assert_eq!(engine.offered().bits(), own | ring);
    assert_eq!(engine.load(reg::DEVICE_ID), 2, "the device is of type 2");
}

//! The offer: the features that the model asks for, as far as they are implemented.

use virtside::{
    DeviceModel, Features,
    mmio::Reply,
    models::{
        Block, BlockOptions, Entropy,
        blk::{BlockBackend, BlockError, BlockFeatures, RangeLimits},
    },
    testing::Registers,
};
use virtside_tests::{
    CountingSource, TestEngine,
    probe::{Probe, probe},
    reg, test_engine,
};

fn bit(bit: u32) -> Features {
    Features::from_bits(1 << bit)
}

/// A device whose model asks for exactly these features.
fn wishing(wishes: Features) -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    engine.model_mut().wishes = wishes;
    engine
}

/// Reads one word of the offer.
fn word(engine: &mut impl Registers, word: u32) -> u32 {
    assert_eq!(engine.store(reg::DEVICE_FEATURES_SEL, word), Reply::Done(0));
    engine.load(reg::DEVICE_FEATURES)
}

/// Asserts that the offer contains what its features require, and that negotiation does not change
/// the offer.
fn offers<D: DeviceModel>(model: D) -> Features {
    let (mut engine, _) = test_engine(model, 1);
    let offer = engine.offered();
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.offered(), offer);
    offer
}

#[test]
fn version_1_is_always_offered() {
    assert_eq!(wishing(Features::empty()).offered(), Features::VERSION_1);
    let all = Features::from_bits(u128::MAX);
    let others = all.difference(Features::VERSION_1);
    assert!(wishing(others).offered().contains(Features::VERSION_1));
}

#[test]
fn only_implemented_features_are_offered() {
    let offer = wishing(Features::from_bits(u128::MAX)).offered();
    // INDIRECT_DESC, EVENT_IDX, VERSION_1, ACCESS_PLATFORM, IN_ORDER, ORDER_PLATFORM,
    // NOTIFICATION_DATA, RING_RESET, SUSPEND; and device-specific features.
    let implemented = [28, 29, 32, 33, 35, 36, 38, 40, 43];
    for number in 0..128 {
        let own = matches!(number, 0..=23 | 42 | 50..=127);
        assert_eq!(
            offer.contains(bit(number)),
            own || implemented.contains(&number) || (number == 34 && cfg!(feature = "packed")),
            "bit {number}"
        );
    }
}

#[test]
fn a_missing_feature_is_neither_offered_nor_accepted() {
    for (number, name) in [
        (24, "NOTIFY_ON_EMPTY, of the legacy interface"),
        (27, "ANY_LAYOUT, of the legacy interface"),
        (34, "RING_PACKED"),
        (37, "SR_IOV"),
        (39, "NOTIF_CONFIG_DATA"),
        (41, "ADMIN_VQ"),
        (44, "reserved"),
        (45, "reserved"),
        (46, "reserved"),
        (47, "reserved"),
        (48, "reserved"),
        (49, "reserved"),
    ] {
        if number == 34 && cfg!(feature = "packed") {
            continue;
        }
        let mut engine = wishing(bit(number));
        assert_eq!(engine.offered(), Features::VERSION_1, "{name}");
        assert!(
            !engine.negotiate(bit(number) | Features::VERSION_1),
            "{name}"
        );
    }
}

#[test]
fn a_model_gets_only_the_ring_features_that_it_wishes_for() {
    let wishes = Features::EVENT_IDX;
    let mut engine = wishing(wishes);
    assert_eq!(engine.offered(), Features::EVENT_IDX | Features::VERSION_1);
    assert!(!engine.negotiate(Features::RING));
}

#[test]
fn access_and_order_platform_are_offered_if_the_host_asks() {
    let platform = Features::ACCESS_PLATFORM | Features::ORDER_PLATFORM;
    assert_eq!(wishing(platform).offered(), platform | Features::VERSION_1);
    let offer = wishing(Features::RING).offered();
    assert_eq!(offer.intersection(platform), Features::empty());
}

#[test]
fn a_word_of_the_offer_is_the_one_that_is_selected() {
    let wishes = 0x1234_5678_0000_0000_8765_0400_3012_3456;
    let mut engine = wishing(Features::from_bits(wishes));
    let words = [0x3012_3456, 0x8764_0401, 0, 0x1234_5678];
    for (number, value) in (0..).zip(words) {
        assert_eq!(word(&mut engine, number), value, "word {number}");
    }
    // The driver may select words in any order and repeatedly.
    for number in [3, 0, 0, 1, 3, 2] {
        assert_eq!(word(&mut engine, number), words[number as usize]);
        assert_eq!(engine.load(reg::DEVICE_FEATURES), words[number as usize]);
    }
}

#[test]
fn words_beyond_the_last_feature_read_zero() {
    let mut engine = wishing(Features::from_bits(u128::MAX));
    for number in [4, 5, 7, 8, 0x100, 0x1_0000, 0x8000_0000, u32::MAX] {
        assert_eq!(word(&mut engine, number), 0, "word {number:#x}");
    }
}

#[test]
fn the_two_feature_selectors_are_independent() {
    let mut engine = wishing(Features::RING);
    assert_eq!(engine.store(reg::DEVICE_FEATURES_SEL, 1), Reply::Done(0));
    assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, 0), Reply::Done(0));
    // VERSION_1, RING_RESET, SUSPEND.
    assert_eq!(engine.load(reg::DEVICE_FEATURES), 1 | 1 << 8 | 1 << 11);
    assert_eq!(engine.store(reg::DRIVER_FEATURES, 1 << 29), Reply::Done(0));
    assert_eq!(engine.transport().driver_features(), Features::EVENT_IDX);
}

#[test]
fn the_entropy_device_offers_ring_features_only() {
    let offer = offers(Entropy::new(CountingSource::default()));
    assert_eq!(offer, Features::ALL_RINGS);
}

/// A disk that only has abilities.
struct Abilities(BlockFeatures);

impl BlockBackend for Abilities {
    fn capacity(&self) -> u64 {
        8
    }
    fn features(&self) -> BlockFeatures {
        self.0
    }
    fn read(&mut self, _: u64, _: &virtside::memory::DeviceRange<'_>) -> Result<(), BlockError> {
        Err(BlockError::Io)
    }
    fn write(&mut self, _: u64, _: &virtside::memory::DeviceRange<'_>) -> Result<(), BlockError> {
        Err(BlockError::Io)
    }
}

#[test]
fn the_block_device_offers_no_feature_without_what_it_needs() {
    // FLUSH is bit 9. CONFIG_WCE is bit 11 and requires FLUSH.
    for abilities in 0..16u8 {
        let limits = |bit: u8| (abilities & bit != 0).then(|| RangeLimits::new(1));
        let features = BlockFeatures {
            read_only: abilities & 1 != 0,
            flush: abilities & 2 != 0,
            discard: limits(4),
            write_zeroes: limits(8),
        };
        let offer = offers(Block::new(Abilities(features), BlockOptions::new(16)));
        assert!(offer.contains(bit(9)) || !offer.contains(bit(11)));
        assert_eq!(offer.contains(bit(9)), features.flush);
        assert!(offer.contains(Features::VERSION_1));
    }
}

//! Feature negotiation: what a driver may accept, and when.

use proptest::prelude::*;
use virtside::{
    Features, Refusal,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, N, SIZE, TestEngine, config, driver, layout,
    probe::{Event, Probe, assert_works, pending, probe, publish, seen},
    reg,
};

/// Bits of every word, including ring features.
const WISHES: Features = Features::RING.union(Features::from_bits(
    1 | (1 << 23) | (1 << 42) | (1 << 50) | (1 << 127),
));

fn wishing(wishes: Features) -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    engine.model_mut().wishes = wishes;
    engine
}

/// Writes one word of the driver's features.
fn accept(engine: &mut TestEngine<Probe>, word: u32, value: u32) -> Reply {
    assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, word), Reply::Done(0));
    engine.store(reg::DRIVER_FEATURES, value)
}

/// A device whose driver has accepted VERSION_1 but not set FEATURES_OK.
fn accepting_version_1(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    assert_eq!(accept(engine, 1, 1), Reply::Done(0));
}

fn not_offered(not_offered: Features) -> Refusal {
    Refusal::FeaturesNotOffered { not_offered }
}

/// Asserts that FEATURES_OK was refused: it reads 0, and the driver cannot go on to DRIVER_OK.
#[track_caller]
fn assert_refused(engine: &mut TestEngine<Probe>, refusal: Refusal) {
    for value in [11, 11, 15] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Refused(refusal));
        assert_eq!(engine.load(reg::STATUS), 3);
        assert_eq!(engine.phase(), Phase::Negotiating);
    }
    assert_eq!(engine.features(), Features::empty());
}

#[test]
fn every_subset_of_the_offer_with_version_1_is_accepted() {
    let mut engine = wishing(WISHES);
    let bits: Vec<u32> = (0..128)
        .filter(|bit| WISHES.bits() >> bit & 1 != 0)
        .collect();
    for choice in 0..1u32 << bits.len() {
        let chosen = bits.iter().enumerate().fold(1 << 32, |set, (at, bit)| {
            set | u128::from(choice >> at & 1) << bit
        });
        let chosen = Features::from_bits(chosen);
        assert!(engine.bring_up(chosen, &[]), "{chosen:?}");
        assert_eq!(engine.load(reg::STATUS), 15);
        assert_eq!(engine.features(), chosen);
        let heard = [Event::Negotiate(chosen), Event::Ready(chosen)];
        assert_eq!(engine.model().log[engine.model().log.len() - 2..], heard);
    }
}

#[test]
fn the_whole_offer_is_accepted() {
    let mut engine = wishing(WISHES);
    let offer = engine.offered();
    assert_eq!(offer, WISHES);
    assert!(engine.bring_up(offer, &[config(0)]));
    assert_eq!(engine.features(), offer);
}

#[test]
fn any_bit_that_was_not_offered_is_refused() {
    let mut engine = wishing(WISHES);
    for number in 0..128 {
        let bit = Features::from_bits(1 << number);
        if (WISHES).contains(bit) {
            continue;
        }
        assert!(!engine.negotiate(Features::VERSION_1 | bit), "bit {number}");
        assert_refused(&mut engine, not_offered(bit));
        assert_eq!(
            engine
                .model()
                .count(Event::Negotiate(Features::VERSION_1 | bit)),
            0
        );
    }
}

#[test]
fn a_bit_beyond_the_last_word_is_refused() {
    for word in [4, 5, 63, 0x1_0000, u32::MAX] {
        let mut engine = wishing(WISHES);
        accepting_version_1(&mut engine);
        let _ = accept(&mut engine, word, 1);
        assert_refused(&mut engine, not_offered(Features::empty()));
        // The bit must not be stored in an existing word.
        assert_eq!(engine.transport().driver_features(), Features::VERSION_1);
        // A reset discards the bit.
        accepting_version_1(&mut engine);
        assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    }
}

#[test]
fn a_zero_in_another_word_hides_no_bit_beyond_the_last() {
    let mut engine = wishing(WISHES);
    accepting_version_1(&mut engine);
    let _ = accept(&mut engine, 5, 1);
    let _ = accept(&mut engine, 6, 0);
    assert_refused(&mut engine, not_offered(Features::empty()));
}

#[test]
fn zeroes_beyond_the_last_word_are_harmless() {
    let mut engine = wishing(WISHES);
    accepting_version_1(&mut engine);
    for word in [4, 5, u32::MAX] {
        assert_eq!(accept(&mut engine, word, 0), Reply::Done(0));
    }
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 11);
}

#[test]
fn features_without_version_1_are_refused() {
    let mut engine = wishing(WISHES);
    let others = WISHES.difference(Features::VERSION_1);
    let missing = Features::VERSION_1;
    let unknown = Features::from_bits(1 << 37);
    for features in [Features::empty(), Features::EVENT_IDX, others, unknown] {
        assert!(!engine.negotiate(features));
        assert_refused(&mut engine, Refusal::FeaturesMissing { missing });
    }
    assert!(
        engine
            .model()
            .log
            .iter()
            .all(|event| *event == Event::Reset)
    );
}

#[test]
fn a_refused_driver_may_accept_less_without_a_reset() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    let packed = Features::RING_PACKED;
    assert!(!engine.negotiate(Features::VERSION_1 | packed));
    assert_refused(&mut engine, not_offered(packed));
    assert_eq!(accept(&mut engine, 1, 1), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.features(), Features::VERSION_1);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_model_may_refuse_offered_features() {
    let (mut engine, _) = probe();
    engine.model_mut().agrees = false;
    assert!(!engine.negotiate(Features::RING));
    assert_eq!(engine.load(reg::STATUS), 3);
    let refusal = Refusal::FeaturesDeclined;
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Refused(refusal));
    assert_eq!(engine.model().count(Event::Negotiate(Features::RING)), 2);
    // The model accepts a smaller set.
    engine.model_mut().agrees = true;
    assert_eq!(accept(&mut engine, 0, 0), Reply::Done(0));
    assert_eq!(accept(&mut engine, 1, 1), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 11);
    assert_eq!(
        engine.model().count(Event::Negotiate(Features::VERSION_1)),
        1
    );
}

#[test]
fn words_come_in_any_sequence_and_the_last_write_counts() {
    let mut engine = wishing(WISHES);
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    for (word, value) in [
        (3, 0x8000_0000),
        (1, u32::MAX),
        (0, 1),
        (1, 1 | 1 << 10),
        (2, 0),
        (0, 1 << 29),
        (1, 1 | 1 << 18),
    ] {
        assert_eq!(accept(&mut engine, word, value), Reply::Done(0));
    }
    let accepted = Features::from_bits(1 << 127 | 1 << 50 | 1 << 32 | 1 << 29);
    assert_eq!(engine.transport().driver_features(), accepted);
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(engine.features(), accepted);
}

#[test]
fn features_are_fixed_once_features_ok_stands() {
    let mut engine = wishing(WISHES);
    assert!(engine.negotiate(Features::RING));
    for status in [11, 15, 15 | 128] {
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        let before = seen(&engine);
        for word in [0, 1, 2, 3, 4] {
            for value in [0, 1, u32::MAX] {
                let reply = accept(&mut engine, word, value);
                assert_eq!(reply, Reply::Refused(Refusal::FeaturesFixed));
                assert_eq!(seen(&engine), before, "word {word} at {status:#x}");
            }
        }
    }
}

#[test]
fn a_live_device_has_the_features_of_features_ok() {
    let mut engine = wishing(WISHES);
    assert!(engine.negotiate(Features::RING));
    assert!(accept(&mut engine, 0, 0).refusal().is_some());
    assert_eq!(
        engine.features(),
        Features::empty(),
        "the device is not live yet"
    );
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.features(), Features::RING);
    assert_eq!(engine.model().count(Event::Ready(Features::RING)), 1);
}

#[test]
fn a_set_that_was_accepted_once_is_accepted_after_every_reset() {
    let mut engine = wishing(WISHES);
    let (all, few) = (engine.offered(), Features::VERSION_1);
    for features in [all, all, few, all, few, few] {
        assert!(engine.bring_up(features, &[config(0)]));
        assert_eq!(engine.features(), features);
    }
    // A refusal between the two does not change that.
    assert!(!engine.negotiate(Features::empty()));
    assert!(engine.bring_up(all, &[config(0)]));
}

#[test]
fn a_reset_discards_the_accepted_features() {
    let mut engine = wishing(WISHES);
    assert!(engine.bring_up(Features::RING, &[]));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.features(), Features::empty());
    assert_eq!(engine.transport().driver_features(), Features::empty());
    // A driver that then chooses nothing has not chosen VERSION_1.
    assert!(engine.store(reg::STATUS, 11).refusal().is_some());
    assert_eq!(engine.load(reg::STATUS), 3);
}

#[test]
fn a_feature_that_was_not_accepted_is_not_used() {
    let (mut engine, ram) = probe();
    for (features, interrupts) in [(Features::VERSION_1, 1), (Features::RING, 0)] {
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(features, &[config(0)]));
        // With EVENT_IDX this requests no interrupt before the 8th used buffer. Without it these
        // bytes are ignored.
        driver.set_used_event(7);
        publish(&mut driver, 0, b"text");
        engine.poll(BUDGET);
        assert_eq!(driver.used_idx(), 1);
        assert_eq!(pending(&mut engine), interrupts, "{features:?}");
        // Without the feature, the device does not write the event index either.
        let event = if interrupts == 1 { 0 } else { 1 };
        assert_eq!(driver.avail_event(), event);
    }
}

#[test]
fn a_driver_may_leave_the_platform_features_out() {
    // The device then uses addresses untranslated.
    let (mut engine, ram) = probe();
    engine.model_mut().wishes =
        Features::RING | Features::ACCESS_PLATFORM | Features::ORDER_PLATFORM;
    let offer = engine.offered();
    for features in [Features::VERSION_1, offer] {
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(features, &[config(0)]));
        assert_works(&mut engine, &mut driver, 0);
    }
}

#[test]
fn without_access_platform_addresses_are_not_translated() {
    // Rings and buffers are at both ends of memory.
    let (mut engine, ram) = probe();
    let end = BASE + virtside_tests::BYTES as u64;
    let low = FakeDriver::new(ram.flat(BASE), layout(0));
    let last = virtside::testing::Layout::packed_at(0, SIZE).end();
    let high = virtside::testing::Layout::packed_at(end - last, SIZE);
    let mut driver = FakeDriver::new(ram.flat(BASE), high);
    assert!(engine.bring_up(Features::VERSION_1, &[low.config(0), driver.config(1)]));
    assert_eq!(engine.queue_state(1), QueueState::Live);
    assert_works(&mut engine, &mut driver, 1);
    assert_eq!(usize::from(SIZE), N);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_choice_is_accepted_if_it_is_a_subset_with_version_1(
        wishes in any::<u128>(),
        choice in any::<u128>(),
        spare in any::<u128>(),
        within in any::<bool>(),
        version_1 in any::<bool>(),
    ) {
        let mut engine = wishing(Features::from_bits(wishes));
        let offer = engine.offered().bits();
        let choice = match within {
            true => choice & offer,
            // Most of these bits are zero: otherwise no choice would be a subset.
            false => choice & spare & (offer | 1 << (spare % 128)),
        };
        let choice = if version_1 { choice | 1 << 32 } else { choice };
        let fits = choice & !offer == 0 && choice >> 32 & 1 == 1;
        prop_assert_eq!(engine.negotiate(Features::from_bits(choice)), fits);
        prop_assert_eq!(engine.load(reg::STATUS), if fits { 11 } else { 3 });
    }
}

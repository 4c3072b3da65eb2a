//! How a host changes a device's offer.

use virtside::{Features, features::Offer, testing::Registers};
use virtside_tests::{
    TestEngine,
    probe::{Probe, probe},
    test_engine,
};

/// Ring and transport features that a host may offer or withhold.
const HOSTS: [Features; 7] = [
    Features::INDIRECT_DESC,
    Features::EVENT_IDX,
    Features::ACCESS_PLATFORM,
    Features::ORDER_PLATFORM,
    Features::NOTIFICATION_DATA,
    Features::RING_RESET,
    Features::SUSPEND,
];

fn with_offer(wishes: Features, offer: Offer) -> TestEngine<Probe> {
    let model = Probe {
        wishes,
        ..Probe::default()
    };
    test_engine(model, 1).0.with_offer(offer)
}

#[test]
fn each_feature_is_offered_although_the_model_does_not_ask() {
    for feature in HOSTS {
        let mut engine = with_offer(Features::empty(), Offer::AS_IS.with(feature));
        let offer = feature | Features::VERSION_1;
        assert_eq!(engine.offered(), offer, "{feature:?}");
        assert!(engine.negotiate(offer));
    }
}

#[test]
fn each_feature_that_the_host_withholds_is_refused() {
    let all = HOSTS.into_iter().fold(Features::VERSION_1, Features::union);
    for feature in HOSTS {
        let mut engine = with_offer(all, Offer::AS_IS.without(feature));
        assert_eq!(engine.offered(), all.difference(feature), "{feature:?}");
        assert!(!engine.negotiate(all));
        assert!(engine.negotiate(all.difference(feature)));
    }
}

#[test]
fn the_hosts_last_call_for_a_feature_decides() {
    let feature = Features::SUSPEND;
    let with = Offer::AS_IS.without(feature).with(feature);
    assert!(with_offer(Features::RING, with).offered().contains(feature));
    let without = Offer::AS_IS.with(feature).without(feature);
    let offered = with_offer(Features::RING, without).offered();
    assert!(!offered.contains(feature));
}

#[test]
fn version_1_is_offered_whatever_the_host_says() {
    let mut engine = with_offer(
        Features::empty(),
        Offer::AS_IS.without(Features::from_bits(u128::MAX)),
    );
    assert_eq!(engine.offered(), Features::VERSION_1);
}

#[test]
fn the_host_cannot_change_device_specific_features() {
    let own = Features::DEVICE_TYPE;
    let mut engine = with_offer(Features::empty(), Offer::AS_IS.with(own));
    assert_eq!(engine.offered(), Features::VERSION_1);
    let mut engine = with_offer(own, Offer::AS_IS.without(own));
    assert_eq!(engine.offered(), own | Features::VERSION_1);
    assert!(engine.negotiate(own | Features::VERSION_1));
}

#[test]
fn an_unimplemented_feature_cannot_be_added() {
    for number in [24, 27, 37, 39, 41, 44, 45, 49] {
        let feature = Features::from_bits(1 << number);
        let mut engine = with_offer(feature, Offer::AS_IS.with(feature));
        assert_eq!(engine.offered(), Features::VERSION_1, "bit {number}");
        assert!(!engine.negotiate(feature | Features::VERSION_1));
    }
}

#[test]
fn an_unchanged_offer_is_what_the_model_asks_for() {
    let (mut as_is, _) = probe();
    let offered = with_offer(Features::RING, Offer::AS_IS).offered();
    assert_eq!(offered, as_is.offered());
    assert_eq!(Offer::default(), Offer::AS_IS);
}

#[test]
fn a_feature_that_the_model_excludes_is_refused() {
    for feature in HOSTS.into_iter().chain([Features::IN_ORDER]) {
        for wishes in [Features::empty(), feature] {
            let model = Probe {
                wishes,
                excludes: feature,
                ..Probe::default()
            };
            let mut engine = test_engine(model, 1)
                .0
                .with_offer(Offer::AS_IS.with(feature));
            assert_eq!(engine.offer(), Features::VERSION_1, "{feature:?}");
            assert_eq!(engine.offered(), Features::VERSION_1, "{feature:?}");
            assert!(!engine.negotiate(feature | Features::VERSION_1));
            assert!(engine.negotiate(Features::VERSION_1));
        }
    }
}

#[test]
fn version_1_cannot_be_excluded() {
    let model = Probe {
        excludes: Features::from_bits(u128::MAX),
        ..Probe::default()
    };
    let (mut engine, _) = test_engine(model, 1);
    assert_eq!(engine.offered(), Features::VERSION_1);
    assert!(engine.negotiate(Features::VERSION_1));
}

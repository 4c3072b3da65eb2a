//! What a host changes of a device's offer.

use virtside::{Features, Offer, testing::Registers};
use virtside_tests::{
    Guest, guest,
    probe::{Probe, probe},
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

fn offering(wishes: Features, offer: Offer) -> Guest<Probe> {
    let model = Probe {
        wishes,
        ..Probe::default()
    };
    guest(model, 1).0.offering(offer)
}

#[test]
fn each_feature_is_offered_although_the_model_does_not_ask() {
    for feature in HOSTS {
        let mut guest = offering(Features::empty(), Offer::AS_IS.with(feature));
        let offer = feature | Features::VERSION_1;
        assert_eq!(guest.offered(), offer, "{feature:?}");
        assert!(guest.negotiate(offer));
    }
}

#[test]
fn each_feature_that_the_host_withholds_is_refused() {
    let all = HOSTS.into_iter().fold(Features::VERSION_1, Features::union);
    for feature in HOSTS {
        let mut guest = offering(all, Offer::AS_IS.without(feature));
        assert_eq!(guest.offered(), all.difference(feature), "{feature:?}");
        assert!(!guest.negotiate(all));
        assert!(guest.negotiate(all.difference(feature)));
    }
}

#[test]
fn the_last_word_on_a_feature_counts() {
    let feature = Features::SUSPEND;
    let with = Offer::AS_IS.without(feature).with(feature);
    assert!(offering(Features::RING, with).offered().contains(feature));
    let without = Offer::AS_IS.with(feature).without(feature);
    let offered = offering(Features::RING, without).offered();
    assert!(!offered.contains(feature));
}

#[test]
fn version_1_is_offered_whatever_the_host_says() {
    let mut guest = offering(
        Features::empty(),
        Offer::AS_IS.without(Features::from_bits(u128::MAX)),
    );
    assert_eq!(guest.offered(), Features::VERSION_1);
}

#[test]
fn bits_of_a_device_type_are_the_models_alone() {
    let own = Features::DEVICE_TYPE;
    let mut guest = offering(Features::empty(), Offer::AS_IS.with(own));
    assert_eq!(guest.offered(), Features::VERSION_1);
    let mut guest = offering(own, Offer::AS_IS.without(own));
    assert_eq!(guest.offered(), own | Features::VERSION_1);
    assert!(guest.negotiate(own | Features::VERSION_1));
}

#[test]
fn what_is_not_implemented_cannot_be_added() {
    for number in [24, 27, 37, 39, 41, 44, 45, 49] {
        let feature = Features::from_bits(1 << number);
        let mut guest = offering(feature, Offer::AS_IS.with(feature));
        assert_eq!(guest.offered(), Features::VERSION_1, "bit {number}");
        assert!(!guest.negotiate(feature | Features::VERSION_1));
    }
}

#[test]
fn an_unchanged_offer_is_what_the_model_asks_for() {
    let (mut as_is, _) = probe();
    let offered = offering(Features::RING, Offer::AS_IS).offered();
    assert_eq!(offered, as_is.offered());
    assert_eq!(Offer::default(), Offer::AS_IS);
}

#[test]
fn what_the_model_excludes_is_not_offered_and_is_refused() {
    for feature in HOSTS.into_iter().chain([Features::IN_ORDER]) {
        for wishes in [Features::empty(), feature] {
            let model = Probe {
                wishes,
                excludes: feature,
                ..Probe::default()
            };
            let mut guest = guest(model, 1).0.offering(Offer::AS_IS.with(feature));
            assert_eq!(guest.offer(), Features::VERSION_1, "{feature:?}");
            assert_eq!(guest.offered(), Features::VERSION_1, "{feature:?}");
            assert!(!guest.negotiate(feature | Features::VERSION_1));
            assert!(guest.negotiate(Features::VERSION_1));
        }
    }
}

#[test]
fn version_1_cannot_be_excluded() {
    let model = Probe {
        excludes: Features::from_bits(u128::MAX),
        ..Probe::default()
    };
    let (mut guest, _) = guest(model, 1);
    assert_eq!(guest.offered(), Features::VERSION_1);
    assert!(guest.negotiate(Features::VERSION_1));
}

//! The message path refuses features that no transport would have offered.

use virtside::{
    Configuring, DeviceBuilder, Features, Message, Refusal, Shared, error::DeviceError,
    memory::Ram, setup::Progress,
};

#[test]
fn unimplemented_features_are_refused_and_others_may_be_tried() {
    static RAM: Ram<4096> = Ram::new();
    let shared = Shared::<1>::new();
    let builder = DeviceBuilder::new(&shared);
    let mut configuring = Configuring::<_, _, _, 1, 8, _>::new(builder, &(0..1), RAM.flat(0));
    // SR_IOV
    let not_offered = Features::from_bits(1 << 37);
    let missing = Features::VERSION_1;
    for (features, refusal) in [
        (
            missing.union(not_offered),
            Refusal::FeaturesNotOffered { not_offered },
        ),
        (Features::EVENT_IDX, Refusal::FeaturesMissing { missing }),
    ] {
        assert_eq!(
            configuring.step(Message::Ready { features }).unwrap_err(),
            DeviceError::Refused(refusal)
        );
    }
    let ready = configuring.step(Message::Ready {
        features: Features::RING,
    });
    assert!(matches!(ready, Ok(Progress::Ready(..))));
}

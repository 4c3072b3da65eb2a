//! What a driver sees of the I2C adapter before DRIVER_OK.

use virtio_spec::DeviceStatus;
use virtside::{
    Features, Refusal,
    mmio::{Access, Reply},
    models::{I2c, i2c::ZERO_LENGTH_REQUEST},
    testing::Registers,
};
use virtside_tests::{SIZE, models::i2c::*, reg, test_engine};

#[test]
fn it_has_type_34_one_queue_and_no_configuration_space() {
    let (mut engine, _) = test_engine(I2c::<_, BYTES>::new(Recorder::default()), 1);
    assert_eq!(engine.load(reg::DEVICE_ID), 34);
    for (queue, size) in [(0, u32::from(SIZE)), (1, 0), (2, 0)] {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), size);
    }
    let access = Access::Read {
        offset: reg::CONFIG,
        width: 1,
    };
    assert!(engine.access(access).refusal().is_some());
}

#[test]
fn zero_length_requests_are_offered() {
    let (mut engine, _) = test_engine(I2c::<_, BYTES>::new(Recorder::default()), 1);
    assert_eq!(
        engine.offered(),
        Features::ALL_RINGS | Features::from_bits(1)
    );
    assert_eq!(ZERO_LENGTH_REQUEST, Features::from_bits(1));
}

#[test]
fn a_driver_without_zero_length_requests_is_rejected() {
    let (mut engine, _) = test_engine(I2c::<_, BYTES>::new(Recorder::default()), 1);
    for features in [Features::VERSION_1, Features::RING] {
        assert!(!engine.negotiate(features));
        let status = engine.status();
        assert!(!status.contains(DeviceStatus::FEATURES_OK));
        assert!(!status.contains(DeviceStatus::DEVICE_NEEDS_RESET));
        let missing = ZERO_LENGTH_REQUEST;
        let refusal = Refusal::FeaturesMissing { missing };
        assert_eq!(engine.store(0x70, 11), Reply::Refused(refusal));
    }
    assert!(engine.negotiate(Features::VERSION_1 | ZERO_LENGTH_REQUEST));
}

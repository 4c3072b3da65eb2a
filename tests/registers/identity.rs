//! The registers that a driver reads to identify the device.

use virtside::{
    Features,
    mmio::{Access, Phase, Reply},
    models::Entropy,
    testing::Registers,
};
use virtside_tests::{
    CountingSource, config,
    probe::{Probe, probe, seen},
    reg, test_block, test_engine,
};

#[test]
fn the_magic_value_is_virt() {
    let (mut engine, _) = probe();
    assert_eq!(engine.load(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(&engine.load(reg::MAGIC_VALUE).to_le_bytes(), b"virt");
}

#[test]
fn the_version_is_two() {
    let (mut engine, _) = probe();
    assert_eq!(engine.load(reg::VERSION), 2);
}

#[test]
fn values_are_32_bit_numbers_that_a_little_endian_bus_carries() {
    // The least significant byte of each value is at the register's own offset.
    let (mut engine, _) = probe();
    let Reply::Done(value) = engine.access(Access::read(reg::MAGIC_VALUE)) else {
        panic!("MagicValue cannot be read");
    };
    assert_eq!(value.to_le_bytes(), *b"virt\0\0\0\0");
    assert_eq!(engine.access(Access::read(reg::VERSION)), Reply::Done(2));
    assert_eq!(engine.store(reg::QUEUE_SEL, 2), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_SIZE_MAX).to_le_bytes(), [8, 0, 0, 0]);
}

#[test]
fn the_device_type_is_the_models() {
    assert_eq!(probe().0.load(reg::DEVICE_ID), 63);
    let (mut entropy, _) = test_engine(Entropy::new(CountingSource::default()), 1);
    assert_eq!(entropy.load(reg::DEVICE_ID), 4);
    let (mut block, _) = test_engine(test_block(), 1);
    assert_eq!(block.load(reg::DEVICE_ID), 2);
}

#[test]
fn a_placeholder_has_device_id_zero() {
    let nothing = Probe {
        id: 0,
        sizes: [0; 4],
        space: vec![],
        wishes: Features::empty(),
        ..Probe::default()
    };
    let (mut engine, _) = test_engine(nothing, 1);
    assert_eq!(engine.load(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(engine.load(reg::VERSION), 2);
    assert_eq!(engine.load(reg::DEVICE_ID), 0);
}

#[test]
fn identity_is_the_same_in_every_phase() {
    let (mut engine, _) = probe();
    let mut identities = Vec::new();
    let mut look = |engine: &mut virtside_tests::TestEngine<Probe>| {
        let registers = [
            reg::MAGIC_VALUE,
            reg::VERSION,
            reg::DEVICE_ID,
            reg::VENDOR_ID,
        ];
        identities.push(registers.map(|offset| engine.load(offset)));
    };
    look(&mut engine);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    look(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    look(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    look(&mut engine);
    assert_eq!(identities.len(), 4);
    assert!(identities.iter().all(|identity| *identity == identities[0]));
}

#[test]
fn a_driver_may_read_three_registers_and_leave() {
    let (mut engine, _) = probe();
    let before = seen(&engine);
    for offset in [reg::MAGIC_VALUE, reg::VERSION, reg::DEVICE_ID] {
        assert!(engine.access(Access::read(offset)).refusal().is_none());
    }
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.phase(), Phase::Reset);
    assert!(engine.model().log.is_empty());
}

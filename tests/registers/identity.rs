//! What a driver reads to find out what it has before it.

use virtside::{
    Features,
    mmio::{Access, Phase, Reply},
    models::Entropy,
    testing::Registers,
};
use virtside_tests::{
    CountingSource, config, guest,
    probe::{Probe, probe, seen},
    reg, test_block,
};

#[test]
fn the_magic_value_is_virt() {
    let (mut guest, _) = probe();
    assert_eq!(guest.load(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(&guest.load(reg::MAGIC_VALUE).to_le_bytes(), b"virt");
}

#[test]
fn the_version_is_two() {
    let (mut guest, _) = probe();
    assert_eq!(guest.load(reg::VERSION), 2);
}

#[test]
fn values_are_32_bit_numbers_that_a_little_endian_bus_carries() {
    // The least significant byte of each value is the one at the register's own offset.
    let (mut guest, _) = probe();
    let Reply::Done(value) = guest.access(Access::read(reg::MAGIC_VALUE)) else {
        panic!("MagicValue cannot be read");
    };
    assert_eq!(value.to_le_bytes(), *b"virt\0\0\0\0");
    assert_eq!(guest.access(Access::read(reg::VERSION)), Reply::Done(2));
    assert_eq!(guest.store(reg::QUEUE_SEL, 2), Reply::Done(0));
    assert_eq!(guest.load(reg::QUEUE_SIZE_MAX).to_le_bytes(), [8, 0, 0, 0]);
}

#[test]
fn the_device_type_is_the_models() {
    assert_eq!(probe().0.load(reg::DEVICE_ID), 63);
    let (mut entropy, _) = guest(Entropy::new(CountingSource::default()), 1);
    assert_eq!(entropy.load(reg::DEVICE_ID), 4);
    let (mut block, _) = guest(test_block(), 1);
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
    let (mut guest, _) = guest(nothing, 1);
    assert_eq!(guest.load(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(guest.load(reg::VERSION), 2);
    assert_eq!(guest.load(reg::DEVICE_ID), 0);
}

#[test]
fn identity_is_the_same_in_every_phase() {
    let (mut guest, _) = probe();
    let mut identities = Vec::new();
    let mut look = |guest: &mut virtside_tests::Guest<Probe>| {
        let registers = [
            reg::MAGIC_VALUE,
            reg::VERSION,
            reg::DEVICE_ID,
            reg::VENDOR_ID,
        ];
        identities.push(registers.map(|offset| guest.load(offset)));
    };
    look(&mut guest);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    look(&mut guest);
    assert_eq!(guest.store(reg::STATUS, 15 | 128), Reply::Done(0));
    look(&mut guest);
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    look(&mut guest);
    assert_eq!(identities.len(), 4);
    assert!(identities.iter().all(|identity| *identity == identities[0]));
}

#[test]
fn a_driver_may_look_at_three_registers_and_go_away() {
    let (mut guest, _) = probe();
    let before = seen(&guest);
    for offset in [reg::MAGIC_VALUE, reg::VERSION, reg::DEVICE_ID] {
        assert!(guest.access(Access::read(offset)).refusal().is_none());
    }
    assert_eq!(seen(&guest), before);
    assert_eq!(guest.phase(), Phase::Reset);
    assert!(guest.model().log.is_empty());
}

//! What a driver sees of the SPI controller before DRIVER_OK.

use virtside::{
    Features, Refusal,
    mmio::Access,
    models::{
        Spi,
        spi::{SpiCapabilities, SpiFunctions, SpiWidths},
    },
    testing::Registers,
};
use virtside_tests::{SIZE, TestEngine, models::spi::*, reg, test_engine};

fn device(capabilities: SpiCapabilities) -> TestEngine<Spi<Recorder, BYTES>> {
    test_engine(Spi::new(Recorder::new(capabilities)), 1).0
}

#[test]
fn it_has_type_45_one_queue_and_no_features_of_its_own() {
    let mut engine = device(everything());
    assert_eq!(engine.load(reg::DEVICE_ID), 45);
    assert_eq!(engine.offered(), Features::ALL_RINGS);
    for (queue, size) in [(0, u32::from(SIZE)), (1, 0), (2, 0)] {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), size);
    }
}

#[test]
fn every_field_is_readable_before_negotiation() {
    let mut engine = device(everything());
    let words: [u32; 7] = [0x8000_8080, 0x7f, 8_000_000, 1000, 2000, 3000, 4000];
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    let expected: Vec<u8> = [3, 1, 7, 7].into_iter().chain(words).collect();
    assert_eq!(space(&mut engine), expected);
    // The same fields, word by word.
    for (at, word) in expected.chunks(4).enumerate() {
        let offset = reg::CONFIG + 4 * at as u32;
        assert_eq!(
            engine.load(offset),
            u32::from_le_bytes(word.try_into().unwrap())
        );
    }
}

#[test]
fn the_configuration_ends_behind_its_last_field() {
    let mut engine = device(everything());
    for (offset, width) in [(32, 1), (32, 4), (30, 4), (31, 2), (u32::MAX - 0x100, 1)] {
        let access = Access::Read {
            offset: reg::CONFIG + offset,
            width,
        };
        assert!(engine.access(access).refusal().is_some());
    }
}

#[test]
fn the_driver_can_write_nothing() {
    let mut engine = device(everything());
    let before = space(&mut engine);
    for offset in 0..32 {
        let access = Access::Write {
            offset: reg::CONFIG + offset,
            width: 1,
            value: 0xff,
        };
        let refusal = Refusal::ConfigReadOnly {
            offset: reg::CONFIG + offset,
            width: 1,
        };
        assert_eq!(engine.access(access).refusal(), Some(refusal));
    }
    assert_eq!(space(&mut engine), before);
}

#[test]
fn a_controller_without_capabilities_has_the_least() {
    let mut engine = device(SpiCapabilities::default());
    let mut expected = vec![0; 32];
    // Words of 8 bits, CPHA = 0 and CPOL = 0.
    expected[4] = 0x80;
    expected[8] = 0b0101;
    assert_eq!(space(&mut engine), expected);
}

#[test]
fn reserved_bits_of_the_widths_are_always_zero() {
    let careless = SpiWidths::from_bits_retain(0xfd);
    let mut engine = device(SpiCapabilities {
        tx_widths: careless,
        rx_widths: SpiWidths::from_bits_retain(0xf8),
        functions: SpiFunctions::from_bits_retain(0xffff_ffff),
        ..everything()
    });
    let space = space(&mut engine);
    assert_eq!(space[2..4], [5, 0]);
    assert_eq!(space[8..12], [0x7f, 0, 0, 0]);
}

#[test]
fn there_is_at_least_one_cpha_and_one_cpol() {
    for (said, shown) in [
        (0, 0b0101),
        (0b0010, 0b0110),
        (0b1000, 0b1001),
        (0b1010, 0b1010),
        (0b1111, 0b1111),
        (0x70, 0x75),
    ] {
        let functions = SpiFunctions::from_bits_truncate(said);
        let mut engine = device(SpiCapabilities {
            functions,
            ..everything()
        });
        assert_eq!(engine.load(reg::CONFIG + 8), shown);
    }
}

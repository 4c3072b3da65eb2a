//! Writes: what the model accepts, and when the driver may write.

use proptest::prelude::*;
use virtside::{
    Features, Refusal,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    TestEngine, config,
    probe::{Probe, probe, seen},
    reg,
};

use crate::{PHASES, at, load, store};

/// A live device with 12 bytes, of which a driver may write 4 to 7.
fn live() -> TestEngine<Probe> {
    let mut engine = at(Phase::Live);
    engine.model_mut().writable = 4..8;
    engine
}

/// `offset` is counted from the start of the configuration space.
fn read_only(offset: u32, width: u8) -> Refusal {
    let offset = reg::CONFIG + offset;
    Refusal::ConfigReadOnly { offset, width }
}

fn space() -> Vec<u8> {
    (1..=12).collect()
}

#[test]
fn a_write_is_refused_if_the_model_does_not_take_it() {
    let mut engine = at(Phase::Live);
    let before = seen(&engine);
    for width in [1, 2, 4, 8] {
        for offset in [0, 4, 11, 12, 0x1000] {
            let refusal = read_only(offset, width);
            let reply = engine.access(store(offset, width, u64::MAX));
            assert_eq!(reply, Reply::Refused(refusal));
        }
    }
    assert_eq!(engine.model().space, space());
    assert_eq!(seen(&engine), before);
}

#[test]
fn a_write_that_the_model_takes_is_read_back() {
    let mut engine = live();
    assert_eq!(engine.access(store(4, 4, 0xa1b2_c3d4)), Reply::Done(0));
    assert_eq!(engine.access(load(4, 4)), Reply::Done(0xa1b2_c3d4));
    assert_eq!(engine.model().space[4..8], [0xd4, 0xc3, 0xb2, 0xa1]);
    assert_eq!(engine.access(store(5, 2, 0x1234)), Reply::Done(0));
    assert_eq!(engine.access(store(7, 1, 0x99)), Reply::Done(0));
    assert_eq!(engine.model().space[4..8], [0xd4, 0x34, 0x12, 0x99]);
    // The adjacent bytes are unchanged.
    assert_eq!(engine.model().space[..4], space()[..4]);
    assert_eq!(engine.model().space[8..], space()[8..]);
}

#[test]
fn a_write_is_taken_whole_or_not_at_all() {
    let mut engine = live();
    for (offset, width) in [(3, 2), (7, 2), (2, 4), (6, 4), (0, 8), (4, 8), (1, 8)] {
        let refusal = read_only(offset, width);
        let reply = engine.access(store(offset, width, 0));
        assert_eq!(reply, Reply::Refused(refusal));
        assert_eq!(engine.model().space, space());
    }
}

#[test]
fn bits_beyond_the_width_are_not_part_of_a_write() {
    let mut engine = live();
    assert_eq!(engine.access(store(4, 1, 0xffff_ff42)), Reply::Done(0));
    assert_eq!(engine.model().space[4..8], [0x42, 6, 7, 8]);
}

#[test]
fn an_invalid_width_is_refused() {
    let mut engine = live();
    for width in [0, 3, 5, 6, 7, 9, 16, 255] {
        let reply = engine.access(store(4, width, 0));
        let offset = reg::CONFIG + 4;
        assert_eq!(reply, Reply::Refused(Refusal::BadWidth { offset, width }));
    }
    assert_eq!(engine.model().space, space());
}

#[test]
fn a_driver_writes_only_between_features_ok_and_failed() {
    for phase in PHASES {
        let mut engine = at(phase);
        engine.model_mut().writable = 0..12;
        let before = seen(&engine);
        let reply = engine.access(store(0, 1, 0x77));
        if matches!(phase, Phase::SettingUp | Phase::Live) {
            assert_eq!(reply, Reply::Done(0), "{phase:?}");
            assert_eq!(engine.model().space[0], 0x77);
        } else {
            let refusal = read_only(0, 1);
            assert_eq!(reply, Reply::Refused(refusal), "{phase:?}");
            assert_eq!(engine.model().space, space());
        }
        assert_eq!(seen(&engine), before);
    }
}

#[test]
fn the_drivers_own_write_is_not_announced_to_it() {
    let mut engine = live();
    assert_eq!(engine.access(store(4, 4, 0)), Reply::Done(0));
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
    assert_eq!(engine.device().notify().asserted(), 0);
}

#[test]
fn a_reset_ends_the_permission_to_write() {
    let mut engine = live();
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert!(engine.access(store(4, 1, 0)).refusal().is_some());
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(engine.access(store(4, 1, 0)), Reply::Done(0));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_accesses_behave_like_those_of_a_byte_array(
        writable in (0usize..13, 0usize..13),
        accesses in proptest::collection::vec(
            (0u32..16, proptest::sample::select(vec![1u8, 2, 4, 8]), any::<Option<u64>>()),
            1..50,
        ),
    ) {
        let (mut engine, _) = probe();
        prop_assert!(engine.negotiate(Features::VERSION_1));
        let writable = writable.0.min(writable.1)..writable.0.max(writable.1);
        engine.model_mut().writable = writable.clone();
        let mut bytes = space();
        for (offset, width, value) in accesses {
            let range = offset as usize..offset as usize + usize::from(width);
            if let Some(value) = value {
                let allowed = range.start >= writable.start && range.end <= writable.end;
                let reply = engine.access(store(offset, width, value));
                prop_assert_eq!(reply.refusal().is_none(), allowed);
                if allowed {
                    let value = value.to_le_bytes();
                    bytes[range].copy_from_slice(&value[..usize::from(width)]);
                }
            } else {
                let expected = bytes.get(range).map(|part| {
                    let mut value = [0; 8];
                    value[..part.len()].copy_from_slice(part);
                    u64::from_le_bytes(value)
                });
                let reply = engine.access(load(offset, width));
                prop_assert_eq!(reply.refusal().is_none(), expected.is_some());
                prop_assert_eq!(reply.bus_value(), Some(expected.unwrap_or(0)));
            }
            prop_assert_eq!(&engine.model().space, &bytes);
        }
    }
}

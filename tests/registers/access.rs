//! Register accesses of every direction, width and alignment, and at offsets without a register.

use proptest::prelude::*;
use virtside::{
    Features, Refusal,
    mmio::{Access, Phase, Reply},
    shared::InterruptStatus,
    testing::Registers,
};
use virtside_tests::{
    TestEngine, config,
    probe::{Event, Probe, assert_works, probe, ready, seen},
    reg::{self, READ_ONLY, READ_WRITE, WRITE_ONLY},
};

/// The offset of every register.
fn registers() -> Vec<u32> {
    let mut all = [&READ_ONLY[..], &WRITE_ONLY, &READ_WRITE].concat();
    all.push(reg::CONFIG_GENERATION);
    all.sort();
    all
}

/// A live device with queues 0 and 1; queue 0 is selected.
fn live() -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    assert!(engine.bring_up(Features::RING, &[config(0), config(1)]));
    assert_eq!(ready(&mut engine, 0), 1);
    engine
}

fn read(offset: u32, width: u8) -> Access {
    Access::Read { offset, width }
}

fn write(offset: u32, width: u8, value: u64) -> Access {
    Access::Write {
        offset,
        width,
        value,
    }
}

#[test]
fn there_are_29_registers() {
    // The tests' tables are those of the specification: no register is missing or named twice.
    let mut all = registers();
    assert_eq!(all.len(), 29);
    all.dedup();
    assert_eq!(all.len(), 29);
}

#[test]
fn a_read_only_register_refuses_writes() {
    let mut engine = live();
    for offset in READ_ONLY.into_iter().chain([reg::CONFIG_GENERATION]) {
        let (before, value) = (seen(&engine), engine.load(offset));
        for written in [0, 1, !value, u32::MAX] {
            let reply = engine.store(offset, written);
            assert_eq!(reply, Reply::Refused(Refusal::ReadOnly { offset }));
        }
        assert_eq!(engine.load(offset), value, "{offset:#x}");
        assert_eq!(seen(&engine), before);
    }
}

#[test]
fn a_read_only_register_can_be_read() {
    let mut engine = live();
    for offset in READ_ONLY.into_iter().chain([reg::CONFIG_GENERATION]) {
        assert!(matches!(
            engine.access(Access::read(offset)),
            Reply::Done(_)
        ));
    }
}

#[test]
fn a_write_only_register_reads_zero() {
    let mut engine = live();
    let before = seen(&engine);
    for offset in WRITE_ONLY {
        let reply = engine.access(Access::read(offset));
        assert_eq!(reply, Reply::Refused(Refusal::WriteOnly { offset }));
        assert_eq!(reply.bus_value(), Some(0), "the load completes");
        assert_eq!(engine.load(offset), 0);
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn a_width_other_than_four_is_refused_at_every_register() {
    let mut engine = live();
    let before = seen(&engine);
    for offset in registers() {
        for width in [0, 1, 2, 3, 5, 8, 16, 255] {
            let refusal = Refusal::BadWidth { offset, width };
            let reply = engine.access(read(offset, width));
            assert_eq!(reply, Reply::Refused(refusal));
            assert_eq!(reply.bus_value(), Some(0));
            for value in [0, 1, 15, u64::MAX] {
                let reply = engine.access(write(offset, width, value));
                assert_eq!(reply, Reply::Refused(refusal), "{offset:#x}");
            }
        }
    }
    assert_eq!(seen(&engine), before);
    assert_eq!(
        engine.model().count(Event::Reset),
        1,
        "the reset of bring_up"
    );
}

#[test]
fn an_offset_off_its_alignment_is_refused() {
    let mut engine = live();
    let before = seen(&engine);
    for offset in (0..0x100).filter(|offset| offset % 4 != 0) {
        for width in [1, 2, 4, 8] {
            let refusal = Refusal::BadWidth { offset, width };
            let reply = engine.access(read(offset, width));
            assert_eq!(reply, Reply::Refused(refusal));
            let reply = engine.access(write(offset, width, 0));
            assert_eq!(reply, Reply::Refused(refusal));
        }
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn an_offset_without_a_register_reads_zero_and_refuses_writes() {
    let mut engine = live();
    let before = seen(&engine);
    let known = registers();
    let mut absent = 0;
    for offset in (0..0x100).step_by(4) {
        if known.contains(&offset) {
            continue;
        }
        absent += 1;
        let refusal = Reply::Refused(Refusal::NoSuchRegister { offset });
        assert_eq!(engine.access(Access::read(offset)), refusal);
        assert_eq!((refusal.bus_value(), refusal.value()), (Some(0), None));
        for value in [0, 1, u32::MAX] {
            assert_eq!(engine.store(offset, value), refusal);
        }
    }
    assert_eq!(absent, 64 - 29);
    assert_eq!(seen(&engine), before);
}

#[test]
fn the_registers_of_the_legacy_interface_are_not_there() {
    let mut engine = live();
    // GuestPageSize, QueueAlign and QueuePFN.
    for offset in [0x028, 0x03c, 0x040] {
        let refusal = Refusal::NoSuchRegister { offset };
        assert_eq!(engine.store(offset, 1), Reply::Refused(refusal));
    }
}

#[test]
fn bits_beyond_the_width_are_not_part_of_a_write() {
    let (mut engine, _) = probe();
    let noisy = 0xdead_beef_0000_0003;
    assert_eq!(engine.access(write(reg::STATUS, 4, noisy)), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 3);
    let zero = 0x1_0000_0000;
    assert_eq!(engine.access(write(reg::STATUS, 4, zero)), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
    assert_eq!(engine.model().count(Event::Reset), 1);
}

#[test]
fn without_shared_memory_base_and_length_read_all_ones() {
    let mut engine = live();
    let sel = [0, 1, 255, 256, u32::MAX];
    for id in sel {
        assert_eq!(engine.store(reg::SHM_SEL, id), Reply::Done(0));
        for offset in [
            reg::SHM_LEN_LOW,
            reg::SHM_LEN_HIGH,
            reg::SHM_BASE_LOW,
            reg::SHM_BASE_HIGH,
        ] {
            let reply = engine.access(Access::read(offset));
            assert_eq!(reply, Reply::Done(0xffff_ffff), "region {id}");
        }
    }
    // Without a selection, the length also reads all ones.
    assert_eq!(probe().0.load(reg::SHM_LEN_LOW), u32::MAX);
}

#[test]
fn without_ring_reset_no_single_queue_is_reset() {
    let (mut engine, ram) = probe();
    let mut driver = virtside_tests::driver(ram, 0);
    let features = Features::RING.difference(Features::RING_RESET);
    assert!(engine.bring_up(features, &[config(0)]));
    assert_eq!(ready(&mut engine, 0), 1);
    let before = seen(&engine);
    for value in [0, 1, 2, u32::MAX] {
        let reply = engine.store(reg::QUEUE_RESET, value);
        assert_eq!(reply, Reply::Refused(Refusal::NotNegotiated));
        let reply = engine.access(Access::read(reg::QUEUE_RESET));
        assert_eq!(reply, Reply::Done(0));
    }
    assert_eq!(engine.load(reg::QUEUE_READY), 1);
    assert_eq!(seen(&engine), before);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn reading_any_register_changes_nothing() {
    let mut engine = live();
    engine.update_config(|_| ());
    let before = seen(&engine);
    for _ in 0..2 {
        for offset in registers() {
            let _ = engine.access(Access::read(offset));
        }
    }
    assert_eq!(seen(&engine), before);
}

/// Accesses that a driver might make, and many that none should.
fn any_access() -> impl Strategy<Value = Access> {
    let offset = prop_oneof![
        6 => proptest::sample::select(registers()),
        1 => 0u32..0x120,
        1 => any::<u32>(),
    ];
    let width = prop_oneof![6 => Just(4u8), 1 => 0u8..9, 1 => any::<u8>()];
    let value = prop_oneof![4 => 0u64..20, 1 => any::<u64>(), 1 => Just(u64::from(u32::MAX))];
    (offset, width, value, any::<bool>()).prop_map(|(offset, width, value, writes)| {
        if writes {
            write(offset, width, value)
        } else {
            read(offset, width)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_refused_access_changes_nothing(
        accesses in proptest::collection::vec(any_access(), 1..60),
        start_live in any::<bool>(),
    ) {
        let mut engine = if start_live { live() } else { probe().0 };
        for access in accesses {
            let before = seen(&engine);
            let reply = engine.access(access);
            prop_assert!(reply.bus_value().is_some(), "no queue is taken, so no access waits");
            // Two writes may be refused in part: of a Status write, only FEATURES_OK or DRIVER_OK
            // may be refused and the other bits kept; features in a word without any are recorded,
            // to be refused later.
            let in_part = matches!(
                reply.refusal(),
                Some(Refusal::FeaturesMissing { .. } | Refusal::FeaturesNotOffered { .. } | Refusal::FeaturesNotNegotiated | Refusal::NotReady)
            );
            if matches!(access, Access::Read { .. }) || (reply.refusal().is_some() && !in_part) {
                let mut expected = before;
                // A queue that cannot be enabled again after a queue reset sets DEVICE_NEEDS_RESET,
                // because drivers do not read QueueReady back. Only a queue that exists and is not
                // frozen is checked.
                let checked = matches!(
                    reply.refusal(),
                    Some(
                        Refusal::QueueSize { .. }
                            | Refusal::Misaligned { .. }
                            | Refusal::Wraps { .. }
                            | Refusal::Unmapped { .. }
                            | Refusal::Overlap { .. }
                            | Refusal::QueueCheck { .. }
                    )
                );
                if checked && expected.phase == Phase::Live && expected.status & 64 == 0 {
                    expected.status |= 64;
                    expected.interrupts |= InterruptStatus::CONFIG_CHANGE;
                    expected.raised += 1;
                    expected.high = true;
                }
                prop_assert_eq!(seen(&engine), expected, "{:x?} gave {:?}", access, reply);
            }
        }
    }
}

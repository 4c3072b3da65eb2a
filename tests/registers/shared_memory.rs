//! SHMSel and the registers of the region that it selects.

use virtside::{mmio::Reply, model::SharedMemory, testing::Registers};
use virtside_tests::{
    TestEngine,
    probe::{Probe, probe, seen},
    reg,
};

const CACHE: SharedMemory = SharedMemory {
    base: 0x1_2345_6000,
    len: 0x2_0000_1000,
};
const SMALL: SharedMemory = SharedMemory {
    base: 0xfee0_0000,
    len: 1,
};

/// A device with region 1 and the region of the highest number.
fn regions() -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    engine.model_mut().regions = vec![(1, CACHE), (u32::MAX, SMALL)];
    engine
}

/// Length and base of the selected region.
fn selected(engine: &mut TestEngine<Probe>) -> (u64, u64) {
    let mut pair = |low, high| u64::from(engine.load(high)) << 32 | u64::from(engine.load(low));
    (
        pair(reg::SHM_LEN_LOW, reg::SHM_LEN_HIGH),
        pair(reg::SHM_BASE_LOW, reg::SHM_BASE_HIGH),
    )
}

#[test]
fn a_region_shows_its_length_and_base_in_halves() {
    let mut engine = regions();
    for (id, region) in [(1, CACHE), (u32::MAX, SMALL), (1, CACHE)] {
        assert_eq!(engine.store(reg::SHM_SEL, id), Reply::Done(0));
        assert_eq!(selected(&mut engine), (region.len, region.base), "{id:#x}");
        assert_eq!(selected(&mut engine), (region.len, region.base));
    }
}

#[test]
fn any_other_number_selects_nothing_and_reads_all_ones() {
    let mut engine = regions();
    assert_eq!(
        selected(&mut engine),
        (u64::MAX, u64::MAX),
        "region 0 is selected initially"
    );
    for id in [0, 2, 0x101, 0x1_0001, 0x8000_0001, u32::MAX - 1] {
        assert_eq!(engine.store(reg::SHM_SEL, id), Reply::Done(0));
        assert_eq!(selected(&mut engine), (u64::MAX, u64::MAX), "{id:#x}");
    }
}

#[test]
fn a_reset_of_the_device_resets_the_selection() {
    let mut engine = regions();
    engine.model_mut().regions.push((0, SMALL));
    assert_eq!(engine.store(reg::SHM_SEL, 1), Reply::Done(0));
    for status in [1, 3] {
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        assert_eq!(selected(&mut engine), (CACHE.len, CACHE.base));
    }
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(selected(&mut engine), (SMALL.len, SMALL.base));
}

#[test]
fn a_selection_changes_nothing_else() {
    let mut engine = regions();
    let before = seen(&engine);
    for id in [1, 7, u32::MAX] {
        assert_eq!(engine.store(reg::SHM_SEL, id), Reply::Done(0));
        let _ = selected(&mut engine);
        assert_eq!(seen(&engine), before);
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), 16, "queue 0 is selected");
    }
}

#[test]
fn references_are_offsets_within_the_region() {
    let whole = CACHE
        .at(0, 0x1000)
        .map(|range| (range.start(), range.len()));
    assert_eq!(whole, Some((CACHE.base, 0x1000)));
    let last = CACHE.at(CACHE.len - 1, 1).map(|range| range.start());
    assert_eq!(last, Some(CACHE.base + CACHE.len - 1));
    for (offset, len) in [
        (CACHE.len, 1),
        (CACHE.len - 1, 2),
        (CACHE.len - 0x1000, 0x1001),
        // An absolute address is no reference.
        (CACHE.base + CACHE.len, 1),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
    ] {
        assert_eq!(CACHE.at(offset, len), None, "{offset:#x} {len:#x}");
    }
    // An offset beyond the end of the address space is no reference.
    let high = SharedMemory {
        base: u64::MAX - 0xf,
        len: 0x100,
    };
    assert!(high.at(0, 0xf).is_some());
    assert_eq!(high.at(0x10, 1), None);
    assert_eq!(high.at(0, 0x20), None);
}

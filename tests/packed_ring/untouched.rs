//! The device writes only used descriptors, its own event suppression structure and writable
//! buffers.

use virtside::{
    DriverMem, Features, FlatMem,
    features::Offer,
    testing::{Buffer, PackedDriver, Registers, Shot},
};
use virtside_tests::{
    BASE, DATA, TestEngine, TestRam, engine_over,
    hooks::{Log, Touch},
    ram,
    rings::{Plan, RecordingModel, settle},
};

use crate::PACKED;

const SIZE: u16 = 16;
const TABLE: u64 = DATA + 0x8000;
/// The driver event suppression structure; the device's follows it.
const EVENTS: u64 = BASE + 16 * SIZE as u64;

/// A live device that fills each buffer, in memory without a zero behind the ring.
fn live<M: DriverMem>(
    mem: M,
    ram: TestRam,
    features: Features,
) -> (TestEngine<RecordingModel, M>, PackedDriver<FlatMem>) {
    let engine = engine_over(RecordingModel::new(Plan::Fill(0xa5)), mem, 4);
    let mut engine = engine.with_offer(Offer::AS_IS.with(Features::RING_PACKED));
    let driver = PackedDriver::new(ram.flat(BASE), BASE, SIZE);
    driver.write(EVENTS + 8, &[0x77; 0x3_0000]);
    assert!(engine.bring_up(PACKED | features, &[driver.config(0)]));
    settle(&mut engine);
    (engine, driver)
}

fn buffers() -> [Buffer; 3] {
    [
        Buffer::readable(DATA, 64),
        Buffer::writable(DATA + 0x400, 5),
        Buffer::writable(DATA + 0x600, 64),
    ]
}

#[test]
fn only_used_descriptors_events_and_writable_buffers_change() {
    for features in [
        Features::INDIRECT_DESC,
        Features::RING.difference(Features::VERSION_1),
    ] {
        let ram = ram();
        let (mut engine, mut driver) = live(ram.flat(BASE), ram, features);
        driver.set_suppression(0, 0);
        driver.send(7, &buffers());
        driver.send(8, &buffers()[..1]);
        driver.send_indirect(9, TABLE, &buffers(), 0);
        let before = Shot::of(ram, BASE);
        let _ = engine.kick(0);
        settle(&mut engine);
        assert_eq!(engine.driver_fault(0), None);
        // The first descriptor of each chain, from its length field on: slots 0, 3 and 4.
        before.assert_only_changed(&[
            (BASE + 8, 8),
            (BASE + 3 * 16 + 8, 8),
            (BASE + 4 * 16 + 8, 8),
            (EVENTS + 4, 4),
            (DATA + 0x400, 5),
            (DATA + 0x600, 64),
        ]);
        for place in [BASE + 8, DATA + 0x400, DATA + 0x63f] {
            let changed = before.changes().any(|range| range.contains(&place));
            assert!(changed, "{place:#x}");
        }
    }
}

#[test]
fn a_used_descriptor_stays_as_it_is_while_later_ones_are_used() {
    let ram = ram();
    let (mut engine, mut driver) = live(ram.flat(BASE), ram, Features::empty());
    let slots = |from: usize| {
        let mut bytes = [0; 16 * SIZE as usize];
        ram.read(0, &mut bytes);
        bytes[..16 * from].to_vec()
    };
    let mut so_far = slots(0);
    for id in 0..SIZE {
        driver.send(id, &buffers()[1..2]);
        let _ = engine.kick(0);
        settle(&mut engine);
        let used = usize::from(id);
        assert_eq!(slots(used), so_far, "before slot {used}");
        so_far = slots(used + 1);
    }
    for id in 0..SIZE {
        assert_eq!(driver.take_used(1), Some((id, 5, true)));
    }
}

#[test]
fn writable_buffers_are_not_read_and_readable_ones_not_written() {
    let (ram, log) = (ram(), Log::default());
    let mem = ram.flat(BASE).with_hooks(log.hook());
    let (mut engine, mut driver) = live(mem, ram, Features::INDIRECT_DESC);
    driver.send(1, &buffers());
    driver.send_indirect(2, TABLE, &buffers(), 0);
    log.take();
    let _ = engine.kick(0);
    settle(&mut engine);
    assert!(driver.take_used(3).is_some() && driver.take_used(1).is_some());
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for touch in log.take() {
        match touch {
            Touch::Read(start, _) => reads.push(start),
            Touch::Write(start, _) => writes.push(start),
        }
    }
    assert!(reads.contains(&DATA) && reads.contains(&TABLE));
    let writable = DATA + 0x400..DATA + 0x700;
    assert!(
        !reads.iter().any(|start| writable.contains(start)),
        "{reads:x?}"
    );
    assert!(writes.contains(&(DATA + 0x400)));
    let others = DATA..DATA + 0x400;
    assert!(
        !writes.iter().any(|start| others.contains(start)),
        "{writes:x?}"
    );
    assert!(
        !writes
            .iter()
            .any(|start| (TABLE..TABLE + 0x100).contains(start))
    );
}

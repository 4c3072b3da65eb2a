//! The device writes only the used ring and writable buffers.

use virtside::{
    Features, Step,
    testing::{Buffer, Layout, Registers},
};
use virtside_tests::{
    BASE, DATA, SIZE,
    hooks::{Log, Touch},
    ram, reg,
    rings::{Plan, RecordingRig, changes},
};

const TABLE: u64 = DATA + 0x8000;

/// Offsets of a range of driver addresses.
fn offsets(start: u64, len: u64) -> std::ops::Range<usize> {
    let start = (start - BASE) as usize;
    start..start + len as usize
}

/// A rig without a zero in memory, so that a written zero shows, too.
fn rig(features: Features) -> RecordingRig {
    let ram = ram();
    let layout = Layout::packed_at(BASE + 0x100, SIZE);
    let rig = RecordingRig::at(ram.flat(BASE), ram, features, layout);
    rig.driver.write(BASE, &[0x77; 0x100]);
    rig.driver.write(layout.end(), &[0x77; 0x3_0000]);
    rig
}

/// Sends chains of all kinds; returns the offsets that changed.
fn work(rig: &mut RecordingRig) -> Vec<usize> {
    let buffers = [
        Buffer::readable(DATA, 64),
        Buffer::readable(DATA + 0x200, 3),
        Buffer::writable(DATA + 0x400, 5),
        Buffer::writable(DATA + 0x600, 64),
    ];
    rig.driver.write_chain(0, &buffers);
    rig.driver.write_chain(4, &buffers[..2]);
    rig.driver.write_indirect(6, TABLE, &buffers);
    for head in [6, 4, 0] {
        rig.driver.offer(head);
    }
    rig.driver.publish();
    let before = rig.shot();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.fault(), None);
    changes(&before, &rig.shot())
}

#[test]
fn only_the_used_ring_and_writable_buffers_change() {
    for features in [
        Features::INDIRECT_DESC,
        Features::INDIRECT_DESC | Features::EVENT_IDX,
    ] {
        let mut rig = rig(features);
        let ring = rig.driver.layout().device;
        let event_idx = features.contains(Features::EVENT_IDX);
        // The index and three elements; with EVENT_IDX also `avail_event` behind all elements.
        let mut allowed = vec![
            offsets(ring + 2, 2 + 3 * 8),
            offsets(DATA + 0x400, 5),
            offsets(DATA + 0x600, 64),
        ];
        if event_idx {
            allowed.push(offsets(ring + 4 + 8 * u64::from(SIZE), 2));
        }
        let changed = work(&mut rig);
        for at in &changed {
            let good = allowed.iter().any(|range| range.contains(at));
            assert!(good, "byte {at:#x} changed");
        }
        for place in [DATA + 0x400, DATA + 0x604, DATA + 0x63f] {
            assert!(
                changed.contains(&((place - BASE) as usize)),
                "{place:#x} was filled"
            );
        }
    }
}

#[test]
fn a_device_that_writes_nothing_changes_only_the_used_ring() {
    let mut rig = rig(Features::INDIRECT_DESC);
    rig.engine.model_mut().plan = Plan::Claim(0);
    let used = offsets(rig.driver.layout().device, 6 + 8 * u64::from(SIZE));
    let changed = work(&mut rig);
    assert!(
        !changed.is_empty() && changed.iter().all(|at| used.contains(at)),
        "{changed:x?}"
    );
}

#[test]
fn writable_buffers_are_not_read() {
    let (ram, log) = (ram(), Log::default());
    let mem = ram.flat(BASE).with_hooks(log.hook());
    let mut rig = RecordingRig::over(mem, ram, Features::INDIRECT_DESC, SIZE);
    rig.driver.write_indirect(
        0,
        TABLE,
        &[Buffer::writable(DATA, 64), Buffer::writable(DATA, 9)],
    );
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    let reads: Vec<u64> = log
        .take()
        .iter()
        .filter_map(|touch| match touch {
            Touch::Read(start, _) => Some(*start),
            Touch::Write(..) => None,
        })
        .collect();
    assert!(reads.contains(&TABLE));
    assert!(
        reads.iter().all(|start| !(DATA..DATA + 64).contains(start)),
        "{reads:x?}"
    );
}

#[test]
fn rings_are_not_touched_before_driver_ok_nor_after_reset() {
    let (ram, log) = (ram(), Log::default());
    let mem = ram.flat(BASE).with_hooks(log.hook());
    let mut rig = RecordingRig::over(mem, ram, Features::empty(), SIZE);
    rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
    assert_eq!(rig.engine.store(reg::STATUS, 0).value(), Some(0));
    log.take();
    rig.poll();
    assert!(rig.engine.negotiate(Features::VERSION_1));
    let config = rig.driver.config(0);
    assert_eq!(rig.engine.configure(&config).refusal(), None);
    let _ = rig.engine.kick(0);
    rig.poll();
    assert_eq!(log.take(), []);
    assert_eq!(rig.engine.go_live().value(), Some(0));
    rig.poll();
    assert!(!log.take().is_empty());
    assert_eq!(rig.driver.used_idx(), 1);
}

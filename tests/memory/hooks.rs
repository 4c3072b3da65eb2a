//! Memory hooks are called for every access, with driver addresses.

use virtside::{
    DriverMem, Features, Step,
    memory::{Permission, RegionMem},
    testing::Buffer,
};
use virtside_tests::{
    BASE, DATA, SIZE,
    hooks::{Log, Touch},
    ram,
    rings::{RecordingRig, region},
};

const TABLE: u64 = DATA + 0x8000;

/// The memory accesses that one kick makes a device do.
fn touches<M: DriverMem>(rig: &mut RecordingRig<M>, log: &Log) -> Vec<Touch> {
    log.take();
    assert_eq!(rig.kick(), Step::Idle);
    log.take()
}

fn rig(features: Features) -> (RecordingRig<impl DriverMem>, Log) {
    let (ram, log) = (ram(), Log::default());
    let mem = ram.flat(BASE).with_hooks(log.hook());
    let rig = RecordingRig::over(mem, ram, features, SIZE);
    (rig, log)
}

#[test]
fn hooks_run_before_buffer_reads_and_after_writes() {
    let (mut rig, log) = rig(Features::empty());
    let buffers = [
        Buffer::readable(DATA + 1, 5),
        Buffer::readable(DATA + 0x40, 0),
        Buffer::readable(DATA + 0x80, 100),
        Buffer::writable(DATA + 0x203, 33),
        Buffer::writable(DATA + 0x400, 1),
    ];
    rig.driver.send(0, &buffers);
    let touches = touches(&mut rig, &log);
    let data: Vec<Touch> = touches
        .into_iter()
        .filter(|touch| match touch {
            Touch::Read(start, _) | Touch::Write(start, _) => *start >= DATA,
        })
        .collect();
    let expected = [
        Touch::Read(DATA + 1, 5),
        Touch::Read(DATA + 0x80, 100),
        Touch::Write(DATA + 0x203, 33),
        Touch::Write(DATA + 0x400, 1),
    ];
    assert_eq!(data, expected);
}

#[test]
fn hooks_run_for_every_ring_access() {
    for (features, event_idx) in [(Features::empty(), false), (Features::EVENT_IDX, true)] {
        let (mut rig, log) = rig(features);
        let layout = *rig.driver.layout();
        rig.driver
            .write_chain(3, &[Buffer::readable(DATA, 1), Buffer::writable(DATA, 1)]);
        rig.driver.offer(3);
        rig.driver.publish();
        let touches = touches(&mut rig, &log);
        let mut expected = vec![
            Touch::Read(layout.driver + 2, 2),
            Touch::Read(layout.driver + 4, 2),
            Touch::Read(layout.desc + 3 * 16, 16),
            Touch::Read(layout.desc + 4 * 16, 16),
            Touch::Write(layout.device + 4, 8),
            Touch::Write(layout.device + 2, 2),
        ];
        if event_idx {
            expected.push(Touch::Read(layout.driver + 4 + 2 * 16, 2));
            expected.push(Touch::Write(layout.device + 4 + 8 * 16, 2));
        } else {
            expected.push(Touch::Read(layout.driver, 2));
        }
        for touch in &expected {
            assert!(touches.contains(touch), "{touch:x?} is not in {touches:x?}");
        }
        // No other accesses, except those to the buffers and repeated loads of the index.
        for touch in &touches {
            let data = matches!(touch, Touch::Read(DATA, 1) | Touch::Write(DATA, 1));
            assert!(data || expected.contains(touch), "{touch:x?}");
        }
    }
}

#[test]
fn hooks_run_for_writes_of_the_used_flags() {
    let (mut rig, log) = rig(Features::empty());
    let flags = Touch::Write(rig.driver.layout().device, 2);
    assert!(log.take().contains(&flags), "at DRIVER_OK");
    for head in 0..2 {
        rig.driver.send(head, &[Buffer::writable(DATA, 1)]);
    }
    assert_eq!(rig.engine.poll(1), Step::More);
    assert!(log.take().contains(&flags), "kicks off");
    assert_eq!(rig.engine.poll(9), Step::Idle);
    assert!(log.take().contains(&flags), "kicks on");
}

#[test]
fn a_hook_runs_before_an_indirect_table_is_read() {
    let (mut rig, log) = rig(Features::INDIRECT_DESC);
    rig.driver
        .write_indirect(0, TABLE + 5, &[Buffer::writable(DATA, 1); 3]);
    rig.driver.offer(0);
    rig.driver.publish();
    let touches = touches(&mut rig, &log);
    let table: Vec<_> = touches
        .iter()
        .filter(|touch| matches!(touch, Touch::Read(start, _) if *start >= TABLE))
        .collect();
    assert_eq!(table, [&Touch::Read(TABLE + 5, 48)]);
}

#[test]
fn hooks_run_for_each_piece_of_a_buffer_over_two_regions() {
    let (ram, log) = (ram(), Log::default());
    let border = (DATA - BASE) as usize;
    let mut mem = RegionMem::<2>::new();
    assert!(
        mem.add(region(BASE, ram, 0, border, Permission::Write))
            .is_ok()
    );
    assert!(
        mem.add(region(DATA, ram, border, 0x1000, Permission::Write))
            .is_ok()
    );
    let mut rig = RecordingRig::over(mem.with_hooks(log.hook()), ram, Features::empty(), SIZE);
    let buffers = [
        Buffer::readable(DATA - 3, 8),
        Buffer::writable(DATA - 10, 17),
    ];
    rig.driver.send(0, &buffers);
    let touches = touches(&mut rig, &log);
    for touch in [
        Touch::Read(DATA - 3, 3),
        Touch::Read(DATA, 5),
        Touch::Write(DATA - 10, 10),
        Touch::Write(DATA, 7),
    ] {
        assert!(
            touches.contains(&touch),
            "{touch:x?} is not in {touches:x?}"
        );
    }
    assert_eq!(rig.driver.take_used(), Some((0, 17)));
}

//! Memory that changes while the device reads it, and buffers that overlap the rings.

use virtside::{
    DriverFault, Features, Step,
    device::QueueState,
    testing::{Buffer, Layout, Registers, Shift, ShiftingMem},
};
use virtside_tests::{
    BASE, BYTES, DATA, SIZE, TestRam, config, driver, ram,
    random::Random,
    rings::{Plan, RecordingModel, RecordingRig, changes, settle, shot},
    test_engine,
};

use super::reference::{Reference, Seen};

/// The table is at an address that [`Shift`] can change.
const TABLE: u64 = BASE + 0x4000;

/// Writes the two chains of these tests: a direct one, and one that ends in a table.
fn write_chains(rig: &RecordingRig<impl virtside::DriverMem>) {
    rig.driver.write(DATA, b"0123456789abcdef");
    let (sent, room) = (
        Buffer::readable(DATA + 2, 5),
        Buffer::writable(DATA + 0x100, 7),
    );
    rig.driver
        .write_chain(2, &[Buffer::readable(DATA, 3), sent, room]);
    rig.driver
        .write_chain(6, &[Buffer::readable(DATA + 9, 2), sent]);
    rig.driver
        .write_indirect(7, TABLE, &[sent, room, Buffer::writable(DATA + 0x200, 9)]);
}

/// The result of a run: memory, the requests that the model saw, and the fault.
#[derive(Debug, PartialEq)]
struct Outcome {
    mem: Vec<u8>,
    seen: Vec<Seen>,
    fault: Option<DriverFault>,
}

/// The expected result for memory with these contents from the start.
fn expected(mem: Vec<u8>, layout: Layout) -> Outcome {
    let mut reference = Reference::new(mem, layout, Features::INDIRECT_DESC, 4);
    reference.poll(100);
    let Reference {
        mem, seen, fault, ..
    } = reference;
    Outcome { mem, seen, fault }
}

/// The result if one byte changes to `value` just before the device's `load`th load.
fn changed_in_flight(ram: TestRam, head: u16, at: u16, value: u8, load: usize) -> Outcome {
    let mut script = [0, 0x80, 0].repeat(load);
    let [low, high] = at.to_le_bytes();
    script.extend([low, high, value]);
    let script: &'static [u8] = Box::leak(script.into_boxed_slice());
    let shift: &'static Shift<'static> = Box::leak(Box::new(Shift::new(script, BASE)));
    let mem = ShiftingMem::new(ram.flat(BASE), shift);
    ram.write(0, &[0; BYTES]);
    let mut rig = RecordingRig::over(mem, ram, Features::INDIRECT_DESC, SIZE);
    write_chains(&rig);
    rig.driver.offer(head);
    rig.driver.publish();
    rig.kick();
    let ours = rig.engine.take_host_fault();
    assert_eq!(
        ours, None,
        "an unchecked address was used: byte {at:#x} to {value:#x}"
    );
    let seen = rig.engine.model().seen.iter();
    Outcome {
        mem: rig.shot(),
        seen: seen
            .map(|seen| (seen.head, seen.sent.clone(), seen.room))
            .collect(),
        fault: rig.fault(),
    }
}

/// Checks that a single change at any moment leads to the result for the memory before it or for
/// the memory after it: the device uses only values that it has checked.
fn check_changes(head: u16, bytes: impl Iterator<Item = u16>) {
    const LOADS: usize = 14;
    let ram = ram();
    let rig = RecordingRig::over(ram.flat(BASE), ram, Features::INDIRECT_DESC, SIZE);
    write_chains(&rig);
    let mut driver = rig.driver.clone();
    driver.offer(head);
    driver.publish();
    let (before, layout) = (shot(ram), *driver.layout());
    let unchanged = expected(before.clone(), layout);
    let mut differed = 0;
    for at in bytes {
        let index = usize::from(at);
        let old = before[index];
        for value in [0, 0xff, old ^ 1, old ^ 2, old ^ 4] {
            let mut after = before.clone();
            after[index] = value;
            let changed = expected(after, layout);
            for load in 0..LOADS {
                let outcome = changed_in_flight(ram, head, at, value, load);
                let mut late = Outcome {
                    mem: unchanged.mem.clone(),
                    ..outcome
                };
                late.mem[index] = outcome.mem[index];
                let early = outcome.mem == changed.mem
                    && late.seen == changed.seen
                    && late.fault == changed.fault;
                let untouched = outcome.mem == late.mem
                    && late.seen == unchanged.seen
                    && late.fault == unchanged.fault;
                assert!(
                    early || untouched,
                    "byte {at:#x} to {value:#x} before load {load}: {:?}, {} seen, {:x?}",
                    late.fault,
                    late.seen.len(),
                    changes(&unchanged.mem, &outcome.mem),
                );
                differed += u32::from(early && !untouched);
            }
        }
    }
    assert!(differed > 0, "no change had an effect");
}

#[test]
fn a_changing_descriptor_is_the_old_or_the_new() {
    check_changes(2, 0x20..0x50);
}

#[test]
fn a_changing_table_reference_is_the_old_or_the_new() {
    check_changes(6, 0x60..0x80);
}

#[test]
fn a_changing_table_is_the_old_or_the_new() {
    let table = (TABLE - BASE) as u16;
    check_changes(6, table..table + 48);
}

#[test]
fn a_changing_available_entry_is_the_old_or_the_new() {
    let entry = (Layout::packed_at(BASE, SIZE).driver - BASE) as u16 + 4;
    check_changes(2, entry..entry + 2);
}

/// Covers the rings and a table that is read later with writable buffers.
#[test]
fn a_writable_buffer_over_the_rings_does_no_harm() {
    let layout = Layout::packed_at(BASE, SIZE);
    let areas = [
        (layout.desc, 256),
        (layout.driver, 38),
        (layout.device, 134),
        (layout.desc, 0x1000),
        (layout.driver + 2, 2),
        (layout.device + 2, 2),
    ];
    for (addr, len) in areas {
        for fill in [0, 1, 2, 7, 0x10, 0x80, 0xff] {
            for indirect in [false, true] {
                let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(fill)), 4);
                let features = Features::VERSION_1 | Features::INDIRECT_DESC;
                assert!(engine.bring_up(features, &[config(0), config(1)]));
                let mut first = driver(ram, 0);
                let buffers = [Buffer::writable(addr, len), Buffer::writable(DATA, 8)];
                for head in [0, 4, 8] {
                    if indirect {
                        first.write_indirect(head, layout.desc + 0x40, &buffers);
                    } else {
                        first.write_chain(head, &buffers);
                    }
                    first.offer(head);
                }
                first.publish();
                let outside = (layout.desc - BASE) as usize + 0x1000;
                let before = shot(ram);
                for _ in 0..50 {
                    let _ = engine.kick(0);
                    let _ = engine.poll(20);
                }
                let after = shot(ram);
                let data = (DATA - BASE) as usize;
                let mut touched = changes(&before[outside..], &after[outside..]).into_iter();
                assert!(touched.all(|at| (data..data + 8).contains(&(at + outside))));
                let failed = engine.driver_fault(0).is_some();
                assert_eq!(failed, engine.queue_state(0) == QueueState::Failed);

                // The other queue works, and after a reset this queue does, too.
                let mut second = driver(ram, 1);
                second.send(0, &[Buffer::writable(DATA, 3)]);
                let _ = engine.kick(1);
                let _ = engine.poll(20);
                assert_eq!(second.take_used(), Some((0, 3)));
                let mut first = driver(ram, 0);
                assert!(engine.bring_up(features, &[config(0)]));
                first.send(5, &[Buffer::writable(DATA, 4)]);
                let _ = engine.kick(0);
                assert_eq!(settle(&mut engine), Step::Idle);
                assert_eq!(first.take_used(), Some((5, 4)));
            }
        }
    }
}

#[test]
fn a_readable_buffer_may_be_the_rings_themselves() {
    let mut rig = RecordingRig::new(Features::empty());
    let layout = *rig.driver.layout();
    rig.driver.send(
        0,
        &[
            Buffer::readable(layout.desc, 16),
            Buffer::readable(layout.driver, 6),
        ],
    );
    assert_eq!(rig.kick(), Step::Idle);
    let mut desc = [0; 16];
    rig.driver.read(layout.desc, &mut desc);
    assert_eq!(rig.last().sent, [&desc[..], &[0, 0, 1, 0, 0, 0]].concat());
}

#[test]
fn readable_and_writable_buffers_may_be_the_same_memory() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write(DATA, b"same");
    rig.driver
        .send(0, &[Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.last().sent, b"same");
    let mut bytes = [0; 4];
    rig.driver.read(DATA, &mut bytes);
    assert_eq!(bytes, [0xa5; 4]);
}

/// Many changes during many loads: there is no expected result, but the device must not use an
/// unchecked address.
#[test]
fn many_changes_lead_to_no_unchecked_address() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut served, mut faults) = (0, 0);
    let ram = ram();
    for _ in 0..300 {
        let script: Vec<u8> = (0..300)
            .flat_map(|_| {
                let at = if random.once_in(2) {
                    random.below(0x100)
                } else {
                    0x4000 + random.below(48)
                };
                let quiet = if random.once_in(4) { 0 } else { 0x80 };
                [at as u8, (at >> 8) as u8 | quiet, random.word() as u8]
            })
            .collect();
        let script: &'static [u8] = Box::leak(script.into_boxed_slice());
        let shift: &'static Shift<'static> = Box::leak(Box::new(Shift::new(script, BASE)));
        let mem = ShiftingMem::new(ram.flat(BASE), shift);
        let mut rig = RecordingRig::over(mem, ram, Features::INDIRECT_DESC, SIZE);
        for _ in 0..8 {
            write_chains(&rig);
            rig.driver.offer(2);
            rig.driver.offer(6);
            rig.driver.publish();
            rig.kick();
            assert_eq!(rig.engine.take_host_fault(), None);
        }
        served += rig.engine.counters().chains;
        faults += u32::from(rig.fault().is_some());
    }
    assert!(
        served > 100 && faults > 100,
        "{served} served, {faults} faults"
    );
}

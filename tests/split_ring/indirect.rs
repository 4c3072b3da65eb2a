//! Indirect tables at every legal address and of every legal shape.

use virtside::{
    Features, Step,
    memory::{Permission, RegionMem},
    testing::{Buffer, INDIRECT, Layout, NEXT, Shot, WRITE},
};
use virtside_tests::{
    BASE, DATA, SIZE, TestRam, ram,
    rings::{RecordingRig, region},
};

/// Address of the tables.
const TABLE: u64 = DATA + 0x8000;

fn rig() -> RecordingRig {
    let rig = RecordingRig::new(Features::INDIRECT_DESC);
    rig.driver.write(DATA, b"abcdefghijklmnop");
    rig
}

/// `count` readable buffers of one byte each.
fn letters(from: u64, count: u64) -> Vec<Buffer> {
    (from..from + count)
        .map(|at| Buffer::readable(DATA + at, 1))
        .collect()
}

/// `count` writable buffers of 2 bytes each.
fn rooms(count: u64) -> Vec<Buffer> {
    (0..count)
        .map(|at| Buffer::writable(DATA + 0x100 + 8 * at, 2))
        .collect()
}

fn go(rig: &mut RecordingRig, head: u16) {
    rig.driver.offer(head);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.fault(), None);
}

#[test]
fn a_whole_chain_may_be_in_a_table() {
    for count in 1..=SIZE.into() {
        for readable in 0..=count {
            let mut rig = rig();
            let buffers = [letters(0, readable), rooms(count - readable)].concat();
            rig.driver.write_indirect(7, TABLE, &buffers);
            go(&mut rig, 7);
            assert_eq!(rig.last().sent, b"abcdefghijklmnop"[..readable as usize]);
            let room = 2 * (count - readable) as u32;
            assert_eq!(rig.driver.take_used(), Some((7, room)));
        }
    }
}

#[test]
fn a_table_may_end_a_chain_of_any_number_of_direct_descriptors() {
    for direct in 0..SIZE {
        for indirect in 1..=SIZE - direct {
            let mut rig = rig();
            // The direct descriptors start at 3 and wrap at the end of the table.
            let place = |at: u16| (3 + at) % SIZE;
            for at in 0..direct {
                rig.driver
                    .write_desc(place(at), (DATA + u64::from(at), 1), NEXT, place(at + 1));
            }
            let rest = [letters(direct.into(), u64::from(indirect) - 1), rooms(1)].concat();
            rig.driver.write_indirect(place(direct), TABLE, &rest);
            go(&mut rig, 3);
            let sent = usize::from(direct + indirect - 1);
            assert_eq!(rig.last().sent, b"abcdefghijklmnop"[..sent]);
            assert_eq!(rig.driver.take_used(), Some((3, 2)));
        }
    }
}

#[test]
fn a_small_queue_may_have_large_tables() {
    for size in [1, 2, 8] {
        for direct in 0..size {
            let mut rig = RecordingRig::sized(Features::INDIRECT_DESC, size);
            rig.driver.write(DATA, b"abcdefghijklmnop");
            for at in 0..direct {
                let next = (at + 1) % size;
                rig.driver
                    .write_desc(at, (DATA + u64::from(at), 1), NEXT, next);
            }
            // As many entries as a queue of the device's largest size would have.
            let rest = u64::from(SIZE - direct) - 1;
            let buffers = [letters(direct.into(), rest), rooms(1)].concat();
            rig.driver.write_indirect(direct, TABLE, &buffers);
            go(&mut rig, 0);
            assert_eq!(rig.last().sent, b"abcdefghijklmnop"[..15]);
            assert_eq!(rig.driver.take_used(), Some((0, 2)));
        }
    }
}

#[test]
fn a_table_may_continue_the_writable_part_of_a_chain() {
    let mut rig = rig();
    rig.driver.write_desc(0, (DATA, 2), NEXT, 1);
    rig.driver.write_desc(1, (DATA + 0x200, 5), NEXT | WRITE, 2);
    rig.driver.write_indirect(2, TABLE, &rooms(2));
    go(&mut rig, 0);
    assert_eq!(
        (rig.last().sent.as_slice(), rig.last().room),
        (&b"ab"[..], 9)
    );
    assert_eq!(rig.driver.take_used(), Some((0, 9)));
}

#[test]
fn write_on_a_table_reference_has_no_meaning() {
    for direct in [vec![], letters(0, 1), rooms(1)] {
        let mut rig = rig();
        let start = direct.len() as u16;
        rig.driver
            .write_chain(0, &[direct.clone(), rooms(1)].concat());
        rig.driver.write_indirect(start, TABLE, &rooms(1));
        rig.driver
            .write_desc(start, (TABLE, 16), INDIRECT | WRITE, 0);
        go(&mut rig, 0);
        let before = direct.iter().filter(|buffer| buffer.writable).count() as u32;
        assert_eq!(rig.driver.take_used(), Some((0, 2 * (before + 1))));
    }
    // A table of readable buffers stays readable.
    let mut rig = rig();
    rig.driver.write_indirect(0, TABLE, &letters(0, 3));
    rig.driver.write_desc(0, (TABLE, 48), INDIRECT | WRITE, 0);
    go(&mut rig, 0);
    assert_eq!(
        (rig.last().sent.as_slice(), rig.last().room),
        (&b"abc"[..], 0)
    );
}

#[test]
fn a_table_may_be_at_any_address() {
    for shift in 0..17 {
        let mut rig = rig();
        rig.driver
            .write_indirect(1, TABLE + shift, &[letters(0, 3), rooms(2)].concat());
        go(&mut rig, 1);
        assert_eq!(rig.last().sent, b"abc");
        assert_eq!(rig.driver.take_used(), Some((1, 4)));
    }
}

#[test]
fn a_table_may_be_linked_in_any_order_with_entries_left_out() {
    let mut rig = rig();
    let desc = |at: u64| TABLE + 16 * at;
    rig.driver.write_desc_at(desc(0), (DATA, 1), NEXT, 4);
    rig.driver.write_desc_at(desc(4), (DATA + 4, 1), NEXT, 2);
    rig.driver.write_desc_at(desc(2), (DATA + 2, 1), NEXT, 1);
    rig.driver
        .write_desc_at(desc(1), (DATA + 0x100, 6), WRITE, 3);
    // Descriptor 3 is no part of the chain, so its contents are ignored.
    rig.driver
        .write_desc_at(desc(3), (0, u32::MAX), NEXT | INDIRECT, 99);
    rig.driver.write_desc(9, (TABLE, 80), INDIRECT, 0);
    go(&mut rig, 9);
    assert_eq!(rig.last().sent, b"aec");
    assert_eq!(rig.driver.take_used(), Some((9, 6)));
}

#[test]
fn zero_length_descriptors_may_be_in_a_table() {
    let mut rig = rig();
    let buffers = [
        Buffer::readable(0, 0),
        Buffer::readable(DATA, 2),
        Buffer::readable(u64::MAX, 0),
        Buffer::writable(1, 0),
        Buffer::writable(DATA + 0x100, 3),
        Buffer::writable(0, 0),
    ];
    rig.driver.write_indirect(0, TABLE, &buffers);
    go(&mut rig, 0);
    assert_eq!(
        (rig.last().sent.as_slice(), rig.last().room),
        (&b"ab"[..], 3)
    );
}

#[test]
fn the_device_writes_to_no_table() {
    let mut rig = rig();
    rig.driver.write_desc(5, (DATA, 1), NEXT, 6);
    rig.driver
        .write_indirect(6, TABLE + 1, &[letters(1, 2), rooms(3)].concat());
    let before = Shot::of(rig.ram, BASE);
    go(&mut rig, 5);
    // Neither the descriptors nor the indirect table change.
    before.assert_only_changed(&[(BASE + 256, TABLE - BASE - 256)]);
    assert_eq!(rig.driver.take_used(), Some((5, 6)));
}

/// The test memory as two adjacent regions, of which the second begins at offset `border`.
fn split_memory(ram: TestRam, border: usize) -> RegionMem<2> {
    let mut mem = RegionMem::new();
    let end = virtside_tests::BYTES;
    // The second region is added first: the order must not matter to a look-up.
    let tail = region(
        BASE + border as u64,
        ram,
        border,
        end - border,
        Permission::Write,
    );
    let head = region(BASE, ram, 0, border, Permission::Write);
    assert!(mem.add(tail).is_ok() && mem.add(head).is_ok());
    mem
}

#[test]
fn a_table_may_span_two_adjacent_regions() {
    let buffers = [letters(0, 3), rooms(3)].concat();
    // The border is at every byte of the table, and beyond both ends.
    for border in 0..=96 + 2 {
        let ram = ram();
        let table = TABLE - border;
        let mem = split_memory(ram, (TABLE - BASE) as usize);
        let layout = Layout::packed_at(BASE, SIZE);
        let mut rig = RecordingRig::at(mem, ram, Features::INDIRECT_DESC, layout);
        rig.driver.write(DATA, b"abc");
        rig.driver.write_indirect(2, table, &buffers);
        rig.driver.offer(2);
        rig.driver.publish();
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.fault(), None);
        assert_eq!(rig.last().sent, b"abc", "border at byte {border}");
        assert_eq!(rig.driver.take_used(), Some((2, 6)));
    }
}

#[test]
fn a_table_may_be_in_memory_that_the_device_cannot_write_to() {
    let ram = ram();
    let mut mem = RegionMem::<2>::new();
    let half = virtside_tests::BYTES / 2;
    let writable = region(BASE, ram, 0, half, Permission::Write);
    let read_only = region(BASE + half as u64, ram, half, half, Permission::Read);
    assert!(mem.add(writable).is_ok() && mem.add(read_only).is_ok());
    let mut rig = RecordingRig::over(mem, ram, Features::INDIRECT_DESC, SIZE);
    let table = BASE + half as u64;
    rig.driver.write_indirect(
        0,
        table,
        &[vec![Buffer::readable(table, 16)], rooms(1)].concat(),
    );
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.last().sent.len(), 16);
    assert_eq!(rig.driver.take_used(), Some((0, 2)));
}

#[test]
fn direct_and_indirect_chains_may_be_mixed_in_one_batch() {
    let mut rig = rig();
    for head in 0..4 {
        rig.driver
            .write_chain(head, &[Buffer::writable(DATA + 0x100, 1)]);
    }
    for head in 4..8u16 {
        rig.driver
            .write_indirect(head, TABLE + 64 * u64::from(head), &rooms(2));
    }
    for head in [4, 0, 5, 1, 6, 2, 7, 3] {
        rig.driver.offer(head);
    }
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    for (head, len) in [
        (4, 4),
        (0, 1),
        (5, 4),
        (1, 1),
        (6, 4),
        (2, 1),
        (7, 4),
        (3, 1),
    ] {
        assert_eq!(rig.driver.take_used(), Some((head, len)));
    }
}

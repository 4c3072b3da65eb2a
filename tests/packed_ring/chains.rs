//! Chains that the device takes from a packed ring.

use virtside::{
    Features,
    queue::Segment,
    testing::{AVAIL, Buffer, NEXT, PackedDriver, USED, WRITE},
};
use virtside_tests::{DATA, TestRam};

use crate::rig;

type Driver = PackedDriver<virtside::FlatMem>;

#[test]
fn chains_come_in_ring_order_readable_before_writable() {
    let mut rig = rig(Features::empty(), 8);
    let buffers = [
        Buffer::readable(DATA, 1),
        Buffer::readable(DATA + 16, 2),
        Buffer::writable(DATA + 32, 3),
    ];
    rig.driver.send(7, &buffers);
    rig.driver.send(2, &buffers[2..]);
    assert_eq!(rig.pop(), Some(7));
    let segment = |addr, len| Segment { addr, len };
    let readable = [segment(DATA, 1), segment(DATA + 16, 2)];
    assert_eq!(rig.chain.readable_segments(), readable);
    assert_eq!(rig.chain.writable_segments(), [segment(DATA + 32, 3)]);
    assert_eq!((rig.chain.readable_len(), rig.chain.writable_len()), (3, 3));
    assert_eq!(rig.pop(), Some(2));
    assert_eq!(rig.pop(), None);
    assert_eq!(rig.queue.in_flight(), 2);
}

#[test]
fn the_id_of_a_chain_is_that_of_its_last_descriptor() {
    let mut rig = rig(Features::empty(), 4);
    let avail = Driver::available(true);
    rig.driver.write_desc(1, (DATA, 4), 0xbeef, avail | WRITE);
    rig.driver.write_desc(0, (DATA, 4), 0x1111, avail | NEXT);
    assert_eq!(rig.pop(), Some(0xbeef));
}

#[test]
fn only_flags_of_the_present_round_make_a_descriptor_available() {
    for (flags, there) in [
        (0, false),
        (AVAIL, true),
        (USED, false),
        (AVAIL | USED, false),
    ] {
        let mut rig = rig(Features::empty(), 4);
        rig.driver.write_desc(0, (DATA, 4), 1, flags);
        assert_eq!(rig.pop().is_some(), there, "{flags:#x}");
    }
    // In the next round the flags have the opposite values.
    for (flags, there) in [
        (0, false),
        (AVAIL, false),
        (USED, true),
        (AVAIL | USED, false),
    ] {
        let mut rig = rig(Features::empty(), 1);
        rig.driver.send(0, &[Buffer::writable(DATA, 4)]);
        assert_eq!(rig.pop(), Some(0));
        rig.complete(0);
        rig.driver.write_desc(0, (DATA, 4), 1, flags);
        assert_eq!(rig.pop().is_some(), there, "{flags:#x}");
    }
}

#[test]
fn a_ring_of_any_size_wraps() {
    for size in 1..=16 {
        let mut rig = rig(Features::empty(), size);
        let buffers = [Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)];
        for round in 0..100u16 {
            // Chains of one and of two slots, so that some cross the end.
            let slots = 1 + (round % 2).min(size - 1);
            let id = round.wrapping_mul(7919);
            rig.driver.send(id, &buffers[..usize::from(slots)]);
            assert_eq!(rig.pop(), Some(id), "size {size}");
            assert_eq!(rig.chain.segments().len(), usize::from(slots));
            assert_eq!(rig.pop(), None);
            rig.complete(0);
            assert_eq!(rig.driver.take_used(slots), Some((id, 0, false)));
            assert_eq!(rig.driver.take_used(1), None);
        }
    }
}

#[test]
fn every_chain_of_a_full_ring_is_taken_once() {
    let mut rig = rig(Features::empty(), 5);
    for id in 0..5 {
        rig.driver.send(id, &[Buffer::writable(DATA, 1)]);
    }
    for id in 0..5 {
        assert_eq!(rig.pop(), Some(id));
    }
    assert_eq!(rig.pop(), None, "the first slot's flags are of this round");
    // A chain as long as the ring.
    let mut rig = crate::rig(Features::empty(), 5);
    rig.driver.send(9, &[Buffer::readable(DATA, 1); 5]);
    assert_eq!(rig.pop(), Some(9));
    assert_eq!(rig.chain.segments().len(), 5);
    assert_eq!(rig.pop(), None);
}

#[test]
fn a_popped_chain_is_a_copy() {
    let mut rig = rig(Features::empty(), 4);
    rig.driver.send(3, &[Buffer::writable(DATA, 4)]);
    assert_eq!(rig.pop(), Some(3));
    rig.driver.write_desc(0, (0, u32::MAX), 9, 0xffff);
    let (addr, len) = (DATA, 4);
    assert_eq!(rig.chain.segments(), [Segment { addr, len }]);
    rig.complete(4);
    assert_eq!(rig.driver.take_used(1), Some((3, 4, true)));
}

#[test]
fn in_an_indirect_table_only_write_has_a_meaning() {
    let mut rig = rig(Features::INDIRECT_DESC, 4);
    let buffers = [
        Buffer::readable(DATA, 1),
        Buffer::readable(DATA + 1, 2),
        Buffer::writable(DATA + 8, 3),
    ];
    // The driver's entries have NEXT and ids; beside INDIRECT, WRITE has no meaning.
    for flags in [0, WRITE] {
        rig.driver.send_indirect(6, DATA + 0x1000, &buffers, flags);
        assert_eq!(rig.pop(), Some(6));
        assert_eq!(rig.chain.readable_segments().len(), 2);
        assert_eq!(rig.chain.writable_segments().len(), 1);
        rig.complete(3);
        // The chain takes one slot, for a table of any length.
        assert_eq!(rig.driver.take_used(1), Some((6, 3, true)));
    }
}

#[test]
fn a_table_may_be_longer_than_the_ring() {
    let mut rig = rig(Features::INDIRECT_DESC, 1);
    let buffers = [Buffer::readable(DATA, 1); 16];
    rig.driver.send_indirect(6, DATA + 0x1000, &buffers, 0);
    assert_eq!(rig.pop(), Some(6));
    assert_eq!(rig.chain.segments().len(), 16);
}

#[test]
fn a_table_behind_a_chain_ends_the_chain() {
    let mut rig = rig(Features::INDIRECT_DESC, 4);
    let ram: TestRam = rig.ram;
    let table = DATA + 0x1000;
    let at = (table - virtside_tests::BASE) as usize;
    ram.write(at, &(DATA + 64).to_le_bytes());
    ram.write(at + 8, &9u32.to_le_bytes());
    ram.write(at + 14, &WRITE.to_le_bytes());
    let avail = Driver::available(true);
    let indirect = virtside::testing::INDIRECT;
    rig.driver.write_desc(1, (table, 16), 5, avail | indirect);
    rig.driver.write_desc(0, (DATA, 4), 5, avail | NEXT);
    assert_eq!(rig.pop(), Some(5));
    assert_eq!((rig.chain.readable_len(), rig.chain.writable_len()), (4, 9));
}

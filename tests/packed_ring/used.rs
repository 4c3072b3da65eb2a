//! Used descriptors that the device writes into a packed ring.

use virtside::{
    DriverFault, Features, HostFault, Refusal,
    error::DeviceError,
    testing::{Buffer, CountingMem, Counts},
};
use virtside_tests::{BASE, DATA, ram};

use crate::{over, rig};

#[test]
fn one_descriptor_gives_a_chain_back_and_no_other_slot_changes() {
    let mut rig = rig(Features::empty(), 8);
    let buffers = [
        Buffer::readable(DATA, 1),
        Buffer::readable(DATA, 2),
        Buffer::writable(DATA, 30),
    ];
    rig.driver.send(4, &buffers);
    let slots = |rig: &crate::PackedRig| {
        let mut bytes = [0; 8 * 16];
        rig.driver.read(BASE, &mut bytes);
        bytes
    };
    let before = slots(&rig);
    assert_eq!(rig.pop(), Some(4));
    assert_eq!(slots(&rig), before, "popping writes nothing");
    rig.complete(17);
    let after = slots(&rig);
    assert_eq!(after[16..], before[16..]);
    assert_eq!(after[..8], before[..8], "the address is unchanged");
    assert_eq!(rig.driver.take_used(3), Some((4, 17, true)));
    assert_eq!(rig.driver.take_used(1), None);
}

#[test]
fn write_is_set_exactly_when_something_was_written() {
    for (written, set) in [(0, false), (1, true), (8, true)] {
        let mut rig = rig(Features::empty(), 2);
        rig.driver.send(1, &[Buffer::writable(DATA, 8)]);
        assert_eq!(rig.pop(), Some(1));
        rig.complete(written);
        assert_eq!(rig.driver.take_used(1), Some((1, written, set)));
    }
}

#[test]
fn used_descriptors_come_in_the_order_of_completion() {
    let mut rig = rig(Features::empty(), 6);
    let mut chains = Vec::new();
    for (id, slots) in [(10, 1), (20, 2), (30, 3)] {
        rig.driver.send(id, &vec![Buffer::writable(DATA, 8); slots]);
        assert_eq!(rig.pop(), Some(id));
        chains.push(rig.chain.clone());
    }
    // Each used descriptor skips as many slots as its chain has.
    for (at, slots, id) in [(2, 3, 30), (0, 1, 10), (1, 2, 20)] {
        assert_eq!(rig.queue.complete(&chains[at], 1), Ok(()));
        assert_eq!(rig.driver.take_used(slots), Some((id, 1, true)));
    }
    assert_eq!(rig.queue.in_flight(), 0);
    // The ring continues behind these slots.
    rig.driver.send(40, &[Buffer::writable(DATA, 8)]);
    assert_eq!(rig.pop(), Some(40));
    rig.complete(8);
    assert_eq!(rig.driver.take_used(1), Some((40, 8, true)));
}

#[test]
fn a_chain_is_given_back_once() {
    let mut rig = rig(Features::empty(), 4);
    rig.driver.send(1, &[Buffer::writable(DATA, 8)]);
    assert_eq!(rig.pop(), Some(1));
    rig.complete(0);
    let again = rig.queue.complete(&rig.chain, 0);
    assert_eq!(again, Err(DeviceError::from(Refusal::StaleToken)));
    assert_eq!(rig.driver.take_used(1), Some((1, 0, false)));
    assert_eq!(rig.driver.take_used(1), None);
}

#[test]
fn a_length_beyond_the_buffers_is_not_written() {
    let mut rig = rig(Features::empty(), 4);
    rig.driver.send(1, &[Buffer::writable(DATA, 8)]);
    assert_eq!(rig.pop(), Some(1));
    let (written, writable) = (9, 8);
    let fault = HostFault::WrittenTooMuch { written, writable };
    assert_eq!(rig.queue.complete(&rig.chain, 9), Err(fault.into()));
    assert_eq!(rig.driver.take_used(1), None);
    rig.complete(8);
}

#[test]
fn a_chain_costs_its_descriptors_and_two_accesses() {
    let counts: &'static Counts = Box::leak(Box::default());
    let ram = ram();
    let mem = CountingMem::new(ram.flat(BASE), counts);
    let mut rig = over(mem, ram, Features::EVENT_IDX, 16);
    for id in 0..5 {
        rig.driver.send(id, &[Buffer::writable(DATA, 8); 3]);
    }
    counts.clear();
    while rig.pop().is_some() {
        rig.complete(1);
        rig.queue.flush();
    }
    assert_eq!(counts.descriptors(), 15);
    assert_eq!(counts.elements(), 5);
    // The suppression words, and the flags of the slot where the batch ends.
    assert_eq!(counts.loads(), 5 + 1);
    assert_eq!(counts.stores(), 0);
}

#[test]
fn a_clone_of_a_returned_chain_gives_nothing_of_its_successor() {
    for id in [0, 3, u16::MAX] {
        let mut rig = rig(Features::empty(), 4);
        rig.driver.send(id, &[Buffer::writable(DATA, 16)]);
        assert_eq!(rig.pop(), Some(id));
        let stale = rig.chain.clone();
        rig.complete(16);
        assert_eq!(rig.driver.take_used(1), Some((id, 16, true)));
        rig.driver.send(id, &[Buffer::writable(DATA, 2)]);
        assert_eq!(rig.pop(), Some(id));
        for written in [0, 8] {
            let refused = rig.queue.complete(&stale, written);
            assert_eq!(refused, Err(Refusal::StaleToken.into()));
        }
        rig.queue.abandon(&stale);
        assert_eq!(rig.queue.in_flight(), 1);
        assert_eq!(rig.driver.take_used(1), None);
        rig.complete(2);
        assert_eq!(rig.driver.take_used(1), Some((id, 2, true)));
    }
}

#[test]
fn a_chain_without_an_end_is_fetched_once_around_the_ring() {
    let counts: &'static Counts = Box::leak(Box::default());
    let ram = ram();
    let mem = CountingMem::new(ram.flat(BASE), counts);
    let mut rig = over(mem, ram, Features::empty(), 8);
    for id in 0..3 {
        rig.driver.send(id, &[Buffer::writable(DATA, 8)]);
        assert_eq!(rig.pop(), Some(id));
        rig.complete(1);
    }
    // From slot 3 on, across the ring's end.
    rig.driver.send(3, &[Buffer::writable(DATA, 8); 8]);
    for slot in 0..8 {
        let flags = 1 | 2 | 0x80;
        rig.driver.write_desc(slot, (DATA, 8), 3, flags);
    }
    counts.clear();
    assert_eq!(rig.fault(), DriverFault::ChainTooLong { head: 3 });
    assert_eq!(counts.descriptors(), 8);
}

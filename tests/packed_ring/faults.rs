//! Drivers that violate the packed ring's protocol.

use virtside::{
    DriverFault, Features, FlatMem, Refusal,
    device::Stop,
    queue::Chain,
    testing::{Buffer, INDIRECT, NEXT, PackedDriver, WRITE},
};
use virtside_tests::{BASE, BYTES, DATA, ram, rings::EchoMem};

use crate::{PackedRig, over, rig};

const END: u64 = BASE + BYTES as u64;
const TABLE: u64 = DATA + 0x8000;

fn available() -> u16 {
    PackedDriver::<FlatMem>::available(true)
}

/// A queue of 4 elements with INDIRECT_DESC, to which the driver sent one descriptor.
fn one(buffer: (u64, u32), id: u16, flags: u16) -> PackedRig {
    let rig = rig(Features::INDIRECT_DESC, 4);
    rig.driver.write_desc(0, buffer, id, flags | available());
    rig
}

#[test]
fn an_id_that_is_in_flight_is_not_taken_twice() {
    for id in [0, 3, 4, 0x7fff, u16::MAX] {
        let mut rig = rig(Features::empty(), 4);
        rig.driver.send(id, &[Buffer::writable(DATA, 1)]);
        rig.driver.send(id, &[Buffer::writable(DATA, 1)]);
        assert_eq!(rig.pop(), Some(id));
        assert_eq!(rig.fault(), DriverFault::HeadInFlight { head: id });
    }
}

#[test]
fn a_fault_leaves_the_chain_in_flight_that_has_its_id() {
    for id in [0, u16::MAX] {
        for same_buffer in [false, true] {
            let mut rig = rig(Features::empty(), 4);
            rig.driver.send(id, &[Buffer::writable(DATA, 1)]);
            rig.driver.send(id, &[Buffer::writable(DATA, 1)]);
            assert_eq!(rig.pop(), Some(id));
            let innocent = rig.chain.clone();
            if !same_buffer {
                rig.chain = Chain::new();
            }
            assert_eq!(rig.fault(), DriverFault::HeadInFlight { head: id });
            rig.queue.abandon(&rig.chain);
            let refused = rig.queue.complete(&rig.chain, 0);
            assert_eq!(refused, Err(Refusal::StaleToken.into()));
            assert_eq!(rig.queue.in_flight(), 1);
            assert_eq!(rig.queue.complete(&innocent, 1), Ok(()));
        }
    }
}

#[test]
fn a_chain_that_continues_into_slots_in_flight_is_too_long() {
    let mut rig = rig(Features::empty(), 4);
    rig.driver.send(1, &[Buffer::writable(DATA, 1); 2]);
    assert_eq!(rig.pop(), Some(1));
    // Three slots, of which the last is in the device's hand.
    rig.driver.send(2, &[Buffer::writable(DATA, 1); 3]);
    assert_eq!(rig.fault(), DriverFault::ChainTooLong { head: 2 });
}

#[test]
fn a_chain_without_an_end_is_too_long() {
    for size in [1, 3, 16] {
        let mut rig = rig(Features::empty(), size);
        for slot in (0..size).rev() {
            rig.driver
                .write_desc(slot, (DATA, 1), 8, available() | NEXT);
        }
        assert_eq!(rig.fault(), DriverFault::ChainTooLong { head: 8 });
    }
}

#[test]
fn a_slot_in_flight_is_not_the_drivers_to_make_available() {
    let mut rig = rig(Features::empty(), 2);
    rig.driver.send(1, &[Buffer::writable(DATA, 1)]);
    rig.driver.send(2, &[Buffer::writable(DATA, 1)]);
    assert_eq!((rig.pop(), rig.pop()), (Some(1), Some(2)));
    // The driver makes slots of the next round available, although nothing was given back.
    rig.driver.send(3, &[Buffer::writable(DATA, 1)]);
    assert_eq!(rig.fault(), DriverFault::ChainTooLong { head: 3 });
}

#[test]
fn a_readable_buffer_behind_a_writable_one_is_out_of_order() {
    let mut rig = rig(Features::empty(), 4);
    rig.driver
        .send(5, &[Buffer::writable(DATA, 1), Buffer::readable(DATA, 1)]);
    assert_eq!(rig.fault(), DriverFault::ReadableAfterWritable { head: 5 });
}

#[test]
fn a_chain_holds_4_gib_and_not_a_byte_more() {
    const MOST: u64 = 1 << 32;
    const HALF: u64 = 1 << 31;
    for (sum, good) in [(MOST - 1, true), (MOST, true), (MOST + 1, false)] {
        for readable in [0, 1, HALF, sum - 1, sum] {
            for indirect in [false, true] {
                let ram = ram();
                let mem = EchoMem(ram.flat(BASE));
                let mut rig = over(mem, ram, Features::INDIRECT_DESC, 16);
                let mut buffers = Vec::new();
                for (mut left, writable) in [(readable, false), (sum - readable, true)] {
                    while left > 0 {
                        let len = left.min(HALF) as u32;
                        buffers.push(Buffer {
                            addr: DATA,
                            len,
                            writable,
                        });
                        left -= u64::from(len);
                    }
                }
                if indirect {
                    rig.driver.send_indirect(5, TABLE, &buffers, 0);
                } else {
                    rig.driver.send(5, &buffers);
                }
                if good {
                    assert_eq!(rig.pop(), Some(5), "{readable:#x} {sum:#x} {indirect}");
                    let lens = (rig.chain.readable_len(), rig.chain.writable_len());
                    assert_eq!(lens, (readable, sum - readable));
                } else {
                    assert_eq!(rig.fault(), DriverFault::LengthOverflow { head: 5 });
                }
            }
        }
    }
}

#[test]
fn a_buffer_without_bytes_may_be_anywhere() {
    let mut rig = rig(Features::empty(), 16);
    let nothing = [Buffer::readable(0, 0), Buffer::writable(u64::MAX, 0)];
    rig.driver.send(5, &nothing);
    assert_eq!(rig.pop(), Some(5));
    assert_eq!((rig.chain.readable_len(), rig.chain.writable_len()), (0, 0));
    rig.complete(0);
    assert_eq!(rig.driver.take_used(2), Some((5, 0, false)));
}

#[test]
fn a_buffer_must_be_mapped_to_its_last_byte() {
    for (addr, len, good) in [
        (END - 4, 4, true),
        (END - 4, 5, false),
        (END, 1, false),
        (BASE - 1, 2, false),
        (u64::MAX, 2, false),
        (DATA, u32::MAX, false),
    ] {
        let mut rig = one((addr, len), 1, WRITE);
        if good {
            assert_eq!(rig.pop(), Some(1));
        } else {
            let writable = true;
            let fault = DriverFault::BufferUnmapped {
                addr,
                len,
                writable,
            };
            assert_eq!(rig.fault(), fault);
        }
    }
}

#[test]
fn an_indirect_descriptor_has_no_next_and_whole_entries() {
    let mut bad = one((DATA, 16), 1, INDIRECT | NEXT);
    assert_eq!(bad.fault(), DriverFault::IndirectWithNext { head: 1 });
    for len in [0, 1, 15, 17, 16 * 17, u32::MAX] {
        let mut bad = one((DATA, len), 1, INDIRECT);
        assert_eq!(bad.fault(), DriverFault::IndirectLength { len });
    }
    let mut bad = one((END - 16, 32), 1, INDIRECT);
    let (addr, len, writable) = (END - 16, 32, false);
    assert_eq!(
        bad.fault(),
        DriverFault::BufferUnmapped {
            addr,
            len,
            writable
        }
    );
    let mut rig = rig(Features::empty(), 4);
    rig.driver
        .send_indirect(1, DATA, &[Buffer::writable(DATA, 1)], 0);
    assert_eq!(rig.fault(), DriverFault::IndirectNotNegotiated { head: 1 });
}

#[test]
fn a_fault_stops_the_queue_and_the_device_needs_a_reset() {
    let mut rig = one((END, 1), 1, WRITE);
    rig.fault();
    assert_eq!(rig.line.asserted(), 1, "one configuration interrupt");
    rig.driver.send(2, &[Buffer::writable(DATA, 1)]);
    let after = rig.queue.pop(&rig.mem, &mut rig.chain);
    assert_eq!(after, Err(Stop::Asked));
    assert_eq!(rig.line.asserted(), 1);
}

//! Buffers that are rejected, and buffers next to them that are not.

use super::*;

#[test]
fn a_buffer_over_the_end_of_memory_is_rejected() {
    for writable in [false, true] {
        for len in [1, 2, 7, 4096u32] {
            let addr = END - u64::from(len) + 1;
            let fault = fault_of(&[Buffer {
                addr,
                len,
                writable,
            }]);
            assert_eq!(
                fault,
                DriverFault::BufferUnmapped {
                    addr,
                    len,
                    writable
                }
            );
            let mut rig = RecordingRig::new(Features::empty());
            rig.driver.send(
                0,
                &[Buffer {
                    addr: addr - 1,
                    len,
                    writable,
                }],
            );
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(
                rig.driver.take_used(),
                Some((0, if writable { len } else { 0 }))
            );
        }
    }
}

#[test]
fn a_buffer_that_starts_before_memory_is_rejected() {
    for addr in [0, 1, BASE - 1] {
        let fault = fault_of(&[Buffer::readable(addr, 2)]);
        assert_eq!(
            fault,
            DriverFault::BufferUnmapped {
                addr,
                len: 2,
                writable: false
            }
        );
    }
}

#[test]
fn a_buffer_that_wraps_around_the_address_space_is_rejected() {
    for (addr, len) in [
        (u64::MAX, 2),
        (u64::MAX - 3, 8),
        (u64::MAX - 0x7fff_ffff, u32::MAX),
    ] {
        for writable in [false, true] {
            let fault = fault_of(&[Buffer {
                addr,
                len,
                writable,
            }]);
            assert_eq!(
                fault,
                DriverFault::BufferUnmapped {
                    addr,
                    len,
                    writable
                }
            );
            let fault = fault_in_table(&[Buffer {
                addr,
                len,
                writable,
            }]);
            assert_eq!(
                fault,
                DriverFault::BufferUnmapped {
                    addr,
                    len,
                    writable
                }
            );
        }
    }
}

#[test]
fn the_fault_names_the_first_bad_buffer() {
    let good = Buffer::readable(DATA, 4);
    let bad = |addr| Buffer::writable(addr, 5);
    let fault = fault_of(&[good, bad(1), bad(2)]);
    assert_eq!(
        fault,
        DriverFault::BufferUnmapped {
            addr: 1,
            len: 5,
            writable: true
        }
    );
}

/// Memory of three regions: a writable one, a read-only one behind it, and one behind a hole of a
/// page.
fn patchwork() -> RecordingRig<RegionMem<3>> {
    let ram = ram();
    let page = 0x1000;
    let mut mem = RegionMem::new();
    for (from, len, permission) in [
        (0, 0x2_0000, Permission::Write),
        (0x2_0000, page, Permission::Read),
        (0x2_2000, page, Permission::Write),
    ] {
        let part = region(BASE + from as u64, ram, from, len, permission);
        assert!(mem.add(part).is_ok());
    }
    RecordingRig::over(mem, ram, Features::INDIRECT_DESC, SIZE)
}

const READ_ONLY: u64 = BASE + 0x2_0000;
const HOLE: u64 = BASE + 0x2_1000;
const BEYOND: u64 = BASE + 0x2_2000;

#[test]
fn a_buffer_over_a_hole_is_rejected_and_one_up_to_it_is_not() {
    for (addr, len) in [
        (HOLE - 1, 2),
        (HOLE, 1),
        (BEYOND - 1, 1),
        (BEYOND - 1, 2),
        (HOLE - 8, 0x1010),
        (BEYOND + 0xfff, 2),
    ] {
        let mut rig = patchwork();
        rig.driver.send(0, &[Buffer::readable(addr, len)]);
        let fault = fault_at_kick(&mut rig);
        assert_eq!(
            fault,
            DriverFault::BufferUnmapped {
                addr,
                len,
                writable: false
            }
        );
    }
    for (addr, len) in [
        (HOLE - 2, 2),
        (BEYOND, 1),
        (BEYOND + 0xfff, 1),
        (READ_ONLY - 8, 0x1008),
    ] {
        let mut rig = patchwork();
        rig.driver.send(0, &[Buffer::readable(addr, len)]);
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.last().sent.len(), len as usize);
    }
}

#[test]
fn a_writable_buffer_in_read_only_memory_is_rejected() {
    for (addr, len) in [
        (READ_ONLY, 1),
        (READ_ONLY - 1, 2),
        (HOLE - 1, 1),
        (READ_ONLY - 8, 0x1008),
    ] {
        let mut rig = patchwork();
        rig.driver.send(0, &[Buffer::writable(addr, len)]);
        let fault = fault_at_kick(&mut rig);
        assert_eq!(
            fault,
            DriverFault::BufferUnmapped {
                addr,
                len,
                writable: true
            }
        );
    }
    let mut rig = patchwork();
    rig.driver.send(0, &[Buffer::writable(READ_ONLY - 1, 1)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((0, 1)));
}

/// Maximum number of bytes in one chain (The Virtqueue Descriptor Table).
const MOST: u64 = 1 << 32;

/// A rig over memory that repeats. Its driver has sent one chain of these lengths, in buffers of at
/// most 1 GiB.
fn huge(readable: u64, writable: u64, indirect: bool) -> RecordingRig<EchoMem> {
    let ram = ram();
    let mut rig = RecordingRig::over(EchoMem(ram.flat(BASE)), ram, Features::INDIRECT_DESC, SIZE);
    let mut buffers = Vec::new();
    for (mut left, writable) in [(readable, false), (writable, true)] {
        while left > 0 {
            let len = left.min(1 << 30) as u32;
            buffers.push(Buffer {
                addr: DATA,
                len,
                writable,
            });
            left -= u64::from(len);
        }
    }
    if indirect {
        rig.driver.write_indirect(0, TABLE, &buffers);
        rig.driver.offer(0);
        rig.driver.publish();
    } else {
        rig.driver.send(0, &buffers);
    }
    rig
}

/// Readable and writable lengths that add up to `sum`.
fn mixes(sum: u64) -> [(u64, u64); 5] {
    [
        (sum, 0),
        (0, sum),
        (sum - 1, 1),
        (1, sum - 1),
        (sum / 2, sum - sum / 2),
    ]
}

#[test]
fn a_chain_of_more_than_4_gib_is_rejected() {
    for (readable, writable) in mixes(MOST + 1) {
        for indirect in [false, true] {
            let mut rig = huge(readable, writable, indirect);
            assert_eq!(
                fault_at_kick(&mut rig),
                DriverFault::LengthOverflow { head: 0 }
            );
        }
    }
}

#[test]
fn a_chain_of_4_gib_is_served() {
    for sum in [MOST - 1, MOST] {
        for (readable, writable) in mixes(sum) {
            for indirect in [false, true] {
                let mut rig = huge(readable, writable, indirect);
                // The length of a used element has 32 bits.
                let room = u32::try_from(writable).unwrap_or(u32::MAX);
                rig.engine.model_mut().plan = Plan::Claim(room);
                assert_eq!(rig.kick(), Step::Idle);
                assert_eq!((rig.fault(), rig.last().room), (None, writable));
                assert_eq!(rig.driver.take_used(), Some((0, room)));
            }
        }
    }
}

#[test]
fn a_table_adds_to_the_4_gib_before_it() {
    for (len, good) in [(0, true), (1, false)] {
        for writable in [false, true] {
            let ram = ram();
            let mut rig =
                RecordingRig::over(EchoMem(ram.flat(BASE)), ram, Features::INDIRECT_DESC, SIZE);
            rig.engine.model_mut().plan = Plan::Claim(0);
            let flags = NEXT | if writable { WRITE } else { 0 };
            let half = (DATA, 1 << 31);
            rig.driver.write_desc(0, half, flags, 1);
            rig.driver.write_desc(1, half, flags, 2);
            let addr = DATA;
            let buffer = Buffer {
                addr,
                len,
                writable,
            };
            rig.driver.write_indirect(2, TABLE, &[buffer]);
            rig.driver.offer(0);
            rig.driver.publish();
            if good {
                assert_eq!((rig.kick(), rig.fault()), (Step::Idle, None));
            } else {
                assert_eq!(
                    fault_at_kick(&mut rig),
                    DriverFault::LengthOverflow { head: 0 }
                );
            }
        }
    }
}

//! Buffers that are refused, and those just beside them that are not.

use super::*;

#[test]
fn a_buffer_over_the_end_of_memory_is_refused() {
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
            let mut rig = Rig::new(Features::empty());
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
fn a_buffer_that_starts_before_memory_is_refused() {
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
fn a_buffer_that_wraps_around_the_address_space_is_refused() {
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

/// Memory of three regions: writable, read-only behind it, and one behind a hole of a page.
fn patchwork() -> Rig<RegionMem<3>> {
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
    Rig::over(mem, ram, Features::INDIRECT_DESC, SIZE)
}

const READ_ONLY: u64 = BASE + 0x2_0000;
const HOLE: u64 = BASE + 0x2_1000;
const BEYOND: u64 = BASE + 0x2_2000;

#[test]
fn a_buffer_over_a_hole_is_refused_and_one_up_to_it_is_not() {
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
        let fault = blamed(&mut rig);
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
fn a_writable_buffer_in_read_only_memory_is_refused() {
    for (addr, len) in [
        (READ_ONLY, 1),
        (READ_ONLY - 1, 2),
        (HOLE - 1, 1),
        (READ_ONLY - 8, 0x1008),
    ] {
        let mut rig = patchwork();
        rig.driver.send(0, &[Buffer::writable(addr, len)]);
        let fault = blamed(&mut rig);
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

/// A chain of buffers of 2 GiB less one byte, over memory that repeats: (readable, writable).
fn huge(readable: usize, writable: usize, last: u32) -> (Rig<EchoMem>, Vec<Buffer>) {
    let ram = ram();
    let rig = Rig::over(EchoMem(ram.flat(BASE)), ram, Features::INDIRECT_DESC, SIZE);
    let mut buffers = vec![Buffer::readable(DATA, 0x7fff_ffff); readable];
    buffers.extend(vec![Buffer::writable(DATA, 0x7fff_ffff); writable]);
    if let Some(buffer) = buffers.last_mut() {
        buffer.len = last;
    }
    (rig, buffers)
}

#[test]
fn lengths_that_add_up_to_more_than_32_bits_are_refused() {
    for (readable, writable) in [(3, 0), (0, 3)] {
        for indirect in [false, true] {
            let (mut rig, buffers) = huge(readable, writable, 2);
            if indirect {
                rig.driver.write_indirect(0, TABLE, &buffers);
            } else {
                rig.driver.write_chain(0, &buffers);
            }
            rig.driver.offer(0);
            rig.driver.publish();
            assert_eq!(blamed(&mut rig), DriverFault::LengthOverflow { head: 0 });
        }
    }
}

#[test]
fn lengths_that_add_up_to_2_to_the_32_minus_1_are_taken() {
    for (readable, writable, room) in [(3, 0, 0), (0, 3, u32::MAX), (2, 1, 1)] {
        let (mut rig, buffers) = huge(readable, writable, 1);
        rig.guest.model_mut().plan = Plan::Claim(room);
        rig.driver.send(0, &buffers);
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!((rig.fault(), rig.last().room), (None, room));
        assert_eq!(rig.driver.take_used(), Some((0, room)));
    }
}

#[test]
fn readable_and_writable_lengths_count_together() {
    let (mut rig, buffers) = huge(2, 2, 0x7fff_ffff);
    rig.driver.send(0, &buffers);
    assert_eq!(blamed(&mut rig), DriverFault::LengthOverflow { head: 0 });
}

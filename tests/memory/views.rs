//! `FlatMem` and `DeviceRange`: pieces of memory, and copies into and out of them.

use virtside::{
    DriverMem, FlatMem,
    memory::{DeviceRange, DriverRange, MemFault, Permission, RegionMem},
};
use virtside_tests::{BASE, BYTES, ram, rings::region};

const END: u64 = BASE + BYTES as u64;

fn range(start: u64, len: u32) -> DriverRange {
    DriverRange::new(start, len).expect("the range does not wrap")
}

fn view(mem: &FlatMem, start: u64, len: u32) -> DeviceRange<'_> {
    mem.translate(range(start, len), Permission::Write)
        .expect("the range is mapped")
}

#[test]
fn bytes_copied_in_are_copied_out() {
    let mem = ram().flat(BASE);
    // Short and long copies use different code.
    for len in [0, 1, 7, 15, 16, 17, 100, 5000] {
        for shift in 0..9 {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 3 + shift) as u8).collect();
            let view = view(&mem, BASE + shift as u64, len as u32);
            assert_eq!(view.copy_from(&bytes), len);
            let mut back = vec![0; len];
            assert_eq!(view.copy_to(&mut back), len);
            assert_eq!(back, bytes);
        }
    }
}

#[test]
fn a_copy_is_as_long_as_the_shorter_side() {
    let ram = ram();
    let mem = ram.flat(BASE);
    let view = view(&mem, BASE + 8, 4);
    assert_eq!(view.copy_from(&[1, 2, 3, 4, 5, 6]), 4);
    assert_eq!(view.copy_from(&[9]), 1);
    let mut bytes = [0xff; 6];
    assert_eq!(view.copy_to(&mut bytes), 4);
    assert_eq!(bytes, [9, 2, 3, 4, 0xff, 0xff]);
    assert_eq!(view.copy_to(&mut bytes[..2]), 2);
    let mut around = [0; 6];
    ram.read(7, &mut around);
    assert_eq!(around, [0, 9, 2, 3, 4, 0], "no other byte is written");
}

#[test]
fn views_are_cut_to_the_mapped_bytes() {
    let mem = ram().flat(BASE);
    let all = view(&mem, BASE, 10);
    all.copy_from(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for skip in 0..12 {
        for take in 0..12 {
            let part = all.skip(skip).take(take);
            let expected: Vec<u8> = (0..10).skip(skip).take(take).collect();
            assert_eq!(
                (part.len(), part.is_empty()),
                (expected.len(), expected.is_empty())
            );
            let mut bytes = vec![0; 12];
            let count = part.copy_to(&mut bytes);
            assert_eq!(bytes[..count], expected);
        }
    }
}

#[test]
fn a_view_can_be_filled() {
    let ram = ram();
    let mem = ram.flat(BASE);
    assert_eq!(view(&mem, BASE + 3, 40).fill(0x5a), 40);
    let mut bytes = [0; 44];
    ram.read(0, &mut bytes);
    assert_eq!(bytes, [&[0; 3][..], &[0x5a; 40], &[0]].concat()[..]);
    assert_eq!(view(&mem, BASE, 0).fill(1), 0);
}

#[test]
fn a_read_only_view_takes_nothing() {
    let ram = ram();
    ram.write(0, &[7; 8]);
    let mut mem = RegionMem::<1>::new();
    assert!(mem.add(region(BASE, ram, 0, 8, Permission::Read)).is_ok());
    let view = mem
        .translate(range(BASE, 8), Permission::Read)
        .expect("the range is readable");
    assert!(!view.is_writable());
    assert_eq!((view.copy_from(&[1; 8]), view.fill(1)), (0, 0));
    let mut bytes = [0; 8];
    assert_eq!(view.copy_to(&mut bytes), 8);
    assert_eq!(bytes, [7; 8]);
    // A view for reading takes nothing either, if its memory is writable.
    let mem = ram.flat(BASE);
    let view = mem
        .translate(range(BASE, 8), Permission::Read)
        .expect("the range is readable");
    assert_eq!((view.is_writable(), view.copy_from(&[1; 8])), (false, 0));
}

#[test]
fn flat_memory_ends_where_it_ends() {
    let mem = ram().flat(BASE);
    for permission in [Permission::Read, Permission::Write] {
        for (start, len, mapped) in [
            (BASE, 1, true),
            (BASE, BYTES as u32, true),
            (END - 1, 1, true),
            (END - 16, 16, true),
            (BASE - 1, 1, false),
            (BASE - 1, 2, false),
            (BASE, BYTES as u32 + 1, false),
            (END - 1, 2, false),
            (END, 1, false),
            (0, 1, false),
            (u64::MAX, 1, false),
            (u64::MAX, 2, false),
            (BASE, u32::MAX, false),
        ] {
            assert_eq!(
                mem.is_mapped(start, len, permission),
                mapped,
                "{start:#x}, {len}"
            );
        }
        // A view across the end has only the bytes that exist.
        let view = mem
            .translate(range(END - 3, 8), permission)
            .expect("the start is mapped");
        assert_eq!(view.len(), 3);
        assert!(matches!(
            mem.translate(range(END, 1), permission),
            Err(MemFault::Unmapped)
        ));
        assert!(mem.window(range(END - 8, 8), permission).is_ok());
        let too_long = mem.window(range(END - 8, 9), permission);
        assert!(matches!(too_long, Err(MemFault::Unmapped)));
    }
}

#[test]
fn memory_may_lie_at_the_top_of_the_address_space() {
    let base = u64::MAX - BYTES as u64 + 1;
    let mem = ram().flat(base);
    assert!(mem.is_mapped(base, BYTES as u32, Permission::Write));
    assert!(mem.is_mapped(u64::MAX, 1, Permission::Write));
    assert!(!mem.is_mapped(u64::MAX, 2, Permission::Write));
    assert!(!mem.is_mapped(base - 1, 1, Permission::Write));
    assert!(!mem.is_mapped(0, 1, Permission::Write));
    assert_eq!(view(&mem, u64::MAX - 3, 4).copy_from(&[1; 4]), 4);
    assert!(
        mem.window(range(u64::MAX - 15, 16), Permission::Write)
            .is_ok()
    );
}

#[test]
fn bytes_beyond_the_address_space_are_left_out() {
    let mem = ram().flat(u64::MAX - 15);
    assert!(mem.is_mapped(u64::MAX - 15, 16, Permission::Write));
    assert!(!mem.is_mapped(0, 1, Permission::Read));
    assert!(mem.translate(range(0, 1), Permission::Read).is_err());
}

#[test]
fn a_ring_in_memory_less_aligned_than_its_address_is_refused() {
    let ram = ram();
    for off in 0..16 {
        let mut mem = RegionMem::<1>::new();
        let part = region(BASE, ram, off, 0x1000, Permission::Write);
        assert!(mem.add(part).is_ok());
        let window = mem.window(range(BASE + 16, 64), Permission::Write);
        assert_eq!(window.is_ok(), off == 0, "at an offset of {off} bytes");
        if off != 0 {
            assert!(matches!(window, Err(MemFault::Misaligned)));
        }
        // A less aligned address needs less aligned memory.
        let window = mem.window(range(BASE + 2, 38), Permission::Read);
        assert_eq!(window.is_ok(), off % 2 == 0);
    }
}

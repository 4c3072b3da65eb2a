//! `RegionMem`: several regions, with holes between them, and no region at all.

use proptest::{collection::vec, prelude::*};
use virtside::{
    DriverMem,
    memory::{DriverRange, MemFault, Permission, Region, RegionMem},
};
use virtside_tests::{BASE, TestRam, ram, rings::region};

fn range(start: u64, len: u32) -> DriverRange {
    DriverRange::new(start, len).expect("the range does not wrap")
}

/// `len` writable bytes at driver address `base`, backed by `ram` from offset `from` on.
fn part(base: u64, ram: TestRam, from: usize, len: usize) -> Region {
    region(base, ram, from, len, Permission::Write)
}

fn mapped(mem: &impl DriverMem, start: u64, len: u32) -> bool {
    mem.is_mapped(start, len, Permission::Write)
}

#[test]
fn memory_without_regions_has_no_byte() {
    let mem = RegionMem::<2>::new();
    for start in [0, BASE, u64::MAX] {
        assert!(!mapped(&mem, start, 1));
        assert!(matches!(
            mem.translate(range(start, 1), Permission::Read),
            Err(MemFault::Unmapped)
        ));
        assert!(matches!(
            mem.window(range(start, 1), Permission::Read),
            Err(MemFault::Unmapped)
        ));
    }
}

#[test]
fn a_hole_is_a_hole() {
    let (ram, mut mem) = (ram(), RegionMem::<2>::new());
    assert!(mem.add(part(BASE, ram, 0, 0x1000)).is_ok());
    assert!(mem.add(part(BASE + 0x2000, ram, 0x1000, 0x1000)).is_ok());
    for (start, len, there) in [
        (BASE, 0x1000, true),
        (BASE + 0xfff, 1, true),
        (BASE + 0xfff, 2, false),
        (BASE + 0x1000, 1, false),
        (BASE + 0x1fff, 1, false),
        (BASE + 0x1fff, 2, false),
        (BASE + 0x2000, 0x1000, true),
        (BASE + 0x2fff, 1, true),
        (BASE + 0x2fff, 2, false),
        (BASE, 0x3000, false),
        (BASE + 0x800, 0x1900, false),
    ] {
        // The result does not depend on the region that was found last.
        for warm in [BASE, BASE + 0x2000] {
            assert!(mapped(&mem, warm, 1));
            assert_eq!(mapped(&mem, start, len), there, "{start:#x}, {len:#x}");
        }
    }
}

#[test]
fn a_range_over_adjacent_regions_is_mapped_and_comes_in_pieces() {
    let (ram, mut mem) = (ram(), RegionMem::<3>::new());
    // The regions are adjacent in driver memory, and in another order in host memory.
    assert!(mem.add(part(BASE + 0x10, ram, 0x200, 0x10)).is_ok());
    assert!(mem.add(part(BASE + 0x20, ram, 0x100, 0x10)).is_ok());
    assert!(mem.add(part(BASE, ram, 0x300, 0x10)).is_ok());
    assert!(mapped(&mem, BASE, 0x30));
    assert!(!mapped(&mem, BASE, 0x31));
    let whole = range(BASE + 8, 0x20);
    let view = mem
        .translate(whole, Permission::Write)
        .expect("the start is mapped");
    assert_eq!(view.len(), 8);
    let view = mem
        .translate(whole.skip(8), Permission::Write)
        .expect("the next piece");
    assert_eq!((view.len(), view.copy_from(b"middle")), (0x10, 6));
    let mut bytes = [0; 6];
    ram.read(0x200, &mut bytes);
    assert_eq!(&bytes, b"middle");
    // A ring must be in one piece.
    assert!(mem.window(whole, Permission::Write).is_err());
    assert!(
        mem.window(range(BASE + 0x10, 0x10), Permission::Write)
            .is_ok()
    );
}

#[test]
fn regions_that_share_a_byte_are_refused() {
    let ram = ram();
    for (base, len) in [
        (BASE, 0x100),
        (BASE + 0x10, 0x10),
        (BASE - 0x10, 0x11),
        (BASE - 0x10, 0x1000),
        (BASE + 0xff, 1),
        (BASE + 0xff, 0x100),
    ] {
        let mut mem = RegionMem::<4>::new();
        assert!(mem.add(part(BASE, ram, 0, 0x100)).is_ok());
        assert!(
            mem.add(part(base, ram, 0x1000, len)).is_err(),
            "{base:#x}, {len:#x}"
        );
        // The region is returned unchanged: it can be added elsewhere.
        let Err(region) = mem.add(part(base, ram, 0x1000, len)) else {
            panic!("the region was accepted");
        };
        let mut other = RegionMem::<1>::new();
        assert!(other.add(region).is_ok());
        assert!(mapped(&other, base, len as u32));
    }
}

#[test]
fn regions_that_touch_are_not_refused() {
    let (ram, mut mem) = (ram(), RegionMem::<3>::new());
    assert!(mem.add(part(BASE, ram, 0, 0x100)).is_ok());
    assert!(mem.add(part(BASE + 0x100, ram, 0x100, 1)).is_ok());
    assert!(mem.add(part(BASE - 1, ram, 0x200, 1)).is_ok());
}

#[test]
fn there_is_room_for_so_many_regions_and_no_more() {
    let (ram, mut mem) = (ram(), RegionMem::<2>::new());
    assert!(mem.add(part(BASE, ram, 0, 16)).is_ok());
    assert!(mem.add(part(BASE + 32, ram, 32, 16)).is_ok());
    assert!(mem.add(part(BASE + 64, ram, 64, 16)).is_err());
    assert!(!mapped(&mem, BASE + 64, 1));
    assert!(RegionMem::<0>::new().add(part(BASE, ram, 0, 16)).is_err());
}

#[test]
fn read_only_regions_may_be_read_only() {
    let (ram, mut mem) = (ram(), RegionMem::<2>::new());
    assert!(mem.add(part(BASE, ram, 0, 0x100)).is_ok());
    let read_only = region(BASE + 0x100, ram, 0x100, 0x100, Permission::Read);
    assert!(mem.add(read_only).is_ok());
    let inside = range(BASE + 0x100, 16);
    assert!(mem.is_mapped(BASE + 0x80, 0x180, Permission::Read));
    assert!(!mem.is_mapped(BASE + 0x80, 0x180, Permission::Write));
    assert!(matches!(
        mem.translate(inside, Permission::Write),
        Err(MemFault::Denied)
    ));
    assert!(matches!(
        mem.window(inside, Permission::Write),
        Err(MemFault::Denied)
    ));
    assert!(mem.translate(inside, Permission::Read).is_ok());
    assert!(mem.window(inside, Permission::Read).is_ok());
    // A view for writing ends before the read-only region.
    let view = mem
        .translate(range(BASE + 0xf0, 32), Permission::Write)
        .expect("the start is writable");
    assert_eq!(view.len(), 16);
}

#[test]
fn a_region_may_end_with_the_address_space_and_another_start_it() {
    let (ram, mut mem) = (ram(), RegionMem::<2>::new());
    assert!(mem.add(part(u64::MAX - 0xfff, ram, 0, 0x1000)).is_ok());
    assert!(mem.add(part(0, ram, 0x1000, 0x1000)).is_ok());
    assert!(mapped(&mem, u64::MAX, 1) && mapped(&mem, 0, 0x1000));
    assert!(mapped(&mem, u64::MAX - 0xfff, 0x1000));
    // The last and the first byte of the address space are not adjacent.
    for warm in [0, u64::MAX] {
        assert!(mapped(&mem, warm, 1));
        assert!(!mapped(&mem, u64::MAX, 2) && !mapped(&mem, u64::MAX - 0xfff, 0x1001));
    }
    assert!(mem.add(part(u64::MAX, ram, 0x2000, 1)).is_err());
}

#[test]
fn no_bytes_are_mapped_anywhere() {
    let (ram, mut mem) = (ram(), RegionMem::<1>::new());
    assert!(mem.add(part(BASE, ram, 0, 16)).is_ok());
    for start in [0, BASE, BASE + 16, u64::MAX] {
        assert!(mapped(&mem, start, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Compares the regions with a map that has an entry for each byte.
    #[test]
    fn exactly_the_bytes_of_the_regions_are_mapped(
        base in prop_oneof![Just(0u64), Just(BASE), Just(u64::MAX - 255)],
        parts in vec((0u64..220, 1usize..36, any::<bool>()), 0..5),
        probes in vec((0u64..256, 0u32..80, any::<bool>()), 1..30),
    ) {
        let (ram, mut mem) = (ram(), RegionMem::<4>::new());
        // For each driver address: its offset in `ram`, and whether it is writable.
        let mut bytes = vec![None; 256];
        let mut from = 0;
        let mut count = 0;
        for (start, len, writable) in parts {
            let permission = if writable { Permission::Write } else { Permission::Read };
            let place = start as usize..start as usize + len;
            let free = bytes[place.clone()].iter().all(Option::is_none);
            let added = mem.add(region(base + start, ram, from, len, permission)).is_ok();
            prop_assert_eq!(added, free && count < 4);
            if added {
                count += 1;
                for at in place {
                    bytes[at] = Some((from + at - start as usize, writable));
                }
                // The regions are apart in host memory, so that an access beyond one shows.
                from += len + 1;
            }
        }
        for (start, len, writing) in probes {
            let permission = if writing { Permission::Write } else { Permission::Read };
            let good = |at: u64| {
                let byte = bytes.get(at as usize).copied().flatten();
                byte.is_some_and(|(_, writable)| writable || !writing)
            };
            let all = (start..start + u64::from(len)).all(good);
            prop_assert_eq!(mem.is_mapped(base + start, len, permission), all);
            let Some(whole) = DriverRange::new(base + start, len).filter(|all| !all.is_empty())
            else {
                continue;
            };
            match mem.translate(whole, permission) {
                Ok(view) => {
                    prop_assert!(!view.is_empty() && view.len() <= len as usize);
                    for at in 0..view.len() as u64 {
                        prop_assert!(good(start + at));
                    }
                    // The view is of the memory that the map names.
                    let (offset, _) = bytes[start as usize].expect("the first byte is mapped");
                    ram.write(offset, &[at_byte(start)]);
                    let mut byte = [0];
                    view.copy_to(&mut byte);
                    prop_assert_eq!(byte, [at_byte(start)]);
                }
                Err(_) => prop_assert!(!good(start)),
            }
        }
    }
}

/// A different byte for each address.
fn at_byte(start: u64) -> u8 {
    start as u8 ^ 0x5a
}

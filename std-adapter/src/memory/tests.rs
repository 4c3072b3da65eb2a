use vm_memory::{Bytes, GuestAddress, bitmap::AtomicBitmap};

use super::*;

fn range(start: u64, len: u32) -> DriverRange {
    DriverRange::new(start, len).unwrap()
}

fn memory(ranges: &[(u64, usize)]) -> GuestMemoryMmap {
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(start, len)| (GuestAddress(*start), *len))
        .collect();
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

#[test]
fn a_hole_is_not_mapped() {
    let mem = VmMem::new(&memory(&[(0x1000, 0x1000), (0x4000, 0x1000)]));
    for (start, len, mapped) in [
        (0x0fff, 1, false),
        (0x1000, 0x1000, true),
        (0x1fff, 1, true),
        (0x1fff, 2, false),
        (0x2000, 1, false),
        (0x3fff, 2, false),
        (0x4fff, 1, true),
        (0x5000, 1, false),
        (0x1800, 0x3000, false),
        (u64::MAX, 1, false),
        (u64::MAX, 0x2000, false),
        (0x9000, 0, true),
    ] {
        let found = mem.is_mapped(start, len, Permission::Write);
        assert_eq!(found, mapped, "{start:#x}+{len:#x}");
    }
}

#[test]
fn a_buffer_over_adjacent_regions_gives_several_views() {
    let memory = memory(&[(0x1000, 0x1000), (0x2000, 0x1000), (0x3000, 0x1000)]);
    let mem = VmMem::new(&memory);
    let mut rest = range(0x1ff0, 0x1020);
    assert!(mem.is_mapped(0x1ff0, 0x1020, Permission::Write));
    let mut lens = Vec::new();
    while !rest.is_empty() {
        let view = mem.translate(rest, Permission::Write).unwrap();
        view.fill(u8::try_from(lens.len() + 1).unwrap());
        lens.push(view.len());
        rest = rest.skip(u32::try_from(view.len()).unwrap());
    }
    assert_eq!(lens, [0x10, 0x1000, 0x10]);
    let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
    assert_eq!(
        [
            byte(0x1fef),
            byte(0x1ff0),
            byte(0x2000),
            byte(0x300f),
            byte(0x3010)
        ],
        [0, 1, 2, 3, 0]
    );
}

#[test]
fn a_ring_window_is_in_one_region() {
    let mem = VmMem::new(&memory(&[(0x1000, 0x1000), (0x2000, 0x1000)]));
    assert!(mem.window(range(0x1f00, 0x100), Permission::Write).is_ok());
    let fault = mem.window(range(0x1f00, 0x101), Permission::Write);
    assert_eq!(fault.err(), Some(MemFault::Unmapped));
}

#[test]
fn a_window_keeps_its_mapping_when_memory_is_replaced() {
    let old = memory(&[(0x1000, 0x1000)]);
    let region = old.find_region(GuestAddress(0x1000)).unwrap();
    let mapping = Arc::downgrade(&region.get_mmap());
    let mut mem = VmMem::new(&old);
    let window = mem.window(range(0x1000, 0x100), Permission::Write);
    mem.replace(&memory(&[(0x8000, 0x1000)]));
    drop(old);
    assert!(window.is_ok() && mapping.upgrade().is_some());
    drop(window);
    assert!(mapping.upgrade().is_none());
    assert!(!mem.is_mapped(0x1000, 1, Permission::Read));
    assert!(mem.is_mapped(0x8000, 1, Permission::Read));
}

#[test]
fn writes_are_marked_in_the_bitmap() {
    let ranges = [(GuestAddress(0), 0x4000), (GuestAddress(0x4000), 0x4000)];
    let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges).unwrap();
    let mem = VmMem::new(&memory);
    let dirty = |at: u64| {
        let (region, offset) = memory.to_region_addr(GuestAddress(at)).unwrap();
        region
            .bitmap()
            .dirty_at(usize::try_from(offset.raw_value()).unwrap())
    };
    mem.after_write(range(0x3fff, 2));
    assert_eq!(
        [0x2fff, 0x3fff, 0x4000, 0x5000].map(dirty),
        [false, true, true, false]
    );
    // What a ring window calls.
    let hooks = KeptRegion {
        region: Arc::clone(mem.region(mem.find(0x6000).unwrap()).unwrap()),
        start: 0x4000,
    };
    hooks.before_read(range(0x6000, 2));
    assert!(!dirty(0x6000));
    hooks.after_write(range(0x6000, 2));
    assert!(dirty(0x6000));
}

#[test]
fn memory_that_the_host_may_not_write_is_read_only() {
    let mapping = MmapRegion::<()>::build(
        None,
        0x1000,
        libc::PROT_READ,
        libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
    );
    let region = vm_memory::GuestRegionMmap::new(mapping.unwrap(), GuestAddress(0)).unwrap();
    let mem = VmMem::new(&GuestMemoryMmap::from_regions(vec![region]).unwrap());
    assert!(mem.is_mapped(0, 16, Permission::Read));
    assert!(!mem.is_mapped(0, 16, Permission::Write));
    let fault = mem.translate(range(0, 16), Permission::Write);
    assert_eq!(fault.err(), Some(MemFault::Denied));
    let fault = mem.window(range(0, 16), Permission::Write);
    assert_eq!(fault.err(), Some(MemFault::Denied));
}

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
    // A ring window calls these hooks.
    let hooks = KeptRegion {
        region: Arc::clone(mem.mapping(mem.find(0x6000).unwrap()).unwrap()),
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

/// Random numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns a number of up to `bits` bits. Each number of bits is equally likely.
    fn up_to_bits(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits + 1);
        self.below(1 << bits)
    }
}

/// A region of the simple model that [`VmMem`] is compared with.
struct Area {
    start: u64,
    len: u64,
    prot: i32,
    ptr: *mut u8,
}

impl Area {
    fn allows(&self, permission: Permission) -> bool {
        let write = permission == Permission::Write;
        self.prot & libc::PROT_READ != 0 && (!write || self.prot & libc::PROT_WRITE != 0)
    }

    /// Returns how many of the `len` bytes at `start` are in this region.
    fn share(&self, start: u64, len: u32) -> u128 {
        let [start, end] = [start.into(), u128::from(start) + u128::from(len)];
        let [from, to]: [u128; 2] = [
            self.start.into(),
            u128::from(self.start) + u128::from(self.len),
        ];
        end.min(to).saturating_sub(start.max(from))
    }
}

/// Returns random regions: adjacent or with gaps, from a random start. In some layouts the last
/// region ends at the highest address that `vm-memory` allows.
fn random_areas(random: &mut Random) -> (Vec<Area>, GuestMemoryMmap) {
    let count = match random.below(8) {
        0 => random.below(2),
        1..=5 => random.below(10),
        6 => random.below(40),
        _ => random.below(400),
    };
    // Limits of this layout for gaps and regions.
    let (gap_bits, len_bits) = (random.below(60), random.below(34));
    let mut layout = Vec::new();
    let first_bits = if random.below(2) == 0 { 63 } else { 13 };
    let mut at = random.up_to_bits(first_bits);
    for _ in 0..count {
        if random.below(2) == 0 {
            at = at.saturating_add(random.up_to_bits(gap_bits));
        }
        let len = 1 + random.up_to_bits(len_bits);
        let Some(end) = at.checked_add(len) else {
            break;
        };
        layout.push((at, len));
        at = end;
    }
    let to_the_top = match layout.last() {
        Some((start, len)) if random.below(4) == 0 => u64::MAX - (start + len),
        _ => 0,
    };
    let (mut areas, mut regions) = (Vec::new(), Vec::new());
    for (start, len) in layout {
        let (start, prot) = match random.below(10) {
            0 => (start, libc::PROT_NONE),
            1 | 2 => (start, libc::PROT_READ),
            _ => (start, libc::PROT_READ | libc::PROT_WRITE),
        };
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        let mapping = MmapRegion::build(None, usize::try_from(len).unwrap(), prot, flags).unwrap();
        let start = start + to_the_top;
        areas.push(Area {
            start,
            len,
            prot,
            ptr: mapping.as_ptr(),
        });
        regions.push(vm_memory::GuestRegionMmap::new(mapping, GuestAddress(start)).unwrap());
    }
    let memory = if regions.is_empty() {
        GuestMemoryMmap::new()
    } else {
        GuestMemoryMmap::from_regions(regions).unwrap()
    };
    (areas, memory)
}

/// Returns a random range, often near the bounds of a region.
fn random_range(random: &mut Random, areas: &[Area]) -> (u64, u32) {
    let area = match areas.len() {
        0 => None,
        len => areas.get(usize::try_from(random.below(len as u64)).unwrap()),
    };
    let start = match (random.below(8), area) {
        (0, _) | (_, None) => random.next() >> random.below(64),
        (1, _) => u64::MAX - random.up_to_bits(20),
        (2..=4, Some(area)) => area.start + random.below(area.len),
        (5, Some(area)) => (area.start + area.len).wrapping_sub(random.up_to_bits(8)),
        (_, Some(area)) => area.start.wrapping_add(4).wrapping_sub(random.below(8)),
    };
    let left = area.map_or(0, |area| (area.start + area.len).wrapping_sub(start));
    let len = match random.below(6) {
        0 => random.up_to_bits(32),
        1 | 2 => random.up_to_bits(8),
        // Ends at the end of the region, or within two bytes of it.
        _ => left.wrapping_add(2).wrapping_sub(random.below(5)),
    };
    (start, u32::try_from(len).unwrap_or(u32::MAX))
}

/// Compares all lookups of a range with a search over `areas`. Returns whether the range is mapped.
fn check(mem: &VmMem, areas: &[Area], start: u64, len: u32, permission: Permission) -> bool {
    let allowed = areas.iter().filter(|area| area.allows(permission));
    let there: u128 = allowed.map(|area| area.share(start, len)).sum();
    let mapped = there == len.into();
    let context = format!("{start:#x}+{len:#x} {permission:?} in {mem:?}");
    assert_eq!(mem.is_mapped(start, len, permission), mapped, "{context}");
    let range = match DriverRange::new(start, len) {
        Some(range) if len != 0 => range,
        _ => return mapped,
    };
    let first = areas
        .iter()
        .find(|area| area.share(start, 1) == 1 && area.allows(Permission::Read));
    let expected = match first {
        None => Err(MemFault::Unmapped),
        Some(area) if !area.allows(permission) => Err(MemFault::Denied),
        Some(area) => {
            let offset = usize::try_from(start - area.start).unwrap();
            let here = usize::try_from(area.share(start, len)).unwrap();
            Ok((area.ptr.wrapping_add(offset), here))
        }
    };
    let view = mem.translate(range, permission);
    let found = view.map(|view| (view.as_ptr(), view.len()));
    assert_eq!(found, expected, "{context}");
    let window = mem.window(range, permission);
    let whole = expected.is_ok_and(|(_, here)| here == len as usize);
    let aligned = window.as_ref().err() != Some(&MemFault::Misaligned);
    assert_eq!(window.is_ok(), whole && aligned, "{context}");
    mapped
}

/// Checks `PROPTEST_CASES` layouts, 128 by default.
#[test]
fn any_layout_of_regions_is_what_a_simple_search_says() {
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(cases) => cases.parse().unwrap(),
        Err(_) => 128,
    };
    let mut answers = [0_u32; 2];
    for seed in 0..cases {
        let mut random = Random(seed);
        let (areas, memory) = random_areas(&mut random);
        let mut mem = VmMem::new(&memory);
        for _ in 0..200 {
            let (start, len) = random_range(&mut random, &areas);
            let permission = if random.below(2) == 0 {
                Permission::Read
            } else {
                Permission::Write
            };
            let mapped = check(&mem, &areas, start, len, permission);
            answers[usize::from(mapped)] += 1;
            if random.below(16) == 0 {
                mem = mem.clone();
            }
        }
    }
    // Both answers must be common, or the test would show little.
    let [no, yes] = answers;
    assert!(no > yes / 4 && yes > no / 4, "{answers:?}");
}

#[test]
fn the_table_has_the_regions_of_common_machines() {
    const KIB: u64 = 1 << 10;
    const GIB: u64 = 1 << 30;
    let machines: [&[(u64, u64)]; 7] = [
        &[(0, 128 * KIB)],
        &[(0x8000_0000, 4 * GIB)],
        // With a hole below 4 GiB.
        &[(0, 3 * GIB), (4 * GIB, 13 * GIB)],
        &[(0, 3 * GIB), (4 * GIB, 1021 * GIB)],
        // With a second hole below 1 MiB, and with firmware.
        &[
            (0, 640 * KIB),
            (1024 * KIB, 3 * GIB - 1024 * KIB),
            (4 * GIB - 256 * KIB, 256 * KIB),
            (4 * GIB, 12 * GIB),
        ],
        // NUMA nodes with holes between them.
        &[
            (0, 2 * GIB),
            (1 << 40, 8 * GIB),
            (2 << 40, 8 * GIB),
            (3 << 40, 8 * GIB),
        ],
        // With a region at the end of the address space.
        &[(0, 2 * GIB), (u64::MAX - GIB, GIB)],
    ];
    for machine in machines {
        let extents = machine.iter().map(|&(start, len)| Extent {
            end: start + len,
            len,
            writable_len: len,
            ..Extent::EMPTY
        });
        let map = Map::<()>::new(extents.collect(), Box::new([]));
        for &(start, len) in machine.iter().filter(|(_, len)| *len >= GIB) {
            let right = (0..1000)
                .map(|at| start + len / 1000 * at)
                .filter(|&at| map.guess(at).holds(at, 1, Permission::Write))
                .count();
            assert!(right >= 950, "{start:#x}+{len:#x}: {right} of 1000");
        }
    }
}

#[test]
fn a_clone_outlives_the_memory_it_was_cloned_from() {
    let mut mem = VmMem::new(&memory(&[(0x1000, 0x1000), (0x4000, 0x1000)]));
    assert!(mem.is_mapped(0x4000, 1, Permission::Write));
    let clone = mem.clone();
    mem.replace(&memory(&[(0x8000, 0x1000)]));
    for (start, [old, new]) in [(0x4000, [true, false]), (0x8000, [false, true])] {
        assert_eq!(clone.is_mapped(start, 1, Permission::Write), old);
        assert_eq!(mem.is_mapped(start, 1, Permission::Write), new);
    }
    drop(mem);
    assert!(clone.is_mapped(0x1000, 1, Permission::Write));
    assert!(clone.is_mapped(0x4000, 1, Permission::Write));
}

#[test]
fn threads_that_share_one_hint_get_right_answers() {
    let mem = &VmMem::new(&memory(&[(0x1000, 0x1000), (0x2000, 0x800), (0x9000, 1)]));
    std::thread::scope(|scope| {
        for start in [0x1ff0, 0x2000, 0x9000] {
            scope.spawn(move || {
                for _ in 0..10_000 {
                    assert!(mem.is_mapped(start, 1, Permission::Write));
                    assert_eq!(
                        mem.is_mapped(start, 0x20, Permission::Read),
                        start != 0x9000
                    );
                }
            });
        }
    });
}

//! Guest memory: the driver's memory over `vm-memory`, and files read and written in place.
//!
//! This is the only module of the crate with `unsafe`.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

#[cfg(feature = "guest")]
pub(crate) mod dma;
mod positioned;

pub(crate) use positioned::{read_at, write_at};

use std::{
    fmt,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use virtside::{
    DriverMem,
    memory::{DeviceRange, DriverRange, MemFault, MemHooks, Permission, PtrWindow},
};
use vm_memory::{
    Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion, bitmap::Bitmap,
};

/// Driver memory in the regions of a [`GuestMemoryMmap`].
///
/// The region that was hit last is tried first, then the one that a table has for the address, then a
/// binary search finds it. Clones see the same memory and have a hint of their own, so each thread
/// should have one. Regions that the host may not write are read-only for the device, ones that it may
/// not read are not there.
///
/// What the device writes is marked in the regions' bitmaps, if they have them (`B` is not `()`).
///
/// ```
/// use virtside::{DriverMem, memory::Permission};
/// use virtside_std::VmMem;
/// use vm_memory::{GuestAddress, GuestMemoryMmap};
///
/// let ranges = [(GuestAddress(0x1000), 0x1000), (GuestAddress(0x4000), 0x1000)];
/// let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&ranges)?;
/// let memory = VmMem::new(&memory);
/// assert!(memory.is_mapped(0x1ff0, 0x10, Permission::Write));
/// assert!(!memory.is_mapped(0x1ff0, 0x11, Permission::Write));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct VmMem<B = ()> {
    /// The spot that was hit last, in the table or the list of `map`.
    last: AtomicPtr<Spot>,
    map: Arc<Map<B>>,
}

/// Where regions are; it never changes.
struct Map<B> {
    /// An address is looked up by [`SLOT_BITS`] bits of it, from this one on.
    shift: u32,
    /// For each slot a region that is in it, or an empty spot.
    table: [Spot; SLOTS],
    /// Sorted, and free of overlaps.
    spots: Box<[Spot]>,
    /// The mappings of `spots`, in their order.
    regions: Box<[Arc<MmapRegion<B>>]>,
}

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// One region, as the hot path wants it. Its [`Map`] keeps the mapping alive.
#[derive(Clone, Copy)]
struct Spot {
    /// The address after its last byte.
    end: u64,
    len: u64,
    /// `len`, or 0 if it is read-only.
    writable_len: u64,
    ptr: NonNull<u8>,
    /// Where its mapping is in [`Map::regions`].
    at: usize,
}

// SAFETY: `ptr` is the start of a mapping, which is Send and Sync itself; memory that is shared with
// a guest is accessed through raw pointers and atomics only.
unsafe impl Send for Spot {}
// SAFETY: as above.
unsafe impl Sync for Spot {}

impl Spot {
    const EMPTY: Self = Self {
        end: 0,
        len: 0,
        writable_len: 0,
        ptr: NonNull::dangling(),
        at: usize::MAX,
    };

    #[inline(always)]
    fn holds(&self, start: u64, len: u32, permission: Permission) -> bool {
        let most = match permission {
            Permission::Read => self.len,
            Permission::Write => self.writable_len,
        };
        // From there to the end: one subtraction for both comparisons.
        let room = self.end.wrapping_sub(start);
        room <= most && u64::from(len) <= room
    }

    fn start(&self) -> u64 {
        self.end.wrapping_sub(self.len)
    }

    /// Where the range starts here, and how many bytes of it are here.
    #[inline(always)]
    fn part(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<(NonNull<u8>, usize), MemFault> {
        let offset = range.start().wrapping_sub(self.start());
        if offset >= self.len {
            return Err(MemFault::Unmapped);
        }
        if permission == Permission::Write && self.writable_len == 0 {
            return Err(MemFault::Denied);
        }
        let here = u64::from(range.len()).min(self.len.wrapping_sub(offset));
        match (usize::try_from(offset), usize::try_from(here)) {
            // SAFETY: `offset < len`, and `len` bytes from `ptr` are one mapping.
            (Ok(offset), Ok(here)) => Ok((unsafe { self.ptr.add(offset) }, here)),
            _ => Err(MemFault::Unmapped),
        }
    }
}

impl<B> Map<B> {
    fn new(spots: Box<[Spot]>, regions: Box<[Arc<MmapRegion<B>>]>) -> Self {
        let longest = spots.iter().map(|spot| spot.len).max().unwrap_or(0);
        // With a lower shift, the longest region would be in each slot more than once.
        let least = (u64::BITS - longest.leading_zeros()).saturating_sub(SLOT_BITS);
        let (mut shift, mut table, mut best) = (0, [Spot::EMPTY; SLOTS], 0);
        for at in least..=u64::BITS - SLOT_BITS {
            let (filled, worth) = fill(&spots, at);
            if worth > best {
                (shift, table, best) = (at, filled, worth);
            }
        }
        Self {
            shift,
            table,
            spots,
            regions,
        }
    }

    /// The region that the address is in, if it is in the one that the table has for its slot.
    #[inline(always)]
    fn guess(&self, start: u64) -> &Spot {
        &self.table[slot(start >> self.shift)]
    }

    /// The only region that the address can be in: the first that ends after it. None ends at 2^64:
    /// `vm-memory` refuses it.
    fn search(&self, start: u64) -> Option<&Spot> {
        self.spots
            .get(self.spots.partition_point(|spot| spot.end <= start))
    }
}

/// Always less than [`SLOTS`].
#[inline(always)]
fn slot(cell: u64) -> usize {
    usize::try_from(cell % SLOTS as u64).unwrap_or(0)
}

/// The table for one shift, and what it is worth. A byte of a region is worth the less the longer the
/// region: long ones count more, but do not take from a short one the only slot that it is in.
fn fill(spots: &[Spot], shift: u32) -> ([Spot; SLOTS], u64) {
    let (mut table, mut worths) = ([Spot::EMPTY; SLOTS], [0; SLOTS]);
    for spot in spots {
        let (first, last) = (spot.start(), spot.end.wrapping_sub(1));
        let scale = spot.len.isqrt().max(1);
        for cell in (first >> shift..=last >> shift).take(SLOTS) {
            let from = first.max(cell << shift);
            let to = last.min(cell << shift | ((1 << shift) - 1));
            let worth = (to - from) / scale + 1;
            let at = slot(cell);
            if worth > worths[at] {
                (table[at], worths[at]) = (*spot, worth);
            }
        }
    }
    (table, worths.iter().sum())
}

impl<B: Bitmap> VmMem<B> {
    /// The memory as it is now; regions are shared, not copied.
    #[must_use]
    pub fn new(memory: &GuestMemoryMmap<B>) -> Self {
        let (mut spots, mut regions) = (Vec::new(), Vec::new());
        // `GuestMemoryMmap` keeps its regions sorted.
        for region in memory.iter() {
            let mapping = region.get_mmap();
            let Some(ptr) = NonNull::new(mapping.as_ptr()) else {
                continue;
            };
            if mapping.prot() & libc::PROT_READ == 0 {
                continue;
            }
            let writable = mapping.prot() & libc::PROT_WRITE != 0;
            spots.push(Spot {
                end: region.start_addr().raw_value().wrapping_add(region.len()),
                len: region.len(),
                writable_len: if writable { region.len() } else { 0 },
                ptr,
                at: regions.len(),
            });
            regions.push(mapping);
        }
        let map = Arc::new(Map::new(spots.into(), regions.into()));
        Self {
            last: AtomicPtr::new(ptr::from_ref(map.guess(0)).cast_mut()),
            map,
        }
    }

    /// Other memory in place of this. Then tell the engine: `memory_changed()`. Windows of live
    /// queues keep their old mappings until then; clones keep theirs.
    pub fn replace(&mut self, memory: &GuestMemoryMmap<B>) {
        *self = Self::new(memory);
    }
}

impl<B> VmMem<B> {
    #[inline(always)]
    fn last(&self) -> &Spot {
        // SAFETY: `new`, `clone` and `set_last` put only spots of `map` there, which never changes
        // and lives as long as `self`. Whoever has `self` has seen `map` made, so that no order is
        // needed for the pointer.
        unsafe { &*self.last.load(Ordering::Relaxed) }
    }

    /// From now on, this spot is tried first. It must be one of `map`.
    #[inline(always)]
    fn set_last(&self, spot: &Spot) {
        self.last
            .store(ptr::from_ref(spot).cast_mut(), Ordering::Relaxed);
    }

    /// The only region that the address can be in, which becomes the one that is tried first.
    #[inline(always)]
    fn find(&self, start: u64) -> Option<&Spot> {
        let mut spot = self.map.guess(start);
        if !spot.holds(start, 1, Permission::Read) {
            spot = self.map.search(start)?;
        }
        self.set_last(spot);
        Some(spot)
    }

    /// The mapping of a spot of `map`.
    #[inline(always)]
    fn region(&self, spot: &Spot) -> Option<&Arc<MmapRegion<B>>> {
        self.map.regions.get(spot.at)
    }

    #[inline(always)]
    fn spot(&self, range: DriverRange, permission: Permission) -> Option<&Spot> {
        let last = self.last();
        if last.holds(range.start(), range.len(), permission) {
            return Some(last);
        }
        self.find(range.start())
    }

    /// Whether it is in a region that the table does not have there, or across a border.
    #[cold]
    #[inline(never)]
    fn is_elsewhere(&self, start: u64, len: u32, permission: Permission) -> bool {
        match self.map.search(start) {
            Some(spot) if spot.holds(start, len, permission) => {
                self.set_last(spot);
                true
            }
            _ => self.is_in_pieces(start, len, permission),
        }
    }

    #[inline(never)]
    fn is_in_pieces(&self, start: u64, len: u32, permission: Permission) -> bool {
        DriverRange::new(start, len).is_some_and(|range| self.pieces(range, permission, |_, _| {}))
    }

    /// Calls `each` for the piece of the range in each region; false if some byte is in none.
    fn pieces(
        &self,
        range: DriverRange,
        permission: Permission,
        mut each: impl FnMut(&Spot, DriverRange),
    ) -> bool {
        let mut rest = range;
        while !rest.is_empty() {
            let Some(spot) = self.spot(rest, permission) else {
                return false;
            };
            let Ok((_, here)) = spot.part(rest, permission) else {
                return false;
            };
            // A piece of a range is as long as the range at most.
            let here = u32::try_from(here).unwrap_or(u32::MAX);
            let Some(piece) = DriverRange::new(rest.start(), here) else {
                return false;
            };
            each(spot, piece);
            rest = rest.skip(here);
        }
        true
    }
}

impl<B> Clone for VmMem<B> {
    fn clone(&self) -> Self {
        Self {
            last: AtomicPtr::new(self.last.load(Ordering::Relaxed)),
            map: Arc::clone(&self.map),
        }
    }
}

impl<B> fmt::Debug for VmMem<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.map.spots.iter().map(|spot| {
            let access = if spot.writable_len != 0 { "rw" } else { "r" };
            format!("{:#x}+{:#x} {access}", spot.start(), spot.len)
        });
        f.debug_list().entries(regions).finish()
    }
}

/// What a kept window holds on to: its mapping, which it marks dirty.
pub struct KeptRegion<B = ()> {
    region: Arc<MmapRegion<B>>,
    start: u64,
}

impl<B> Clone for KeptRegion<B> {
    fn clone(&self) -> Self {
        Self {
            region: Arc::clone(&self.region),
            start: self.start,
        }
    }
}

impl<B> fmt::Debug for KeptRegion<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptRegion({:#x})", self.start)
    }
}

impl<B: Bitmap + Send + Sync> MemHooks for KeptRegion<B> {
    #[inline(always)]
    fn after_write(&self, range: DriverRange) {
        mark(&self.region, self.start, range);
    }
}

#[inline(always)]
fn mark<B: Bitmap>(region: &MmapRegion<B>, start: u64, range: DriverRange) {
    let offset = range.start().wrapping_sub(start);
    if let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(range.len())) {
        region.bitmap().mark_dirty(offset, len);
    }
}

impl<B: Bitmap + Send + Sync> DriverMem for VmMem<B> {
    type Window = PtrWindow<KeptRegion<B>>;

    fn window(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<PtrWindow<KeptRegion<B>>, MemFault> {
        let spot = self.find(range.start()).ok_or(MemFault::Unmapped)?;
        let (ptr, here) = spot.part(range, permission)?;
        if u32::try_from(here) != Ok(range.len()) {
            return Err(MemFault::Unmapped);
        }
        let aligned = range.start().trailing_zeros().min(4);
        if ptr.as_ptr().addr().trailing_zeros() < aligned {
            return Err(MemFault::Misaligned);
        }
        let hooks = KeptRegion {
            region: Arc::clone(self.region(spot).ok_or(MemFault::Unmapped)?),
            start: spot.start(),
        };
        // SAFETY: `part` found all of the range in the mapping, with this access; the hooks keep
        // the mapping for as long as the window lives.
        unsafe { PtrWindow::new(ptr, range, permission, hooks) }.ok_or(MemFault::Misaligned)
    }

    #[inline(always)]
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        if range.is_empty() {
            // SAFETY: no bytes, so nothing has to be valid.
            return Ok(unsafe { DeviceRange::from_raw(NonNull::dangling(), 0, permission) });
        }
        let spot = self.spot(range, permission).ok_or(MemFault::Unmapped)?;
        let (ptr, here) = spot.part(range, permission)?;
        // SAFETY: `here` bytes from `ptr` are in the mapping, with this access; `self` keeps it.
        Ok(unsafe { DeviceRange::from_raw(ptr, here, permission) })
    }

    #[inline(always)]
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        if self.last().holds(start, len, permission) {
            return true;
        }
        let spot = self.map.guess(start);
        if spot.holds(start, len, permission) {
            self.set_last(spot);
            return true;
        }
        self.is_elsewhere(start, len, permission)
    }

    #[inline(always)]
    fn after_write(&self, range: DriverRange) {
        // A bitmap without a byte of state is `()`.
        if size_of::<B>() != 0 {
            self.pieces(range, Permission::Write, |spot, piece| {
                if let Some(region) = self.region(spot) {
                    mark(region, spot.start(), piece);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;

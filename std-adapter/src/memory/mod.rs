//! Guest memory: the driver's memory over `vm-memory`, and file I/O directly to and from it.
//!
//! Only this module and the module `kvm` use `unsafe`.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

#[cfg(feature = "guest")]
pub(crate) mod dma;
mod positioned;
#[cfg(feature = "io-uring")]
pub(crate) mod uring;

pub(crate) use positioned::{Wait, read_at, write_at};

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
/// * Lookup tries the region of the last hit, then the region that a table holds for the address,
///   then a binary search.
/// * Clones share the memory. Each clone has its own last hit, so each thread should have its own
///   clone.
/// * A region that the host may only read is read-only for the device. A region that the host may
///   not read is not mapped for the device.
/// * Writes of the device are marked in the dirty bitmap of the region, unless `B` is `()`.
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
    /// The extent of the last hit, in `table` or `extents` of `map`.
    last: AtomicPtr<Extent>,
    map: Arc<Map<B>>,
}

/// The regions of a memory. A map is immutable.
struct Map<B> {
    /// Lowest of the [`SLOT_BITS`] address bits that index `table`.
    shift: u32,
    /// For each slot, a region with an address in that slot, or an empty extent.
    table: [Extent; SLOTS],
    /// Sorted by address, without overlaps.
    extents: Box<[Extent]>,
    /// The mappings of `extents`, in the same order.
    mappings: Box<[Arc<MmapRegion<B>>]>,
}

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// The bounds of one region, laid out for the hot path. The [`Map`] keeps the mapping alive.
#[derive(Clone, Copy)]
struct Extent {
    /// The address after the last byte.
    end: u64,
    len: u64,
    /// `len`, or 0 if the region is read-only.
    writable_len: u64,
    ptr: NonNull<u8>,
    /// Index of the mapping in [`Map::mappings`].
    index: usize,
}

// SAFETY: `ptr` is the start of a mapping, which is Send and Sync itself. Memory that is shared
// with a guest is accessed only through raw pointers and atomics.
unsafe impl Send for Extent {}
// SAFETY: as above.
unsafe impl Sync for Extent {}

impl Extent {
    const EMPTY: Self = Self {
        end: 0,
        len: 0,
        writable_len: 0,
        ptr: NonNull::dangling(),
        index: usize::MAX,
    };

    #[inline(always)]
    fn holds(&self, start: u64, len: u32, permission: Permission) -> bool {
        let most = match permission {
            Permission::Read => self.len,
            Permission::Write => self.writable_len,
        };
        // The distance to the end serves both comparisons with one subtraction.
        let room = self.end.wrapping_sub(start);
        room <= most && u64::from(len) <= room
    }

    fn start(&self) -> u64 {
        self.end.wrapping_sub(self.len)
    }

    /// Returns the host address of the start of `range`, and how many bytes of `range` are in this
    /// region.
    #[inline(always)]
    fn clip(
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
    fn new(extents: Box<[Extent]>, mappings: Box<[Arc<MmapRegion<B>>]>) -> Self {
        let longest = extents.iter().map(|extent| extent.len).max().unwrap_or(0);
        // With a lower shift, the longest region would wrap around the table.
        let least = (u64::BITS - longest.leading_zeros()).saturating_sub(SLOT_BITS);
        let (mut shift, mut table, mut best) = (0, [Extent::EMPTY; SLOTS], 0);
        for candidate in least..=u64::BITS - SLOT_BITS {
            let (filled, score) = fill(&extents, candidate);
            if score > best {
                (shift, table, best) = (candidate, filled, score);
            }
        }
        Self {
            shift,
            table,
            extents,
            mappings,
        }
    }

    /// Returns the extent that the table holds for the slot of `start`. It need not contain
    /// `start`.
    #[inline(always)]
    fn guess(&self, start: u64) -> &Extent {
        &self.table[slot(start >> self.shift)]
    }

    /// Returns the only region that can contain `start`: the first region that ends after `start`.
    ///
    /// No region ends at 2^64, because `vm-memory` does not accept such a region.
    fn search(&self, start: u64) -> Option<&Extent> {
        self.extents
            .get(self.extents.partition_point(|extent| extent.end <= start))
    }
}

/// Returns the table slot of a cell. The result is always less than [`SLOTS`].
#[inline(always)]
fn slot(cell: u64) -> usize {
    usize::try_from(cell % SLOTS as u64).unwrap_or(0)
}

/// Builds the table for one shift, and returns it with its score.
///
/// Each slot goes to the region with the highest score there: the region's bytes in the slot,
/// divided by the square root of the region's length. Long regions therefore score more in total,
/// but a long region seldom takes the only slot of a short region. The score of the table is the
/// sum over all slots.
fn fill(extents: &[Extent], shift: u32) -> ([Extent; SLOTS], u64) {
    let (mut table, mut scores) = ([Extent::EMPTY; SLOTS], [0; SLOTS]);
    for extent in extents {
        let (first, last) = (extent.start(), extent.end.wrapping_sub(1));
        let scale = extent.len.isqrt().max(1);
        for cell in (first >> shift..=last >> shift).take(SLOTS) {
            let from = first.max(cell << shift);
            let to = last.min(cell << shift | ((1 << shift) - 1));
            let score = (to - from) / scale + 1;
            let slot = slot(cell);
            if score > scores[slot] {
                (table[slot], scores[slot]) = (*extent, score);
            }
        }
    }
    (table, scores.iter().sum())
}

impl<B: Bitmap> VmMem<B> {
    /// Creates driver memory from the current regions. The regions are shared, not copied.
    #[must_use]
    pub fn new(memory: &GuestMemoryMmap<B>) -> Self {
        let (mut extents, mut mappings) = (Vec::new(), Vec::new());
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
            extents.push(Extent {
                end: region.start_addr().raw_value().wrapping_add(region.len()),
                len: region.len(),
                writable_len: if writable { region.len() } else { 0 },
                ptr,
                index: mappings.len(),
            });
            mappings.push(mapping);
        }
        let map = Arc::new(Map::new(extents.into(), mappings.into()));
        Self {
            last: AtomicPtr::new(ptr::from_ref(map.guess(0)).cast_mut()),
            map,
        }
    }

    /// Replaces the memory. Call [`memory_changed`](virtside::Engine::memory_changed) of the engine
    /// afterwards.
    ///
    /// A live queue may use the old mappings until that method has returned true. A clone keeps the
    /// old memory.
    pub fn replace(&mut self, memory: &GuestMemoryMmap<B>) {
        *self = Self::new(memory);
    }
}

impl<B> VmMem<B> {
    #[inline(always)]
    fn last(&self) -> &Extent {
        // SAFETY: `new`, `clone` and `set_last` store only extents of `map`, which is immutable and
        // lives as long as `self`. A thread that has `self` has synchronised with the creation of
        // `map`, so the pointer needs no ordering.
        unsafe { &*self.last.load(Ordering::Relaxed) }
    }

    /// Makes `extent`, which must be one of `map`, the extent that is tried first.
    #[inline(always)]
    fn set_last(&self, extent: &Extent) {
        self.last
            .store(ptr::from_ref(extent).cast_mut(), Ordering::Relaxed);
    }

    /// Returns the only region that can contain `start`, and makes it the last hit.
    #[inline(always)]
    fn find(&self, start: u64) -> Option<&Extent> {
        let mut extent = self.map.guess(start);
        if !extent.holds(start, 1, Permission::Read) {
            extent = self.map.search(start)?;
        }
        self.set_last(extent);
        Some(extent)
    }

    /// Returns the mapping of an extent of `map`.
    #[inline(always)]
    fn mapping(&self, extent: &Extent) -> Option<&Arc<MmapRegion<B>>> {
        self.map.mappings.get(extent.index)
    }

    #[inline(always)]
    fn extent(&self, range: DriverRange, permission: Permission) -> Option<&Extent> {
        let last = self.last();
        if last.holds(range.start(), range.len(), permission) {
            return Some(last);
        }
        self.find(range.start())
    }

    /// Slow path of `is_mapped`: the region is not in the table, or the range crosses regions.
    #[cold]
    #[inline(never)]
    fn is_mapped_slow(&self, start: u64, len: u32, permission: Permission) -> bool {
        match self.map.search(start) {
            Some(extent) if extent.holds(start, len, permission) => {
                self.set_last(extent);
                true
            }
            _ => self.is_mapped_across(start, len, permission),
        }
    }

    #[inline(never)]
    fn is_mapped_across(&self, start: u64, len: u32, permission: Permission) -> bool {
        DriverRange::new(start, len)
            .is_some_and(|range| self.for_each_piece(range, permission, |_, _| {}))
    }

    /// Calls `each` with the piece of `range` in each region. Returns false at the first byte that
    /// is in no region.
    fn for_each_piece(
        &self,
        range: DriverRange,
        permission: Permission,
        mut each: impl FnMut(&Extent, DriverRange),
    ) -> bool {
        let mut rest = range;
        while !rest.is_empty() {
            let Some(extent) = self.extent(rest, permission) else {
                return false;
            };
            let Ok((_, here)) = extent.clip(rest, permission) else {
                return false;
            };
            // A piece is at most as long as the range, so it fits.
            let here = u32::try_from(here).unwrap_or(u32::MAX);
            let Some(piece) = DriverRange::new(rest.start(), here) else {
                return false;
            };
            each(extent, piece);
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
        let regions = self.map.extents.iter().map(|extent| {
            let access = if extent.writable_len != 0 { "rw" } else { "r" };
            format!("{:#x}+{:#x} {access}", extent.start(), extent.len)
        });
        f.debug_list().entries(regions).finish()
    }
}

/// Hooks of a ring window: keep the window's mapping alive, and mark writes in its dirty bitmap.
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
        let extent = self.find(range.start()).ok_or(MemFault::Unmapped)?;
        let (ptr, here) = extent.clip(range, permission)?;
        if u32::try_from(here) != Ok(range.len()) {
            return Err(MemFault::Unmapped);
        }
        let aligned = range.start().trailing_zeros().min(4);
        if ptr.as_ptr().addr().trailing_zeros() < aligned {
            return Err(MemFault::Misaligned);
        }
        let hooks = KeptRegion {
            region: Arc::clone(self.mapping(extent).ok_or(MemFault::Unmapped)?),
            start: extent.start(),
        };
        // SAFETY: `clip` found the whole range in the mapping, with this permission. The hooks keep
        // the mapping alive as long as the window.
        unsafe { PtrWindow::new(ptr, range, permission, hooks) }.ok_or(MemFault::Misaligned)
    }

    #[inline(always)]
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        if range.is_empty() {
            // SAFETY: an empty range needs no valid memory.
            return Ok(unsafe { DeviceRange::from_raw(NonNull::dangling(), 0, permission) });
        }
        let extent = self.extent(range, permission).ok_or(MemFault::Unmapped)?;
        let (ptr, here) = extent.clip(range, permission)?;
        // SAFETY: `here` bytes from `ptr` are in the mapping, with this permission; `self` keeps
        // it.
        Ok(unsafe { DeviceRange::from_raw(ptr, here, permission) })
    }

    #[inline(always)]
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        if self.last().holds(start, len, permission) {
            return true;
        }
        let extent = self.map.guess(start);
        if extent.holds(start, len, permission) {
            self.set_last(extent);
            return true;
        }
        self.is_mapped_slow(start, len, permission)
    }

    #[inline(always)]
    fn after_write(&self, range: DriverRange) {
        // Only the bitmap `()` has size 0.
        if size_of::<B>() != 0 {
            self.for_each_piece(range, Permission::Write, |extent, piece| {
                if let Some(region) = self.mapping(extent) {
                    mark(region, extent.start(), piece);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;

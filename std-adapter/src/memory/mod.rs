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
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use virtside::{DeviceRange, DriverMem, DriverRange, MemFault, MemHooks, Permission, PtrWindow};
use vm_memory::{
    Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion, bitmap::Bitmap,
};

/// Driver memory in the regions of a [`GuestMemoryMmap`].
///
/// The region that was hit last is tried first; a miss tries up to 8 one after the other, more by a
/// binary search. Clones see the same memory and have a hint of their own, so each thread should have
/// one. Regions that the host may not write are read-only for the device, ones that it may not read are
/// not there.
///
/// What the device writes is marked in the regions' bitmaps, if they have them (`B` is not `()`).
///
/// ```
/// use virtside::{DriverMem, Permission};
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
    /// Sorted, and free of overlaps.
    spots: Arc<[Spot<B>]>,
    last: AtomicUsize,
}

/// One region, as the hot path wants it. It keeps the mapping alive.
struct Spot<B> {
    start: u64,
    len: u64,
    ptr: NonNull<u8>,
    writable: bool,
    region: Arc<MmapRegion<B>>,
}

// SAFETY: `ptr` is the start of `region`, which is Send and Sync itself; memory that is shared with
// a guest is accessed through raw pointers and atomics only.
unsafe impl<B: Send + Sync> Send for Spot<B> {}
// SAFETY: as above.
unsafe impl<B: Send + Sync> Sync for Spot<B> {}

impl<B> Spot<B> {
    #[inline(always)]
    fn holds(&self, start: u64, len: u32, permission: Permission) -> bool {
        let offset = start.wrapping_sub(self.start);
        offset <= self.len
            && u64::from(len) <= self.len.wrapping_sub(offset)
            && (self.writable || permission == Permission::Read)
    }

    /// Where the range starts here, and how many bytes of it are here.
    #[inline(always)]
    fn part(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<(NonNull<u8>, usize), MemFault> {
        let offset = range.start().wrapping_sub(self.start);
        if offset >= self.len {
            return Err(MemFault::Unmapped);
        }
        if permission == Permission::Write && !self.writable {
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

impl<B: Bitmap> VmMem<B> {
    /// The memory as it is now; regions are shared, not copied.
    #[must_use]
    pub fn new(memory: &GuestMemoryMmap<B>) -> Self {
        let spot = |region: &vm_memory::GuestRegionMmap<B>| {
            let mapping = region.get_mmap();
            if mapping.prot() & libc::PROT_READ == 0 {
                return None;
            }
            Some(Spot {
                start: region.start_addr().raw_value(),
                len: region.len(),
                ptr: NonNull::new(mapping.as_ptr())?,
                writable: mapping.prot() & libc::PROT_WRITE != 0,
                region: mapping,
            })
        };
        // `GuestMemoryMmap` keeps its regions sorted.
        Self {
            spots: memory.iter().filter_map(spot).collect(),
            last: AtomicUsize::new(0),
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
    fn last(&self) -> Option<&Spot<B>> {
        self.spots.get(self.last.load(Ordering::Relaxed))
    }

    /// The region of an address, which becomes the one that is tried first.
    #[inline(always)]
    fn find(&self, start: u64) -> Option<&Spot<B>> {
        let after = self.spots.partition_point(|spot| spot.start <= start);
        let at = after.checked_sub(1)?;
        let spot = self.spots.get(at)?;
        if start.wrapping_sub(spot.start) >= spot.len {
            return None;
        }
        self.last.store(at, Ordering::Relaxed);
        Some(spot)
    }

    #[inline(always)]
    fn spot(&self, range: DriverRange, permission: Permission) -> Option<&Spot<B>> {
        match self.last() {
            Some(spot) if spot.holds(range.start(), range.len(), permission) => Some(spot),
            _ => self.find(range.start()),
        }
    }

    /// Whether it is in a region other than the last one, or across the border of adjacent ones.
    #[inline(never)]
    fn is_elsewhere(&self, start: u64, len: u32, permission: Permission) -> bool {
        // Of few regions, one after the other is the shortest way.
        if self.spots.len() <= 8 {
            for (at, spot) in self.spots.iter().enumerate() {
                if start.wrapping_sub(spot.start) < spot.len {
                    if spot.holds(start, len, permission) {
                        self.last.store(at, Ordering::Relaxed);
                        return true;
                    }
                    break;
                }
            }
        }
        self.is_somewhere(start, len, permission)
    }

    #[inline(never)]
    fn is_somewhere(&self, start: u64, len: u32, permission: Permission) -> bool {
        match self.find(start) {
            Some(spot) if spot.holds(start, len, permission) => true,
            _ => DriverRange::new(start, len)
                .is_some_and(|range| self.pieces(range, permission, |_, _| {})),
        }
    }

    /// Calls `each` for the piece of the range in each region; false if some byte is in none.
    fn pieces(
        &self,
        range: DriverRange,
        permission: Permission,
        mut each: impl FnMut(&Spot<B>, DriverRange),
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
            spots: Arc::clone(&self.spots),
            last: AtomicUsize::new(self.last.load(Ordering::Relaxed)),
        }
    }
}

impl<B> fmt::Debug for VmMem<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.spots.iter().map(|spot| {
            let access = if spot.writable { "rw" } else { "r" };
            format!("{:#x}+{:#x} {access}", spot.start, spot.len)
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
            region: Arc::clone(&spot.region),
            start: spot.start,
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
        match self.last() {
            Some(spot) if spot.holds(start, len, permission) => true,
            _ => self.is_elsewhere(start, len, permission),
        }
    }

    #[inline(always)]
    fn after_write(&self, range: DriverRange) {
        // A bitmap without a byte of state is `()`.
        if size_of::<B>() != 0 {
            self.pieces(range, Permission::Write, |spot, piece| {
                mark(&spot.region, spot.start, piece);
            });
        }
    }
}

#[cfg(test)]
mod tests;

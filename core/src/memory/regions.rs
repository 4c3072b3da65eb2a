//! Driver memory in several regions with holes between them.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    DeviceRange, DriverMem, DriverRange, MemFault, MemHooks, NoHooks, Permission, PtrWindow,
    is_mapped_in_pieces,
};
use crate::num;

/// A contiguous piece of driver memory.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Region {
    base: u64,
    len: u64,
    ptr: NonNull<u8>,
    permission: Permission,
}

// SAFETY: the memory may be accessed from any thread (`new`'s contract).
unsafe impl Send for Region {}
// SAFETY: as above; a region has no state of its own.
unsafe impl Sync for Region {}

impl Region {
    /// Creates a region of the `len` bytes at `ptr`. The driver addresses begin at `base`. Bytes
    /// beyond the end of the driver's address space are left out.
    ///
    /// # Safety
    /// The bytes must stay valid for reads, and for writes if `permission` says so, from any
    /// thread, for as long as this region, a copy of it, or a window made from it lives. The
    /// program must access them only through raw pointers or atomics. A guest may access the bytes
    /// in any way.
    #[must_use]
    pub const unsafe fn new(
        base: u64,
        ptr: NonNull<u8>,
        len: usize,
        permission: Permission,
    ) -> Self {
        let room = u64::MAX.wrapping_sub(base);
        let len = const_wide(len);
        let room = room.saturating_add(1);
        let len = if len > room { room } else { len };
        Self {
            base,
            len,
            ptr,
            permission,
        }
    }

    /// Returns the same memory as a region that the device may only read.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self {
            permission: Permission::Read,
            ..self
        }
    }

    /// Returns the offset of the first byte of `range` in this region, and the number of bytes of
    /// `range` that the region holds.
    ///
    /// # Errors
    /// [`MemFault`] if the region does not hold the first byte, or does not allow the access.
    #[inline(always)]
    fn part(&self, range: DriverRange, permission: Permission) -> Result<(usize, usize), MemFault> {
        let offset = range.start().wrapping_sub(self.base);
        if offset >= self.len {
            return Err(MemFault::Unmapped);
        }
        if permission == Permission::Write && self.permission == Permission::Read {
            return Err(MemFault::Denied);
        }
        let here = u64::from(range.len()).min(self.len.wrapping_sub(offset));
        // Both numbers are at most the region's length, which was a `usize`.
        match (usize::try_from(offset), usize::try_from(here)) {
            (Ok(offset), Ok(here)) => Ok((offset, here)),
            _ => Err(MemFault::Unmapped),
        }
    }

    /// Returns whether the region holds all `len` bytes from `start` on and allows this access. A
    /// region does not wrap around the address space, so neither does a range that the region
    /// holds.
    #[inline(always)]
    pub(crate) fn holds(&self, start: u64, len: u32, permission: Permission) -> bool {
        if permission == Permission::Write && self.permission == Permission::Read {
            return false;
        }
        // Number of bytes from `start` to the end of the region. For a `start` outside the region,
        // the difference is larger than the length of the region.
        let room = self.base.wrapping_add(self.len).wrapping_sub(start);
        room <= self.len && u64::from(len) <= room
    }

    #[inline(always)]
    pub(crate) fn translate<'a>(
        &'a self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'a>, MemFault> {
        if range.is_empty() {
            // SAFETY: no bytes, so nothing has to be valid.
            return Ok(unsafe { DeviceRange::from_raw(NonNull::dangling(), 0, permission) });
        }
        let (offset, here) = self.part(range, permission)?;
        // SAFETY: `offset + here` is within the region, whose memory `new`'s caller vouches for;
        // the caller of this method bounds `'a` by the life of the region.
        Ok(unsafe { DeviceRange::from_raw(self.ptr.add(offset), here, permission) })
    }

    pub(crate) fn window<H: MemHooks>(
        &self,
        range: DriverRange,
        permission: Permission,
        hooks: H,
    ) -> Result<PtrWindow<H>, MemFault> {
        let (offset, here) = self.part(range, permission)?;
        if num::wide(here) < u64::from(range.len()) {
            return Err(MemFault::Unmapped);
        }
        // SAFETY: within the region.
        let ptr = unsafe { self.ptr.add(offset) };
        let driver = range.start().trailing_zeros().min(4);
        if ptr.as_ptr().addr().trailing_zeros() < driver {
            return Err(MemFault::Misaligned);
        }
        // SAFETY: `range.len()` bytes from `ptr` are in the region, for whose memory `new`'s
        // caller vouches as long as the window lives; an area that the device only loads from is
        // asked for with `Permission::Read`.
        unsafe { PtrWindow::new(ptr, range, permission, hooks) }.ok_or(MemFault::Misaligned)
    }
}

/// Widens a `usize` to a `u64`. `u64::try_from` is not const.
const fn const_wide(value: usize) -> u64 {
    let bytes = value.to_le_bytes();
    let mut wide = [0; 8];
    let mut rest: &[u8] = &bytes;
    let mut room: &mut [u8] = &mut wide;
    while let ([byte, bytes @ ..], [place, places @ ..]) = (rest, room) {
        *place = *byte;
        rest = bytes;
        room = places;
    }
    u64::from_le_bytes(wide)
}

/// Driver memory in up to `R` regions.
///
/// A look-up tries the region of the last hit first. After a miss, the look-up tries all regions,
/// so it takes at most `R + 1` comparisons. Regions may be adjacent, but must not overlap.
#[derive(Debug)]
pub struct RegionMem<const R: usize, H = NoHooks> {
    regions: heapless::Vec<Region, R>,
    last: AtomicUsize,
    hooks: H,
}

impl<const R: usize> RegionMem<R> {
    /// Creates driver memory without regions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            regions: heapless::Vec::new(),
            last: AtomicUsize::new(0),
            hooks: NoHooks,
        }
    }
}

impl<const R: usize> Default for RegionMem<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const R: usize, H> RegionMem<R, H> {
    /// Adds a region.
    ///
    /// # Errors
    /// Returns the region if the memory has `R` regions already, or if the region overlaps one of
    /// them.
    pub fn add(&mut self, region: Region) -> Result<(), Region> {
        let clash = self.regions.iter().any(|other| {
            let ahead = region.base.wrapping_sub(other.base);
            let behind = other.base.wrapping_sub(region.base);
            ahead < other.len || behind < region.len
        });
        if clash {
            Err(region)
        } else {
            self.regions.push(region)
        }
    }

    /// Replaces the hooks of the memory.
    #[must_use]
    pub fn with_hooks<G: MemHooks>(self, hooks: G) -> RegionMem<R, G> {
        RegionMem {
            regions: self.regions,
            last: self.last,
            hooks,
        }
    }

    #[inline(always)]
    fn last(&self) -> Option<&Region> {
        self.regions.get(self.last.load(Ordering::Relaxed))
    }

    /// Returns the region that holds address `start`. The next look-up tries this region first.
    fn find(&self, start: u64) -> Option<&Region> {
        for (at, region) in self.regions.iter().enumerate() {
            if start.wrapping_sub(region.base) < region.len {
                self.last.store(at, Ordering::Relaxed);
                return Some(region);
            }
        }
        None
    }
}

impl<const R: usize, H: MemHooks> DriverMem for RegionMem<R, H> {
    type Window = PtrWindow<H>;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<PtrWindow<H>, MemFault> {
        let region = self.find(range.start()).ok_or(MemFault::Unmapped)?;
        region.window(range, permission, self.hooks.clone())
    }

    #[inline(always)]
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        let (start, len) = (range.start(), range.len());
        let last = self
            .last()
            .filter(|region| region.holds(start, len, permission));
        match last.or_else(|| self.find(range.start())) {
            Some(region) => region.translate(range, permission),
            None => Err(MemFault::Unmapped),
        }
    }

    #[inline(always)]
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        match self.last() {
            Some(region) if region.holds(start, len, permission) => true,
            _ => self.is_mapped_slow(start, len, permission),
        }
    }

    #[inline(always)]
    fn before_read(&self, range: DriverRange) {
        self.hooks.before_read(range);
    }

    #[inline(always)]
    fn after_write(&self, range: DriverRange) {
        self.hooks.after_write(range);
    }
}

impl<const R: usize, H: MemHooks> RegionMem<R, H> {
    /// Returns whether the range is mapped, without trying the region of the last hit first. The
    /// range may cross the border between adjacent regions. Translates at most `R` pieces.
    fn is_mapped_slow(&self, start: u64, len: u32, permission: Permission) -> bool {
        self.find(start)
            .is_some_and(|region| region.holds(start, len, permission))
            || is_mapped_in_pieces(self, start, len, permission)
    }
}

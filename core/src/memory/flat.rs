//! Driver memory in one contiguous region.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::ptr::NonNull;

use super::{
    DeviceRange, DriverMem, DriverRange, MemFault, MemHooks, NoHooks, Permission, PtrWindow, Region,
};

/// Driver memory in one contiguous, writable region.
///
/// Examples are RAM that two cores of a chip share, and the RAM of a virtual machine without holes.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlatMem<H = NoHooks> {
    region: Region,
    hooks: H,
}

impl FlatMem {
    /// Creates driver memory of the `len` bytes at `ptr`. The driver addresses begin at `base`.
    ///
    /// # Safety
    /// See [`Region::new`].
    #[must_use]
    pub const unsafe fn new(base: u64, ptr: NonNull<u8>, len: usize) -> Self {
        // SAFETY: the caller's promise is the same.
        let region = unsafe { Region::new(base, ptr, len, Permission::Write) };
        Self {
            region,
            hooks: NoHooks,
        }
    }
}

impl FlatMem {
    /// Adds hooks to the memory.
    ///
    /// Only memory without hooks can get hooks. The hooks of [`Ram::lend`](super::Ram::lend) bound
    /// the lifetime of the memory, so they must not be replaced.
    #[must_use]
    pub fn with_hooks<G: MemHooks>(self, hooks: G) -> FlatMem<G> {
        FlatMem {
            region: self.region,
            hooks,
        }
    }
}

impl<H> FlatMem<H> {
    /// Creates driver memory of a region that must be writable.
    pub(super) const fn from_region(region: Region, hooks: H) -> Self {
        Self { region, hooks }
    }
}

impl<H: MemHooks> DriverMem for FlatMem<H> {
    type Window = PtrWindow<H>;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<PtrWindow<H>, MemFault> {
        self.region.window(range, permission, self.hooks.clone())
    }

    #[inline(always)]
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        self.region.translate(range, permission)
    }

    #[inline(always)]
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        // The region is writable, so the requested permission needs no check.
        let _ = permission;
        self.region.holds(start, len, Permission::Read)
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

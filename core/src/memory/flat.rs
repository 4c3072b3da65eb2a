//! One contiguous region.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::ptr::NonNull;

use super::{
    DeviceRange, DriverMem, DriverRange, MemFault, MemHooks, NoHooks, Permission, PtrWindow, Region,
};

/// Driver memory in one contiguous, writable region: the RAM that two sides of a chip share, or a
/// guest's only memory slot.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlatMem<H = NoHooks> {
    region: Region,
    hooks: H,
}

impl FlatMem {
    /// `len` bytes at `ptr`, which the driver knows as `base`.
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
    /// The same memory with hooks. (Hooks are not replaced: those of [`Ram::lend`](super::Ram::lend)
    /// bound the life of the memory.)
    #[must_use]
    pub fn with_hooks<G: MemHooks>(self, hooks: G) -> FlatMem<G> {
        FlatMem {
            region: self.region,
            hooks,
        }
    }
}

impl<H> FlatMem<H> {
    /// Memory in this region, which may be written.
    pub(super) const fn of(region: Region, hooks: H) -> Self {
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
        // All of it may be written, so there is nothing to be asked.
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

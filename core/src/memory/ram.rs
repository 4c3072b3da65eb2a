//! RAM to share, for firmware and for tests.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{cell::UnsafeCell, ptr::NonNull};

use super::{DeviceRange, FlatMem, Permission};

/// `BYTES` of zeroed, page-aligned RAM that a driver and a device share.
///
/// ```
/// use virtside::Ram;
/// static RAM: Ram<8192> = Ram::new();
/// RAM.write(16, &[1, 2]);
/// let mut bytes = [0; 3];
/// RAM.read(15, &mut bytes);
/// assert_eq!(bytes, [0, 1, 2]);
/// ```
#[repr(C, align(4096))]
pub struct Ram<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: the bytes are only reached through raw pointers, volatile or atomic accesses; whoever
// shares them races by design, as two sides of a ring do.
unsafe impl<const BYTES: usize> Sync for Ram<BYTES> {}

impl<const BYTES: usize> core::fmt::Debug for Ram<BYTES> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ram<{BYTES}>")
    }
}

#[cfg(feature = "defmt")]
impl<const BYTES: usize> defmt::Format for Ram<BYTES> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Ram<{=usize}>", BYTES);
    }
}

impl<const BYTES: usize> Default for Ram<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Ram<BYTES> {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }

    /// Where it is.
    #[must_use]
    pub const fn as_ptr(&self) -> NonNull<u8> {
        // An `UnsafeCell` in a reference is never at null; `cast` drops only the array's length.
        match NonNull::new(self.0.get()) {
            Some(ptr) => ptr.cast(),
            None => NonNull::dangling(),
        }
    }

    /// As driver memory from driver address `base` on.
    #[must_use]
    pub const fn flat(&'static self, base: u64) -> FlatMem {
        // SAFETY: `BYTES` bytes of a static that is only reached through raw pointers.
        unsafe { FlatMem::new(base, self.as_ptr(), BYTES) }
    }

    fn view(&self, at: usize) -> DeviceRange<'_> {
        // SAFETY: as in `flat`, for as long as `self` is borrowed.
        let all = unsafe { DeviceRange::from_raw(self.as_ptr(), BYTES, Permission::Write) };
        all.skip(at)
    }

    /// Copies bytes out from offset `at` on, as many as there are; says how many.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> usize {
        self.view(at).copy_to(bytes)
    }

    /// Copies bytes in from offset `at` on, as many as fit; says how many.
    pub fn write(&self, at: usize, bytes: &[u8]) -> usize {
        self.view(at).copy_from(bytes)
    }
}

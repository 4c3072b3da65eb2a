//! RAM that a driver and a device share, for firmware and for tests.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{cell::UnsafeCell, marker::PhantomData, ops::Range, ptr::NonNull};

use super::{DeviceRange, FlatMem, MemHooks, Permission, Region};

/// `BYTES` of zeroed, page-aligned RAM that a driver and a device share.
///
/// ```
/// use virtside::memory::Ram;
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

impl<const BYTES: usize> Default for Ram<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Ram<BYTES> {
    /// Creates RAM that is all zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }

    /// Returns the address of the first byte.
    #[must_use]
    pub const fn as_ptr(&self) -> NonNull<u8> {
        // The address of an `UnsafeCell` is never null. `cast` drops only the array's length.
        match NonNull::new(self.0.get()) {
            Some(ptr) => ptr.cast(),
            None => NonNull::dangling(),
        }
    }

    /// Returns the RAM as driver memory whose driver addresses begin at `base`.
    #[must_use]
    pub const fn flat(&'static self, base: u64) -> FlatMem {
        // SAFETY: `BYTES` bytes of a static that is only reached through raw pointers.
        unsafe { FlatMem::new(base, self.as_ptr(), BYTES) }
    }

    /// Returns the RAM as driver memory whose driver addresses begin at `base`, for RAM that is not
    /// a static: on the stack, or in a box.
    ///
    /// The device and its queues cannot outlive the RAM.
    ///
    /// ```
    /// use virtside::{memory::Ram, testing::{Buffer, fake_queue}};
    /// let ram = Box::new(Ram::<8192>::new());
    /// let mut driver = fake_queue(ram.lend(0x8000_0000), 0x8000_0000, 8);
    /// driver.send(0, &[Buffer::writable(0x8000_1000, 4)]);
    /// assert_eq!(driver.take_used(), None);
    /// ```
    ///
    /// ```compile_fail,E0597
    /// use virtside::memory::Ram;
    /// let mem = {
    ///     let ram = Ram::<4096>::new();
    ///     ram.lend(0)
    /// };
    /// # let _ = mem;
    /// ```
    #[must_use]
    pub const fn lend(&self, base: u64) -> FlatMem<Lent<'_>> {
        // SAFETY: `BYTES` bytes that are only reached through raw pointers. The memory and each of
        // its windows hold a `Lent`, which keeps `self` borrowed, and neither gives the region away
        // or exchanges its hooks.
        let region = unsafe { Region::new(base, self.as_ptr(), BYTES, Permission::Write) };
        FlatMem::from_region(region, Lent(PhantomData))
    }

    /// Returns the RAM as a region of a [`RegionMem`](super::RegionMem). The driver addresses of
    /// the region begin at `base`.
    ///
    /// ```
    /// use virtside::{DriverMem, memory::{Permission, Ram, RegionMem}};
    /// static LOW: Ram<4096> = Ram::new();
    /// static HIGH: Ram<8192> = Ram::new();
    /// let mut mem = RegionMem::<2>::new();
    /// mem.add(LOW.region(0)).unwrap();
    /// mem.add(HIGH.region(0x8000_0000)).unwrap();
    /// assert!(mem.is_mapped(0x8000_1ffc, 4, Permission::Write));
    /// assert!(!mem.is_mapped(0x1000, 4, Permission::Read), "a hole");
    /// ```
    #[must_use]
    pub const fn region(&'static self, base: u64) -> Region {
        // SAFETY: as in `flat`.
        unsafe { Region::new(base, self.as_ptr(), BYTES, Permission::Write) }
    }

    /// Returns the bytes at these offsets as a region. The driver addresses of the region begin at
    /// `base`.
    ///
    /// Returns `None` if the range of offsets is inverted or ends beyond the end of the RAM.
    #[must_use]
    pub fn part(&'static self, bytes: Range<usize>, base: u64) -> Option<Region> {
        let len = bytes.end.checked_sub(bytes.start)?;
        if bytes.end > BYTES {
            return None;
        }
        // SAFETY: `start` is at most `end`, which is at most `BYTES`.
        let first = unsafe { self.as_ptr().add(bytes.start) };
        // SAFETY: as in `flat`; `len` bytes from `first` end at `end`.
        Some(unsafe { Region::new(base, first, len, Permission::Write) })
    }

    fn view(&self, at: usize) -> DeviceRange<'_> {
        // SAFETY: as in `flat`, for as long as `self` is borrowed.
        let all = unsafe { DeviceRange::from_raw(self.as_ptr(), BYTES, Permission::Write) };
        all.skip(at)
    }

    /// Copies bytes from the RAM, starting at offset `at`, until `bytes` is full or the RAM ends.
    /// Returns the number of copied bytes.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> usize {
        self.view(at).copy_to(bytes)
    }

    /// Copies bytes into the RAM, starting at offset `at`, until `bytes` is exhausted or the RAM
    /// ends. Returns the number of copied bytes.
    pub fn write(&self, at: usize, bytes: &[u8]) -> usize {
        self.view(at).copy_from(bytes)
    }
}

/// Borrow marker of [lent](Ram::lend) RAM.
///
/// The marker keeps the RAM borrowed as long as the memory or one of its windows exists. The marker
/// has no effect on accesses.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lent<'r>(PhantomData<&'r ()>);

impl MemHooks for Lent<'_> {}

//! The driver's memory, as the device may see it.
//!
//! This is the only module with `unsafe`. It knows two kinds of view:
//!
//! * a [`RingWindow`]: translated once, when a queue becomes ready, and kept. It is an owned,
//!   `Send` value (firmware: pointer and length; a host: a kept mapping and an offset), so that an
//!   engine can live beside memory that is remapped. Its accesses are atomic, each of one width.
//! * a [`DeviceRange`]: a piece of a buffer, translated when it is used and never held across a
//!   poll. A buffer that spans adjacent regions gives several.
//!
//! What a driver address means is [`DriverMem`]'s answer alone: translation with access check
//! (an IOMMU), dirty logging and cache maintenance are its hooks, and default to nothing.

mod flat;
mod ram;
mod range;
mod regions;
mod window;

pub use flat::FlatMem;
pub use ram::{Lent, Ram};
pub(crate) use range::split;
pub use range::{DeviceRange, RawDescriptor};
pub use regions::{Region, RegionMem};
#[cfg(all(feature = "packed", any(feature = "testing", test, doctest)))]
pub(crate) use window::is_available;
#[cfg(any(feature = "testing", test, doctest))]
pub use window::order;
#[cfg(feature = "packed")]
pub(crate) use window::{AVAIL, USED};
pub use window::{PtrWindow, RingWindow};

use crate::num;

/// What the device wants to do with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Permission {
    /// Load from it.
    Read,
    /// Store to it, and load from it.
    Write,
}

/// A range of driver addresses that does not wrap.
///
/// ```
/// use virtside::memory::DriverRange;
/// assert!(DriverRange::new(u64::MAX, 1).is_some());
/// assert!(DriverRange::new(u64::MAX, 2).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DriverRange {
    start: u64,
    len: u32,
}

impl DriverRange {
    /// `len` bytes from `start`, unless their last byte is beyond the address space.
    #[inline(always)]
    #[must_use]
    pub const fn new(start: u64, len: u32) -> Option<Self> {
        // Widening; `u64::from` is not const.
        let [a, b, c, d] = len.to_le_bytes();
        let wide = u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]);
        if wide == 0 || start.checked_add(wide.wrapping_sub(1)).is_some() {
            Some(Self { start, len })
        } else {
            None
        }
    }

    /// First driver address.
    #[inline(always)]
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Length in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bytes in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the two ranges share a byte.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Distances, so that a range that ends with the address space needs no special case.
        let ahead = other.start.wrapping_sub(self.start);
        let behind = self.start.wrapping_sub(other.start);
        !self.is_empty()
            && !other.is_empty()
            && ((other.start >= self.start && ahead < u64::from(self.len))
                || (self.start >= other.start && behind < u64::from(other.len)))
    }

    /// The range without its first `count` bytes; empty if there are no more.
    #[must_use]
    pub const fn skip(&self, count: u32) -> Self {
        let count = if count < self.len { count } else { self.len };
        let [a, b, c, d] = count.to_le_bytes();
        let wide = u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]);
        Self {
            start: self.start.wrapping_add(wide),
            len: self.len.wrapping_sub(count),
        }
    }
}

/// A driver address that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MemFault {
    /// No memory there, or not for as many bytes.
    Unmapped,
    /// Memory, but not with this access.
    Denied,
    /// Ring memory whose host address is less aligned than its driver address.
    Misaligned,
}

impl core::fmt::Display for MemFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unmapped => "not all of the range is mapped",
            Self::Denied => "the range does not allow this access",
            Self::Misaligned => {
                "the range is less aligned in the host than in the driver's address space"
            }
        })
    }
}

impl core::error::Error for MemFault {}

/// The driver's memory.
///
/// Implemented here for [`FlatMem`] and [`RegionMem`]; a host implements it over its own mappings.
/// Methods take `&self` and are called from wherever the queues are.
///
/// ```
/// use virtside::{DriverMem, memory::{DriverRange, Permission, Ram}};
/// static RAM: Ram<4096> = Ram::new();
/// let memory = RAM.flat(0x8000_0000);
/// let range = DriverRange::new(0x8000_0ffc, 4).unwrap();
/// assert!(memory.is_mapped(0x8000_0ffc, 4, Permission::Write));
/// let view = memory.translate(range, Permission::Write).unwrap();
/// assert_eq!(view.copy_from(&[1, 2, 3, 4]), 4);
/// ```
pub trait DriverMem {
    /// A kept view of ring memory.
    type Window: RingWindow;

    /// A kept view of the whole range and of nothing more, contiguous and as aligned as its driver
    /// address (up to 16). A packed ring ends where its window says that there is no descriptor.
    ///
    /// # Errors
    /// [`MemFault`] if any byte of it cannot be had.
    fn window(&self, range: DriverRange, permission: Permission) -> Result<Self::Window, MemFault>;

    /// A transient view of the start of a range: of all of it, or up to the end of the region
    /// that its first byte is in, and at least one byte unless the range is empty.
    ///
    /// # Errors
    /// [`MemFault`] if the first byte cannot be had.
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault>;

    /// Whether every byte can be had of the `len` from driver address `start` on; never if they
    /// wrap around the end of the address space. Called once for each descriptor.
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        is_mapped_in_pieces(self, start, len, permission)
    }

    /// The device is about to read this part of a buffer: the place to invalidate a cache.
    #[inline(always)]
    fn before_read(&self, _range: DriverRange) {}

    /// The device has written this part of a buffer: the place to log dirty pages or to clean a
    /// cache. (For rings, the [`RingWindow`] does this itself.)
    #[inline(always)]
    fn after_write(&self, _range: DriverRange) {}
}

/// [`DriverMem::is_mapped`] by translation, piece by piece.
fn is_mapped_in_pieces<M: DriverMem + ?Sized>(
    mem: &M,
    start: u64,
    len: u32,
    permission: Permission,
) -> bool {
    let Some(mut rest) = DriverRange::new(start, len) else {
        return false;
    };
    while !rest.is_empty() {
        match mem.translate(rest, permission) {
            Ok(view) if !view.is_empty() => rest = rest.skip(num::clamp_u32(view.len())),
            _ => return false,
        }
    }
    true
}

macro_rules! forward {
    () => {
        type Window = M::Window;
        #[inline(always)]
        fn window(
            &self,
            range: DriverRange,
            permission: Permission,
        ) -> Result<Self::Window, MemFault> {
            (**self).window(range, permission)
        }
        #[inline(always)]
        fn translate(
            &self,
            range: DriverRange,
            permission: Permission,
        ) -> Result<DeviceRange<'_>, MemFault> {
            (**self).translate(range, permission)
        }
        #[inline(always)]
        fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
            (**self).is_mapped(start, len, permission)
        }
        #[inline(always)]
        fn before_read(&self, range: DriverRange) {
            (**self).before_read(range);
        }
        #[inline(always)]
        fn after_write(&self, range: DriverRange) {
            (**self).after_write(range);
        }
    };
}

impl<M: DriverMem + ?Sized> DriverMem for &M {
    forward!();
}

/// What has to happen around accesses of [`FlatMem`] and [`RegionMem`]: dirty logging, cache
/// maintenance. Ranges are driver addresses. The default is nothing.
pub trait MemHooks: Clone + Send {
    /// The device is about to read these bytes.
    #[inline(always)]
    fn before_read(&self, _range: DriverRange) {}
    /// The device has written these bytes.
    #[inline(always)]
    fn after_write(&self, _range: DriverRange) {}
}

/// Coherent memory, no logging.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoHooks;

impl MemHooks for NoHooks {}

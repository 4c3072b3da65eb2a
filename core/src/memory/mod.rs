//! Access to the driver's memory.
//!
//! This module holds all `unsafe` code of the crate. There are two kinds of view:
//!
//! * A [`RingWindow`] views one area of a queue. The window is translated once, when the queue
//!   becomes ready, and is then kept. A window is an owned, `Send` value: in firmware a pointer and
//!   a length, in a host a reference-counted mapping and an offset. A reference-counted mapping
//!   stays valid while a window exists, so the host may remap memory and then call
//!   [`memory_changed`](crate::Engine::memory_changed). Each access is atomic and has one width.
//! * A [`DeviceRange`] views a piece of a buffer. The range is translated when the device accesses
//!   the buffer, and is never held across a poll. A buffer that spans adjacent regions yields
//!   several ranges.
//!
//! [`DriverMem`] alone decides what a driver address means. Its methods are the place for address
//! translation with access checks (an IOMMU), for dirty logging and for cache maintenance. The
//! hooks for logging and cache maintenance do nothing by default.

mod flat;
mod ram;
mod range;
mod regions;
mod view;
mod window;

pub use flat::FlatMem;
pub use ram::{Lent, Ram};
pub use range::DriverRange;
pub use regions::{Region, RegionMem};
pub(crate) use view::split;
pub use view::{DeviceRange, RawDescriptor};
#[cfg(all(feature = "packed", any(feature = "testing", test, doctest)))]
pub(crate) use window::is_available;
#[cfg(any(feature = "testing", test, doctest))]
pub use window::order;
#[cfg(feature = "packed")]
pub(crate) use window::{AVAIL, USED};
pub use window::{PtrWindow, RingWindow};

use crate::num;

/// The access that the device needs to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Permission {
    /// The device loads from the range.
    Read,
    /// The device stores to the range, and loads from it.
    Write,
}

/// Why the device cannot access a range of driver addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MemFault {
    /// No memory is mapped at the address, or less memory than the range needs.
    Unmapped,
    /// The memory is mapped, but does not allow this access.
    Denied,
    /// The host address of ring memory is less aligned than its driver address.
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
/// This crate implements the trait for [`FlatMem`] and [`RegionMem`]. A host can implement it over
/// its own mappings. The methods take `&self`, and run in the context that runs the queues.
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

    /// Returns a kept view of exactly this range.
    ///
    /// The view is contiguous, and its host address is as aligned as its driver address, up to 16
    /// bytes. The window must not return a descriptor beyond the end of the range, because the
    /// device detects the end of a packed ring in this way.
    ///
    /// # Errors
    /// [`MemFault`] if any byte of the range is not accessible.
    fn window(&self, range: DriverRange, permission: Permission) -> Result<Self::Window, MemFault>;

    /// Returns a transient view of the start of a range.
    ///
    /// The view covers the whole range, or ends with the region that holds the first byte. The view
    /// has at least one byte unless the range is empty.
    ///
    /// # Errors
    /// [`MemFault`] if the first byte is not accessible.
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault>;

    /// Returns whether all `len` bytes from driver address `start` on are accessible.
    ///
    /// A range that wraps around the end of the address space is never accessible. The device calls
    /// this method once for each descriptor.
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        is_mapped_in_pieces(self, start, len, permission)
    }

    /// Tells the memory that the device is about to read this part of a buffer. An implementation
    /// can invalidate a cache here.
    #[inline(always)]
    fn before_read(&self, _range: DriverRange) {}

    /// Tells the memory that the device has written this part of a buffer. An implementation can
    /// log dirty pages or clean a cache here. For rings, the [`RingWindow`] does this work.
    #[inline(always)]
    fn after_write(&self, _range: DriverRange) {}
}

/// Implements [`DriverMem::is_mapped`] by one translation for each contiguous piece.
fn is_mapped_in_pieces<M: DriverMem + ?Sized>(
    mem: &M,
    start: u64,
    len: u32,
    permission: Permission,
) -> bool {
    let Some(mut left) = DriverRange::new(start, len) else {
        return false;
    };
    while !left.is_empty() {
        match mem.translate(left, permission) {
            Ok(view) if !view.is_empty() => left = left.skip(num::clamp_u32(view.len())),
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

/// Hooks around the accesses to rings and buffers of [`FlatMem`] and [`RegionMem`], for dirty
/// logging and cache maintenance.
///
/// Ranges are driver addresses. The hooks do nothing by default.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use virtside::memory::{DriverMem, DriverRange, MemHooks, Permission, Ram, RingWindow};
/// static DIRTY_PAGES: AtomicU64 = AtomicU64::new(0);
/// #[derive(Clone)]
/// struct DirtyLog;
/// impl MemHooks for DirtyLog {
///     fn after_write(&self, range: DriverRange) {
///         DIRTY_PAGES.fetch_or(1 << (range.start() >> 12), Ordering::Relaxed);
///     }
/// }
/// static RAM: Ram<8192> = Ram::new();
/// let memory = RAM.flat(0).with_hooks(DirtyLog);
/// let used_ring = DriverRange::new(0x1000, 70).unwrap();
/// let window = memory.window(used_ring, Permission::Write).unwrap();
/// window.store_flags(0);
/// assert_eq!(DIRTY_PAGES.load(Ordering::Relaxed), 0b10);
/// ```
pub trait MemHooks: Clone + Send {
    /// Runs before the device reads these bytes.
    #[inline(always)]
    fn before_read(&self, _range: DriverRange) {}
    /// Runs after the device has written these bytes.
    #[inline(always)]
    fn after_write(&self, _range: DriverRange) {}
}

/// Hooks that do nothing, for coherent memory without dirty logging.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoHooks;

impl MemHooks for NoHooks {}

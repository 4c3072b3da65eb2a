//! Transient views of buffers.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{Ordering, compiler_fence},
};

use super::Permission;
use crate::num;

/// A piece of driver memory that the device may access right now.
///
/// The driver may change the bytes at any time, so the view gives no references to them. The device
/// copies bytes in and out, and does not read a copied byte again.
///
/// ```
/// use virtside::{DriverMem, memory::{DriverRange, Permission, Ram}};
/// static RAM: Ram<4096> = Ram::new();
/// let memory = RAM.flat(0x1000);
/// let range = DriverRange::new(0x1ff8, 8).unwrap();
/// let view = memory.translate(range, Permission::Write).unwrap();
/// assert_eq!(view.skip(2).copy_from(b"abc"), 3);
/// let mut bytes = [0; 8];
/// assert_eq!(view.copy_to(&mut bytes), 8);
/// assert_eq!(&bytes, b"\0\0abc\0\0\0");
/// // A read-only view rejects writes.
/// let view = memory.translate(range, Permission::Read).unwrap();
/// assert_eq!(view.copy_from(b"x"), 0);
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceRange<'a> {
    ptr: NonNull<u8>,
    len: usize,
    permission: Permission,
    memory: PhantomData<&'a ()>,
}

// SAFETY: the range is raw memory that any thread may access; see `from_raw`.
unsafe impl Send for DeviceRange<'_> {}

/// Longest copy out of driver memory, in bytes, that uses a volatile load for each byte.
const SMALL: usize = 16;

impl<'a> DeviceRange<'a> {
    /// Creates a view of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// For `'a`, the bytes must be valid for reads, and for writes if `permission` says so. They
    /// must only be accessed through raw pointers or atomics: no Rust reference to them may be live
    /// while the view is used. Others (a guest) may change them at any time.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_raw(ptr: NonNull<u8>, len: usize, permission: Permission) -> Self {
        Self {
            ptr,
            len,
            permission,
            memory: PhantomData,
        }
    }

    /// Returns the length in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the view has no bytes.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the device may write to the view.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        matches!(self.permission, Permission::Write)
    }

    /// Returns the host address of the first byte, for a system call or a DMA engine.
    ///
    /// The pointer is valid for [`len`](Self::len) bytes. It is valid for writes only if
    /// [`is_writable`](Self::is_writable) returns true.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Returns the view without its first `count` bytes. The result is empty if the view has no
    /// more than `count` bytes.
    #[must_use]
    pub fn skip(&self, count: usize) -> Self {
        let count = count.min(self.len);
        Self {
            // SAFETY: `count <= len`, so the pointer stays inside or one past the end.
            ptr: unsafe { self.ptr.add(count) },
            len: self.len.wrapping_sub(count),
            ..*self
        }
    }

    /// Returns the first `count` bytes of the view, or the whole view if it has no more than
    /// `count` bytes.
    #[must_use]
    pub fn take(&self, count: usize) -> Self {
        Self {
            len: count.min(self.len),
            ..*self
        }
    }

    /// Copies bytes from the view until `bytes` is full or the view ends. Returns the number of
    /// copied bytes.
    #[inline]
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.len);
        if count <= SMALL {
            for (at, byte) in bytes.iter_mut().take(count).enumerate() {
                // SAFETY: `at < count <= len`; see `from_raw` for the validity of the bytes.
                *byte = unsafe { self.ptr.add(at).as_ptr().read_volatile() };
            }
        } else {
            // SAFETY: `count` bytes are valid on both sides; `bytes` is a unique reference, so the
            // two do not overlap.
            unsafe { ptr::copy_nonoverlapping(self.ptr.as_ptr(), bytes.as_mut_ptr(), count) };
        }
        // The driver may change the bytes from here on, so the compiler must not load them again.
        compiler_fence(Ordering::SeqCst);
        count
    }

    /// Copies bytes into the view until `bytes` is exhausted or the view ends.
    ///
    /// Returns the number of copied bytes, which is 0 if the view is read-only.
    #[inline]
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        if !self.is_writable() {
            return 0;
        }
        let count = bytes.len().min(self.len);
        // SAFETY: `count` bytes are valid on both sides, `is_writable` was checked; `bytes` is a
        // reference, so by `from_raw`'s contract it is not to this memory.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr.as_ptr(), count) };
        compiler_fence(Ordering::SeqCst);
        count
    }

    /// Sets every byte of the view to `byte`.
    ///
    /// Returns the number of bytes set, which is 0 if the view is read-only.
    pub fn fill(&self, byte: u8) -> usize {
        if !self.is_writable() {
            return 0;
        }
        // SAFETY: `len` bytes are valid for writes.
        unsafe { ptr::write_bytes(self.ptr.as_ptr(), byte, self.len) };
        compiler_fence(Ordering::SeqCst);
        self.len
    }

    /// Returns the descriptor at byte offset `at`, or `None` if fewer than 16 bytes follow the
    /// offset. Each byte is loaded once.
    #[inline]
    pub(crate) fn descriptor(&self, at: usize) -> Option<RawDescriptor> {
        let left = self.len.checked_sub(at)?;
        if left < 16 {
            return None;
        }
        // SAFETY: 16 bytes from `at` are inside the view.
        let ptr = unsafe { self.ptr.add(at) };
        if ptr.as_ptr().addr() & 7 == 0 {
            let words = ptr.cast::<u64>();
            // SAFETY: in bounds as above, aligned as just checked.
            let [addr, word] = unsafe { [words.read_volatile(), words.add(1).read_volatile()] };
            let (addr, word) = (u64::from_le(addr), u64::from_le(word));
            return Some(RawDescriptor {
                addr,
                len: num::low(word),
                rest: num::high(word),
            });
        }
        let mut bytes = [0; 16];
        self.skip(at).copy_to(&mut bytes);
        Some(RawDescriptor::from_bytes(bytes))
    }
}

/// The words of a descriptor, each loaded once. The words are not validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RawDescriptor {
    /// Driver address of the buffer.
    pub addr: u64,
    /// Length of the buffer in bytes.
    pub len: u32,
    /// In a split ring, flags in the low half and `next` in the high half. In a packed ring, the
    /// buffer id in the low half and flags in the high half.
    pub rest: u32,
}

impl RawDescriptor {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let [addr, word] = split(bytes);
        Self {
            addr,
            len: num::low(word),
            rest: num::high(word),
        }
    }
}

/// Splits 16 bytes into two little-endian words.
pub(crate) fn split(bytes: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u64::from_le_bytes([i, j, k, l, m, n, o, p]),
    ]
}

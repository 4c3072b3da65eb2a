//! Kept views of ring memory.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{
    hint::cold_path,
    iter,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, Ordering, fence},
};

use super::{DriverRange, MemHooks, NoHooks, Permission, RawDescriptor};
use crate::num;

/// Memory orderings of the accesses that synchronise the device with the driver. All other accesses
/// are relaxed.
///
/// The orderings are constants, so that the loom tests explore the queues with the same orderings.
pub mod order {
    use super::Ordering;

    /// Load of the available index. Reads of data that the driver published with the index come
    /// after this load.
    pub const LOAD_IDX: Ordering = Ordering::Acquire;
    /// Store of the used index. The stores of the used element and of the buffer's contents come
    /// before this store.
    pub const STORE_IDX: Ordering = Ordering::Release;
    /// Load of the buffer id and the flags of a packed descriptor. Orders like [`LOAD_IDX`].
    pub const LOAD_REST: Ordering = Ordering::Acquire;
    /// Store of the buffer id and the flags of a used packed descriptor. Orders like [`STORE_IDX`].
    pub const STORE_REST: Ordering = Ordering::Release;
    /// Fence between a store and a load of a word that the other side stores. At least one of the
    /// two sides sees the store of the other.
    pub const FENCE: Ordering = Ordering::SeqCst;
}

/// A kept view of one area of a queue.
///
/// Every access is atomic and of one width. Values are little-endian in memory and native in the
/// call. Each method names the area that it is for. On an area of another kind, the access stays
/// inside the area, but has no meaning.
///
/// Implement this trait to log dirty pages, to maintain caches, or to count accesses in a test.
pub trait RingWindow: Send {
    /// Descriptor area: loads the words of descriptor `index` with relaxed ordering.
    ///
    /// Each word is loaded once. On a target without 64-bit atomics, each half of the address is
    /// loaded once. Returns `None` if the descriptor is outside the area.
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor>;

    /// Driver area: loads `flags`, the first 16 bits, with relaxed ordering.
    fn load_flags(&self) -> u16;

    /// Driver area: loads `idx`, the second 16 bits. Later accesses stay behind this load.
    fn load_idx(&self) -> u16;

    /// Driver area: loads ring entry `index`, modulo the number of entries, with relaxed ordering.
    fn load_entry(&self, index: u16) -> u16;

    /// Driver area: loads `used_event`, the last 16 bits, with relaxed ordering.
    fn load_event(&self) -> u16;

    /// Device area: stores `flags`, the first 16 bits, with relaxed ordering.
    fn store_flags(&self, flags: u16);

    /// Device area: stores ring element `index`, modulo the number of elements, and then `idx`.
    ///
    /// The two words of the element are stored with relaxed ordering. `idx`, the second 16 bits,
    /// becomes `index + 1`. All earlier accesses stay before the store of `idx`.
    #[inline(always)]
    fn store_used(&self, index: u16, element: [u32; 2]) {
        self.store_used_batch(index, element, 1);
    }

    /// Device area: like [`store_used`](Self::store_used), for `count` elements of which only the
    /// first is stored. `idx` becomes `index + count`.
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16);

    /// Device area: stores `avail_event`, the last 16 bits, with relaxed ordering.
    fn store_event(&self, event: u16);

    /// Packed ring, descriptor area: loads the flags of descriptor `index`. Later accesses stay
    /// behind this load.
    ///
    /// Returns whether the flags make the descriptor available in a round with this wrap counter.
    /// Returns false if the descriptor is outside the area.
    fn is_available(&self, index: u16, wrap: bool) -> bool;

    /// Packed ring, descriptor area: like [`is_available`](Self::is_available), and then loads the
    /// other words of an available descriptor with relaxed ordering.
    ///
    /// The buffer id and the flags are one word, and are loaded at once.
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor>;

    /// Packed ring, descriptor area: like [`load_available`](Self::load_available), and also
    /// returns an iterator over the descriptors behind descriptor `index`.
    ///
    /// The iterator loads one descriptor after the other, up to the end of the area, as
    /// [`load_descriptor`](Self::load_descriptor) does. Instead of a wrap counter, `flags` holds
    /// the values that the flags AVAIL and USED must have.
    #[inline(always)]
    fn load_available_run(
        &self,
        index: u16,
        flags: u16,
    ) -> Option<(RawDescriptor, impl Iterator<Item = RawDescriptor>)> {
        let first = self.load_available(index, flags & AVAIL != 0)?;
        let behind = (index..u16::MAX).map_while(|before| {
            let index = before.checked_add(1)?;
            self.load_descriptor(index)
        });
        Some((first, behind))
    }

    /// Packed ring, descriptor area: stores the length of descriptor `index` with relaxed ordering,
    /// and then its buffer id and flags as one word.
    ///
    /// All earlier accesses stay before the store of the buffer id and the flags. Outside the area,
    /// the method stores nothing and returns false.
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool;

    /// Packed ring, driver area: loads the event suppression structure as one word, with relaxed
    /// ordering. The low half holds the offset and the wrap counter; the high half holds the flags.
    fn load_suppression(&self) -> u32;

    /// Packed ring, device area: stores the event suppression structure as one word, with relaxed
    /// ordering.
    fn store_suppression(&self, word: u32);

    /// Executes a full fence between earlier stores and later loads.
    #[inline(always)]
    fn full_fence(&self) {
        fence(order::FENCE);
    }
}

/// A descriptor in ring memory.
#[repr(C)]
struct Words {
    addr: AtomicAddr,
    len: AtomicU32,
    rest: AtomicU32,
}

impl Words {
    #[inline(always)]
    fn load(&self) -> RawDescriptor {
        RawDescriptor {
            addr: self.addr.load(),
            len: relaxed(&self.len),
            rest: relaxed(&self.rest),
        }
    }

    /// Packed ring: loads the flags first, and the other words only if the flags make the
    /// descriptor available.
    #[inline(always)]
    fn load_available(&self, flags: u16) -> Option<RawDescriptor> {
        let rest = u32::from_le(self.rest.load(order::LOAD_REST));
        ((num::high16(rest) ^ flags) & (AVAIL | USED) == 0).then(|| RawDescriptor {
            addr: self.addr.load(),
            len: relaxed(&self.len),
            rest,
        })
    }
}

#[cfg(target_has_atomic = "64")]
#[repr(transparent)]
struct AtomicAddr(core::sync::atomic::AtomicU64);

#[cfg(target_has_atomic = "64")]
impl AtomicAddr {
    #[inline(always)]
    fn load(&self) -> u64 {
        u64::from_le(self.0.load(Ordering::Relaxed))
    }
}

/// A 64-bit address as two atomic halves, for targets without 64-bit atomics.
///
/// The driver must not write an address while the device reads it. If the driver does so, the
/// device may load halves of two different addresses. That is harmless, because the device checks
/// the combined address like any other.
#[cfg(not(target_has_atomic = "64"))]
#[repr(transparent)]
struct AtomicAddr([AtomicU32; 2]);

#[cfg(not(target_has_atomic = "64"))]
impl AtomicAddr {
    #[inline(always)]
    fn load(&self) -> u64 {
        let [low, high] = &self.0;
        let low = u32::from_le(low.load(Ordering::Relaxed));
        let high = u32::from_le(high.load(Ordering::Relaxed));
        num::with_high(low.into(), high)
    }
}

/// A [`RingWindow`] of plain memory: a pointer, and the bounds of each kind of access.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PtrWindow<H = NoHooks> {
    ptr: NonNull<u8>,
    /// Index of the last 16-bit half-word.
    last: u32,
    /// Number of ring entries, a power of two, minus one.
    entry_mask: u16,
    /// Index of the half-word that holds the first ring entry: 2, or 0 if the memory has no room
    /// for entries.
    first: u8,
    /// Combination of [`WRITABLE`], [`WORDS`] and [`ELEMENTS`].
    bits: u8,
    /// Number of used elements, a power of two, minus one.
    element_mask: u16,
    /// Upper bound of the number of descriptors. 0 if the memory is not aligned to 16 bytes.
    descriptors: u16,
    start: u64,
    hooks: H,
}

/// The memory is writable.
const WRITABLE: u8 = 1;
/// The memory is aligned to 4 bytes.
const WORDS: u8 = 2;
/// The memory is writable and aligned to 4 bytes, and has room for used elements.
const ELEMENTS: u8 = 4;

// SAFETY: the memory may be accessed from any thread (`new`'s contract), always atomically.
unsafe impl<H: Send> Send for PtrWindow<H> {}

impl<H: MemHooks> PtrWindow<H> {
    /// Creates a window of `range`, which is at `ptr`.
    ///
    /// Returns `None` if the range is shorter than 4 bytes, the size of the smallest area, or if
    /// `ptr` is not aligned to 2 bytes.
    ///
    /// # Safety
    /// For as long as the window lives, the `range.len()` bytes at `ptr` must be valid for reads,
    /// and for writes if `permission` says so, from any thread. The program must access them only
    /// through raw pointers or atomics. A guest may access the bytes in any way.
    #[must_use]
    pub unsafe fn new(
        ptr: NonNull<u8>,
        range: DriverRange,
        permission: Permission,
        hooks: H,
    ) -> Option<Self> {
        let aligned = |to: usize| ptr.as_ptr().addr() & to.wrapping_sub(1) == 0;
        let len = range.len();
        if len < 4 || !aligned(2) {
            return None;
        }
        let halves = len >> 1;
        // A ring of 2^k entries has three more half-words: two before the entries and one behind
        // them.
        let room = u16::try_from(halves.saturating_sub(3)).unwrap_or(u16::MAX);
        let log = room.checked_ilog2();
        let entries = log.and_then(|log| 1u16.checked_shl(log)).unwrap_or(1);
        let writable = permission == Permission::Write;
        let elements = if aligned(4) && writable {
            len.saturating_sub(6) >> 3
        } else {
            0
        };
        let bits = if writable { WRITABLE } else { 0 }
            | if aligned(4) { WORDS } else { 0 }
            | if elements != 0 { ELEMENTS } else { 0 };
        Some(Self {
            ptr,
            last: halves.wrapping_sub(1),
            entry_mask: entries.wrapping_sub(1),
            first: if log.is_some() { 2 } else { 0 },
            element_mask: elements
                .checked_ilog2()
                .map_or(0, |log| (1_u16 << log.min(15)).wrapping_sub(1)),
            descriptors: if aligned(16) {
                u16::try_from(len >> 4).unwrap_or(u16::MAX)
            } else {
                0
            },
            bits,
            start: range.start(),
            hooks,
        })
    }

    /// Returns the half-word at `index`.
    ///
    /// # Safety
    /// `index` must be at most `last`.
    #[inline(always)]
    unsafe fn half(&self, index: usize) -> &AtomicU16 {
        // SAFETY: `last` is the index of the last 2-byte unit inside the memory, which is
        // 2-aligned; the contract of `new` covers the rest.
        unsafe { self.ptr.cast::<AtomicU16>().add(index).as_ref() }
    }

    #[inline(always)]
    fn hook(&self, offset: u64, len: u32, hook: impl Fn(&H, DriverRange)) {
        if let Some(range) = DriverRange::new(self.start.wrapping_add(offset), len) {
            hook(&self.hooks, range);
        }
    }

    /// Loads the half-word at `index`.
    ///
    /// # Safety
    /// As for `half`.
    #[inline(always)]
    unsafe fn load(&self, index: usize, order: Ordering) -> u16 {
        self.hook(num::wide(index).wrapping_mul(2), 2, H::before_read);
        // SAFETY: the caller's promise.
        u16::from_le(unsafe { self.half(index) }.load(order))
    }

    /// Returns the words of descriptor `index`, or `None` if the window does not hold the
    /// descriptor.
    #[inline(always)]
    fn descriptor(&self, index: u16) -> Option<&Words> {
        if index >= self.descriptors {
            return None;
        }
        // SAFETY: `descriptors` counts the 16-byte units inside the memory, and is 0 unless it is
        // 16-aligned; these are the words of one unit. The contract of `new` covers the rest.
        Some(unsafe { self.ptr.cast::<Words>().add(usize::from(index)).as_ref() })
    }

    /// Returns the words of the descriptors from `index` on.
    #[inline(always)]
    fn descriptors(&self, index: u16) -> &[Words] {
        if index >= self.descriptors {
            cold_path();
            return &[];
        }
        let index = usize::from(index);
        let count = usize::from(self.descriptors).wrapping_sub(index);
        // SAFETY: `descriptors` counts the 16-byte units inside the memory, and is 0 unless it is
        // 16-aligned; these are the words of the last units, in atomics. The contract of `new`
        // covers the rest.
        unsafe {
            let first = self.ptr.cast::<Words>().add(index);
            core::slice::from_raw_parts(first.as_ptr(), count)
        }
    }

    /// Returns the first 4 bytes, or `None` if they are not aligned to 4 bytes.
    #[inline(always)]
    fn first_word(&self) -> Option<&AtomicU32> {
        // SAFETY: the memory has at least 4 bytes, and they are aligned; the contract of `new`
        // covers the rest.
        (self.bits & WORDS != 0).then(|| unsafe { self.ptr.cast::<AtomicU32>().as_ref() })
    }

    /// Stores the half-word at `index`.
    ///
    /// # Safety
    /// As for `half`, and [`ELEMENTS`] must be set: the memory may be written.
    #[inline(always)]
    unsafe fn store(&self, index: usize, value: u16, order: Ordering) {
        // SAFETY: the caller's promise.
        unsafe { self.half(index) }.store(value.to_le(), order);
        self.hook(num::wide(index).wrapping_mul(2), 2, H::after_write);
    }
}

impl<H: MemHooks> RingWindow for PtrWindow<H> {
    #[inline(always)]
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor> {
        let words = self.descriptor(index)?;
        self.hook(u64::from(index).wrapping_mul(16), 16, H::before_read);
        Some(words.load())
    }

    #[inline(always)]
    fn load_flags(&self) -> u16 {
        // SAFETY: `last` is at least 1, because `new` rejects less than 4 bytes.
        unsafe { self.load(0, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn load_idx(&self) -> u16 {
        // SAFETY: `last` is at least 1, because `new` rejects less than 4 bytes.
        unsafe { self.load(1, order::LOAD_IDX) }
    }

    #[inline(always)]
    fn load_entry(&self, index: u16) -> u16 {
        let entry = usize::from((index & self.entry_mask).wrapping_add(self.first.into()));
        // SAFETY: if `first` is 2, the mask is at most `last - 3`; otherwise both are 0.
        unsafe { self.load(entry, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn load_event(&self) -> u16 {
        // SAFETY: the index is `last`.
        unsafe { self.load(num::index(self.last), Ordering::Relaxed) }
    }

    #[inline(always)]
    fn store_flags(&self, flags: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        // SAFETY: `last` is at least 1, and `ELEMENTS` is set.
        unsafe { self.store(0, flags, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn store_used_batch(&self, index: u16, [id, len]: [u32; 2], count: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        let slot = usize::from(index & self.element_mask);
        // SAFETY: `element_mask` is the index of the last 8-byte element from byte 4 on that is
        // inside the memory. `ELEMENTS` is set, so the memory is 4-aligned and may be written. The
        // contract of `new` covers the rest.
        let element = unsafe {
            let ring = self.ptr.cast::<AtomicU32>().add(1).cast::<[AtomicU32; 2]>();
            ring.add(slot).as_ref()
        };
        let [first, second] = element;
        first.store(id.to_le(), Ordering::Relaxed);
        second.store(len.to_le(), Ordering::Relaxed);
        self.hook(
            num::wide(slot).wrapping_mul(8).wrapping_add(4),
            8,
            H::after_write,
        );
        // SAFETY: `last` is at least 1, and `ELEMENTS` is set.
        unsafe { self.store(1, index.wrapping_add(count), order::STORE_IDX) }
    }

    #[inline(always)]
    fn store_event(&self, event: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        // SAFETY: the index is `last`, and `ELEMENTS` is set.
        unsafe { self.store(num::index(self.last), event, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn is_available(&self, index: u16, wrap: bool) -> bool {
        let Some(words) = self.descriptor(index) else {
            return false;
        };
        let offset = u64::from(index).wrapping_mul(16).wrapping_add(12);
        self.hook(offset, 4, H::before_read);
        is_available(u32::from_le(words.rest.load(order::LOAD_REST)), wrap)
    }

    #[inline(always)]
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor> {
        let words = self.descriptor(index)?;
        self.hook(u64::from(index).wrapping_mul(16), 16, H::before_read);
        words.load_available(if wrap { AVAIL } else { USED })
    }

    #[inline(always)]
    fn load_available_run(
        &self,
        index: u16,
        flags: u16,
    ) -> Option<(RawDescriptor, impl Iterator<Item = RawDescriptor>)> {
        let mut at = u64::from(index).wrapping_mul(16);
        let (first, mut run) = self.descriptors(index).split_first()?;
        self.hook(at, 16, H::before_read);
        let first = first.load_available(flags)?;
        // The compiler generates a longer loop for the iterator of a slice.
        let behind = iter::from_fn(move || {
            let (words, rest) = run.split_first()?;
            run = rest;
            at = at.wrapping_add(16);
            self.hook(at, 16, H::before_read);
            Some(words.load())
        });
        Some((first, behind))
    }

    #[inline(always)]
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool {
        let Some(words) = self.descriptor(index) else {
            return false;
        };
        if self.bits & WRITABLE == 0 {
            return false;
        }
        words.len.store(len.to_le(), Ordering::Relaxed);
        let rest = u32::from(id) | (u32::from(flags) << 16);
        words.rest.store(rest.to_le(), order::STORE_REST);
        let offset = u64::from(index).wrapping_mul(16).wrapping_add(8);
        self.hook(offset, 8, H::after_write);
        true
    }

    #[inline(always)]
    fn load_suppression(&self) -> u32 {
        self.hook(0, 4, H::before_read);
        self.first_word().map_or(0, relaxed)
    }

    #[inline(always)]
    fn store_suppression(&self, word: u32) {
        if let Some(first) = self.first_word().filter(|_| self.bits & WRITABLE != 0) {
            first.store(word.to_le(), Ordering::Relaxed);
            self.hook(0, 4, H::after_write);
        }
    }
}

#[inline(always)]
fn relaxed(word: &AtomicU32) -> u32 {
    u32::from_le(word.load(Ordering::Relaxed))
}

/// `VIRTQ_DESC_F_AVAIL`
pub(crate) const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`
pub(crate) const USED: u16 = 1 << 15;

/// Returns whether the word of buffer id and flags makes a packed descriptor available.
#[inline(always)]
pub(crate) fn is_available(rest: u32, wrap: bool) -> bool {
    num::high16(rest) & (AVAIL | USED) == if wrap { AVAIL } else { USED }
}

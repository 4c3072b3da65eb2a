//! Kept views of ring memory.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{
    hint::cold_path,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, Ordering, fence},
};

use super::{DriverRange, MemHooks, NoHooks, Permission, RawDescriptor};
use crate::num;

/// The orders of the accesses that others are ordered by; all the rest are relaxed. Named here once,
/// so that the exploration of the queues under loom runs with the same.
pub mod order {
    use super::Ordering;

    /// The available index: what the driver wrote before it is read after it.
    pub const LOAD_IDX: Ordering = Ordering::Acquire;
    /// The used index: its element, and what is in the buffer, is written before it.
    pub const STORE_IDX: Ordering = Ordering::Release;
    /// Buffer id and flags of a packed descriptor, as [`LOAD_IDX`].
    pub const LOAD_REST: Ordering = Ordering::Acquire;
    /// Buffer id and flags of a used packed descriptor, as [`STORE_IDX`].
    pub const STORE_REST: Ordering = Ordering::Release;
    /// Between a store and a load of what the other side stores: one of the two sees the other's.
    pub const FENCE: Ordering = Ordering::SeqCst;
}

/// A kept view of one area of a queue.
///
/// Every access is atomic, of one width, little-endian in memory and native in the call. What a
/// method is for is in its name; on an area of another kind it still stays inside the area, and
/// means nothing.
///
/// Implement it to log dirty pages, to maintain caches, or to count accesses in a test.
pub trait RingWindow: Send {
    /// Descriptor area: relaxed loads of the words of descriptor `index`, each (or, on a target
    /// without 64-bit atomics, each half of the address) loaded once. `None` outside the area.
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor>;

    /// Driver area: a relaxed load of `flags`, the first 16 bits.
    fn load_flags(&self) -> u16;

    /// Driver area: a load of `idx`, the second 16 bits, that later accesses stay behind.
    fn load_idx(&self) -> u16;

    /// Driver area: a relaxed load of ring entry `index`, modulo the number of entries.
    fn load_entry(&self, index: u16) -> u16;

    /// Driver area: a relaxed load of `used_event`, the last 16 bits.
    fn load_event(&self) -> u16;

    /// Device area: a relaxed store of `flags`, the first 16 bits.
    fn store_flags(&self, flags: u16);

    /// Device area: relaxed stores of the two words of ring element `index`, modulo the number of
    /// elements, and then a store of `index + 1` to `idx`, the second 16 bits, that all of them
    /// stay before.
    #[inline(always)]
    fn store_used(&self, index: u16, element: [u32; 2]) {
        self.store_used_batch(index, element, 1);
    }

    /// Device area: the same for `count` elements of which only the first is stored: `idx` becomes
    /// `index + count`.
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16);

    /// Device area: a relaxed store of `avail_event`, the last 16 bits.
    fn store_event(&self, event: u16);

    /// Packed, descriptor area: a load of the flags of descriptor `index` that later accesses stay
    /// behind; says whether they make it available in a round with this wrap counter. False outside
    /// the area.
    fn is_available(&self, index: u16, wrap: bool) -> bool;

    /// Packed, descriptor area: the same, and then, if it is available, relaxed loads of the
    /// other words. The words of buffer id and flags are one load.
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor>;

    /// Packed, descriptor area: [`load_available`](Self::load_available), and what loads the
    /// descriptor that is so many places behind that one, as
    /// [`load_descriptor`](Self::load_descriptor) does. For the wrap counter there is what the flags
    /// AVAIL and USED have to be.
    #[inline(always)]
    fn load_available_run(
        &self,
        index: u16,
        flags: u16,
    ) -> Option<(RawDescriptor, impl Fn(u16) -> Option<RawDescriptor>)> {
        let first = self.load_available(index, flags & AVAIL != 0)?;
        let behind = move |places| self.load_descriptor(index.checked_add(places)?);
        Some((first, behind))
    }

    /// Packed, descriptor area: a relaxed store of the length of descriptor `index`, and then a store
    /// of its buffer id and flags, in one word, that all before stays before. False, and nothing is
    /// stored, outside the area.
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool;

    /// Packed, driver area: a relaxed load of the event suppression structure, as one word: offset
    /// and wrap counter in the low half, flags in the high half.
    fn load_suppression(&self) -> u32;

    /// Packed, device area: a relaxed store of the event suppression structure.
    fn store_suppression(&self, word: u32);

    /// A full fence between stores before and loads after it.
    #[inline(always)]
    fn full_fence(&self) {
        fence(order::FENCE);
    }
}

/// A descriptor in memory.
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

    /// Packed: the flags first, and the rest only if they say that it is there.
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

/// The driver may not write such an address while it is read; if it does, it gets what it wrote.
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

/// A [`RingWindow`] of plain memory: a pointer, and what is there for each kind of access.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PtrWindow<H = NoHooks> {
    ptr: NonNull<u8>,
    /// Index of the last 16 bits.
    last: u32,
    /// One less than the number of ring entries, a power of two.
    entries: u16,
    /// Index of the first ring entry; of the first 16 bits where there is no room for entries.
    first: u8,
    /// [`WRITABLE`], [`WORDS`] and [`ELEMENTS`].
    bits: u8,
    /// One less than the number of used elements, a power of two.
    elements: u16,
    /// Number of descriptors, at most; 0 if the memory is not aligned for them.
    descriptors: u16,
    start: u64,
    hooks: H,
}

/// The memory may be written.
const WRITABLE: u8 = 1;
/// The memory is aligned to 4.
const WORDS: u8 = 2;
/// Both, and there is room for used elements.
const ELEMENTS: u8 = 4;

// SAFETY: the memory may be accessed from any thread (`new`'s contract), always atomically.
unsafe impl<H: Send> Send for PtrWindow<H> {}

impl<H: MemHooks> PtrWindow<H> {
    /// A window of the `range`, which is at `ptr`; `None` unless it is 4 bytes long, as the
    /// smallest area is, and aligned to 2.
    ///
    /// # Safety
    /// `range.len()` bytes at `ptr` must be valid for reads, and for writes if `permission` says
    /// so, from any thread for as long as the window lives, and be
    /// accessed by others only through atomics, raw pointers, or from outside the program.
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
        // A ring of 2^k entries has three more halves: two before it and one behind.
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
            entries: entries.wrapping_sub(1),
            first: if log.is_some() { 2 } else { 0 },
            elements: elements
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

    /// The 16 bits at `index`.
    ///
    /// # Safety
    /// `index` must be at most `last`.
    #[inline(always)]
    unsafe fn half(&self, index: usize) -> &AtomicU16 {
        // SAFETY: `last` is the index of the last 2-byte unit inside the memory, which is
        // 2-aligned; `new` has the rest.
        unsafe { self.ptr.cast::<AtomicU16>().add(index).as_ref() }
    }

    #[inline(always)]
    fn hook(&self, offset: u64, len: u32, hook: impl Fn(&H, DriverRange)) {
        if let Some(range) = DriverRange::new(self.start.wrapping_add(offset), len) {
            hook(&self.hooks, range);
        }
    }

    /// # Safety
    /// As for `half`.
    #[inline(always)]
    unsafe fn load(&self, index: usize, order: Ordering) -> u16 {
        self.hook(num::wide(index).wrapping_mul(2), 2, H::before_read);
        // SAFETY: the caller's promise.
        u16::from_le(unsafe { self.half(index) }.load(order))
    }

    /// The words of a descriptor; `None` if there is none.
    #[inline(always)]
    fn descriptor(&self, index: u16) -> Option<&Words> {
        if index >= self.descriptors {
            return None;
        }
        // SAFETY: `descriptors` counts the 16-byte units inside the memory, and is 0 unless it is
        // 16-aligned; these are the words of one. `new` has the rest.
        Some(unsafe { self.ptr.cast::<Words>().add(usize::from(index)).as_ref() })
    }

    /// The words of the descriptors from `index` on.
    #[inline(always)]
    fn descriptors(&self, index: u16) -> &[Words] {
        if index >= self.descriptors {
            cold_path();
            return &[];
        }
        let index = usize::from(index);
        let count = usize::from(self.descriptors).wrapping_sub(index);
        // SAFETY: `descriptors` counts the 16-byte units inside the memory, and is 0 unless it is
        // 16-aligned; these are the words of the last ones, in atomics. `new` has the rest.
        unsafe {
            let first = self.ptr.cast::<Words>().add(index);
            core::slice::from_raw_parts(first.as_ptr(), count)
        }
    }

    /// The first 4 bytes, if they are aligned.
    #[inline(always)]
    fn first_word(&self) -> Option<&AtomicU32> {
        // SAFETY: the memory has 4 bytes at the least, which are aligned; `new` has the rest.
        (self.bits & WORDS != 0).then(|| unsafe { self.ptr.cast::<AtomicU32>().as_ref() })
    }

    /// # Safety
    /// As for `half`, and [`ELEMENTS`] must stand: the memory may be written.
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
        // SAFETY: `last` is at least 1: `new` takes no less than 4 bytes.
        unsafe { self.load(0, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn load_idx(&self) -> u16 {
        // SAFETY: `last` is at least 1: `new` takes no less than 4 bytes.
        unsafe { self.load(1, order::LOAD_IDX) }
    }

    #[inline(always)]
    fn load_entry(&self, index: u16) -> u16 {
        let entry = usize::from((index & self.entries).wrapping_add(self.first.into()));
        // SAFETY: where `first` is 2 the mask is at most `last - 3`, else both are 0.
        unsafe { self.load(entry, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn load_event(&self) -> u16 {
        // SAFETY: that is `last`.
        unsafe { self.load(num::index(self.last), Ordering::Relaxed) }
    }

    #[inline(always)]
    fn store_flags(&self, flags: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        // SAFETY: `last` is at least 1, and there are elements.
        unsafe { self.store(0, flags, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn store_used_batch(&self, index: u16, [id, len]: [u32; 2], count: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        let slot = usize::from(index & self.elements);
        // SAFETY: `elements` is the last of the 8-byte elements from byte 4 on that are inside the
        // memory; there are some, so it is 4-aligned and may be written. `new` has the rest.
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
        // SAFETY: `last` is at least 1, and there are elements.
        unsafe { self.store(1, index.wrapping_add(count), order::STORE_IDX) }
    }

    #[inline(always)]
    fn store_event(&self, event: u16) {
        if self.bits & ELEMENTS == 0 {
            return;
        }
        // SAFETY: that is `last`, and there are elements.
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
    ) -> Option<(RawDescriptor, impl Fn(u16) -> Option<RawDescriptor>)> {
        let run = self.descriptors(index);
        let load = move |places: u16| {
            let words = run.get(usize::from(places))?;
            let at = u64::from(places).wrapping_add(index.into());
            self.hook(at.wrapping_mul(16), 16, H::before_read);
            Some(words)
        };
        let first = load(0)?.load_available(flags)?;
        Some((first, move |places| load(places).map(Words::load)))
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

/// Whether buffer id and flags, as one word, make a descriptor of a packed ring available.
#[inline(always)]
pub(crate) fn is_available(rest: u32, wrap: bool) -> bool {
    num::high16(rest) & (AVAIL | USED) == if wrap { AVAIL } else { USED }
}

//! Kept views of ring memory.
#![allow(unsafe_code, reason = "the memory module is where unsafe lives")]

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, Ordering, fence},
};

use super::{DriverRange, MemHooks, NoHooks};
use crate::num;

/// A kept view of one area of a queue.
///
/// Every access is atomic, of one width, little-endian in memory and native in the call. Indices
/// count units of the access's width from the start of the area: `load_u16(1)` is at byte 2. An
/// index outside the area loads 0 and stores nothing.
///
/// Implement it to log dirty pages, to maintain caches, or to count accesses in a test.
pub trait RingWindow: Send {
    /// A relaxed load of 16 bits.
    fn load_u16(&self, index: usize) -> u16;

    /// A load of 16 bits that later accesses of any window stay behind.
    fn load_u16_acquire(&self, index: usize) -> u16;

    /// A relaxed store of 16 bits.
    fn store_u16(&self, index: usize, value: u16);

    /// A store of 16 bits that earlier accesses of any window stay before.
    fn store_u16_release(&self, index: usize, value: u16);

    /// Relaxed stores of an element of two 32-bit words, the first at byte `4 + 8 * index`.
    fn store_element(&self, index: usize, element: [u32; 2]);

    /// Relaxed loads of the two 64-bit words of the 16-byte descriptor at `index`, each word (or,
    /// on a target without 64-bit atomics, each half of it) loaded once. `None` outside the area.
    fn load_descriptor(&self, index: usize) -> Option<[u64; 2]>;

    /// A full fence between stores before and loads after it.
    #[inline(always)]
    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A [`RingWindow`] of plain memory: a pointer, and how many units of each width are there.
#[derive(Debug)]
pub struct PtrWindow<H = NoHooks> {
    ptr: NonNull<u8>,
    halves: u32,
    elements: u32,
    descriptors: u32,
    start: u64,
    hooks: H,
}

// SAFETY: the memory may be accessed from any thread (`new`'s contract), always atomically.
unsafe impl<H: Send> Send for PtrWindow<H> {}

impl<H: MemHooks> PtrWindow<H> {
    /// A window of the `range`, which is at `ptr`.
    ///
    /// Widths that `ptr` is not aligned for have no units: their loads give 0.
    ///
    /// # Safety
    /// `range.len()` bytes at `ptr` must be valid for reads and writes (or for reads, if the
    /// window is only ever loaded from) from any thread for as long as the window lives, and be
    /// accessed by others only through atomics, raw pointers, or from outside the program.
    #[must_use]
    pub unsafe fn new(ptr: NonNull<u8>, range: DriverRange, hooks: H) -> Self {
        let units = |width: u32| {
            if ptr.as_ptr().addr() & num::index(width.wrapping_sub(1)) == 0 {
                range.len().checked_div(width).unwrap_or(0)
            } else {
                0
            }
        };
        Self {
            ptr,
            halves: units(2),
            elements: units(4).saturating_sub(1) >> 1,
            descriptors: units(16),
            start: range.start(),
            hooks,
        }
    }

    #[inline(always)]
    fn half(&self, index: usize) -> Option<&AtomicU16> {
        if index < num::index(self.halves) {
            // SAFETY: `halves` counts the 2-byte units that are inside the memory, and is 0 unless
            // the pointer is 2-aligned; `new` has the rest.
            Some(unsafe { self.ptr.cast::<AtomicU16>().add(index).as_ref() })
        } else {
            None
        }
    }

    #[inline(always)]
    fn hook(&self, offset: u64, len: u32, hook: impl Fn(&H, DriverRange)) {
        if let Some(range) = DriverRange::new(self.start.wrapping_add(offset), len) {
            hook(&self.hooks, range);
        }
    }

    #[inline(always)]
    fn hook_half(&self, index: usize, hook: impl Fn(&H, DriverRange)) {
        self.hook(num::wide(index).wrapping_mul(2), 2, hook);
    }
}

impl<H: MemHooks> RingWindow for PtrWindow<H> {
    #[inline(always)]
    fn load_u16(&self, index: usize) -> u16 {
        self.hook_half(index, H::before_read);
        self.half(index)
            .map_or(0, |at| u16::from_le(at.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn load_u16_acquire(&self, index: usize) -> u16 {
        self.hook_half(index, H::before_read);
        self.half(index)
            .map_or(0, |at| u16::from_le(at.load(Ordering::Acquire)))
    }

    #[inline(always)]
    fn store_u16(&self, index: usize, value: u16) {
        if let Some(at) = self.half(index) {
            at.store(value.to_le(), Ordering::Relaxed);
            self.hook_half(index, H::after_write);
        }
    }

    #[inline(always)]
    fn store_u16_release(&self, index: usize, value: u16) {
        if let Some(at) = self.half(index) {
            at.store(value.to_le(), Ordering::Release);
            self.hook_half(index, H::after_write);
        }
    }

    #[inline(always)]
    fn store_element(&self, index: usize, [first, second]: [u32; 2]) {
        if index < num::index(self.elements) {
            // SAFETY: `elements` counts the 8-byte elements from byte 4 on that are inside the
            // memory, and is 0 unless the pointer is 4-aligned; `new` has the rest.
            let pair = unsafe {
                self.ptr
                    .cast::<AtomicU32>()
                    .add(1)
                    .cast::<[AtomicU32; 2]>()
                    .add(index)
                    .as_ref()
            };
            let [one, two] = pair;
            one.store(first.to_le(), Ordering::Relaxed);
            two.store(second.to_le(), Ordering::Relaxed);
            let offset = num::wide(index).wrapping_mul(8).wrapping_add(4);
            self.hook(offset, 8, H::after_write);
        }
    }

    #[inline(always)]
    fn load_descriptor(&self, index: usize) -> Option<[u64; 2]> {
        if index >= num::index(self.descriptors) {
            return None;
        }
        self.hook(num::wide(index).wrapping_mul(16), 16, H::before_read);
        #[cfg(target_has_atomic = "64")]
        {
            use core::sync::atomic::AtomicU64;
            // SAFETY: as in `half`, for 16-byte units, of which these are the two words.
            let words = unsafe { self.ptr.cast::<[AtomicU64; 2]>().add(index).as_ref() };
            let words = words.each_ref();
            Some(words.map(|word| u64::from_le(word.load(Ordering::Relaxed))))
        }
        #[cfg(not(target_has_atomic = "64"))]
        {
            // SAFETY: as in `half`, for 16-byte units, of which these are the four words.
            let words = unsafe { self.ptr.cast::<[AtomicU32; 4]>().add(index).as_ref() };
            let [a, b, c, d] = words
                .each_ref()
                .map(|word| u64::from(u32::from_le(word.load(Ordering::Relaxed))));
            Some([a | (b << 32), c | (d << 32)])
        }
    }
}

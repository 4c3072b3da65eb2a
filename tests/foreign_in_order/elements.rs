//! Counts the stores of used elements of one queue. In packed rings these are used descriptors.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};

/// Bytes of a used element, and of the part of a descriptor that a device stores.
const ELEMENT: usize = 8;

/// The bitmap of a memory region, which is told of each store.
#[derive(Clone, Debug, Default)]
pub struct Elements(Arc<Watch>);

#[derive(Debug, Default)]
struct Watch {
    start: AtomicUsize,
    len: AtomicUsize,
    stores: AtomicU64,
}

impl Elements {
    /// Watches these bytes of the region.
    pub fn watch(&self, start: usize, len: usize) {
        self.0.start.store(start, Ordering::SeqCst);
        self.0.len.store(len, Ordering::SeqCst);
    }

    /// Counts the used elements that were stored.
    pub fn stored(&self) -> u64 {
        self.0.stores.load(Ordering::SeqCst)
    }
}

impl WithBitmapSlice<'_> for Elements {
    type S = Self;
}

impl BitmapSlice for Elements {}

impl Bitmap for Elements {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let inside = offset.wrapping_sub(self.0.start.load(Ordering::Relaxed));
        if len == ELEMENT && inside < self.0.len.load(Ordering::Relaxed) {
            self.0.stores.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn dirty_at(&self, _: usize) -> bool {
        false
    }
    fn slice_at(&self, _: usize) -> Self {
        self.clone()
    }
}

impl NewBitmap for Elements {
    fn with_len(_: usize) -> Self {
        Self::default()
    }
}

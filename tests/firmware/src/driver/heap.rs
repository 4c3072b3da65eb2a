//! A heap for the only driver that needs one.

use core::cell::UnsafeCell;

use embedded_alloc::LlffHeap;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const BYTES: usize = 8 << 10;

struct Room(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the heap accesses this memory.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; BYTES]));

/// Must run once, before the first allocation.
pub(super) fn init() {
    // SAFETY: the heap owns this memory.
    unsafe { HEAP.init(ROOM.0.get() as usize, BYTES) };
}

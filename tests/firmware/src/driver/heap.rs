//! A heap, for the one driver that wants one.

use core::cell::UnsafeCell;

use embedded_alloc::LlffHeap;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const BYTES: usize = 8 << 10;

struct Room(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the heap reaches it.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; BYTES]));

/// Before the first allocation, once.
pub(super) fn init() {
    // SAFETY: the room is the heap's alone.
    unsafe { HEAP.init(ROOM.0.get() as usize, BYTES) };
}

//! Memory for drivers and the heap. It is never given back.

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::machine::HEAP;

static NEXT: AtomicUsize = AtomicUsize::new(HEAP.start);

/// Allocates memory that was never used, or returns null.
fn allocate(len: usize, align: usize) -> *mut u8 {
    let next = NEXT.load(Ordering::Relaxed).next_multiple_of(align);
    if next + len > HEAP.end {
        return ptr::null_mut();
    }
    NEXT.store(next + len, Ordering::Relaxed);
    next as *mut u8
}

struct Heap;

#[global_allocator]
static ALLOCATOR: Heap = Heap;

// SAFETY: each allocation is aligned memory of its own. There is one thread, and the interrupt
// handlers do not allocate.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(layout.size(), layout.align())
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// The machine's memory for drivers: the device's addresses are the program's.
pub struct Memory;

// SAFETY: `dma_alloc` returns pages of their own, which are zero, since the VMM's memory is zero at
// first. Every other address is mapped at itself.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let start = allocate(pages * PAGE_SIZE, PAGE_SIZE);
        let start = NonNull::new(start).expect("no memory for a queue");
        (start.as_ptr() as PhysAddr, start)
    }
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }
    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).expect("registers at 0")
    }
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

//! The driver's part of the shared RAM: pages for rings, and bounce buffers.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::shared::{BASE, BYTES, COMMON};

/// The first part is pages, each of which is allocated once. The rest is slots for buffers.
const PAGES: usize = BYTES - SLOTS * SLOT;
const SLOTS: usize = 8;
/// Bytes of the largest buffer that a driver shares.
const SLOT: usize = 4096;

static PAGES_USED: AtomicU32 = AtomicU32::new(0);
/// A bit for each slot in use.
static SLOTS_USED: AtomicU32 = AtomicU32::new(0);

/// Allocates pages and buffers.
#[derive(Debug)]
pub(super) struct SharedHal;

fn bus(at: usize) -> PhysAddr {
    BASE + at as u64
}

fn offset(address: PhysAddr) -> usize {
    usize::try_from(address.wrapping_sub(BASE)).unwrap_or(BYTES)
}

/// Changes an atomic word. A Cortex-M0 has no instruction for it.
fn change<R>(word: &AtomicU32, change: impl FnOnce(&mut u32) -> R) -> R {
    critical_section::with(|_| {
        let mut value = word.load(Ordering::Relaxed);
        let result = change(&mut value);
        word.store(value, Ordering::Relaxed);
        result
    })
}

/// The offset of a free slot.
fn take_slot() -> Option<usize> {
    change(&SLOTS_USED, |used| {
        let free = used.trailing_ones();
        let slot = usize::try_from(free).ok().filter(|slot| *slot < SLOTS)?;
        *used |= 1 << free;
        Some(PAGES + slot * SLOT)
    })
}

// SAFETY: pages are zeroed, aligned like the RAM, and allocated only once.
unsafe impl Hal for SharedHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let at = change(&PAGES_USED, |used| {
            let start = *used;
            *used += pages as u32;
            start as usize * PAGE_SIZE
        });
        if at + pages * PAGE_SIZE > PAGES {
            // Address 0 reports a failed allocation.
            return (0, NonNull::dangling());
        }
        // SAFETY: the offset was checked to be inside the RAM.
        (bus(at), unsafe { COMMON.ram.as_ptr().add(at) })
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        // Only the PCI transport calls this function.
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        // `Hal` has no error, so the device has to refuse this address.
        let Some(at) = take_slot().filter(|_| buffer.len() <= SLOT) else {
            return PhysAddr::MAX;
        };
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's buffer is valid, and nobody else accesses it during this call.
            COMMON.ram.write(at, unsafe { buffer.as_ref() });
        }
        bus(at)
    }

    unsafe fn unshare(address: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let at = offset(address);
        if direction != BufferDirection::DriverToDevice {
            let mut buffer = buffer;
            // SAFETY: the caller's buffer is valid, and nobody else accesses it during this call.
            COMMON.ram.read(at, unsafe { buffer.as_mut() });
        }
        if let Some(slot) = at.checked_sub(PAGES) {
            change(&SLOTS_USED, |used| *used &= !(1 << (slot / SLOT)));
        }
    }
}

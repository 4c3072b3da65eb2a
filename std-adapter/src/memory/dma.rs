//! Memory of a guest that runs in this process: the `Hal` of `virtio-drivers`.

use std::{
    ptr::NonNull,
    sync::{Mutex, OnceLock, PoisonError},
};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_allocator::{AddressAllocator, AllocPolicy};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Start and length of the buffer memory: two adjacent regions, so that large buffers span both.
const BUFFERS: (u64, u64) = (0x4000_0000, 8 << 20);
/// Length of the first of the two regions.
const FIRST: u64 = 16 << 10;
/// Start and length of the ring memory. It is above 4 GiB, after a hole, so that the high halves of
/// addresses matter.
const RINGS: (u64, u64) = (0x1_0000_0000, 4 << 20);

/// Memory of a guest that runs in this process, for unmodified `virtio-drivers`.
///
/// Rings are allocated in this memory. Buffers are copied into and out of it, as in a guest with
/// bounce buffers. Each process has one such memory, because the functions of `Hal` have no `self`.
#[derive(Clone, Copy, Debug)]
pub struct GuestHal;

struct GuestRam {
    memory: GuestMemoryMmap,
    rings: Mutex<AddressAllocator>,
    buffers: Mutex<AddressAllocator>,
}

impl GuestHal {
    /// Returns the memory, for the device.
    ///
    /// # Errors
    /// The memory could not be mapped; the text says why.
    pub fn memory() -> Result<&'static GuestMemoryMmap, &'static str> {
        ram().map(|ram| &ram.memory)
    }
}

fn ram() -> Result<&'static GuestRam, &'static str> {
    static RAM: OnceLock<Result<GuestRam, String>> = OnceLock::new();
    let ram = RAM.get_or_init(|| make().map_err(|error| error.to_string()));
    ram.as_ref().map_err(String::as_str)
}

fn make() -> Result<GuestRam, Box<dyn std::error::Error>> {
    let (base, len) = BUFFERS;
    let regions = [
        (base, FIRST),
        (base.saturating_add(FIRST), len.saturating_sub(FIRST)),
        RINGS,
    ];
    let mut ranges = Vec::new();
    for (start, len) in regions {
        ranges.push((GuestAddress(start), usize::try_from(len)?));
    }
    let allocator = |(start, len)| AddressAllocator::new(start, len).map(Mutex::new);
    Ok(GuestRam {
        memory: GuestMemoryMmap::from_ranges(&ranges)?,
        rings: allocator(RINGS)?,
        buffers: allocator(BUFFERS)?,
    })
}

fn allocate(from: &Mutex<AddressAllocator>, len: usize, align: u64) -> Option<u64> {
    let mut allocator = from.lock().unwrap_or_else(PoisonError::into_inner);
    let len = u64::try_from(len).ok()?;
    let range = allocator.allocate(len, align, AllocPolicy::FirstMatch);
    Some(range.ok()?.start())
}

fn release(to: &Mutex<AddressAllocator>, start: u64, len: usize) -> bool {
    let mut allocator = to.lock().unwrap_or_else(PoisonError::into_inner);
    let last = u64::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len))
        .and_then(|end| end.checked_sub(1));
    let range = last.and_then(|last| vm_allocator::RangeInclusive::new(start, last).ok());
    range.is_some_and(|range| allocator.free(&range).is_ok())
}

/// Allocates adjacent, zeroed pages.
fn allocate_pages(count: usize) -> Option<(PhysAddr, NonNull<u8>)> {
    let ram = ram().ok()?;
    let len = count.checked_mul(PAGE_SIZE)?;
    let start = allocate(&ram.rings, len, u64::try_from(PAGE_SIZE).ok()?)?;
    ram.memory
        .write_slice(&vec![0; len], GuestAddress(start))
        .ok()?;
    let host = ram.memory.get_host_address(GuestAddress(start)).ok()?;
    Some((start, NonNull::new(host)?))
}

// SAFETY: `dma_alloc` returns zeroed pages of one mapping that lives for ever. Each page belongs to
// one caller at a time. Regions are page-aligned, so a guest address is as aligned as its host
// address.
unsafe impl Hal for GuestHal {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // `Hal` reports a failed allocation by address 0.
        allocate_pages(count).unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, _: NonNull<u8>, count: usize) -> i32 {
        let len = count.saturating_mul(PAGE_SIZE);
        match ram() {
            Ok(ram) if release(&ram.rings, paddr, len) => 0,
            _ => -1,
        }
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        // Only the PCI transport calls this; its registers are not in this memory.
        panic!("this memory has no registers")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let shared = || {
            let ram = ram().ok()?;
            let start = allocate(&ram.buffers, buffer.len(), 16)?;
            if direction != BufferDirection::DeviceToDriver {
                // SAFETY: the caller's buffer is valid, and no other code uses it meanwhile.
                let bytes = unsafe { buffer.as_ref() };
                ram.memory.write_slice(bytes, GuestAddress(start)).ok()?;
            }
            Some(start)
        };
        // `Hal` has no error to return. This address is not mapped, so the device rejects it.
        shared().unwrap_or(u64::MAX)
    }

    unsafe fn unshare(paddr: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let Ok(ram) = ram() else {
            return;
        };
        if direction != BufferDirection::DriverToDevice {
            let mut buffer = buffer;
            // SAFETY: the caller's buffer is valid, and no other code uses it meanwhile.
            let bytes = unsafe { buffer.as_mut() };
            let _ = ram.memory.read_slice(bytes, GuestAddress(paddr));
        }
        release(&ram.buffers, paddr, buffer.len());
    }
}

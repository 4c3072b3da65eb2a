//! A fake driver for a packed ring, which can also build invalid rings.

use super::{Buffer, FakeDriver, INDIRECT, Layout, NEXT, WRITE};
use crate::{
    memory::{DriverMem, is_available},
    message::QueueConfig,
    num,
};

/// Descriptor flag `VIRTQ_DESC_F_AVAIL`.
pub const AVAIL: u16 = 1 << 7;
/// Descriptor flag `VIRTQ_DESC_F_USED`.
pub const USED: u16 = 1 << 15;

/// The driver's side of one packed queue.
///
/// The methods do not check their arguments, so a test can build invalid rings. The driver does not
/// count free slots. A write to unmapped memory has no effect. A ring field in unmapped memory
/// reads as 0.
///
/// ```
/// use virtside::{memory::Ram, testing::{Buffer, PackedDriver}};
/// static RAM: Ram<4096> = Ram::new();
/// let mut driver = PackedDriver::new(RAM.flat(0), 0, 8);
/// driver.send(3, &[Buffer::readable(0x800, 16), Buffer::writable(0x900, 1)]);
/// assert_eq!(driver.next_avail(), (2, true));
/// assert_eq!(driver.take_used(2), None);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PackedDriver<M> {
    /// A split driver with a queue of size 0, used only for its memory accesses.
    memory: FakeDriver<M>,
    start: u64,
    size: u16,
    next_avail: (u16, bool),
    next_used: (u16, bool),
}

impl<M: DriverMem> PackedDriver<M> {
    /// Creates a driver for a ring of `size` descriptors from `start` on. The two event suppression
    /// structures follow the ring: first the driver's, then the device's. All bytes are set to
    /// zero.
    pub fn new(mem: M, start: u64, size: u16) -> Self {
        let no_areas = Layout {
            size: 0,
            desc: start,
            driver: start,
            device: start,
        };
        let driver = Self {
            memory: FakeDriver::new(mem, no_areas),
            start,
            size,
            next_avail: (0, true),
            next_used: (0, true),
        };
        for at in 0..u64::from(size).wrapping_mul(16).wrapping_add(8) {
            driver.write(start.wrapping_add(at), &[0]);
        }
        driver
    }

    /// Returns the configuration of this queue, with the queue index `queue`.
    pub fn config(&self, queue: u16) -> QueueConfig {
        let driver = self
            .start
            .wrapping_add(u64::from(self.size).wrapping_mul(16));
        QueueConfig {
            queue,
            size: self.size.into(),
            desc: self.start,
            driver,
            device: driver.wrapping_add(4),
        }
    }

    /// Writes bytes, up to the first unmapped address.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        self.memory.write(addr, bytes);
    }

    /// Reads bytes, up to the first unmapped address. Returns the number of bytes read.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> usize {
        self.memory.read(addr, bytes)
    }

    /// Reads a 32-bit word.
    fn read_u32(&self, addr: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Returns the address of a descriptor of the ring.
    fn slot_addr(&self, slot: u16) -> u64 {
        self.start.wrapping_add(u64::from(slot).wrapping_mul(16))
    }

    /// Moves a position and its wrap counter forward by `by` slots.
    fn advance(&self, (slot, wrap): (u16, bool), by: u16) -> (u16, bool) {
        let slot = slot.wrapping_add(by);
        match slot.checked_sub(self.size) {
            Some(slot) => (slot, !wrap),
            None => (slot, wrap),
        }
    }

    /// Returns the flags that make a descriptor available for this wrap counter.
    pub const fn available(wrap: bool) -> u16 {
        if wrap { AVAIL } else { USED }
    }

    /// Writes a descriptor of the ring.
    pub fn write_desc(&self, slot: u16, buffer: (u64, u32), id: u16, flags: u16) {
        let at = self.slot_addr(slot);
        // In a split descriptor, the flags precede `next`; here, the id precedes the flags.
        self.memory.write_desc_at(at, buffer, id, flags);
    }

    /// Returns the slot of the next chain and its wrap counter.
    pub const fn next_avail(&self) -> (u16, bool) {
        self.next_avail
    }

    /// Writes a chain of descriptors, each an address, a length and flags, and makes them
    /// available. The first descriptor is written last, so that the device sees the chain as a
    /// whole.
    fn put(
        &mut self,
        id: u16,
        descriptors: impl DoubleEndedIterator<Item = (u64, u32, u16)> + Clone,
    ) {
        let start = self.next_avail;
        let mut position = start;
        for (at, (addr, len, flags)) in descriptors.clone().enumerate() {
            // The first descriptor follows after the loop.
            if at != 0 {
                let flags = flags | Self::available(position.1);
                self.write_desc(position.0, (addr, len), id, flags);
            }
            position = self.advance(position, 1);
        }
        if let Some((addr, len, flags)) = descriptors.clone().next() {
            let flags = flags | Self::available(start.1);
            self.write_desc(start.0, (addr, len), id, flags);
        }
        self.next_avail = position;
    }

    /// Writes a chain into the ring, and makes the chain available.
    pub fn send(&mut self, id: u16, buffers: &[Buffer]) {
        let last = buffers.len().wrapping_sub(1);
        self.put(
            id,
            buffers.iter().enumerate().map(|(at, buffer)| {
                let write = if buffer.writable { WRITE } else { 0 };
                let next = if at == last { 0 } else { NEXT };
                (buffer.addr, buffer.len, write | next)
            }),
        );
    }

    /// Writes an indirect table at address `table`, and makes a descriptor available that refers to
    /// the table. The descriptor has INDIRECT and the given `flags`.
    pub fn send_indirect(&mut self, id: u16, table: u64, buffers: &[Buffer], flags: u16) {
        for (at, buffer) in buffers.iter().enumerate() {
            let addr = table.wrapping_add(num::wide(at).wrapping_mul(16));
            let write = if buffer.writable { WRITE } else { 0 };
            // The device must ignore the id of a table entry, and all flags except WRITE.
            let entry = (buffer.addr, buffer.len);
            self.memory.write_desc_at(addr, entry, 0xdead, write | NEXT);
        }
        let len = num::clamp_u32(buffers.len()).wrapping_mul(16);
        self.put(id, [(table, len, INDIRECT | flags)].into_iter());
    }

    /// Takes the next used descriptor: its id, its length, and whether WRITE is set. `slots` is the
    /// number of slots of its chain. Returns `None` if the device has not written a used
    /// descriptor.
    pub fn take_used(&mut self, slots: u16) -> Option<(u16, u32, bool)> {
        let (slot, wrap) = self.next_used;
        let at = self.slot_addr(slot);
        let id_and_flags = self.read_u32(at.wrapping_add(12));
        let flags = num::high16(id_and_flags);
        let used = if wrap { AVAIL | USED } else { 0 };
        if flags & (AVAIL | USED) != used {
            return None;
        }
        self.next_used = self.advance(self.next_used, slots);
        let len = self.read_u32(at.wrapping_add(8));
        Some((num::low16(id_and_flags), len, flags & WRITE != 0))
    }

    /// Sets the driver's event suppression structure. `off_wrap` is the event offset, with the wrap
    /// counter in bit 15.
    pub fn set_suppression(&self, off_wrap: u16, flags: u16) {
        let at = self.slot_addr(self.size);
        self.write(at, &off_wrap.to_le_bytes());
        self.write(at.wrapping_add(2), &flags.to_le_bytes());
    }

    /// Returns the device's event suppression structure: the event offset, with the wrap counter in
    /// bit 15, and the flags.
    pub fn suppression(&self) -> (u16, u16) {
        let word = self.read_u32(self.slot_addr(self.size).wrapping_add(4));
        (num::low16(word), num::high16(word))
    }

    /// Returns whether a descriptor of the ring is available for this wrap counter.
    pub fn is_available(&self, slot: u16, wrap: bool) -> bool {
        is_available(self.read_u32(self.slot_addr(slot).wrapping_add(12)), wrap)
    }
}

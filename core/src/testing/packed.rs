//! A fake driver at a packed ring, with every way to get it wrong.

use super::{Buffer, FakeDriver, INDIRECT, Layout, NEXT, WRITE};
use crate::{
    memory::{DriverMem, is_available},
    message::QueueConfig,
    num,
};

/// `VIRTQ_DESC_F_AVAIL`
pub const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`
pub const USED: u16 = 1 << 15;

/// The driver's end of one packed queue.
///
/// It does what it is told, right or wrong, and keeps no count of free slots; memory that is not
/// there is left alone.
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
    /// Loads and stores.
    bytes: FakeDriver<M>,
    start: u64,
    size: u16,
    next_avail: (u16, bool),
    next_used: (u16, bool),
}

impl<M: DriverMem> PackedDriver<M> {
    /// A ring of `size` descriptors from `start` on, and the two event suppression structures behind
    /// it, all zeroed.
    pub fn new(mem: M, start: u64, size: u16) -> Self {
        let nothing = Layout {
            size: 0,
            desc: start,
            driver: start,
            device: start,
        };
        let driver = Self {
            bytes: FakeDriver::new(mem, nothing),
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

    /// As the driver tells the device.
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

    /// Stores bytes, as far as there is memory.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        self.bytes.write(addr, bytes);
    }

    /// Loads bytes, as far as there is memory; says how many.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> usize {
        self.bytes.read(addr, bytes)
    }

    fn word(&self, addr: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn slot(&self, slot: u16) -> u64 {
        self.start.wrapping_add(u64::from(slot).wrapping_mul(16))
    }

    fn advance(&self, (slot, wrap): (u16, bool), by: u16) -> (u16, bool) {
        let slot = slot.wrapping_add(by);
        match slot.checked_sub(self.size) {
            Some(slot) => (slot, !wrap),
            None => (slot, wrap),
        }
    }

    /// The flags that make a descriptor available in a round.
    pub const fn available(wrap: bool) -> u16 {
        if wrap { AVAIL } else { USED }
    }

    /// Writes a descriptor of the ring.
    pub fn write_desc(&self, slot: u16, buffer: (u64, u32), id: u16, flags: u16) {
        let at = self.slot(slot);
        // A split descriptor has the two the other way round.
        self.bytes.write_desc_at(at, buffer, id, flags);
    }

    /// Where the next chain goes, and the wrap counter there.
    pub const fn next_avail(&self) -> (u16, bool) {
        self.next_avail
    }

    /// Writes descriptors with these flags and makes them available, the first last.
    fn put(
        &mut self,
        id: u16,
        descriptors: impl DoubleEndedIterator<Item = (u64, u32, u16)> + Clone,
    ) {
        let start = self.next_avail;
        let mut position = start;
        for (at, (addr, len, flags)) in descriptors.clone().enumerate() {
            // The first shows itself below.
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

    /// Makes a chain available.
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

    /// Writes a table and makes one descriptor that names it available, with these flags too.
    pub fn send_indirect(&mut self, id: u16, table: u64, buffers: &[Buffer], flags: u16) {
        for (at, buffer) in buffers.iter().enumerate() {
            let addr = table.wrapping_add(num::wide(at).wrapping_mul(16));
            let write = if buffer.writable { WRITE } else { 0 };
            // The id of an entry means nothing, and neither do other flags.
            let entry = (buffer.addr, buffer.len);
            self.bytes.write_desc_at(addr, entry, 0xdead, write | NEXT);
        }
        let len = num::clamp_u32(buffers.len()).wrapping_mul(16);
        self.put(id, [(table, len, INDIRECT | flags)].into_iter());
    }

    /// The next used descriptor that was not taken yet, of a chain of so many slots: its id and
    /// length, and whether WRITE is set.
    pub fn take_used(&mut self, slots: u16) -> Option<(u16, u32, bool)> {
        let (slot, wrap) = self.next_used;
        let at = self.slot(slot);
        let rest = self.word(at.wrapping_add(12));
        let flags = num::high16(rest);
        let used = if wrap { AVAIL | USED } else { 0 };
        if flags & (AVAIL | USED) != used {
            return None;
        }
        self.next_used = self.advance(self.next_used, slots);
        let len = self.word(at.wrapping_add(8));
        Some((num::low16(rest), len, flags & WRITE != 0))
    }

    /// Writes the driver's event suppression structure.
    pub fn set_suppression(&self, off_wrap: u16, flags: u16) {
        let at = self.slot(self.size);
        self.write(at, &off_wrap.to_le_bytes());
        self.write(at.wrapping_add(2), &flags.to_le_bytes());
    }

    /// The device's event suppression structure: offset and wrap counter, and flags.
    pub fn suppression(&self) -> (u16, u16) {
        let word = self.word(self.slot(self.size).wrapping_add(4));
        (num::low16(word), num::high16(word))
    }

    /// Whether a descriptor of the ring is available in a round.
    pub fn is_available(&self, slot: u16, wrap: bool) -> bool {
        is_available(self.word(self.slot(slot).wrapping_add(12)), wrap)
    }
}

//! A fake driver for a split ring, which can also build invalid rings.

use crate::{
    memory::{DriverMem, DriverRange, Permission},
    message::QueueConfig,
    num,
};

/// Descriptor flag `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// Descriptor flag `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u16 = 2;
/// Descriptor flag `VIRTQ_DESC_F_INDIRECT`.
pub const INDIRECT: u16 = 4;

/// Size and area addresses of a split queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Layout {
    /// Queue size in elements.
    pub size: u16,
    /// Address of the descriptor area.
    pub desc: u64,
    /// Address of the driver area.
    pub driver: u64,
    /// Address of the device area.
    pub device: u64,
}

impl Layout {
    /// Places the three areas of a split queue one after another from `start` on. `start` must be
    /// aligned to 16 bytes.
    #[must_use]
    pub fn packed_at(start: u64, size: u16) -> Self {
        let elements = u64::from(size);
        let driver = start.wrapping_add(elements.wrapping_mul(16));
        let end = driver
            .wrapping_add(elements.wrapping_mul(2))
            .wrapping_add(6);
        Self {
            size,
            desc: start,
            driver,
            device: end.wrapping_add(3) & !3,
        }
    }

    /// Returns the first address after the areas that is aligned to 16 bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        let elements = u64::from(self.size);
        self.device
            .wrapping_add(elements.wrapping_mul(8))
            .wrapping_add(6 + 15)
            & !15
    }

    /// Returns the configuration of queue `queue` with this layout.
    #[must_use]
    pub fn config(&self, queue: u16) -> QueueConfig {
        QueueConfig {
            queue,
            size: self.size.into(),
            desc: self.desc,
            driver: self.driver,
            device: self.device,
        }
    }
}

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Buffer {
    /// Address of the buffer, as the driver sees it.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// True for a device-writable buffer, false for a device-readable one.
    pub writable: bool,
}

impl Buffer {
    /// Creates a device-readable buffer.
    #[must_use]
    pub const fn readable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: false,
        }
    }

    /// Creates a device-writable buffer.
    #[must_use]
    pub const fn writable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: true,
        }
    }

    fn flags(self) -> u16 {
        if self.writable { WRITE } else { 0 }
    }
}

/// The driver's side of one split queue.
///
/// The methods do not check their arguments, so a test can build invalid rings. A write to unmapped
/// memory has no effect. A ring field in unmapped memory reads as 0.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FakeDriver<M> {
    mem: M,
    layout: Layout,
    next_avail: u16,
    last_used: u16,
}

/// Creates a driver whose areas lie one after another from `start` on, and fills the areas with
/// zeros.
///
/// ```
/// use virtside::{memory::Ram, testing::{fake_queue, Buffer}};
/// static RAM: Ram<4096> = Ram::new();
/// let mut driver = fake_queue(RAM.flat(0), 0, 8);
/// driver.send(0, &[Buffer::readable(0x800, 16), Buffer::writable(0x900, 1)]);
/// assert_eq!(driver.next_avail(), 1);
/// assert_eq!(driver.take_used(), None);
/// ```
pub fn fake_queue<M: DriverMem>(mem: M, start: u64, size: u16) -> FakeDriver<M> {
    FakeDriver::new(mem, Layout::packed_at(start, size))
}

impl<M: DriverMem> FakeDriver<M> {
    /// Creates a driver, and fills the areas of `layout` with zeros.
    pub fn new(mem: M, layout: Layout) -> Self {
        let driver = Self {
            mem,
            layout,
            next_avail: 0,
            last_used: 0,
        };
        let elements = u32::from(layout.size);
        let areas = [
            (layout.desc, elements.wrapping_mul(16)),
            (layout.driver, elements.wrapping_mul(2).wrapping_add(6)),
            (layout.device, elements.wrapping_mul(8).wrapping_add(6)),
        ];
        for (start, len) in areas {
            for at in 0..u64::from(len) {
                driver.write(start.wrapping_add(at), &[0]);
            }
        }
        driver
    }

    /// Returns the size and the area addresses of the queue.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the memory.
    pub const fn memory(&self) -> &M {
        &self.mem
    }

    /// Returns the configuration of this queue, with the queue index `queue`.
    pub fn config(&self, queue: u16) -> QueueConfig {
        self.layout.config(queue)
    }

    /// Writes bytes, up to the first unmapped address.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        let mut done: usize = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.wrapping_add(num::wide(done));
            let range = DriverRange::new(at, num::clamp_u32(rest.len()));
            let view = range.and_then(|range| self.mem.translate(range, Permission::Write).ok());
            match view.map_or(0, |view| view.copy_from(rest)) {
                0 => return,
                count => done = done.wrapping_add(count),
            }
        }
    }

    /// Reads bytes, up to the first unmapped address. Returns the number of bytes read.
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> usize {
        let mut done: usize = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.wrapping_add(num::wide(done));
            let range = DriverRange::new(at, num::clamp_u32(rest.len()));
            let view = range.and_then(|range| self.mem.translate(range, Permission::Read).ok());
            match view.map_or(0, |view| view.copy_to(rest)) {
                0 => break,
                count => done = done.wrapping_add(count),
            }
        }
        done
    }

    fn read_u16(&self, addr: u64) -> u16 {
        let mut bytes = [0; 2];
        self.read(addr, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn read_u32(&self, addr: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Returns the position in the ring for a free-running index.
    fn slot(&self, index: u16) -> u64 {
        u64::from(index & self.layout.size.wrapping_sub(1))
    }

    /// Writes a 16-byte descriptor at any address. `buffer` is the address and the length of its
    /// buffer.
    pub fn write_desc_at(&self, addr: u64, buffer: (u64, u32), flags: u16, next: u16) {
        let (start, len) = buffer;
        self.write(addr, &start.to_le_bytes());
        self.write(addr.wrapping_add(8), &len.to_le_bytes());
        self.write(addr.wrapping_add(12), &flags.to_le_bytes());
        self.write(addr.wrapping_add(14), &next.to_le_bytes());
    }

    /// Writes descriptor `index` of the descriptor table.
    pub fn write_desc(&self, index: u16, buffer: (u64, u32), flags: u16, next: u16) {
        let addr = self
            .layout
            .desc
            .wrapping_add(u64::from(index).wrapping_mul(16));
        self.write_desc_at(addr, buffer, flags, next);
    }

    /// Writes a chain into consecutive descriptors from `head` on.
    pub fn write_chain(&self, head: u16, buffers: &[Buffer]) {
        let mut index = head;
        for (at, buffer) in buffers.iter().enumerate() {
            let last = at.wrapping_add(1) == buffers.len();
            let next = index.wrapping_add(1);
            let flags = buffer.flags() | if last { 0 } else { NEXT };
            self.write_desc(
                index,
                (buffer.addr, buffer.len),
                flags,
                if last { 0 } else { next },
            );
            index = next;
        }
    }

    /// Writes a chain into an indirect table at address `table`, and makes descriptor `head` refer
    /// to the table.
    pub fn write_indirect(&self, head: u16, table: u64, buffers: &[Buffer]) {
        let mut index: u16 = 0;
        for buffer in buffers {
            let next = index.wrapping_add(1);
            let last = usize::from(next) == buffers.len();
            let flags = buffer.flags() | if last { 0 } else { NEXT };
            let addr = table.wrapping_add(u64::from(index).wrapping_mul(16));
            self.write_desc_at(
                addr,
                (buffer.addr, buffer.len),
                flags,
                if last { 0 } else { next },
            );
            index = next;
        }
        let len = num::clamp_u32(buffers.len()).wrapping_mul(16);
        self.write_desc(head, (table, len), INDIRECT, 0);
    }

    /// Writes a head into the next entry of the available ring. Call [`publish`](Self::publish) to
    /// make the chain available.
    pub fn offer(&mut self, head: u16) {
        self.set_avail_entry(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Makes all offered chains available: writes the available index into the ring.
    pub fn publish(&mut self) {
        self.set_avail_idx(self.next_avail);
    }

    /// Writes a chain into the descriptor table, and makes the chain available.
    pub fn send(&mut self, head: u16, buffers: &[Buffer]) {
        self.write_chain(head, buffers);
        self.offer(head);
        self.publish();
    }

    /// Sets the available index in the ring to any value.
    pub fn set_avail_idx(&self, idx: u16) {
        self.write(self.layout.driver.wrapping_add(2), &idx.to_le_bytes());
    }

    /// Sets an entry of the available ring to any value.
    pub fn set_avail_entry(&self, index: u16, head: u16) {
        let at = self.slot(index).wrapping_mul(2).wrapping_add(4);
        self.write(self.layout.driver.wrapping_add(at), &head.to_le_bytes());
    }

    /// Sets the flags of the available ring. Flag 1 is `VIRTQ_AVAIL_F_NO_INTERRUPT`.
    pub fn set_avail_flags(&self, flags: u16) {
        self.write(self.layout.driver, &flags.to_le_bytes());
    }

    /// Sets the field `used_event` of the available ring.
    pub fn set_used_event(&self, event: u16) {
        let at = u64::from(self.layout.size).wrapping_mul(2).wrapping_add(4);
        self.write(self.layout.driver.wrapping_add(at), &event.to_le_bytes());
    }

    /// Sets the next available index and the next used index of this driver. A device that starts
    /// at 0 then sees a jump of the available index.
    pub fn set_next(&mut self, avail: u16, used: u16) {
        self.next_avail = avail;
        self.last_used = used;
    }

    /// Returns the available index after all offered chains.
    pub const fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Returns the flags of the used ring.
    pub fn used_flags(&self) -> u16 {
        self.read_u16(self.layout.device)
    }

    /// Returns the used index of the ring.
    pub fn used_idx(&self) -> u16 {
        self.read_u16(self.layout.device.wrapping_add(2))
    }

    /// Returns the field `avail_event` of the used ring.
    pub fn avail_event(&self) -> u16 {
        let at = u64::from(self.layout.size).wrapping_mul(8).wrapping_add(4);
        self.read_u16(self.layout.device.wrapping_add(at))
    }

    /// Returns the id and the length of an entry of the used ring.
    pub fn used_entry(&self, index: u16) -> (u32, u32) {
        let at = self.slot(index).wrapping_mul(8).wrapping_add(4);
        let addr = self.layout.device.wrapping_add(at);
        (self.read_u32(addr), self.read_u32(addr.wrapping_add(4)))
    }

    /// Takes the next used element: its id and its length. Returns `None` if the device has added
    /// no element since the last call.
    pub fn take_used(&mut self) -> Option<(u32, u32)> {
        if self.used_idx() == self.last_used {
            return None;
        }
        let entry = self.used_entry(self.last_used);
        self.last_used = self.last_used.wrapping_add(1);
        Some(entry)
    }
}

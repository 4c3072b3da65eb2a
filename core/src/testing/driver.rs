//! A fake driver: the other end of a split ring, with every way to get it wrong.

use crate::{
    memory::{DriverMem, DriverRange, Permission},
    message::QueueConfig,
    num,
};

/// `VIRTQ_DESC_F_NEXT`
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`
pub const INDIRECT: u16 = 4;

/// Where a queue's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Layout {
    /// Elements.
    pub size: u16,
    /// Descriptor area.
    pub desc: u64,
    /// Driver area.
    pub driver: u64,
    /// Device area.
    pub device: u64,
}

impl Layout {
    /// The three areas one behind the other from `start` on, which is aligned to 16.
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

    /// The first 16-aligned address behind the areas.
    #[must_use]
    pub fn end(&self) -> u64 {
        let elements = u64::from(self.size);
        self.device
            .wrapping_add(elements.wrapping_mul(8))
            .wrapping_add(6 + 15)
            & !15
    }

    /// As the driver tells the device.
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

/// One buffer of a chain to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Buffer {
    /// Driver address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Whether the device may write to it.
    pub writable: bool,
}

impl Buffer {
    /// A device-readable buffer.
    #[must_use]
    pub const fn readable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: false,
        }
    }

    /// A device-writable buffer.
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

/// The driver's end of one split queue.
///
/// It does what it is told, right or wrong; memory that is not there is left alone.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FakeDriver<M> {
    mem: M,
    layout: Layout,
    next_avail: u16,
    last_used: u16,
}

/// A driver whose rings are zeroed and lie from `start` on.
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
    /// Zeroes the rings.
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

    /// Where the rings are.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory.
    pub const fn memory(&self) -> &M {
        &self.mem
    }

    /// As the driver tells the device.
    pub fn config(&self, queue: u16) -> QueueConfig {
        self.layout.config(queue)
    }

    /// Stores bytes, as far as there is memory.
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

    /// Loads bytes, as far as there is memory; says how many.
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

    fn slot(&self, index: u16) -> u64 {
        u64::from(index & self.layout.size.wrapping_sub(1))
    }

    /// Writes a 16-byte descriptor anywhere.
    pub fn write_desc_at(&self, addr: u64, buffer: (u64, u32), flags: u16, next: u16) {
        let (start, len) = buffer;
        self.write(addr, &start.to_le_bytes());
        self.write(addr.wrapping_add(8), &len.to_le_bytes());
        self.write(addr.wrapping_add(12), &flags.to_le_bytes());
        self.write(addr.wrapping_add(14), &next.to_le_bytes());
    }

    /// Writes descriptor `index` of the table.
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

    /// Writes a chain into an indirect table at `table`, and descriptor `head` that names it.
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

    /// Puts a head into the next available entry; [`publish`](Self::publish) shows it.
    pub fn offer(&mut self, head: u16) {
        self.set_avail_entry(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Shows everything that was offered.
    pub fn publish(&mut self) {
        self.set_avail_idx(self.next_avail);
    }

    /// Writes a chain, offers it and publishes it.
    pub fn send(&mut self, head: u16, buffers: &[Buffer]) {
        self.write_chain(head, buffers);
        self.offer(head);
        self.publish();
    }

    /// Writes the available index, whatever it should be.
    pub fn set_avail_idx(&self, idx: u16) {
        self.write(self.layout.driver.wrapping_add(2), &idx.to_le_bytes());
    }

    /// Writes an available entry, whatever it should be.
    pub fn set_avail_entry(&self, index: u16, head: u16) {
        let at = self.slot(index).wrapping_mul(2).wrapping_add(4);
        self.write(self.layout.driver.wrapping_add(at), &head.to_le_bytes());
    }

    /// Writes the available ring's flags (1: no interrupts, please).
    pub fn set_avail_flags(&self, flags: u16) {
        self.write(self.layout.driver, &flags.to_le_bytes());
    }

    /// Writes `used_event`.
    pub fn set_used_event(&self, event: u16) {
        let at = u64::from(self.layout.size).wrapping_mul(2).wrapping_add(4);
        self.write(self.layout.driver.wrapping_add(at), &event.to_le_bytes());
    }

    /// Starts both indices elsewhere: a device that starts at 0 sees a jump.
    pub fn set_next(&mut self, avail: u16, used: u16) {
        self.next_avail = avail;
        self.last_used = used;
    }

    /// The next available index.
    pub const fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// The used ring's flags.
    pub fn used_flags(&self) -> u16 {
        self.read_u16(self.layout.device)
    }

    /// The used index.
    pub fn used_idx(&self) -> u16 {
        self.read_u16(self.layout.device.wrapping_add(2))
    }

    /// `avail_event`
    pub fn avail_event(&self) -> u16 {
        let at = u64::from(self.layout.size).wrapping_mul(8).wrapping_add(4);
        self.read_u16(self.layout.device.wrapping_add(at))
    }

    /// Id and length of a used entry.
    pub fn used_entry(&self, index: u16) -> (u32, u32) {
        let at = self.slot(index).wrapping_mul(8).wrapping_add(4);
        let addr = self.layout.device.wrapping_add(at);
        (self.read_u32(addr), self.read_u32(addr.wrapping_add(4)))
    }

    /// The next used element that was not taken yet.
    pub fn take_used(&mut self) -> Option<(u32, u32)> {
        if self.used_idx() == self.last_used {
            return None;
        }
        let entry = self.used_entry(self.last_used);
        self.last_used = self.last_used.wrapping_add(1);
        Some(entry)
    }
}

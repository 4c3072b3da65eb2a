//! The driver's end of a queue of either format. It tracks the chains that the device has.

use std::collections::VecDeque;

use virtside::{
    FlatMem, QueueConfig,
    testing::{Buffer, FakeDriver, INDIRECT, Layout, NEXT, PackedDriver, WRITE},
};

use crate::{BASE, SIZE, TestRam, driver, in_order::Format};

/// How the driver describes a chain in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each buffer has a descriptor of the ring.
    Direct,
    /// The given number of buffers have ring descriptors. The others are in a table, which the last
    /// ring descriptor refers to.
    Table(usize),
    /// Like `Table(0)`, with this length in bytes.
    OddTable(u32),
    /// Like `Table(0)`, at this address.
    TableAt(u64),
    /// Like `Table(0)`, with NEXT and INDIRECT in the same descriptor.
    TableWithNext,
}

/// A chain that the device returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// Queue number.
    pub queue: u16,
    /// Chains that the driver sent on this queue before this one, since the queue went live.
    pub number: usize,
    /// Bytes that the device wrote, as the ring says.
    pub len: u32,
}

#[derive(Clone, Debug)]
struct Sent {
    number: usize,
    id: u16,
    /// Ring descriptors of the chain. In a split ring these are table indices.
    taken: Vec<u16>,
    buffers: Vec<Buffer>,
}

#[derive(Debug)]
enum Kind {
    Split {
        driver: FakeDriver<FlatMem>,
        free: VecDeque<u16>,
        used: u16,
    },
    Packed(PackedDriver<FlatMem>),
}

/// A driver of one queue.
#[derive(Debug)]
pub struct Ring {
    kind: Kind,
    /// Stores outside the rings.
    bytes: FakeDriver<FlatMem>,
    queue: u16,
    in_order: bool,
    sent: VecDeque<Sent>,
    numbers: usize,
}

impl Ring {
    /// Zeroes the rings of queue `queue`.
    pub fn new(ram: TestRam, format: Format, queue: u16, in_order: bool) -> Self {
        let kind = match format {
            Format::Split => Kind::Split {
                driver: driver(ram, queue),
                free: (0..SIZE).collect(),
                used: 0,
            },
            Format::Packed => {
                let start = BASE + 0x1000 * u64::from(queue);
                Kind::Packed(PackedDriver::new(ram.flat(BASE), start, SIZE))
            }
        };
        let nothing = Layout::packed_at(BASE, 0);
        Self {
            kind,
            bytes: FakeDriver::new(ram.flat(BASE), nothing),
            queue,
            in_order,
            sent: VecDeque::new(),
            numbers: 0,
        }
    }

    /// The configuration that the driver sends to the device.
    pub fn config(&self) -> QueueConfig {
        match &self.kind {
            Kind::Split { driver, .. } => driver.config(self.queue),
            Kind::Packed(driver) => driver.config(self.queue),
        }
    }

    /// Free descriptors.
    pub fn room(&self) -> usize {
        let taken: usize = self.sent.iter().map(|sent| sent.taken.len()).sum();
        usize::from(SIZE) - taken
    }

    /// Chains that the device has.
    pub fn outstanding(&self) -> usize {
        self.sent.len()
    }

    /// Returns whether a chain that the device has lets the device write here.
    pub fn may_write(&self, addr: u64) -> bool {
        let buffers = self.sent.iter().flat_map(|sent| &sent.buffers);
        let mut writable = buffers.filter(|buffer| buffer.writable);
        writable.any(|buffer| addr >= buffer.addr && addr - buffer.addr < u64::from(buffer.len))
    }

    /// Returns whether the device may write here as part of its ring areas.
    pub fn is_device_area(&self, addr: u64) -> bool {
        let config = self.config();
        match self.kind {
            Kind::Split { .. } => {
                (config.device..config.device + 6 + 8 * u64::from(SIZE)).contains(&addr)
            }
            Kind::Packed(_) => {
                let ring = config.desc..config.desc + 16 * u64::from(SIZE);
                ring.contains(&addr) || (config.device..config.device + 4).contains(&addr)
            }
        }
    }

    /// Makes a chain of these buffers available. Its table, if it has one, is at `table`. The ring
    /// must have room.
    pub fn send(&mut self, buffers: &[Buffer], form: Form, table: u64) {
        let direct = match form {
            Form::Direct => buffers.len(),
            Form::Table(direct) => direct.min(buffers.len()),
            _ => 0,
        };
        let flags = |buffer: &Buffer| if buffer.writable { WRITE } else { 0 };
        let mut ring: Vec<(u64, u32, u16)> = buffers[..direct]
            .iter()
            .map(|buffer| (buffer.addr, buffer.len, flags(buffer) | NEXT))
            .collect();
        if form == Form::Direct {
            if let Some(last) = ring.last_mut() {
                last.2 &= !NEXT;
            }
        } else {
            let behind = &buffers[direct..];
            let (at, len) = match form {
                Form::OddTable(len) => (table, len),
                Form::TableAt(at) => (at, 16 * behind.len() as u32),
                _ => (table, 16 * behind.len() as u32),
            };
            let more = if form == Form::TableWithNext { NEXT } else { 0 };
            ring.push((at, len, INDIRECT | more));
            for (index, buffer) in (0u16..).zip(behind) {
                let last = usize::from(index) + 1 == behind.len();
                let next = if last { 0 } else { NEXT };
                let place = table + 16 * u64::from(index);
                self.write_desc_at(place, buffer, flags(buffer) | next, index + 1);
            }
        }
        assert!(ring.len() <= self.room(), "the driver has no room");
        let number = self.numbers;
        self.numbers += 1;
        let (id, taken) = match &mut self.kind {
            Kind::Split { driver, free, .. } => {
                let taken: Vec<u16> = free.drain(..ring.len()).collect();
                for (at, (addr, len, flags)) in ring.iter().enumerate() {
                    // An invalid NEXT leads to a valid descriptor.
                    let next = taken.get(at + 1).or(taken.first()).copied().unwrap_or(0);
                    driver.write_desc(taken[at], (*addr, *len), *flags, next);
                }
                driver.offer(taken[0]);
                driver.publish();
                (taken[0], taken)
            }
            Kind::Packed(driver) => {
                // Any id is valid. All of these are distinct, and some collide modulo the size.
                let id = (number as u16).wrapping_mul(0x0803);
                let (mut slot, mut wrap) = driver.next_avail();
                driver.send(id, &vec![Buffer::readable(0, 0); ring.len()]);
                for (addr, len, flags) in &ring {
                    let flags = flags | PackedDriver::<FlatMem>::available(wrap);
                    driver.write_desc(slot, (*addr, *len), id, flags);
                    slot += 1;
                    if slot == SIZE {
                        (slot, wrap) = (0, !wrap);
                    }
                }
                (id, vec![0; ring.len()])
            }
        };
        self.sent.push_back(Sent {
            number,
            id,
            taken,
            buffers: buffers.to_vec(),
        });
    }

    /// Writes a descriptor of an indirect table.
    fn write_desc_at(&self, addr: u64, buffer: &Buffer, flags: u16, next: u16) {
        let place = (buffer.addr, buffer.len);
        match self.kind {
            Kind::Split { .. } => self.bytes.write_desc_at(addr, place, flags, next),
            // A packed table descriptor has its fields in another order; its id is ignored.
            Kind::Packed(_) => self.bytes.write_desc_at(addr, place, 0xdead, flags),
        }
    }

    /// Takes all chains that the device returned.
    pub fn take(&mut self) -> Vec<Given> {
        let mut all = Vec::new();
        while let Some((id, len)) = self.peek() {
            let found = self.sent.iter().position(|sent| sent.id == id);
            let found = found.unwrap_or_else(|| panic!("the device does not have chain {id}"));
            // With IN_ORDER, the driver takes all earlier chains as full.
            let first = if self.in_order { 0 } else { found };
            let mut batch: Vec<Sent> = self.sent.drain(first..=found).collect();
            let slots = batch.iter().map(|sent| sent.taken.len()).sum::<usize>();
            match &mut self.kind {
                Kind::Split { used, free, .. } => {
                    *used = used.wrapping_add(batch.len() as u16);
                    free.extend(batch.iter().flat_map(|sent| &sent.taken));
                }
                Kind::Packed(driver) => {
                    driver.take_used(slots as u16);
                }
            }
            let last = batch.pop();
            let queue = self.queue;
            all.extend(batch.into_iter().map(|sent| Given {
                queue,
                number: sent.number,
                len: room(&sent.buffers),
            }));
            all.extend(last.map(|sent| {
                assert!(len <= room(&sent.buffers), "{len} bytes in {sent:?}");
                Given {
                    queue,
                    number: sent.number,
                    len,
                }
            }));
        }
        all
    }

    /// Returns the next used entry.
    fn peek(&mut self) -> Option<(u16, u32)> {
        match &mut self.kind {
            Kind::Split { driver, used, .. } => {
                let ahead = driver.used_idx().wrapping_sub(*used);
                assert!(usize::from(ahead) <= self.sent.len());
                (ahead != 0)
                    .then(|| driver.used_entry(*used))
                    .map(|(id, len)| (u16::try_from(id).expect("an id of 16 bits"), len))
            }
            Kind::Packed(driver) => {
                let (id, len, write) = driver.take_used(0)?;
                // Without WRITE the length is undefined.
                Some((id, if write { len } else { 0 }))
            }
        }
    }
}

fn room(buffers: &[Buffer]) -> u32 {
    let writable = buffers.iter().filter(|buffer| buffer.writable);
    writable.fold(0, |sum, buffer| sum.saturating_add(buffer.len))
}

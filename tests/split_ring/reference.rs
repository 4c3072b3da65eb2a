//! A slow and simple split ring: what a device with one queue should do to memory.

use virtside::{DriverFault, Features, Step, testing::Layout};
use virtside_tests::{BASE, N, SIZE};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer: address and length.
type Piece = (u64, u32);

/// A chain as it was when the device took it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub head: u16,
    readable: Vec<Piece>,
    writable: Vec<Piece>,
}

/// What a model saw of a request: head, readable bytes, and room.
pub type Seen = (u16, Vec<u8>, u64);

#[derive(Clone, Debug)]
pub struct Reference {
    /// The driver's memory from [`BASE`] on.
    pub mem: Vec<u8>,
    layout: Layout,
    event_idx: bool,
    indirect: bool,
    avail_idx: u16,
    next_avail: u16,
    next_used: u16,
    signalled: u16,
    /// Chains that are taken and not answered.
    pub pending: Vec<Taken>,
    slots: usize,
    /// Fills buffers with this byte at once; `None` keeps the chains.
    pub fill: Option<u8>,
    pub fault: Option<DriverFault>,
    pub seen: Vec<Seen>,
    pub interrupts: u32,
}

impl Reference {
    pub fn new(mem: Vec<u8>, layout: Layout, features: Features, slots: usize) -> Self {
        Self {
            mem,
            layout,
            event_idx: features.contains(Features::EVENT_IDX),
            indirect: features.contains(Features::INDIRECT_DESC),
            avail_idx: 0,
            next_avail: 0,
            next_used: 0,
            signalled: 0,
            pending: Vec::new(),
            slots,
            fill: Some(0xa5),
            fault: None,
            seen: Vec::new(),
            interrupts: 0,
        }
    }

    /// Index of an address, if all `len` bytes from it on are mapped.
    fn at(&self, addr: u64, len: u32) -> Option<usize> {
        let offset = addr.checked_sub(BASE)?;
        let end = offset.checked_add(len.into())?;
        (end <= self.mem.len() as u64).then_some(offset as usize)
    }

    fn bytes<const L: usize>(&self, addr: u64) -> [u8; L] {
        let at = self.at(addr, L as u32).expect("only mapped memory is read");
        self.mem[at..at + L].try_into().unwrap()
    }

    fn half(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.bytes(addr))
    }

    fn put(&mut self, addr: u64, bytes: &[u8]) {
        let at = self
            .at(addr, bytes.len() as u32)
            .expect("only mapped memory is written");
        self.mem[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The addresses of the used ring's flags and of `avail_event`.
    pub fn advice(&self) -> [u64; 2] {
        let device = self.layout.device;
        [device, device + 4 + 8 * u64::from(self.layout.size)]
    }

    /// Reads the available index; returns whether there are new chains.
    fn refill(&mut self) -> Result<bool, DriverFault> {
        let idx = self.half(self.layout.driver + 2);
        if idx.wrapping_sub(self.next_avail) > self.layout.size {
            return Err(DriverFault::AvailIndexJump {
                idx,
                next: self.next_avail,
            });
        }
        self.avail_idx = idx;
        Ok(idx != self.next_avail)
    }

    fn take(&mut self) -> Result<Option<Taken>, DriverFault> {
        if self.next_avail == self.avail_idx && !self.refill()? {
            return Ok(None);
        }
        let slot = u64::from(self.next_avail % self.layout.size);
        let head = self.half(self.layout.driver + 4 + 2 * slot);
        if head >= self.layout.size {
            return Err(DriverFault::HeadOutOfRange { head });
        }
        if self.pending.iter().any(|taken| taken.head == head) {
            return Err(DriverFault::HeadInFlight { head });
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        self.walk(head).map(Some)
    }

    pub fn walk(&self, head: u16) -> Result<Taken, DriverFault> {
        let mut taken = Taken {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let (mut table, mut count) = (self.layout.desc, u32::from(self.layout.size));
        let (mut inside, mut index) = (false, head);
        loop {
            if u32::from(index) >= count {
                return Err(DriverFault::NextOutOfRange { next: index });
            }
            let desc = table + 16 * u64::from(index);
            let addr = u64::from_le_bytes(self.bytes(desc));
            let len = u32::from_le_bytes(self.bytes(desc + 8));
            let (flags, next) = (self.half(desc + 12), self.half(desc + 14));
            let so_far = taken.readable.len() + taken.writable.len();
            if flags & INDIRECT != 0 {
                let room = (N as u32).saturating_sub(so_far as u32);
                if inside {
                    return Err(DriverFault::IndirectNested { head });
                } else if !self.indirect {
                    return Err(DriverFault::IndirectNotNegotiated { head });
                } else if flags & NEXT != 0 {
                    return Err(DriverFault::IndirectWithNext { head });
                } else if len == 0 || !len.is_multiple_of(16) || len / 16 > room {
                    return Err(DriverFault::IndirectLength { len });
                } else if self.at(addr, len).is_none() {
                    return Err(DriverFault::BufferUnmapped {
                        addr,
                        len,
                        writable: false,
                    });
                }
                (table, count, inside, index) = (addr, len / 16, true, 0);
                continue;
            }
            let writable = flags & WRITE != 0;
            if !writable && !taken.writable.is_empty() {
                return Err(DriverFault::ReadableAfterWritable { head });
            }
            if len != 0 && self.at(addr, len).is_none() {
                return Err(DriverFault::BufferUnmapped {
                    addr,
                    len,
                    writable,
                });
            }
            if so_far == N {
                return Err(DriverFault::ChainTooLong { head });
            }
            if writable {
                taken.writable.push((addr, len));
            } else {
                taken.readable.push((addr, len));
            }
            if flags & NEXT == 0 {
                return Ok(taken);
            }
            index = next;
        }
    }

    /// Shows a chain to the model; returns whether it was answered.
    fn serve(&mut self, taken: &Taken) -> bool {
        let mut sent = Vec::new();
        for (addr, len) in &taken.readable {
            if let Some(at) = self.at(*addr, *len) {
                sent.extend_from_slice(&self.mem[at..at + *len as usize]);
            }
        }
        let room: u32 = taken.writable.iter().map(|(_, len)| len).sum();
        self.seen.push((taken.head, sent, room.into()));
        let Some(byte) = self.fill else {
            return false;
        };
        for (addr, len) in &taken.writable {
            if let Some(at) = self.at(*addr, *len) {
                self.mem[at..at + *len as usize].fill(byte);
            }
        }
        let element = self.layout.device + 4 + 8 * u64::from(self.next_used % self.layout.size);
        self.put(element, &u32::from(taken.head).to_le_bytes());
        self.put(element + 4, &room.to_le_bytes());
        self.next_used = self.next_used.wrapping_add(1);
        self.put(self.layout.device + 2, &self.next_used.to_le_bytes());
        true
    }

    /// Interrupts once for the elements used since the last call, if the driver asked for it.
    fn notify_driver(&mut self) {
        let (new, old) = (self.next_used, self.signalled);
        if new == old {
            return;
        }
        self.signalled = new;
        let wanted = if self.event_idx {
            let event = self.half(self.layout.driver + 4 + 2 * u64::from(self.layout.size));
            (0..new.wrapping_sub(old)).any(|entry| old.wrapping_add(entry) == event)
        } else {
            self.half(self.layout.driver) & 1 == 0
        };
        self.interrupts += u32::from(wanted);
    }

    fn fail(&mut self, fault: DriverFault) {
        self.notify_driver();
        self.fault = Some(fault);
        self.pending.clear();
        // The configuration interrupt.
        self.interrupts += 1;
    }

    /// A poll after a kick. The reference does not write the used ring's flags and `avail_event`,
    /// which are advice.
    pub fn poll(&mut self, budget: u16) -> Step {
        let mut idle = false;
        let mut left = budget;
        while self.fault.is_none() && left > 0 && !idle && self.pending.len() < self.slots {
            left -= 1;
            match self.take() {
                Ok(Some(taken)) => {
                    if !self.serve(&taken) {
                        self.pending.push(taken);
                    }
                }
                Ok(None) => idle = true,
                Err(fault) => self.fail(fault),
            }
        }
        self.notify_driver();
        let full = self.pending.len() == self.slots && left > 0;
        if self.fault.is_some() || (idle && self.pending.is_empty()) {
            Step::Idle
        } else if idle || full {
            Step::Blocked
        } else {
            Step::More
        }
    }

    /// Completes a pending chain with this answer.
    pub fn complete(&mut self, at: usize) {
        let taken = self.pending.remove(at);
        if self.serve(&taken) {
            self.notify_driver();
        } else {
            self.pending.insert(at, taken);
        }
    }
}

/// The reference supports queues up to the tests' capacity.
const _: () = assert!(SIZE as usize == N);

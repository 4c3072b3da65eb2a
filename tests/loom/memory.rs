//! A ring of two elements and a few buffers in loom's atomics, and the memory type through which
//! core accesses them.

use std::{fmt, sync::Arc};

use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};
use virtside::{
    DriverMem, FlatMem, QueueConfig,
    memory::{DeviceRange, DriverRange, MemFault, Permission, Ram, RawDescriptor, RingWindow},
    testing::order,
};

/// Elements of the ring.
pub const SIZE: u16 = 2;
/// Buffers, one byte each.
pub const BUFFERS: usize = 4;

const DESC: u64 = 0;
const DRIVER: u64 = 0x100;
const DEVICE: u64 = 0x200;
const DATA: u64 = 0x400;

/// The queue's configuration as the driver sends it.
pub const CONFIG: QueueConfig = QueueConfig {
    queue: 0,
    size: SIZE as u32,
    desc: DESC,
    driver: DRIVER,
    device: DEVICE,
};

/// A memory order of the device that a test weakens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No flaw: core's own orders.
    None,
    /// Loads of the available index are relaxed.
    RelaxedLook,
    /// Stores of the used index are relaxed.
    RelaxedUsed,
    /// No fence between a store and the load of what the other side stores.
    NoFence,
}

/// A descriptor; in a packed ring the upper half of `rest` holds the flags.
#[derive(Debug, Default)]
pub struct Descriptor {
    pub addr: AtomicU64,
    pub len: AtomicU32,
    pub rest: AtomicU32,
}

/// The words of one queue, of either format.
#[derive(Debug, Default)]
pub struct Words {
    pub desc: [Descriptor; 2],
    pub avail_flags: AtomicU16,
    pub avail_idx: AtomicU16,
    pub avail: [AtomicU16; 2],
    pub used_event: AtomicU16,
    pub used_flags: AtomicU16,
    pub used_idx: AtomicU16,
    pub used: [[AtomicU32; 2]; 2],
    pub avail_event: AtomicU16,
    /// In a packed ring: the driver event suppression structure.
    pub driver_event: AtomicU32,
    /// In a packed ring: the device event suppression structure.
    pub device_event: AtomicU32,
}

struct Inner {
    words: Words,
    bytes: FlatMem,
    /// Cells that tell loom who reads and who writes a buffer. Loom reports accesses that are not
    /// ordered.
    owners: [UnsafeCell<()>; BUFFERS],
    flaw: Flaw,
}

// SAFETY: the cells hold no data; loom checks that accesses to them are ordered.
unsafe impl Sync for Inner {}
// SAFETY: as above.
unsafe impl Send for Inner {}

/// The driver's memory.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.0.flaw)
    }
}

/// The driver address of a buffer.
pub const fn address(buffer: usize) -> u64 {
    DATA + buffer as u64
}

impl Memory {
    /// Zeroed memory.
    pub fn new(ram: &'static Ram<4096>, flaw: Flaw) -> Self {
        ram.write(0, &[0; 4096]);
        Self(Arc::new(Inner {
            words: Words::default(),
            bytes: ram.flat(0),
            owners: Default::default(),
            flaw,
        }))
    }

    pub fn words(&self) -> &Words {
        &self.0.words
    }

    /// Writes a buffer as the driver.
    pub fn put(&self, buffer: usize, byte: u8) {
        let range = Self::range(buffer);
        let view = self.0.bytes.translate(range, Permission::Write);
        assert_eq!(view.expect("a buffer").copy_from(&[byte]), 1);
        self.after_write(range);
    }

    /// Reads a buffer as the driver.
    pub fn get(&self, buffer: usize) -> u8 {
        let range = Self::range(buffer);
        self.before_read(range);
        let mut byte = [0];
        let view = self.0.bytes.translate(range, Permission::Read);
        assert_eq!(view.expect("a buffer").copy_to(&mut byte), 1);
        byte[0]
    }

    fn range(buffer: usize) -> DriverRange {
        DriverRange::new(address(buffer), 1).expect("a buffer")
    }

    fn owner(&self, range: DriverRange) -> &UnsafeCell<()> {
        let buffer = (0..BUFFERS).find(|buffer| Self::range(*buffer) == range);
        &self.0.owners[buffer.expect("torn chain: there is no such buffer")]
    }
}

impl DriverMem for Memory {
    type Window = Window;

    fn window(&self, _: DriverRange, _: Permission) -> Result<Window, MemFault> {
        Ok(Window(self.clone()))
    }
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        self.0.bytes.translate(range, permission)
    }
    fn before_read(&self, range: DriverRange) {
        self.owner(range).with(|_| ());
    }
    fn after_write(&self, range: DriverRange) {
        self.owner(range).with_mut(|_| ());
    }
}

/// A view of all three areas: the method that a queue calls says which area it means. Each access
/// is the one that `PtrWindow` makes, whose orders are also core's constants.
#[derive(Debug)]
pub struct Window(Memory);

impl Window {
    fn words(&self) -> &Words {
        self.0.words()
    }

    /// Core's order, or a weaker one if the exploration has this flaw.
    fn order(&self, order: Ordering, flaw: Flaw) -> Ordering {
        if self.0.0.flaw == flaw {
            Ordering::Relaxed
        } else {
            order
        }
    }

    fn rest(&self, index: u16) -> u32 {
        let order = self.order(order::LOAD_REST, Flaw::RelaxedLook);
        self.words().desc[usize::from(index)].rest.load(order)
    }
}

/// Whether the upper half of a packed descriptor's last word makes it available in a round with
/// this wrap counter.
pub fn is_available(rest: u32, wrap: bool) -> bool {
    let (avail, used) = (rest & (1 << 23) != 0, rest & (1 << 31) != 0);
    avail == wrap && used != wrap
}

impl RingWindow for Window {
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor> {
        let words = self.words().desc.get(usize::from(index))?;
        Some(RawDescriptor {
            addr: words.addr.load(Ordering::Relaxed),
            len: words.len.load(Ordering::Relaxed),
            rest: words.rest.load(Ordering::Relaxed),
        })
    }
    fn load_flags(&self) -> u16 {
        self.words().avail_flags.load(Ordering::Relaxed)
    }
    fn load_idx(&self) -> u16 {
        let order = self.order(order::LOAD_IDX, Flaw::RelaxedLook);
        self.words().avail_idx.load(order)
    }
    fn load_entry(&self, index: u16) -> u16 {
        self.words().avail[usize::from(index % SIZE)].load(Ordering::Relaxed)
    }
    fn load_event(&self) -> u16 {
        self.words().used_event.load(Ordering::Relaxed)
    }
    fn store_flags(&self, flags: u16) {
        self.words().used_flags.store(flags, Ordering::Relaxed);
    }
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16) {
        let words = &self.words().used[usize::from(index % SIZE)];
        for (word, value) in words.iter().zip(element) {
            word.store(value, Ordering::Relaxed);
        }
        let order = self.order(order::STORE_IDX, Flaw::RelaxedUsed);
        self.words()
            .used_idx
            .store(index.wrapping_add(count), order);
    }
    fn store_event(&self, event: u16) {
        self.words().avail_event.store(event, Ordering::Relaxed);
    }
    fn is_available(&self, index: u16, wrap: bool) -> bool {
        is_available(self.rest(index), wrap)
    }
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor> {
        let words = self.words().desc.get(usize::from(index))?;
        let rest = self.rest(index);
        is_available(rest, wrap).then(|| RawDescriptor {
            addr: words.addr.load(Ordering::Relaxed),
            len: words.len.load(Ordering::Relaxed),
            rest,
        })
    }
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool {
        let Some(words) = self.words().desc.get(usize::from(index)) else {
            return false;
        };
        words.len.store(len, Ordering::Relaxed);
        let order = self.order(order::STORE_REST, Flaw::RelaxedUsed);
        words
            .rest
            .store(u32::from(id) | u32::from(flags) << 16, order);
        true
    }
    fn load_suppression(&self) -> u32 {
        self.words().driver_event.load(Ordering::Relaxed)
    }
    fn store_suppression(&self, word: u32) {
        self.words().device_event.store(word, Ordering::Relaxed);
    }
    fn full_fence(&self) {
        if self.0.0.flaw != Flaw::NoFence {
            fence(order::FENCE);
        }
    }
}

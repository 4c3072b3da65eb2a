//! The split virtqueue, from the device's side.
//!
//! For each chain the shared memory is touched exactly so often: the available index once per
//! batch, one ring entry, each descriptor once, one used element, the used index, and one
//! suppression field. Nothing is read twice.
//!
//! In-flight chains are tracked in one byte per descriptor: stable Rust cannot write
//! `[u32; (N + 31) / 32]`, and beside a chain buffer of `16 * N` bytes it does not weigh.
//!
//! Clauses: split-desc-01..05, split-indirect-01, split-indirect-02, split-avail-01..03,
//! split-used-01..06, split-usedsup-01..06, split-availsup-01..05.

use virtio_spec::virtq::DescF;

use super::chain::Chain;
use crate::{
    check::{CheckedQueue, Windows},
    error::DriverFault,
    features::Features,
    memory::{DriverMem, DriverRange, Permission, RingWindow, split},
    num,
};

const NEXT: u16 = DescF::NEXT.bits().to_ne();
const WRITE: u16 = DescF::WRITE.bits().to_ne();
const INDIRECT: u16 = DescF::INDIRECT.bits().to_ne();

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// What `pop` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// A chain, in the buffer.
    Chain,
    /// Nothing available.
    Empty,
}

/// One descriptor, fetched once.
#[derive(Clone, Copy)]
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Desc {
    #[inline(always)]
    fn from_words([addr, word]: [u64; 2]) -> Self {
        let rest = num::high(word);
        Self {
            addr,
            len: num::low(word),
            flags: num::low16(rest),
            next: num::high16(rest),
        }
    }

    #[inline(always)]
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A split virtqueue of up to `N` elements, over three ring windows.
///
/// It is made only from a [`CheckedQueue`]. Methods that find the driver at fault leave the queue
/// as it is: whoever owns the queue stops it.
#[derive(Debug)]
pub struct SplitQueue<W, const N: usize> {
    windows: Windows<W>,
    size: u16,
    next_avail: u16,
    /// The available index as last read.
    avail_idx: u16,
    next_used: u16,
    /// `next_used` when interrupts were last considered.
    signalled: u16,
    event_idx: bool,
    indirect: bool,
    /// The driver was told not to kick, by the used ring's flags.
    kicks_off: bool,
    in_flight: [bool; N],
}

impl<W: RingWindow, const N: usize> SplitQueue<W, N> {
    /// The queue at its start. Writes the used ring's flags: the first memory access of a queue's
    /// life, and the only one here.
    pub(crate) fn new(checked: CheckedQueue<W>) -> Self {
        const {
            assert!(
                N.is_power_of_two() && N <= 32768,
                "a split queue holds 2^k elements, k <= 15"
            );
        }
        let queue = Self {
            windows: checked.windows,
            size: checked.size,
            next_avail: 0,
            avail_idx: 0,
            next_used: 0,
            signalled: 0,
            event_idx: checked.features.contains(Features::EVENT_IDX),
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            in_flight: [false; N],
        };
        queue.windows.device.store_u16(0, 0);
        queue
    }

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The rings have moved in host memory; their contents have not changed.
    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        self.windows = windows;
    }

    /// Reads the available index: once per batch. The acquire keeps the entries and descriptors
    /// that the driver wrote before it from being read earlier.
    #[inline(always)]
    fn refill(&mut self) -> Result<bool, DriverFault> {
        let idx = self.windows.driver.load_u16_acquire(1);
        let ahead = idx.wrapping_sub(self.next_avail);
        if ahead > self.size {
            return Err(DriverFault::AvailIndexJump {
                idx,
                next: self.next_avail,
            });
        }
        self.avail_idx = idx;
        Ok(ahead != 0)
    }

    /// Takes the next available chain, copied and validated, into `chain`.
    ///
    /// At most `2 + size + 1` ring accesses, or `2 + size` and `size` descriptors of an indirect
    /// table.
    ///
    /// # Errors
    /// The driver's misdeed. The chain is then in flight, or not taken, and of no use.
    #[inline(always)]
    pub(crate) fn pop<M: DriverMem>(
        &mut self,
        mem: &M,
        chain: &mut Chain<N>,
    ) -> Result<Popped, DriverFault> {
        if self.next_avail == self.avail_idx && !self.refill()? {
            return Ok(Popped::Empty);
        }
        let slot = self.next_avail & self.size.wrapping_sub(1);
        let head = self
            .windows
            .driver
            .load_u16(usize::from(slot).wrapping_add(2));
        if head >= self.size {
            return Err(DriverFault::HeadOutOfRange { head });
        }
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if !*there => *there = true,
            Some(_) => return Err(DriverFault::HeadInFlight { head }),
            None => return Err(DriverFault::HeadOutOfRange { head }),
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        chain.begin(head);
        self.walk(mem, chain, head)?;
        Ok(Popped::Chain)
    }

    #[inline(always)]
    fn walk<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        head: u16,
    ) -> Result<(), DriverFault> {
        let mut left = self.size;
        let mut index = head;
        loop {
            let desc = Desc::from_words(self.windows.desc.load_descriptor(usize::from(index)));
            if desc.has(INDIRECT) {
                return self.walk_table(mem, chain, desc, left);
            }
            chain.push(mem, desc.addr, desc.len, desc.has(WRITE))?;
            if !desc.has(NEXT) {
                return Ok(());
            }
            left = left.wrapping_sub(1);
            if left == 0 {
                return Err(DriverFault::ChainTooLong { head });
            }
            index = desc.next;
            if index >= self.size {
                return Err(DriverFault::NextOutOfRange { next: index });
            }
        }
    }

    /// Walks the table of an indirect descriptor, of which `left` elements may still come.
    #[inline(never)]
    fn walk_table<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        table: Desc,
        left: u16,
    ) -> Result<(), DriverFault> {
        let head = chain.head();
        if !self.indirect {
            return Err(DriverFault::IndirectNotNegotiated { head });
        }
        if table.has(NEXT) {
            return Err(DriverFault::IndirectWithNext { head });
        }
        let length = DriverFault::IndirectLength { len: table.len };
        let count = u16::try_from(table.len >> 4).map_err(|_| length)?;
        if count == 0 || count > left || table.len & 15 != 0 {
            return Err(length);
        }
        let (addr, len) = (table.addr, table.len);
        let unmapped = DriverFault::BufferUnmapped {
            addr,
            len,
            writable: false,
        };
        let range = DriverRange::new(addr, len).ok_or(unmapped)?;
        if !mem.is_mapped(range, Permission::Read) {
            return Err(unmapped);
        }
        mem.before_read(range);
        let view = mem
            .translate(range, Permission::Read)
            .map_err(|_| unmapped)?;
        let mut left = count;
        let mut index: u16 = 0;
        loop {
            let at = u32::from(index).wrapping_mul(16);
            let words = match view.descriptor(num::index(at)) {
                Some(words) => words,
                // The table spans regions.
                None => gather(mem, range.skip(at)).ok_or(unmapped)?,
            };
            let desc = Desc::from_words(words);
            if desc.has(INDIRECT) {
                return Err(DriverFault::IndirectNested { head });
            }
            chain.push(mem, desc.addr, desc.len, desc.has(WRITE))?;
            if !desc.has(NEXT) {
                return Ok(());
            }
            left = left.wrapping_sub(1);
            if left == 0 {
                return Err(DriverFault::ChainTooLong { head });
            }
            index = desc.next;
            if index >= count {
                return Err(DriverFault::NextOutOfRange { next: index });
            }
        }
    }

    /// Whether this head was popped and not given back.
    pub(crate) fn is_in_flight(&self, head: u16) -> bool {
        self.in_flight
            .get(usize::from(head))
            .is_some_and(|there| *there)
    }

    /// Gives a chain back with `written` bytes in it: element first, then the index, so that the
    /// driver never sees an index without its element. Three stores.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, head: u16, written: u32) {
        if let Some(there) = self.in_flight.get_mut(usize::from(head)) {
            *there = false;
        }
        let slot = usize::from(self.next_used & self.size.wrapping_sub(1));
        let word = slot.wrapping_mul(2).wrapping_add(1);
        self.windows.device.store_u32(word, u32::from(head));
        self.windows.device.store_u32(word.wrapping_add(1), written);
        self.next_used = self.next_used.wrapping_add(1);
        self.windows.device.store_u16_release(1, self.next_used);
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// The full fence keeps the driver's suppression field from being read before the used index
    /// is written: a driver that turns interrupts on and then looks at the index sees one or the
    /// other. One load.
    #[inline(always)]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        let (new, old) = (self.next_used, self.signalled);
        if new == old {
            return false;
        }
        self.signalled = new;
        self.windows.device.full_fence();
        if self.event_idx {
            let event = self
                .windows
                .driver
                .load_u16(usize::from(self.size).wrapping_add(2));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.windows.driver.load_u16(0) & NO_INTERRUPT == 0
        }
    }

    /// Tells the driver that kicks are not needed while we look anyway. With EVENT_IDX the stale
    /// event index does that by itself.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.event_idx && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_u16(0, NO_NOTIFY);
        }
    }

    /// Asks for a kick with the next buffer, then looks once more: true if more came meanwhile.
    ///
    /// The full fence keeps the available index from being read before the request is visible: a
    /// driver that publishes and then looks whether to kick sees one or the other.
    ///
    /// # Errors
    /// As for `pop`.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        if self.event_idx {
            let index = usize::from(self.size).wrapping_mul(4).wrapping_add(2);
            self.windows.device.store_u16(index, self.next_avail);
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_u16(0, 0);
        } else {
            // Kicks were never off: whatever came was or will be announced.
            return Ok(false);
        }
        self.windows.device.full_fence();
        self.refill()
    }
}

/// The 16 bytes of a descriptor that lies across the border of two regions.
#[cold]
fn gather<M: DriverMem>(mem: &M, from: DriverRange) -> Option<[u64; 2]> {
    let mut bytes = [0; 16];
    let mut done: usize = 0;
    while let Some(room) = bytes.get_mut(done..).filter(|room| !room.is_empty()) {
        let rest = from.skip(num::clamp_u32(done));
        let count = mem.translate(rest, Permission::Read).ok()?.copy_to(room);
        if count == 0 {
            return None;
        }
        done = done.wrapping_add(count);
    }
    Some(split(bytes))
}

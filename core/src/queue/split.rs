//! The split virtqueue, from the device's side.
//!
//! For each chain the shared memory is touched exactly so often: the available index once per
//! batch, one ring entry, each descriptor once, one used element, the used index, and one
//! suppression field. Nothing is read twice.
//!
//! In-flight chains are tracked in one word per descriptor: the serial number of the chain that has
//! it as its head, so that a clone of an earlier one gives nothing back. A chain buffer takes four
//! times as much.
//!
//! Clauses: split-desc-01..05, split-indirect-01, split-indirect-02, split-avail-01..03,
//! split-used-01..06, split-usedsup-01..06, split-availsup-01..05.

use super::snapshot::RingSnapshot;
use super::{
    Popped,
    batch::Batch,
    chain::Chain,
    descriptor::{Desc, End, follow, walk_table},
    mode::Mode,
    serial::{ABSENT, FREE, ORDERED, SPLIT_END, SPLIT_IN_ORDER_XOR},
};
use crate::{
    error::DriverFault,
    features::{Features, built},
    memory::{DriverMem, RingWindow},
    num,
    queue::check::{CheckedQueue, Windows},
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// A split virtqueue of up to `N` elements, over three ring windows.
///
/// It is made only from a [`CheckedQueue`]. Methods that find the driver at fault leave the queue
/// as it is: whoever owns the queue stops it.
#[derive(Debug)]
pub struct SplitQueue<W, const N: usize> {
    windows: Windows<W>,
    /// One less than the number of elements.
    mask: u16,
    /// The serial number of the next chain, whose low half is the index of its entry.
    next: u32,
    /// The available index as last read.
    avail_idx: u16,
    next_used: u16,
    /// Chains that were popped and will not be given back.
    abandoned: u16,
    /// `next_used` when interrupts were last considered.
    signalled: u16,
    mode: Mode,
    indirect: bool,
    /// The driver was told not to kick, by the used ring's flags.
    kicks_off: bool,
    batch: Batch,
    in_flight: [u32; N],
}

impl<W: RingWindow, const N: usize> SplitQueue<W, N> {
    /// The queue at its start, to [`begin`](Self::begin) with.
    #[inline(always)]
    pub(crate) fn new(checked: CheckedQueue<W>, serial: u32) -> Self {
        const {
            assert!(
                N.is_power_of_two() && N <= 32768,
                "a split queue holds 2^k elements, k <= 15"
            );
        }
        Self {
            windows: checked.windows,
            mask: checked.size.wrapping_sub(1),
            next: serial,
            avail_idx: 0,
            next_used: 0,
            abandoned: 0,
            signalled: 0,
            mode: Mode::of(checked.features),
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            batch: Batch::EMPTY,
            in_flight: [FREE; N],
        }
    }

    /// Writes the used ring's flags: the first memory access of a queue's life.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        self.mark();
        self.windows.device.store_flags(0);
    }

    /// Tells the heads that the driver has from those that are none.
    #[inline(always)]
    fn mark(&mut self) {
        if self.mode.in_order() {
            self.in_flight = [ORDERED; N];
        }
        let size = usize::from(self.size());
        if let Some(beyond) = self.in_flight.get_mut(size..) {
            beyond.fill(ABSENT);
        }
    }

    /// See [`Virtqueue::restored`](super::Virtqueue::restored).
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        serial: u32,
        ring: &RingSnapshot,
        chains: u16,
    ) -> Option<Self> {
        let size = checked.size;
        let taken = ring.next_avail.wrapping_sub(ring.next_used);
        if taken > size || ring.unsignalled > size || ring.abandoned.checked_add(chains)? != taken {
            return None;
        }
        let mut queue = Self::new(checked, serial);
        queue.mark();
        // The oldest chain in hand came as many entries before.
        queue.next = serial | u32::from(ring.next_avail);
        queue.next = queue.next.wrapping_sub(chains.into());
        queue.avail_idx = ring.next_avail;
        queue.next_used = ring.next_used;
        queue.signalled = ring.next_used.wrapping_sub(ring.unsignalled);
        queue.abandoned = ring.abandoned;
        queue.kicks_off = ring.kicks_off;
        Some(queue)
    }

    /// The rings have moved in host memory; their contents have not changed.
    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        self.windows = windows;
    }

    /// Reads the available index: once per batch. The acquire keeps the entries and descriptors
    /// that the driver wrote before it from being read earlier.
    #[inline(always)]
    fn refill(&mut self) -> Result<bool, DriverFault> {
        let idx = self.windows.driver.load_idx();
        let next = self.next_avail();
        let ahead = idx.wrapping_sub(next);
        if ahead > self.size() {
            return Err(DriverFault::jump(idx, next));
        }
        self.next &= SPLIT_END.wrapping_sub(1);
        self.avail_idx = idx;
        Ok(ahead != 0)
    }

    /// Takes the next available chain, copied and validated, into `chain`.
    ///
    /// At most `N + 2` ring accesses and `N` descriptors of an indirect table.
    ///
    /// # Errors
    /// The driver's misdeed is in `chain`, which is of no other use then.
    #[inline(always)]
    pub(crate) fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Popped {
        if self.next_avail() == self.avail_idx {
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return Popped::Empty,
                Err(fault) => {
                    chain.header.blame(fault);
                    return Popped::Fault;
                }
            }
        }
        let serial = self.next;
        let head = self.windows.driver.load_entry(num::low16(serial));
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if *there == FREE => {
                *there = serial;
                chain.header.set_serial(serial);
            }
            _ => {
                if !self.admit_in_order(chain, head, serial) {
                    return Popped::Fault;
                }
            }
        }
        self.next = serial.wrapping_add(1);
        if self.walk(mem, chain, head) {
            return Popped::Chain;
        }
        // Asked of the chain: to keep the head would cost the good path a register.
        self.abandon_head(chain.head());
        Popped::Broken
    }

    /// See [`Virtqueue::refuse`](super::Virtqueue::refuse).
    pub(crate) fn refuse(&mut self, chain: &Chain<N>) -> bool {
        if self.mode.in_order() {
            // It is lost itself; another that was, would be passed over.
            if self.in_flight() != 0 || self.abandoned != 1 {
                return false;
            }
            self.publish();
        }
        self.abandoned = self.abandoned.wrapping_sub(1);
        self.windows
            .device
            .store_used(self.next_used, [u32::from(chain.head()), 0]);
        self.next_used = self.next_used.wrapping_add(1);
        true
    }

    /// With IN_ORDER a free head is another word; without, the driver is at fault.
    #[cold]
    #[inline(never)]
    fn admit_in_order(&mut self, chain: &mut Chain<N>, head: u16, serial: u32) -> bool {
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if built::IN_ORDER && *there == ORDERED => {
                *there = serial;
                chain.header.set_serial(serial ^ SPLIT_IN_ORDER_XOR);
                true
            }
            _ => {
                chain.header.blame(DriverFault::bad_head(head, self.size()));
                false
            }
        }
    }

    /// Follows a chain through the descriptor table; false if the driver is at fault.
    #[inline(always)]
    fn walk<M: DriverMem>(&self, mem: &M, chain: &mut Chain<N>, head: u16) -> bool {
        let table = &self.windows.desc;
        let fetch = |index: u16| table.load_descriptor(index).map(Desc::new);
        chain.header.begin(head);
        // The head was checked, so it is there.
        let Some(first) = fetch(head) else {
            chain.header.bad_next(head);
            return false;
        };
        match follow::<_, N, false>(mem, chain, (0, 0, false), first, fetch) {
            Ok(End::Table(table)) => {
                walk_table::<_, N, false>(mem, chain, table, self.indirect).is_ok()
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// Gives a chain back with `written` bytes in it: element first, then the index, so that the
    /// driver never sees an index without its element. False, and nothing is given, if the chain
    /// is not in flight. Two stores, one of an element.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        // The head of a chain that is in flight is below `N`: the mask stands for a comparison.
        let head = chain.head() & const { num::clamp_u16(N).wrapping_sub(1) };
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if *there == chain.header.serial() => *there = FREE,
            _ => return false,
        }
        self.windows
            .device
            .store_used(self.next_used, [u32::from(head), written]);
        self.next_used = self.next_used.wrapping_add(1);
        true
    }

    /// The same for a queue with IN_ORDER and the chain that [`is_next`](Self::is_next): the ring
    /// hears of it at the latest with [`publish`](Self::publish).
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        let serial = chain.header.serial() ^ SPLIT_IN_ORDER_XOR;
        let there = self.in_flight.get_mut(usize::from(chain.head()));
        match there.filter(|there| **there == serial) {
            Some(there) => *there = ORDERED,
            None => return false,
        }
        self.batch = Batch {
            count: self.batch.count.wrapping_add(1),
            id: chain.head(),
            len: written,
        };
        // A chain that is not full cannot be passed over: its length would be lost.
        if u64::from(written) != chain.writable_len() {
            self.publish();
        }
        true
    }

    /// Puts what was given back in order into the ring. Two stores, one of an element, or none.
    pub(crate) fn publish(&mut self) {
        let Batch { count, id, len } = core::mem::replace(&mut self.batch, Batch::EMPTY);
        if count != 0 {
            self.windows
                .device
                .store_used_batch(self.next_used, [u32::from(id), len], count);
            self.next_used = self.next_used.wrapping_add(count);
        }
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// The full fence keeps the driver's suppression field from being read before the used index
    /// is written: a driver that turns interrupts on and then looks at the index sees one or the
    /// other. One load.
    #[inline(always)]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        if self.mode == Mode::EVENT_IDX {
            self.has_passed_event()
        } else {
            self.needs_interrupt_otherwise()
        }
    }

    #[cold]
    #[inline(never)]
    fn needs_interrupt_otherwise(&mut self) -> bool {
        if self.mode.is_quiet() {
            return false;
        }
        if self.mode.in_order() {
            self.publish();
            if self.mode.event_idx() {
                return self.has_passed_event();
            }
        }
        let (new, old) = (self.next_used, self.signalled);
        self.signalled = new;
        self.windows.device.full_fence();
        new != old && self.windows.driver.load_flags() & NO_INTERRUPT == 0
    }

    #[inline(always)]
    fn has_passed_event(&mut self) -> bool {
        let (new, old) = (self.next_used, self.signalled);
        self.signalled = new;
        self.windows.device.full_fence();
        let event = self.windows.driver.load_event();
        // Never if nothing was given back.
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// Tells the driver that kicks are not needed while we look anyway. With EVENT_IDX the stale
    /// event index does that by itself.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.mode.event_idx() && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_flags(NO_NOTIFY);
        }
    }

    /// Asks for a kick with the next buffer, then looks once more: true if more came meanwhile.
    ///
    /// The full fence keeps the available index from being read before the request is visible: a
    /// driver that publishes and then looks whether to kick sees one or the other.
    ///
    /// # Errors
    /// As for `pop`.
    #[inline(never)]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        if self.mode.event_idx() {
            self.windows.device.store_event(self.next_avail());
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_flags(0);
        } else {
            // Kicks were never off: whatever came was or will be announced.
            return Ok(false);
        }
        self.windows.device.full_fence();
        self.refill()
    }
}

impl<W, const N: usize> SplitQueue<W, N> {
    /// See [`Virtqueue::set_quiet`](super::Virtqueue::set_quiet).
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.mode.set_quiet(quiet);
    }

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.mask.wrapping_add(1)
    }

    /// The index of the next entry of the available ring.
    #[inline(always)]
    fn next_avail(&self) -> u16 {
        num::low16(self.next)
    }

    pub(crate) fn snapshot(&self) -> RingSnapshot {
        RingSnapshot {
            next_avail: self.next_avail(),
            next_used: self.next_used,
            unsignalled: self.next_used.wrapping_sub(self.signalled),
            abandoned: self.abandoned,
            kicks_off: self.kicks_off,
        }
    }

    pub(crate) const fn slots_of(&self, _: &Chain<N>) -> u16 {
        1
    }

    pub(crate) fn age(&self, chain: &Chain<N>) -> u32 {
        // Serial numbers skip a turn from time to time; their low halves never do.
        self.next_avail()
            .wrapping_sub(num::low16(chain.header.serial()))
            .into()
    }

    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        let (serial, free, xor) = (self.next, self.free(), self.serial_xor());
        match self.in_flight.get_mut(usize::from(chain.head())) {
            Some(there) if *there == free && slots == 1 => *there = serial,
            _ => return false,
        }
        chain.header.set_serial(serial ^ xor);
        self.next = serial.wrapping_add(1);
        true
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.next_avail() == self.avail_idx
    }

    /// Chains that were popped and may still be given back.
    pub(crate) fn in_flight(&self) -> u16 {
        self.next_avail()
            .wrapping_sub(self.next_used)
            .wrapping_sub(self.abandoned)
            .wrapping_sub(self.batch.count)
    }

    /// Whether chains are to be given back in the order in which they came (rsvd-05).
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        self.mode.in_order()
    }

    /// Whether a chain is the one to be given back next. Never again after one was lost.
    pub(crate) fn is_next(&self, chain: &Chain<N>) -> bool {
        num::low16(chain.header.serial()) == self.next_used.wrapping_add(self.batch.count)
    }

    /// A popped chain will not be given back. Nothing, if it is not in flight.
    #[cold]
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        if self.is_in_flight(chain) {
            self.abandon_head(chain.head());
        }
    }

    /// Whether a chain was popped and may still be given back.
    #[cold]
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        let there = self.in_flight.get(usize::from(chain.head()));
        there.is_some_and(|there| *there == chain.header.serial() ^ self.serial_xor())
    }

    /// Whether nothing more can be given back, because an older chain was lost.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.mode.in_order() && self.abandoned != 0
    }

    /// What turns a serial number into that of a chain.
    const fn serial_xor(&self) -> u32 {
        if self.mode.in_order() {
            SPLIT_IN_ORDER_XOR
        } else {
            0
        }
    }

    /// What stands for a head that is with the driver.
    const fn free(&self) -> u32 {
        if self.mode.in_order() { ORDERED } else { FREE }
    }

    /// A head that is in flight will not be given back.
    #[cold]
    #[inline(never)]
    fn abandon_head(&mut self, head: u16) {
        let free = self.free();
        if let Some(there) = self.in_flight.get_mut(usize::from(head)) {
            *there = free;
            self.abandoned = self.abandoned.wrapping_add(1);
        }
    }

    /// No popped chain will be given back.
    pub(crate) fn abandon_all(&mut self) {
        let free = self.free();
        for there in self.in_flight.iter_mut().filter(|there| **there < ABSENT) {
            *there = free;
            self.abandoned = self.abandoned.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests;

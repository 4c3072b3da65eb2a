//! The split virtqueue, from the device's side.
//!
//! # Memory accesses
//!
//! For each chain the device makes at most these accesses to shared memory:
//! - one load of an entry of the available ring,
//! - one load of each descriptor,
//! - one store of a used element,
//! - one store of the used index,
//! - one load of a suppression field.
//!
//! The available index is read once for all chains that it makes available, and once in
//! [`SplitQueue::enable_kicks`]. No part of a chain is read twice.
//!
//! # Chains in flight
//!
//! The table `in_flight` has one word per descriptor: the serial number of the chain in flight
//! whose head is this descriptor. A chain is marked as used only if its own serial number equals
//! the word, so a clone of an earlier chain is rejected. The table takes `4 * N` bytes. The module
//! `serial` describes the serial numbers.
//!
//! Clauses: split-desc-01..05, split-indirect-01, split-indirect-02, split-avail-01..03,
//! split-used-01..06, split-usedsup-01..06, split-availsup-01..05.

use super::{
    Popped,
    batch::Batch,
    chain::Chain,
    descriptor::{Desc, End, follow, walk_table},
    mode::Mode,
    serial::{BEYOND_SIZE, FREE, SPLIT_WRAP},
};
use crate::{
    error::DriverFault,
    features::Features,
    memory::{DriverMem, RingWindow},
    message::RingPosition,
    num,
    queue::check::{CheckedQueue, Windows},
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// A split virtqueue of up to `N` elements, over three ring windows.
///
/// A queue is created only from a [`CheckedQueue`]. A method that finds the driver at fault reports
/// the fault and does not stop the queue. The owner of the queue stops it.
#[derive(Debug)]
pub(crate) struct SplitQueue<W, const N: usize> {
    windows: Windows<W>,
    /// Number of elements minus 1.
    mask: u16,
    /// Serial number of the next chain. Its low half is the index of the next available entry.
    next: u32,
    /// Available index at the last read.
    avail_idx: u16,
    /// Index of the next used element.
    next_used: u16,
    /// Number of abandoned chains.
    abandoned: u16,
    /// `next_used` at the last interrupt decision.
    signalled: u16,
    mode: Mode,
    /// Whether indirect descriptors were negotiated.
    indirect: bool,
    /// Whether the flags of the used ring tell the driver not to kick.
    kicks_off: bool,
    batch: Batch,
    /// For each head, the serial number of its chain in flight or a reserved value.
    in_flight: [u32; N],
}

impl<W: RingWindow, const N: usize> SplitQueue<W, N> {
    /// Creates a queue at its start position. The caller calls [`begin`](Self::begin) next.
    #[inline(always)]
    pub(crate) fn new(checked: CheckedQueue<W>, serial: u32) -> Self {
        const {
            assert!(
                N.is_power_of_two() && N <= 32768,
                "the capacity `N` of a split queue must be a power of two, at most 32768"
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

    /// Writes the flags of the used ring. This is the first memory access of a queue.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        self.mark_heads();
        self.windows.device.store_flags(0);
    }

    /// Marks the heads that are beyond the size of the queue.
    #[inline(always)]
    fn mark_heads(&mut self) {
        let size = usize::from(self.size());
        if let Some(beyond) = self.in_flight.get_mut(size..) {
            beyond.fill(BEYOND_SIZE);
        }
    }

    /// See [`Virtqueue::restored`](super::Virtqueue::restored).
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        serial: u32,
        ring: &RingPosition,
        chains: u16,
    ) -> Option<Self> {
        let size = checked.size;
        let taken = ring.next_avail.wrapping_sub(ring.next_used);
        if taken > size || ring.unsignalled > size || ring.abandoned.checked_add(chains)? != taken {
            return None;
        }
        let mut queue = Self::new(checked, serial);
        queue.mark_heads();
        // The oldest chain to adopt was popped `chains` entries before the next one.
        queue.next = serial | u32::from(ring.next_avail);
        queue.next = queue.next.wrapping_sub(chains.into());
        queue.avail_idx = ring.next_avail;
        queue.next_used = ring.next_used;
        queue.signalled = ring.next_used.wrapping_sub(ring.unsignalled);
        queue.abandoned = ring.abandoned;
        queue.kicks_off = ring.kicks_off;
        if ring.in_order {
            queue.mode.keep_order();
        }
        Some(queue)
    }

    /// See [`Virtqueue::set_windows`](super::Virtqueue::set_windows).
    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        self.windows = windows;
    }

    /// Reads the available index. Returns whether a chain is available.
    ///
    /// The load is an acquire load. The driver wrote entries and descriptors before it wrote the
    /// index, and the device reads them after it has read the index.
    #[inline(always)]
    fn refill(&mut self) -> Result<bool, DriverFault> {
        let idx = self.windows.driver.load_idx();
        let next = self.next_avail();
        let ahead = idx.wrapping_sub(next);
        if ahead > self.size() {
            return Err(DriverFault::jump(idx, next));
        }
        self.next &= SPLIT_WRAP.wrapping_sub(1);
        self.avail_idx = idx;
        Ok(ahead != 0)
    }

    /// Pops the next available chain: validates the chain and copies it into `chain`.
    ///
    /// At most `N + 2` ring accesses and `N` descriptors of an indirect table.
    ///
    /// # Errors
    /// The protocol violation is in `chain`, which is otherwise empty.
    #[inline(always)]
    pub(crate) fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Popped {
        if self.next_avail() == self.avail_idx {
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return Popped::Empty,
                Err(fault) => {
                    chain.header.set_fault(fault);
                    return Popped::Fault;
                }
            }
        }
        let serial = self.next;
        let head = self.windows.driver.load_entry(num::low16(serial));
        match self.in_flight.get_mut(usize::from(head)) {
            Some(entry) if *entry == FREE => {
                *entry = serial;
                chain.header.set_serial(serial);
            }
            _ => {
                let fault = DriverFault::bad_head(head, self.size());
                chain.header.set_fault(fault);
                return Popped::Fault;
            }
        }
        self.next = serial.wrapping_add(1);
        if self.walk(mem, chain, head) {
            return Popped::Chain;
        }
        // The head is read from the chain, because a variable that lives until here would cost the
        // fast path a register.
        self.abandon_head(chain.head());
        Popped::Broken
    }

    /// See [`Virtqueue::reject`](super::Virtqueue::reject).
    pub(crate) fn reject(&mut self, chain: &Chain<N>) -> bool {
        if self.mode.in_order() {
            // `pop` has counted this chain as abandoned. If there were another abandoned chain, the
            // driver would take it for used.
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

    /// Follows a chain through the descriptor table. Returns false if the driver is at fault.
    #[inline(always)]
    fn walk<M: DriverMem>(&self, mem: &M, chain: &mut Chain<N>, head: u16) -> bool {
        let table = &self.windows.desc;
        let fetch = |index: u16| table.load_descriptor(index).map(Desc::new);
        chain.header.begin(head);
        // `pop` has checked the head, so the descriptor exists.
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

    /// Marks a chain as used, with `written` bytes in it. Stores the used element and the used
    /// index.
    ///
    /// The element is stored before the index, so that the driver never sees an index without its
    /// element. Returns false and stores nothing if the chain is not in flight. A queue with
    /// IN_ORDER uses [`push_in_order`](Self::push_in_order) instead.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        // The head of a chain in flight is below `N`, so the mask does not change it. The mask
        // saves a bounds check.
        let head = chain.head() & const { num::clamp_u16(N).wrapping_sub(1) };
        match self.in_flight.get_mut(usize::from(head)) {
            Some(entry) if *entry == chain.header.serial() => *entry = FREE,
            _ => return false,
        }
        self.windows
            .device
            .store_used(self.next_used, [u32::from(head), written]);
        self.next_used = self.next_used.wrapping_add(1);
        true
    }

    /// Marks a chain as used in a queue with IN_ORDER, with `written` bytes in it.
    /// [`is_next`](Self::is_next) must return true for the chain.
    ///
    /// The chain joins the batch. [`publish`](Self::publish) stores the batch in the ring. Returns
    /// false if the chain is not in flight.
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        match self.in_flight.get_mut(usize::from(chain.head())) {
            Some(entry) if *entry == chain.header.serial() => *entry = FREE,
            _ => return false,
        }
        self.batch = Batch {
            count: self.batch.count.wrapping_add(1),
            id: chain.head(),
            len: written,
        };
        // A chain that is not full ends the batch: the driver assumes that the earlier chains of a
        // batch are full.
        if self.mode.is_single() || u64::from(written) != chain.writable_len() {
            self.publish();
        }
        true
    }

    /// Stores the used element of the batch and the used index. Stores nothing if the batch is
    /// empty.
    pub(crate) fn publish(&mut self) {
        let Batch { count, id, len } = core::mem::replace(&mut self.batch, Batch::EMPTY);
        if count != 0 {
            self.windows
                .device
                .store_used_batch(self.next_used, [u32::from(id), len], count);
            self.next_used = self.next_used.wrapping_add(count);
        }
    }

    /// Returns whether the driver wants an interrupt for the chains that were marked as used since
    /// the last call. One load.
    ///
    /// The full fence orders the store of the used index before the load of the driver's
    /// suppression field. If the driver enables interrupts and then reads the used index, then
    /// either the driver sees the new index, or the device sees that interrupts are enabled.
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
        // Never true if no chain was marked as used.
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// Tells the driver that no kicks are needed while the device polls the queue. With EVENT_IDX
    /// nothing is stored: the driver kicks once for each event index that
    /// [`enable_kicks`](Self::enable_kicks) stores.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.mode.event_idx() && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_flags(NO_NOTIFY);
        }
    }

    /// Asks the driver for a kick with the next chain, then checks the ring once more. Returns true
    /// if a chain became available meanwhile.
    ///
    /// The full fence orders the store of the event index or flags before the load of the available
    /// index. If the driver publishes a chain and then checks whether to kick, then either the
    /// driver sees the stored value, or the device sees the chain.
    ///
    /// # Errors
    /// The available index is too far ahead.
    #[inline(never)]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        if self.mode.event_idx() {
            self.windows.device.store_event(self.next_avail());
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_flags(0);
        } else {
            // Kicks are not turned off, so the driver kicks for every chain.
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

    /// Returns the number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.mask.wrapping_add(1)
    }

    /// Returns the index of the next entry of the available ring.
    #[inline(always)]
    pub(crate) fn next_avail(&self) -> u16 {
        num::low16(self.next)
    }

    pub(crate) fn snapshot(&self) -> RingPosition {
        RingPosition {
            next_avail: self.next_avail(),
            next_used: self.next_used,
            unsignalled: self.next_used.wrapping_sub(self.signalled),
            abandoned: self.abandoned,
            kicks_off: self.kicks_off,
            in_order: self.mode.is_kept(),
        }
    }

    pub(crate) const fn slots_of(&self, _: &Chain<N>) -> u16 {
        1
    }

    pub(crate) fn age(&self, chain: &Chain<N>) -> u32 {
        // `refill` only clears the bit of `SPLIT_WRAP`, so the other bits count on without a gap.
        self.next.wrapping_sub(chain.header.serial()) & const { SPLIT_WRAP.wrapping_sub(1) }
    }

    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        let serial = self.next;
        match self.in_flight.get_mut(usize::from(chain.head())) {
            Some(entry) if *entry == FREE && slots == 1 => *entry = serial,
            _ => return false,
        }
        chain.header.set_serial(serial);
        self.next = serial.wrapping_add(1);
        true
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.next_avail() == self.avail_idx
    }

    /// Returns the number of chains in flight.
    pub(crate) fn in_flight(&self) -> u16 {
        self.next_avail()
            .wrapping_sub(self.next_used)
            .wrapping_sub(self.abandoned)
            .wrapping_sub(self.batch.count)
    }

    /// Returns whether chains are marked as used in the order in which they were popped (rsvd-05).
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        self.mode.in_order()
    }

    /// Returns whether a chain is the next one to be marked as used. If a chain was abandoned, no
    /// chain that was popped after it is ever the next one.
    pub(crate) fn is_next(&self, chain: &Chain<N>) -> bool {
        num::low16(chain.header.serial()) == self.next_used.wrapping_add(self.batch.count)
    }

    /// Abandons a chain. Does nothing if the chain is not in flight.
    #[cold]
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        if self.is_in_flight(chain) {
            self.abandon_head(chain.head());
        }
    }

    /// Returns whether a chain is in flight.
    #[cold]
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        let entry = self.in_flight.get(usize::from(chain.head()));
        entry.is_some_and(|entry| *entry == chain.header.serial())
    }

    /// See [`Virtqueue::is_stuck`](super::Virtqueue::is_stuck).
    pub(crate) const fn is_stuck(&self) -> bool {
        self.mode.in_order() && self.abandoned != 0
    }

    /// Abandons the chain in flight with this head.
    #[cold]
    #[inline(never)]
    fn abandon_head(&mut self, head: u16) {
        if let Some(entry) = self.in_flight.get_mut(usize::from(head)) {
            *entry = FREE;
            self.abandoned = self.abandoned.wrapping_add(1);
        }
    }

    /// Abandons every chain in flight.
    pub(crate) fn abandon_all(&mut self) {
        for entry in self
            .in_flight
            .iter_mut()
            .filter(|entry| **entry < BEYOND_SIZE)
        {
            *entry = FREE;
            self.abandoned = self.abandoned.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests;

//! The packed virtqueue, from the device's side.
//!
//! # Memory accesses
//!
//! For each chain the device makes at most these accesses to shared memory:
//! - one load of each descriptor,
//! - one store of a used descriptor,
//! - one load of the suppression word.
//!
//! One more load finds that no further chain is available. No part of a chain is read twice, with
//! one exception: when a chain is rejected ([`FaultPolicy::Reject`](crate::error::FaultPolicy)),
//! its descriptors are read again to find its end.
//!
//! # Ownership of slots
//!
//! In this module, a *slot* is the place of one descriptor in the ring. A slot belongs to the
//! driver until the flags of its descriptor match the wrap counter of the current round. The device
//! checks only the first descriptor of a chain, because the driver publishes the first descriptor
//! last (packed-06). The slots of a chain in flight belong to the device. A chain that continues
//! into slots of the device is a fault of the driver.
//!
//! Clauses: packed-01 to packed-24.

mod in_flight;
mod position;

use core::hint::cold_path;

use super::{
    Popped,
    batch::Batch,
    chain::{Chain, Faulted},
    descriptor::{Desc, End, NEXT, WRITE, follow, walk_table},
    mode::Mode,
};
use crate::{
    error::DriverFault,
    features::Features,
    memory::{AVAIL, DriverMem, RawDescriptor, RingWindow},
    message::RingPosition,
    num,
    queue::check::{CheckedQueue, Windows},
};
use in_flight::InFlight;
use position::{BOTH, Position};

/// `RING_EVENT_FLAGS_DISABLE`, in the high half of the event suppression word.
const DISABLE: u32 = 1 << 16;
/// `RING_EVENT_FLAGS_DESC`, in the high half of the event suppression word.
const DESC: u32 = 2 << 16;
/// Mask of the two flag bits. The other bits of the high half are reserved.
const FLAGS: u32 = 3 << 16;

/// A packed virtqueue of up to `N` elements, over three ring windows.
///
/// A queue is created only from a [`CheckedQueue`]. A method that finds the driver at fault reports
/// the fault and does not stop the queue. The owner of the queue stops it.
#[derive(Debug)]
pub(crate) struct PackedQueue<W, const N: usize> {
    windows: Windows<W>,
    size: u16,
    next_avail: Position,
    next_used: Position,
    /// Slots that no popped chain occupies.
    room: u16,
    /// Slots that were marked as used since the last interrupt decision, modulo 2^32.
    unsignalled: u32,
    /// Slots of abandoned chains.
    abandoned: u16,
    /// Whether indirect descriptors were negotiated.
    indirect: bool,
    /// Whether the flags of the device area tell the driver not to kick.
    kicks_off: bool,
    mode: Mode,
    /// Serial number of the next chain. It is odd, because every reserved value is even.
    serial: u32,
    /// With IN_ORDER, the serial number of the next chain to be marked as used.
    oldest: u32,
    batch: Batch,
    in_flight: InFlight<N>,
}

impl<W: RingWindow, const N: usize> PackedQueue<W, N> {
    /// Creates a queue at its start position. The caller calls [`begin`](Self::begin) next.
    pub(crate) fn new(checked: CheckedQueue<W>, serial: u32) -> Self {
        const {
            // `InFlight` computes home entries with a mask.
            assert!(
                N.is_power_of_two() && N <= 32768,
                "the capacity `N` of a packed queue must be a power of two, at most 32768"
            );
        }
        let mode = Mode::of(checked.features);
        Self {
            windows: checked.windows,
            size: checked.size,
            next_avail: Position::start(AVAIL),
            next_used: Position::start(BOTH),
            room: checked.size,
            unsignalled: 0,
            abandoned: 0,
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            mode,
            serial: serial | 1,
            oldest: serial | 1,
            batch: Batch::EMPTY,
            in_flight: InFlight::new(),
        }
    }

    /// Writes the device area. This is the first memory access of a queue.
    pub(crate) fn begin(&mut self) {
        self.windows.device.store_suppression(0);
    }

    /// See [`Virtqueue::restored`](super::Virtqueue::restored).
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        serial: u32,
        ring: &RingPosition,
    ) -> Option<Self> {
        let size = checked.size;
        let next_avail = Position::from_halfword(ring.next_avail, AVAIL, size)?;
        let next_used = Position::from_halfword(ring.next_used, BOTH, size)?;
        let taken = next_used.distance(next_avail, size)?;
        if ring.abandoned > taken || ring.unsignalled > size {
            return None;
        }
        let mut queue = Self::new(checked, serial);
        queue.next_avail = next_avail;
        queue.next_used = next_used;
        queue.room = size.wrapping_sub(taken);
        queue.unsignalled = ring.unsignalled.into();
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

    /// Pops the next available chain: validates the chain and copies it into `chain`.
    ///
    /// At most `N + 1` ring accesses and `N` descriptors of an indirect table.
    ///
    /// # Errors
    /// The protocol violation is in `chain`, which is otherwise empty.
    #[inline]
    pub(crate) fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Popped {
        let (slot, flags) = (self.next_avail.slot(), self.next_avail.flags());
        let (first, behind) = match self.windows.desc.load_available_run(slot, flags) {
            Some(run) => run,
            None => {
                cold_path();
                if slot < self.size {
                    return Popped::Empty;
                }
                self.next_avail = self.next_avail.around(self.size);
                let (slot, flags) = (self.next_avail.slot(), self.next_avail.flags());
                match self.windows.desc.load_available_run(slot, flags) {
                    Some(run) => run,
                    None => return Popped::Empty,
                }
            }
        };
        match self.walk(mem, chain, Desc::new(first), behind) {
            Ok(slots) if self.admit(chain, slots) => {
                self.room = self.room.wrapping_sub(slots);
                self.next_avail.advance(slots);
                Popped::Chain
            }
            Ok(_) => {
                let head = chain.head();
                chain.header.set_fault(DriverFault::HeadInFlight { head });
                Popped::Fault
            }
            Err(_) => Popped::Broken,
        }
    }

    /// Follows a chain from its first descriptor through the descriptors `behind` it, up to the end
    /// of the ring, and from there on from the start of the ring. Returns the number of slots that
    /// the chain occupies.
    #[inline(always)]
    fn walk<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        first: Desc<true>,
        mut behind: impl Iterator<Item = RawDescriptor>,
    ) -> Result<u16, Faulted> {
        let next = |_| behind.next().map(Desc::new);
        match follow(mem, chain, (0, 0, false), first, next)? {
            End::Last => self.within_room(chain, 0),
            End::Table(table) => self.walk_indirect(mem, chain, table),
            End::Open => self.walk_around(mem, chain),
        }
    }

    /// Continues to follow a chain from the start of the ring, at most up to the first slot of the
    /// chain.
    #[cold]
    #[inline(never)]
    fn walk_around<M: DriverMem>(&self, mem: &M, chain: &mut Chain<N>) -> Result<u16, Faulted> {
        let ring = &self.windows.desc;
        let mut slots = 0..self.next_avail.slot();
        let mut next = || ring.load_descriptor(slots.next()?).map(Desc::new);
        let end = match next() {
            Some(first) => follow(mem, chain, chain.header.progress(), first, |_| next())?,
            None => End::Open,
        };
        match end {
            End::Last => self.within_room(chain, 0),
            End::Table(table) => self.walk_indirect(mem, chain, table),
            End::Open => Err(chain.header.too_long(chain.head())),
        }
    }

    /// Follows a chain into its indirect table.
    fn walk_indirect<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        table: Desc<true>,
    ) -> Result<u16, Faulted> {
        // The descriptor of the table occupies one slot.
        let slots = self.within_room(chain, 1)?;
        // WRITE has no meaning in a descriptor with INDIRECT (packed-18).
        let table = table.with(NEXT, 0, 0);
        walk_table::<_, N, true>(mem, chain, table, self.indirect)?;
        Ok(slots)
    }

    /// Returns the number of slots of a chain: one for each segment, plus `more`.
    ///
    /// # Errors
    /// The driver does not own that many slots.
    #[inline(always)]
    fn within_room(&self, chain: &mut Chain<N>, more: u16) -> Result<u16, Faulted> {
        let slots = chain.header.count().wrapping_add(more);
        if slots > self.room {
            return Err(chain.header.too_long(chain.head()));
        }
        Ok(slots)
    }

    /// See [`Virtqueue::reject`](super::Virtqueue::reject).
    ///
    /// `pop` stopped at the fault, which may be before the end of the chain. This method reads the
    /// descriptors again to find the end. The method uses only the NEXT flags and the buffer id of
    /// the last descriptor, so a driver that changes the descriptors meanwhile harms only itself.
    pub(crate) fn reject(&mut self, chain: &mut Chain<N>) -> bool {
        if self.is_in_order() && (self.in_flight.count() != 0 || self.abandoned != 0) {
            return false;
        }
        let mut position = self.next_avail.around(self.size);
        for slots in 1..=self.room {
            let Some(desc) = self.windows.desc.load_descriptor(position.slot()) else {
                return false;
            };
            position.advance(1);
            position = position.around(self.size);
            let desc = Desc::<true>::new(desc);
            if desc.has(NEXT) {
                continue;
            }
            // A buffer id in flight names another chain.
            if self.in_flight.has(desc.next()) {
                return false;
            }
            chain.header.begin(desc.next());
            if self.is_in_order() {
                self.publish();
                self.serial = self.serial.wrapping_add(2);
                self.oldest = self.serial;
            }
            self.next_avail = position;
            self.room = self.room.wrapping_sub(slots);
            self.put_used(desc.next(), slots, 0);
            return true;
        }
        false
    }

    /// Marks a chain as used, with `written` bytes in it. Two stores.
    ///
    /// One used descriptor stands for the whole chain, and its flags are stored last. Returns false
    /// and stores nothing if the chain is not in flight. A queue with IN_ORDER uses
    /// [`push_in_order`](Self::push_in_order) instead.
    #[inline]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        match self
            .in_flight
            .remove_fast(chain.head(), chain.header.serial())
        {
            Some(slots) => {
                self.put_used(chain.head(), slots, written);
                true
            }
            None => self.push_used_slow(chain, written),
        }
    }

    /// Slow path of [`push_used`](Self::push_used).
    #[cold]
    #[inline(never)]
    fn push_used_slow(&mut self, chain: &Chain<N>, written: u32) -> bool {
        let slots = self.in_flight.remove(chain.head(), chain.header.serial());
        if let Some(slots) = slots {
            self.put_used(chain.head(), slots, written);
        }
        slots.is_some()
    }

    /// Stores one used descriptor, and advances by `slots` slots.
    #[inline(always)]
    fn put_used(&mut self, id: u16, slots: u16, written: u32) {
        if !self.store_used(id, written) {
            self.put_used_around(id, written);
        }
        self.next_used.advance(slots);
        self.room = self.room.wrapping_add(slots);
        self.unsignalled = self.unsignalled.wrapping_add(slots.into());
    }

    #[cold]
    #[inline(never)]
    fn put_used_around(&mut self, id: u16, written: u32) {
        self.next_used = self.next_used.around(self.size);
        self.store_used(id, written);
    }

    /// Stores one used descriptor. Returns false and stores nothing if the position is beyond the
    /// end of the ring.
    #[inline(always)]
    fn store_used(&self, id: u16, written: u32) -> bool {
        let (slot, flags) = (self.next_used.slot(), self.next_used.flags());
        let flags = flags | if written != 0 { WRITE } else { 0 };
        let desc = &self.windows.desc;
        desc.store_used_descriptor(slot, id, written, flags)
    }

    /// Marks a chain as used in a queue with IN_ORDER, with `written` bytes in it.
    /// [`is_next`](Self::is_next) must return true for the chain.
    ///
    /// The chain joins the batch. [`publish`](Self::publish) stores the batch in the ring. Returns
    /// false if the chain is not in flight.
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        let Some(slots) = self.in_flight.remove(chain.head(), chain.header.serial()) else {
            return false;
        };
        self.oldest = self.oldest.wrapping_add(2);
        self.batch = Batch {
            count: self.batch.count.wrapping_add(slots),
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

    /// Stores the used descriptor of the batch. Two stores, or none if the batch is empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn publish(&mut self) {
        let Batch { count, id, len } = core::mem::replace(&mut self.batch, Batch::EMPTY);
        if count != 0 {
            self.put_used(id, count, len);
        }
    }

    /// Returns whether the driver wants an interrupt for the chains that were marked as used since
    /// the last call. One load.
    ///
    /// The full fence orders the store of the used descriptor before the load of the driver's
    /// suppression word. If the driver enables interrupts and then reads the descriptor, then
    /// either the driver sees a used descriptor, or the device sees that interrupts are enabled.
    #[inline]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        if self.mode == Mode::EVENT_IDX {
            self.is_wanted(true)
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
        if self.is_in_order() {
            self.publish();
        }
        self.is_wanted(self.mode.event_idx())
    }

    /// Returns whether the driver wants an interrupt. `event_idx` says whether EVENT_IDX was
    /// negotiated.
    #[inline(always)]
    fn is_wanted(&mut self, event_idx: bool) -> bool {
        let given = core::mem::take(&mut self.unsignalled);
        self.windows.device.full_fence();
        let word = self.windows.driver.load_suppression();
        if event_idx && word & FLAGS == DESC {
            return self.next_used.has_passed(word, given, self.size);
        }
        // Flags that are reserved or not negotiated count as a request for every interrupt.
        word & FLAGS != DISABLE && given != 0
    }

    /// Tells the driver that no kicks are needed while the device polls the queue. With EVENT_IDX
    /// nothing is stored: the driver kicks once for each event that
    /// [`enable_kicks`](Self::enable_kicks) stores.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.mode.event_idx() && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_suppression(DISABLE);
        }
    }

    /// Asks the driver for a kick with the next chain, then checks the ring once more. Returns true
    /// if a chain became available meanwhile.
    ///
    /// The full fence orders the store of the suppression word before the load of the descriptor's
    /// flags. If the driver publishes a chain and then checks whether to kick, then either the
    /// driver sees the stored word, or the device sees the chain.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        let next = self.next_avail.around(self.size);
        if self.mode.event_idx() {
            self.windows.device.store_suppression(DESC | next.word());
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_suppression(0);
        } else {
            // Kicks are not turned off, so the driver kicks for every chain.
            return Ok(false);
        }
        self.windows.device.full_fence();
        Ok(self.windows.desc.is_available(next.slot(), next.wrap()))
    }
}

impl<W, const N: usize> PackedQueue<W, N> {
    /// See [`Virtqueue::set_quiet`](super::Virtqueue::set_quiet).
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.mode.set_quiet(quiet);
    }

    pub(crate) fn snapshot(&self) -> RingPosition {
        RingPosition {
            next_avail: self.next_avail(),
            next_used: self.next_used.around(self.size).halfword(),
            unsignalled: num::clamp_u16(num::index(self.unsignalled)).min(self.size),
            abandoned: self.abandoned,
            kicks_off: self.kicks_off,
            in_order: self.mode.is_kept(),
        }
    }

    /// Returns the position of the next available chain.
    pub(crate) fn next_avail(&self) -> u16 {
        self.next_avail.around(self.size).halfword()
    }

    pub(crate) fn slots_of(&self, chain: &Chain<N>) -> u16 {
        let serial = chain.header.serial();
        self.in_flight.get(chain.head(), serial).unwrap_or(0)
    }

    pub(crate) const fn age(&self, chain: &Chain<N>) -> u32 {
        self.serial.wrapping_sub(chain.header.serial())
    }

    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        // The chain occupies at least one slot, and no more slots than the positions leave for it.
        let taken = self.size.wrapping_sub(self.room);
        let so_far = self.in_flight.slots().saturating_add(self.abandoned);
        if slots == 0 || slots > taken.saturating_sub(so_far) {
            return false;
        }
        self.admit(chain, slots)
    }

    /// Adds a popped chain to the chains in flight. Returns false if its id is in flight already.
    #[inline(always)]
    fn admit(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        let serial = self.serial;
        if !self.in_flight.insert_fast(chain.head(), slots, serial)
            && !self.admit_slow(chain, slots)
        {
            return false;
        }
        chain.header.set_serial(serial);
        self.serial = serial.wrapping_add(2);
        true
    }

    #[cold]
    #[inline(never)]
    fn admit_slow(&mut self, chain: &Chain<N>, slots: u16) -> bool {
        self.in_flight.insert(chain.head(), slots, self.serial)
    }

    pub(crate) fn is_whole(&self) -> bool {
        let slots = self.in_flight.slots().saturating_add(self.abandoned);
        slots == self.size.wrapping_sub(self.room)
    }

    pub(crate) fn in_flight(&self) -> u16 {
        self.in_flight.count()
    }

    /// Returns whether chains are marked as used in the order in which they were popped (rsvd-05).
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        self.mode.in_order()
    }

    /// Returns whether a chain is the next one to be marked as used. If a chain was abandoned, no
    /// chain that was popped after it is ever the next one.
    pub(crate) const fn is_next(&self, chain: &Chain<N>) -> bool {
        chain.header.serial() == self.oldest
    }

    /// Returns whether a chain is in flight.
    #[cold]
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        let serial = chain.header.serial();
        self.in_flight.get(chain.head(), serial).is_some()
    }

    /// See [`Virtqueue::is_stuck`](super::Virtqueue::is_stuck).
    pub(crate) const fn is_stuck(&self) -> bool {
        self.is_in_order() && self.abandoned != 0
    }

    /// Abandons a chain. Its slots stay with the device. Does nothing if the chain is not in
    /// flight.
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        let slots = self.in_flight.remove(chain.head(), chain.header.serial());
        self.abandoned = self.abandoned.wrapping_add(slots.unwrap_or(0));
    }

    pub(crate) fn abandon_all(&mut self) {
        self.abandoned = self.abandoned.wrapping_add(self.in_flight.slots());
        self.in_flight.clear();
    }
}

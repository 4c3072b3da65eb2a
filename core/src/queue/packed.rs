//! The packed virtqueue, from the device's side.
//!
//! For each chain the shared memory is touched exactly so often: each descriptor once, one used
//! descriptor, and one suppression word; once more per batch to find its end. Nothing is read twice,
//! but for how far a chain goes that is refused ([`FaultPolicy::Refuse`](crate::error::FaultPolicy)).
//!
//! A descriptor is the driver's until its flags say otherwise for the round that the wrap counter
//! stands for; only the first of a chain is asked, as it is published last (packed-06). A driver can
//! make no more available than it has slots: the slots of a chain in flight are the device's, so a
//! chain that would reach into them is a fault.
//!
//! Clauses: packed-01 to packed-24.

mod in_flight;
mod position;

use core::hint::cold_path;

use super::snapshot::RingSnapshot;
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
    num,
    queue::check::{CheckedQueue, Windows},
};
use in_flight::InFlight;
use position::{BOTH, Position};

/// `RING_EVENT_FLAGS_DISABLE`, in the high half of the event suppression word.
const DISABLE: u32 = 1 << 16;
/// `RING_EVENT_FLAGS_DESC`
const DESC: u32 = 2 << 16;
/// Both bits of the flags; the others are reserved.
const FLAGS: u32 = 3 << 16;

/// A packed virtqueue of up to `N` elements, over three ring windows.
///
/// It is made only from a [`CheckedQueue`]. Methods that find the driver at fault leave the queue
/// as it is: whoever owns the queue stops it.
#[derive(Debug)]
pub struct PackedQueue<W, const N: usize> {
    windows: Windows<W>,
    size: u16,
    next_avail: Position,
    next_used: Position,
    /// Slots of the driver's that are not taken.
    room: u16,
    /// Slots that were given back since interrupts were last considered, modulo 2^32.
    given: u32,
    /// Slots of chains that will not be given back.
    abandoned: u16,
    indirect: bool,
    /// The driver was told not to kick, by the flags.
    kicks_off: bool,
    mode: Mode,
    /// The serial number of the next chain; odd, as none is that stands for no chain.
    serial: u32,
    /// The serial number of the chain to be given back next, with IN_ORDER.
    oldest: u32,
    batch: Batch,
    flights: InFlight<N>,
}

impl<W: RingWindow, const N: usize> PackedQueue<W, N> {
    /// The queue at its start, to [`begin`](Self::begin) with.
    pub(crate) fn new(checked: CheckedQueue<W>, serial: u32) -> Self {
        const {
            // `InFlight` finds its places by a mask.
            assert!(
                N.is_power_of_two() && N <= 32768,
                "a queue has room for 2^k elements, k <= 15"
            );
        }
        let mode = Mode::of(checked.features);
        Self {
            windows: checked.windows,
            size: checked.size,
            next_avail: Position::start(AVAIL),
            next_used: Position::start(BOTH),
            room: checked.size,
            given: 0,
            abandoned: 0,
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            mode,
            serial: serial | 1,
            oldest: serial | 1,
            batch: Batch::EMPTY,
            flights: InFlight::new(mode.in_order()),
        }
    }

    /// Writes its device area: the first memory access of a queue's life.
    pub(crate) fn begin(&mut self) {
        self.windows.device.store_suppression(0);
    }

    /// See [`Virtqueue::restored`](super::Virtqueue::restored).
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        serial: u32,
        ring: &RingSnapshot,
    ) -> Option<Self> {
        let size = checked.size;
        let next_avail = Position::from_word(ring.next_avail, AVAIL, size)?;
        let next_used = Position::from_word(ring.next_used, BOTH, size)?;
        let taken = next_used.distance(next_avail, size)?;
        if ring.abandoned > taken || ring.unsignalled > size {
            return None;
        }
        let mut queue = Self::new(checked, serial);
        queue.next_avail = next_avail;
        queue.next_used = next_used;
        queue.room = size.wrapping_sub(taken);
        queue.given = ring.unsignalled.into();
        queue.abandoned = ring.abandoned;
        queue.kicks_off = ring.kicks_off;
        Some(queue)
    }

    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        self.windows = windows;
    }

    /// Takes the next available chain, copied and validated, into `chain`.
    ///
    /// At most `N + 1` ring accesses and `N` descriptors of an indirect table.
    ///
    /// # Errors
    /// The driver's misdeed is in `chain`, which is of no other use then.
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
                chain.header.blame(DriverFault::HeadInFlight { head });
                Popped::Fault
            }
            Err(_) => Popped::Broken,
        }
    }

    /// Follows a chain from its first descriptor on, through those `behind` it up to the end of the
    /// ring; the slots that it takes.
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

    /// Follows a chain on from the start of the ring, no farther than to its first slot.
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

    /// Follows a chain into its table.
    fn walk_indirect<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        table: Desc<true>,
    ) -> Result<u16, Faulted> {
        // One for the table itself.
        let slots = self.within_room(chain, 1)?;
        // WRITE means nothing beside INDIRECT (packed-18).
        let table = table.with(NEXT, 0, 0);
        walk_table::<_, N, true>(mem, chain, table, self.indirect)?;
        Ok(slots)
    }

    /// The slots of a chain: one for each segment, and so many `more`. They have to be the driver's.
    #[inline(always)]
    fn within_room(&self, chain: &mut Chain<N>, more: u16) -> Result<u16, Faulted> {
        let slots = chain.header.count().wrapping_add(more);
        if slots > self.room {
            return Err(chain.header.too_long(chain.head()));
        }
        Ok(slots)
    }

    /// See [`Virtqueue::refuse`](super::Virtqueue::refuse).
    ///
    /// The walk stopped somewhere. How far the chain goes its descriptors say once more; nothing else
    /// of them is used, so a driver that changes them meanwhile misleads itself.
    pub(crate) fn refuse(&mut self, chain: &mut Chain<N>) -> bool {
        if self.is_in_order() && (self.flights.count() != 0 || self.abandoned != 0) {
            return false;
        }
        let mut place = self.next_avail.around(self.size);
        for slots in 1..=self.room {
            let Some(desc) = self.windows.desc.load_descriptor(place.slot()) else {
                return false;
            };
            place.advance(1);
            place = place.around(self.size);
            let desc = Desc::<true>::new(desc);
            if desc.has(NEXT) {
                continue;
            }
            // A name in flight is another chain's.
            if self.flights.has(desc.next()) {
                return false;
            }
            chain.header.begin(desc.next());
            if self.is_in_order() {
                self.publish();
                self.serial = self.serial.wrapping_add(2);
                self.oldest = self.serial;
            }
            self.next_avail = place;
            self.room = self.room.wrapping_sub(slots);
            self.put_used(desc.next(), slots, 0);
            return true;
        }
        false
    }

    /// Gives a chain back with `written` bytes in it: one used descriptor for all of it, its flags
    /// last. False, and nothing is given, if the chain is not in flight. Two stores.
    #[inline]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        match self
            .flights
            .remove_near(chain.head(), chain.header.serial())
        {
            Some(slots) => {
                self.put_used(chain.head(), slots, written);
                true
            }
            None => self.push_used_far(chain, written),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_used_far(&mut self, chain: &Chain<N>, written: u32) -> bool {
        if self.is_in_order() {
            return false;
        }
        let slots = self.flights.remove(chain.head(), chain.header.serial());
        if let Some(slots) = slots {
            self.put_used(chain.head(), slots, written);
        }
        slots.is_some()
    }

    /// One used descriptor, for so many slots.
    #[inline(always)]
    fn put_used(&mut self, id: u16, slots: u16, written: u32) {
        if !self.store_used(id, written) {
            self.put_used_around(id, written);
        }
        self.next_used.advance(slots);
        self.room = self.room.wrapping_add(slots);
        self.given = self.given.wrapping_add(slots.into());
    }

    #[cold]
    #[inline(never)]
    fn put_used_around(&mut self, id: u16, written: u32) {
        self.next_used = self.next_used.around(self.size);
        self.store_used(id, written);
    }

    /// False, and nothing is stored, if the position is behind the end of the ring.
    #[inline(always)]
    fn store_used(&self, id: u16, written: u32) -> bool {
        let (slot, flags) = (self.next_used.slot(), self.next_used.flags());
        let flags = flags | if written != 0 { WRITE } else { 0 };
        let desc = &self.windows.desc;
        desc.store_used_descriptor(slot, id, written, flags)
    }

    /// The same for a queue with IN_ORDER and the chain that [`is_next`](Self::is_next): the ring
    /// hears of it at the latest with [`publish`](Self::publish).
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        let Some(slots) = self.flights.remove(chain.head(), chain.header.serial()) else {
            return false;
        };
        self.oldest = self.oldest.wrapping_add(2);
        self.batch = Batch {
            count: self.batch.count.wrapping_add(slots),
            id: chain.head(),
            len: written,
        };
        // A chain that is not full cannot be passed over: its length would be lost.
        if u64::from(written) != chain.writable_len() {
            self.publish();
        }
        true
    }

    /// Puts what was given back in order into the ring. Two stores, or none.
    #[cold]
    #[inline(never)]
    pub(crate) fn publish(&mut self) {
        let Batch { count, id, len } = core::mem::replace(&mut self.batch, Batch::EMPTY);
        if count != 0 {
            self.put_used(id, count, len);
        }
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// The full fence keeps the driver's suppression word from being read before the used
    /// descriptor is written: a driver that turns interrupts on and then looks at the descriptor
    /// sees one or the other. One load.
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

    #[inline(always)]
    fn is_wanted(&mut self, event_idx: bool) -> bool {
        let given = core::mem::take(&mut self.given);
        self.windows.device.full_fence();
        let word = self.windows.driver.load_suppression();
        if event_idx && word & FLAGS == DESC {
            return self.next_used.has_passed(word, given, self.size);
        }
        // What is reserved, or not negotiated, asks for nothing less than an interrupt.
        word & FLAGS != DISABLE && given != 0
    }

    /// Tells the driver that kicks are not needed while we look anyway. With EVENT_IDX the stale
    /// event does that by itself.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.mode.event_idx() && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_suppression(DISABLE);
        }
    }

    /// Asks for a kick with the next buffer, then looks once more: true if more came meanwhile.
    ///
    /// The full fence keeps the descriptor's flags from being read before the request is visible: a
    /// driver that publishes and then looks whether to kick sees one or the other.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        let next = self.next_avail.around(self.size);
        if self.mode.event_idx() {
            self.windows.device.store_suppression(DESC | next.word());
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_suppression(0);
        } else {
            // Kicks were never off: whatever came was or will be announced.
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

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    pub(crate) fn snapshot(&self) -> RingSnapshot {
        RingSnapshot {
            next_avail: self.next_avail.around(self.size).halfword(),
            next_used: self.next_used.around(self.size).halfword(),
            unsignalled: num::clamp_u16(num::index(self.given)).min(self.size),
            abandoned: self.abandoned,
            kicks_off: self.kicks_off,
        }
    }

    pub(crate) fn slots_of(&self, chain: &Chain<N>) -> u16 {
        let serial = chain.header.serial();
        self.flights.get(chain.head(), serial).unwrap_or(0)
    }

    pub(crate) const fn age(&self, chain: &Chain<N>) -> u32 {
        self.serial.wrapping_sub(chain.header.serial())
    }

    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        // As many as there are, and no more slots than lie between the positions.
        let taken = self.size.wrapping_sub(self.room);
        let so_far = self.flights.slots().saturating_add(self.abandoned);
        if slots == 0 || slots > taken.saturating_sub(so_far) {
            return false;
        }
        self.admit(chain, slots)
    }

    /// Notes a chain that came; false if its id is in flight already.
    #[inline(always)]
    fn admit(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        let serial = self.serial;
        if !self.flights.insert_near(chain.head(), slots, serial) && !self.admit_far(chain, slots) {
            return false;
        }
        chain.header.set_serial(serial);
        self.serial = serial.wrapping_add(2);
        true
    }

    #[cold]
    #[inline(never)]
    fn admit_far(&mut self, chain: &Chain<N>, slots: u16) -> bool {
        self.flights.insert(chain.head(), slots, self.serial)
    }

    pub(crate) fn is_whole(&self) -> bool {
        let slots = self.flights.slots().saturating_add(self.abandoned);
        slots == self.size.wrapping_sub(self.room)
    }

    pub(crate) fn in_flight(&self) -> u16 {
        self.flights.count()
    }

    /// Whether chains are to be given back in the order in which they came (rsvd-05).
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        self.mode.in_order()
    }

    /// Whether a chain is the one to be given back next. Never again after one was lost.
    pub(crate) const fn is_next(&self, chain: &Chain<N>) -> bool {
        chain.header.serial() == self.oldest
    }

    /// Whether a chain was popped and may still be given back.
    #[cold]
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        let serial = chain.header.serial();
        self.flights.get(chain.head(), serial).is_some()
    }

    /// Whether nothing more can be given back, because an older chain was lost.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.is_in_order() && self.abandoned != 0
    }

    /// A popped chain will not be given back. Its slots stay the device's.
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        let slots = self.flights.remove(chain.head(), chain.header.serial());
        self.abandoned = self.abandoned.wrapping_add(slots.unwrap_or(0));
    }

    pub(crate) fn abandon_all(&mut self) {
        self.abandoned = self.abandoned.wrapping_add(self.flights.slots());
        self.flights.clear();
    }
}

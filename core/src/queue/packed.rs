//! The packed virtqueue, from the device's side.
//!
//! For each chain the shared memory is touched exactly so often: each descriptor once, one used
//! descriptor, and one suppression word; once more per batch to find its end. Nothing is read twice.
//!
//! A descriptor is the driver's until its flags say otherwise for the round that the wrap counter
//! stands for; only the first of a chain is asked, as it is published last (packed-06). A driver can
//! make no more available than it has slots: the slots of a chain in flight are the device's, so a
//! chain that would reach into them is a fault.
//!
//! Clauses: packed-01 to packed-18, packed-20 to packed-24.

use super::{
    Popped,
    chain::{Blamed, Chain},
    flights::Flights,
    walk::{Desc, End, NEXT, WRITE, follow, walk_table},
};
use crate::{
    check::{CheckedQueue, Windows},
    error::DriverFault,
    features::Features,
    memory::{AVAIL, DriverMem, RawDescriptor, RingWindow, USED},
    num,
};

/// Equal in a used descriptor (packed-13), and not in an available one; a round turns both.
const BOTH: u16 = AVAIL | USED;

/// `RING_EVENT_FLAGS_DISABLE`, in the high half of the event suppression word.
const DISABLE: u32 = 1 << 16;
/// `RING_EVENT_FLAGS_DESC`
const DESC: u32 = 2 << 16;
/// Both bits of the flags; the others are reserved.
const FLAGS: u32 = 3 << 16;

/// A slot of the ring in the round of a wrap counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    slot: u16,
    /// AVAIL and USED of the descriptor that is looked for here, or written. The wrap counter is
    /// AVAIL.
    flags: u16,
}

impl Position {
    /// Where both sides start (packed-11).
    const fn start(flags: u16) -> Self {
        Self { slot: 0, flags }
    }

    /// So many slots on, at most `size`.
    #[inline(always)]
    fn advance(&mut self, by: u16, size: u16) {
        // Neither is over 32768, so the sum fits.
        self.slot = self.slot.wrapping_add(by);
        if self.slot >= size {
            self.slot = self.slot.wrapping_sub(size);
            self.flags ^= BOTH;
        }
    }

    fn wrap(self) -> bool {
        self.flags & AVAIL != 0
    }

    /// As an event suppression structure has it.
    fn word(self) -> u32 {
        u32::from(self.slot) | if self.wrap() { 1 << 15 } else { 0 }
    }
}

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
    /// The flags of an event suppression structure that name a descriptor: DESC with EVENT_IDX, else
    /// none.
    names: u32,
    indirect: bool,
    /// The driver was told not to kick, by the flags.
    kicks_off: bool,
    flights: Flights<N>,
}

#[cfg(feature = "defmt")]
impl<W, const N: usize> defmt::Format for PackedQueue<W, N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "PackedQueue {{ size: {=u16}, next_avail: {=u16}/{=bool}, next_used: {=u16}/{=bool}, \
             room: {=u16}, in_flight: {=u16} }}",
            self.size,
            self.next_avail.slot,
            self.next_avail.wrap(),
            self.next_used.slot,
            self.next_used.wrap(),
            self.room,
            self.flights.count()
        );
    }
}

impl<W: RingWindow, const N: usize> PackedQueue<W, N> {
    /// The queue at its start. Writes its device area: the first memory access of a queue's life.
    pub(crate) fn new(checked: CheckedQueue<W>) -> Self {
        const {
            // `Flights` finds its places by a mask.
            assert!(
                N.is_power_of_two() && N <= 32768,
                "a queue has room for 2^k elements, k <= 15"
            );
        }
        let queue = Self {
            windows: checked.windows,
            size: checked.size,
            next_avail: Position::start(AVAIL),
            next_used: Position::start(BOTH),
            room: checked.size,
            given: 0,
            names: if checked.features.contains(Features::EVENT_IDX) {
                DESC
            } else {
                u32::MAX
            },
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            flights: Flights::new(),
        };
        queue.windows.device.store_suppression(0);
        queue
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
        let Position { slot, flags } = self.next_avail;
        let Some((first, behind)) = self.windows.desc.load_available_run(slot, flags) else {
            return Popped::Empty;
        };
        match self.walk(mem, chain, Desc::new(first), behind) {
            Ok(slots) if self.flights.insert(chain.head(), slots) => {
                self.room = self.room.wrapping_sub(slots);
                self.next_avail.advance(slots, self.size);
                Popped::Chain
            }
            Ok(_) => {
                let head = chain.head();
                chain.blame(DriverFault::HeadInFlight { head });
                Popped::Fault
            }
            Err(_) => Popped::Fault,
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
        behind: impl Fn(u16) -> Option<RawDescriptor>,
    ) -> Result<u16, Blamed> {
        // Until its end is known, a chain has the name that its first descriptor has.
        chain.begin(first.next());
        // As many have a segment as come before.
        let next = |_, count| behind(count).map(Desc::new);
        match follow(mem, chain, (0, 0, false), first, next)? {
            End::Last => self.within_room(chain, 0),
            End::Table(table) => self.walk_indirect(mem, chain, table),
            End::Open => self.walk_around(mem, chain),
        }
    }

    /// Follows a chain on from the start of the ring, no farther than to its first slot.
    #[cold]
    #[inline(never)]
    fn walk_around<M: DriverMem>(&self, mem: &M, chain: &mut Chain<N>) -> Result<u16, Blamed> {
        let ring = &self.windows.desc;
        let mut slots = 0..self.next_avail.slot;
        let mut next = || ring.load_descriptor(slots.next()?).map(Desc::new);
        let end = match next() {
            Some(first) => follow(mem, chain, chain.progress(), first, |_, _| next())?,
            None => End::Open,
        };
        match end {
            End::Last => self.within_room(chain, 0),
            End::Table(table) => self.walk_indirect(mem, chain, table),
            End::Open => Err(chain.too_long()),
        }
    }

    /// Follows a chain into its table.
    fn walk_indirect<M: DriverMem>(
        &self,
        mem: &M,
        chain: &mut Chain<N>,
        table: Desc<true>,
    ) -> Result<u16, Blamed> {
        // One for the table itself.
        let slots = self.within_room(chain, 1)?;
        // WRITE means nothing beside INDIRECT (packed-18).
        let table = table.with(NEXT, 0, 0);
        walk_table::<_, N, true>(mem, chain, table, self.indirect)?;
        Ok(slots)
    }

    /// The slots of a chain: one for each segment, and so many `more`. They have to be the driver's.
    #[inline(always)]
    fn within_room(&self, chain: &mut Chain<N>, more: u16) -> Result<u16, Blamed> {
        let slots = chain.count().wrapping_add(more);
        if slots > self.room {
            return Err(chain.too_long());
        }
        Ok(slots)
    }

    /// Gives a chain back with `written` bytes in it: one used descriptor for all of it, its flags
    /// last. False, and nothing is given, if the chain is not in flight. Two stores.
    #[inline]
    pub(crate) fn push_used(&mut self, id: u16, written: u32) -> bool {
        match self.flights.remove_near(id) {
            Some(slots) => self.put_used(id, slots, written),
            None => self.push_used_far(id, written),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_used_far(&mut self, id: u16, written: u32) -> bool {
        match self.flights.remove(id) {
            Some(slots) => self.put_used(id, slots, written),
            None => false,
        }
    }

    #[inline(always)]
    fn put_used(&mut self, id: u16, slots: u16, written: u32) -> bool {
        let Position { slot, mut flags } = self.next_used;
        if written != 0 {
            flags |= WRITE;
        }
        self.windows
            .desc
            .store_used_descriptor(slot, id, written, flags);
        self.next_used.advance(slots, self.size);
        self.room = self.room.wrapping_add(slots);
        self.given = self.given.wrapping_add(slots.into());
        true
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// The full fence keeps the driver's suppression word from being read before the used
    /// descriptor is written: a driver that turns interrupts on and then looks at the descriptor
    /// sees one or the other. One load.
    #[inline]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        let given = core::mem::take(&mut self.given);
        self.windows.device.full_fence();
        let word = self.windows.driver.load_suppression();
        if word & FLAGS == self.names {
            return self.has_passed(word, given);
        }
        // What is reserved, or not negotiated, asks for nothing less than an interrupt.
        word & FLAGS != DISABLE && given != 0
    }

    /// Whether the descriptor that the driver asked for is among the last `given` slots.
    #[inline(always)]
    fn has_passed(&self, word: u32, given: u32) -> bool {
        let Position { slot: now, flags } = self.next_used;
        let (slot, now) = (word & 0x7fff, u32::from(now));
        // The wrap counter is where USED is.
        if (num::low16(word) ^ flags) & USED == 0 {
            slot < now && now.wrapping_sub(slot) <= given
        } else {
            // In the last round; what would be in the next one is not passed.
            let size = u32::from(self.size);
            slot >= now && slot < size && size.wrapping_sub(slot).wrapping_add(now) <= given
        }
    }

    /// Tells the driver that kicks are not needed while we look anyway. With EVENT_IDX the stale
    /// event does that by itself.
    pub(crate) fn disable_kicks(&mut self) {
        if self.names != DESC && !self.kicks_off {
            self.kicks_off = true;
            self.windows.device.store_suppression(DISABLE);
        }
    }

    /// Asks for a kick with the next buffer, then looks once more: true if more came meanwhile.
    ///
    /// The full fence keeps the descriptor's flags from being read before the request is visible: a
    /// driver that publishes and then looks whether to kick sees one or the other.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        let next = self.next_avail;
        if self.names == DESC {
            self.windows.device.store_suppression(DESC | next.word());
        } else if self.kicks_off {
            self.kicks_off = false;
            self.windows.device.store_suppression(0);
        } else {
            // Kicks were never off: whatever came was or will be announced.
            return Ok(false);
        }
        self.windows.device.full_fence();
        Ok(self.windows.desc.is_available(next.slot, next.wrap()))
    }
}

impl<W, const N: usize> PackedQueue<W, N> {
    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    pub(crate) fn in_flight(&self) -> u16 {
        self.flights.count()
    }

    /// A popped chain will not be given back. Its slots stay the device's.
    pub(crate) fn lose(&mut self, id: u16) {
        self.flights.remove(id);
    }

    pub(crate) fn lose_all(&mut self) {
        self.flights.clear();
    }
}

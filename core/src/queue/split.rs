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

use super::{
    Popped,
    chain::Chain,
    walk::{Desc, End, follow, walk_table},
};
use crate::{
    check::{CheckedQueue, Windows},
    error::DriverFault,
    features::Features,
    memory::{DriverMem, RingWindow},
};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// Where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// With the driver.
    Free,
    /// With the device.
    InFlight,
    /// Nowhere: its number is beyond the size of the queue.
    Absent,
}

/// A split virtqueue of up to `N` elements, over three ring windows.
///
/// It is made only from a [`CheckedQueue`]. Methods that find the driver at fault leave the queue
/// as it is: whoever owns the queue stops it.
#[derive(Debug)]
pub struct SplitQueue<W, const N: usize> {
    windows: Windows<W>,
    /// One less than the number of elements.
    mask: u16,
    next_avail: u16,
    /// The available index as last read.
    avail_idx: u16,
    next_used: u16,
    /// Chains that were popped and will not be given back.
    lost: u16,
    /// `next_used` when interrupts were last considered.
    signalled: u16,
    event_idx: bool,
    indirect: bool,
    /// The driver was told not to kick, by the used ring's flags.
    kicks_off: bool,
    in_flight: [Head; N],
}

#[cfg(feature = "defmt")]
impl<W, const N: usize> defmt::Format for SplitQueue<W, N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "SplitQueue {{ size: {=u16}, next_avail: {=u16}, avail_idx: {=u16}, next_used: {=u16}, \
             lost: {=u16}, signalled: {=u16}, event_idx: {=bool}, indirect: {=bool}, kicks_off: {=bool} }}",
            self.mask.wrapping_add(1),
            self.next_avail,
            self.avail_idx,
            self.next_used,
            self.lost,
            self.signalled,
            self.event_idx,
            self.indirect,
            self.kicks_off
        );
    }
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
        let mut queue = Self {
            windows: checked.windows,
            mask: checked.size.wrapping_sub(1),
            next_avail: 0,
            avail_idx: 0,
            next_used: 0,
            lost: 0,
            signalled: 0,
            event_idx: checked.features.contains(Features::EVENT_IDX),
            indirect: checked.features.contains(Features::INDIRECT_DESC),
            kicks_off: false,
            in_flight: [Head::Free; N],
        };
        for absent in queue.in_flight.iter_mut().skip(usize::from(checked.size)) {
            *absent = Head::Absent;
        }
        queue.windows.device.store_flags(0);
        queue
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
        let ahead = idx.wrapping_sub(self.next_avail);
        if ahead > self.size() {
            return Err(DriverFault::jump(idx, self.next_avail));
        }
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
        if self.next_avail == self.avail_idx {
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return Popped::Empty,
                Err(fault) => {
                    chain.blame(fault);
                    return Popped::Fault;
                }
            }
        }
        let head = self.windows.driver.load_entry(self.next_avail);
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if *there == Head::Free => *there = Head::InFlight,
            _ => {
                chain.blame(DriverFault::bad_head(head, self.size()));
                return Popped::Fault;
            }
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        if self.walk(mem, chain, head) {
            return Popped::Chain;
        }
        self.lose(chain.head());
        Popped::Fault
    }

    /// Follows a chain through the descriptor table; false if the driver is at fault.
    #[inline(always)]
    fn walk<M: DriverMem>(&self, mem: &M, chain: &mut Chain<N>, head: u16) -> bool {
        let table = &self.windows.desc;
        let fetch = |index: u16, _| table.load_descriptor(index).map(Desc::new);
        chain.begin(head);
        // The head was checked, so it is there.
        let Some(first) = fetch(head, 0) else {
            chain.bad_next(head);
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
    pub(crate) fn push_used(&mut self, head: u16, written: u32) -> bool {
        match self.in_flight.get_mut(usize::from(head)) {
            Some(there) if *there == Head::InFlight => *there = Head::Free,
            _ => return false,
        }
        self.windows
            .device
            .store_used(self.next_used, [u32::from(head), written]);
        self.next_used = self.next_used.wrapping_add(1);
        true
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// The full fence keeps the driver's suppression field from being read before the used index
    /// is written: a driver that turns interrupts on and then looks at the index sees one or the
    /// other. One load.
    #[inline(always)]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        let (new, old) = (self.next_used, self.signalled);
        self.signalled = new;
        self.windows.device.full_fence();
        if self.event_idx {
            let event = self.windows.driver.load_event();
            // Never if nothing was given back.
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            new != old && self.windows.driver.load_flags() & NO_INTERRUPT == 0
        }
    }

    /// Tells the driver that kicks are not needed while we look anyway. With EVENT_IDX the stale
    /// event index does that by itself.
    pub(crate) fn disable_kicks(&mut self) {
        if !self.event_idx && !self.kicks_off {
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
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        if self.event_idx {
            self.windows.device.store_event(self.next_avail);
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
    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.mask.wrapping_add(1)
    }

    /// Chains that were popped and may still be given back.
    pub(crate) fn in_flight(&self) -> u16 {
        self.next_avail
            .wrapping_sub(self.next_used)
            .wrapping_sub(self.lost)
    }

    /// A popped chain will not be given back.
    #[cold]
    pub(crate) fn lose(&mut self, head: u16) {
        if let Some(there) = self
            .in_flight
            .get_mut(usize::from(head))
            .filter(|there| **there == Head::InFlight)
        {
            *there = Head::Free;
            self.lost = self.lost.wrapping_add(1);
        }
    }

    /// No popped chain will be given back.
    pub(crate) fn lose_all(&mut self) {
        for head in 0..self.size() {
            self.lose(head);
        }
    }
}

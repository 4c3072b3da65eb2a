//! The virtqueues. A virtqueue reads chains from the driver's rings, and writes used elements to
//! the rings.
//!
//! A `Virtqueue` has one interface for both ring formats. The driver chooses the format by
//! negotiating `VIRTIO_F_RING_PACKED` or not. The Cargo features `split` and `packed` select the
//! formats that are built in.
//!
//! A chain is *in flight* from the moment when it is popped until it is marked as used or
//! abandoned. An *abandoned* chain is never marked as used: the device keeps it until the queue is
//! reset.

mod batch;
mod chain;
pub(crate) mod check;
mod descriptor;
mod mode;
#[cfg(feature = "packed")]
mod packed;
mod serial;
pub(crate) mod snapshot;
#[cfg(feature = "split")]
mod split;
mod stream;

pub use chain::{Chain, Segment};
use check::Windows;
pub use check::{CheckedQueue, QueueCheck, QueueCheckFn, translate_queue};
#[cfg(feature = "packed")]
pub(crate) use packed::PackedQueue;
#[cfg(feature = "split")]
pub(crate) use split::SplitQueue;
pub use stream::{ChainError, ReadableChain, Views, WritableChain};

use crate::{
    error::DriverFault,
    memory::{DriverMem, RingWindow},
    message::RingPosition,
    num,
};

#[cfg(not(any(feature = "split", feature = "packed")))]
compile_error!("a device needs a ring format: enable the feature `split`, `packed` or both");

/// Result of [`Virtqueue::pop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// The chain buffer contains a chain.
    Chain,
    /// No chain is available.
    Empty,
    /// The ring violates the protocol. The chain buffer contains the fault.
    Fault,
    /// The next chain violates the protocol. The chain buffer contains the fault.
    ///
    /// The caller may [reject](Virtqueue::reject) the chain at once. Otherwise a split queue counts
    /// the chain as abandoned, and a packed queue does not advance past the chain.
    Broken,
}

/// A virtqueue of up to `N` elements, in the negotiated format.
///
/// A virtqueue is created only from a [`CheckedQueue`]. A method that finds the driver at fault
/// reports the fault and does not stop the queue. The owner of the queue stops it.
#[derive(Debug)]
pub(crate) enum Virtqueue<W, const N: usize> {
    /// The format without `VIRTIO_F_RING_PACKED`.
    #[cfg(feature = "split")]
    Split(SplitQueue<W, N>),
    /// The format with `VIRTIO_F_RING_PACKED`.
    #[cfg(feature = "packed")]
    Packed(PackedQueue<W, N>),
}

/// Evaluates one expression for the queue of either format.
macro_rules! either {
    ($self:expr, $queue:ident => $work:expr) => {
        match $self {
            #[cfg(feature = "split")]
            Virtqueue::Split($queue) => $work,
            #[cfg(feature = "packed")]
            Virtqueue::Packed($queue) => $work,
        }
    };
}

impl<W: RingWindow, const N: usize> Virtqueue<W, N> {
    /// Creates a queue at its start position. The caller calls [`begin`](Self::begin) next.
    ///
    /// `generation` distinguishes this queue from earlier queues of the device.
    #[inline(always)]
    pub(crate) fn new(checked: CheckedQueue<W>, generation: u32) -> Self {
        // The factor keeps the first serial numbers of different generations far apart.
        let serial = generation.wrapping_mul(0x9e37_0000);
        #[cfg(all(feature = "split", feature = "packed"))]
        if checked.is_packed() {
            return Self::Packed(PackedQueue::new(checked, serial));
        }
        #[cfg(feature = "split")]
        return Self::Split(SplitQueue::new(checked, serial));
        #[cfg(not(feature = "split"))]
        return Self::Packed(PackedQueue::new(checked, serial));
    }

    /// Initializes the device area with one store. This is the first memory access of a queue.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        either!(self, queue => queue.begin());
    }

    /// Creates a queue at the positions of a snapshot. The caller then [adopts](Self::adopt)
    /// `chains` chains.
    ///
    /// Returns `None` if the positions contradict each other, or contradict the size of the queue
    /// or `chains`. No memory access.
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        generation: u32,
        ring: &RingPosition,
        chains: u16,
    ) -> Option<Self> {
        // At least 2^17, so that the adopted chains get lower numbers without a wrap. At most
        // 2^30 + 2^16, which is a valid serial number of a split queue.
        let spread = num::low16(generation.wrapping_mul(0x9e37)) & 0x3fff;
        let serial = u32::from(spread).wrapping_add(2) << 16;
        #[cfg(all(feature = "split", feature = "packed"))]
        if checked.is_packed() {
            return PackedQueue::restored(checked, serial, ring).map(Self::Packed);
        }
        #[cfg(feature = "split")]
        return SplitQueue::restored(checked, serial, ring, chains).map(Self::Split);
        #[cfg(not(feature = "split"))]
        {
            let _ = chains;
            PackedQueue::restored(checked, serial, ring).map(Self::Packed)
        }
    }

    /// Creates a queue at these positions, without chains in hand.
    ///
    /// Returns `None` if the positions contradict each other or the size of the queue, or if chains
    /// are missing. No memory access.
    pub(crate) fn at(
        checked: CheckedQueue<W>,
        generation: u32,
        position: &RingPosition,
    ) -> Option<Self> {
        Self::restored(checked, generation, position, 0)
            .filter(|queue| queue.is_whole() && !queue.is_stuck())
    }

    /// Sets the windows, after the rings moved in host memory. The contents of the rings are
    /// unchanged.
    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        either!(self, queue => queue.set_windows(windows));
    }

    /// Pops the next available chain: validates the chain and copies it into `chain`.
    ///
    /// At most `N + 2` ring accesses and `N` descriptors of an indirect table.
    #[inline(always)]
    pub(crate) fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Popped {
        either!(self, queue => queue.pop(mem, chain))
    }

    /// Marks a chain as used, with `written` bytes in it. Two stores to the ring.
    ///
    /// Returns false and stores nothing if the chain is not in flight: the chain was marked as used
    /// or abandoned before, or belongs to another queue. A queue with IN_ORDER uses
    /// [`push_in_order`](Self::push_in_order) instead.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        either!(self, queue => queue.push_used(chain, written))
    }

    /// Gives a faulty chain back: marks it as used, with 0 bytes written. The last call of `pop`
    /// must have returned [`Popped::Broken`] for this chain.
    ///
    /// Returns false and stores nothing
    /// - with IN_ORDER, if an older chain is in flight or was abandoned,
    /// - in a packed ring, if the chain has no end, or if its buffer id is in flight.
    ///
    /// Makes two stores, or four with IN_ORDER. In a packed ring, the search for the end of the
    /// chain makes up to `N` loads before the stores.
    #[cold]
    pub(crate) fn reject(&mut self, chain: &mut Chain<N>) -> bool {
        either!(self, queue => queue.reject(chain))
    }

    /// Marks a chain as used in a queue with IN_ORDER, with `written` bytes in it.
    /// [`is_next`](Self::is_next) must return true for the chain.
    ///
    /// The used element may be stored later, but not later than in the next call of
    /// [`needs_interrupt`](Self::needs_interrupt). Returns false if the chain is not in flight.
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        either!(self, queue => queue.push_in_order(chain, written))
    }

    /// Returns whether the driver wants an interrupt for the chains that were marked as used since
    /// the last call. One load.
    #[inline(always)]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        either!(self, queue => queue.needs_interrupt())
    }

    /// Tells the driver that no kicks are needed while the device polls the queue.
    pub(crate) fn disable_kicks(&mut self) {
        either!(self, queue => queue.disable_kicks());
    }

    /// Asks the driver for a kick with the next chain, then checks the ring once more. Returns true
    /// if a chain became available meanwhile.
    ///
    /// # Errors
    /// The available index is too far ahead (split ring only).
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        either!(self, queue => queue.enable_kicks())
    }
}

impl<W, const N: usize> Virtqueue<W, N> {
    /// Sets whether the queue is quiet: whether the device must not access its rings any more. In a
    /// quiet queue, [`needs_interrupt`](Self::needs_interrupt) returns false without an access.
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        either!(self, queue => queue.set_quiet(quiet));
    }

    /// Returns whether the queue is packed.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        match self {
            #[cfg(feature = "split")]
            Self::Split(_) => false,
            #[cfg(feature = "packed")]
            Self::Packed(_) => true,
        }
    }

    /// Returns the position of the next available chain, as a snapshot has it.
    pub(crate) fn next_avail(&self) -> u16 {
        either!(self, queue => queue.next_avail())
    }

    /// Returns whether chains are marked as used in the order in which they were popped: IN_ORDER
    /// was negotiated, or the host wants the order.
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        either!(self, queue => queue.is_in_order())
    }

    /// Returns whether a chain is the next one to be marked as used, in a queue with IN_ORDER.
    pub(crate) fn is_next(&self, chain: &Chain<N>) -> bool {
        either!(self, queue => queue.is_next(chain))
    }

    /// Returns whether a chain is in flight.
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        either!(self, queue => queue.is_in_flight(chain))
    }

    /// Returns whether the queue is stuck: IN_ORDER was negotiated, and a chain was abandoned. No
    /// chain that was popped after the abandoned chain can be marked as used.
    pub(crate) fn is_stuck(&self) -> bool {
        either!(self, queue => queue.is_stuck())
    }

    /// Returns the positions of the queue.
    pub(crate) fn snapshot(&self) -> RingPosition {
        either!(self, queue => queue.snapshot())
    }

    /// Returns the number of ring slots that a chain in flight occupies in a packed ring, and 1 in
    /// a split ring.
    pub(crate) fn slots_of(&self, chain: &Chain<N>) -> u16 {
        either!(self, queue => queue.slots_of(chain))
    }

    /// Returns the age of a chain in flight: the number of chains that were popped from this chain
    /// on, times 2 in a packed ring. An older chain has a higher age.
    pub(crate) fn age(&self, chain: &Chain<N>) -> u32 {
        either!(self, queue => queue.age(chain))
    }

    /// Adds a chain from a snapshot to the chains in flight. The caller adopts the chains oldest
    /// first.
    ///
    /// Returns false if the head is in flight already or beyond the size of the queue, or if
    /// `slots` contradicts the positions of the queue.
    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        either!(self, queue => queue.adopt(chain, slots))
    }

    /// Returns whether the adopted and the abandoned chains are all chains that the device holds
    /// according to the positions of the queue.
    pub(crate) fn is_whole(&self) -> bool {
        either!(self, queue => queue.is_whole())
    }

    /// Returns the number of chains in flight.
    pub(crate) fn in_flight(&self) -> u16 {
        either!(self, queue => queue.in_flight())
    }

    /// Abandons a chain. Does nothing if the chain is not in flight.
    #[cold]
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        either!(self, queue => queue.abandon(chain));
    }

    /// Abandons every chain in flight.
    pub(crate) fn abandon_all(&mut self) {
        either!(self, queue => queue.abandon_all());
    }
}

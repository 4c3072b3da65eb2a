//! The rings: chains out of the driver's memory, used elements into it.
//!
//! A [`Virtqueue`] is one contract over two formats, of which the driver chooses by negotiation and
//! a small build by the features `split` and `packed`.

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
pub use packed::PackedQueue;
use snapshot::RingSnapshot;
#[cfg(feature = "split")]
pub use split::SplitQueue;
pub use stream::{ChainError, ReadableChain, WritableChain};

use crate::{
    error::DriverFault,
    memory::{DriverMem, RingWindow},
    num,
};

#[cfg(not(any(feature = "split", feature = "packed")))]
compile_error!("a device needs a ring format: enable the feature `split`, `packed` or both");

/// What `pop` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// A chain, in the buffer.
    Chain,
    /// Nothing available.
    Empty,
    /// The driver's misdeed, in the buffer.
    Fault,
    /// The same, of a chain that could not be taken. It counts as lost, unless it is
    /// [refused](Virtqueue::refuse) at once.
    Broken,
}

/// A virtqueue of up to `N` elements, in the format that was negotiated.
///
/// It is made only from a [`CheckedQueue`]. Methods that find the driver at fault leave the queue
/// as it is: whoever owns the queue stops it.
#[derive(Debug)]
pub enum Virtqueue<W, const N: usize> {
    /// Without `VIRTIO_F_RING_PACKED`.
    #[cfg(feature = "split")]
    Split(SplitQueue<W, N>),
    /// With `VIRTIO_F_RING_PACKED`.
    #[cfg(feature = "packed")]
    Packed(PackedQueue<W, N>),
}

/// The same of either format.
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
    /// The queue at its start, to [`begin`](Self::begin) with. `life` tells it from those that the
    /// device had before.
    #[inline(always)]
    pub(crate) fn new(checked: CheckedQueue<W>, life: u32) -> Self {
        // Serial numbers of chains begin far from where those of other lives do.
        let serial = life.wrapping_mul(0x9e37_0000);
        #[cfg(all(feature = "split", feature = "packed"))]
        if checked.is_packed() {
            return Self::Packed(PackedQueue::new(checked, serial));
        }
        #[cfg(feature = "split")]
        return Self::Split(SplitQueue::new(checked, serial));
        #[cfg(not(feature = "split"))]
        return Self::Packed(PackedQueue::new(checked, serial));
    }

    /// One store to its device area: the first memory access of a queue's life.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        either!(self, queue => queue.begin());
    }

    /// The queue where a snapshot has it, with so many chains yet to be [adopted](Self::adopt);
    /// `None` if the positions cannot be. No memory access.
    pub(crate) fn restored(
        checked: CheckedQueue<W>,
        life: u32,
        ring: &RingSnapshot,
        chains: u16,
    ) -> Option<Self> {
        // Room for the chains before, and none of the values that are no serial number.
        let serial = (u32::from(num::low16(life) & 0x3fff)).wrapping_add(2) << 16;
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

    /// The rings have moved in host memory; their contents have not changed.
    pub(crate) fn set_windows(&mut self, windows: Windows<W>) {
        either!(self, queue => queue.set_windows(windows));
    }

    /// Takes the next available chain, copied and validated, into `chain`.
    ///
    /// At most `N + 2` ring accesses and `N` descriptors of an indirect table.
    #[inline(always)]
    pub(crate) fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Popped {
        either!(self, queue => queue.pop(mem, chain))
    }

    /// Gives a chain back with `written` bytes in it; false, and nothing is given, if it is not in
    /// flight: it was given back or lost, or its queue is another. Two stores.
    #[inline(always)]
    pub(crate) fn push_used(&mut self, chain: &Chain<N>, written: u32) -> bool {
        either!(self, queue => queue.push_used(chain, written))
    }

    /// Gives the chain back that `pop` has just found broken, with nothing written in it. False, and
    /// nothing is given, if older ones have to go first, or were lost, or if it has no end.
    ///
    /// Two stores; two more with IN_ORDER. In a packed ring up to `N` loads before, for its end.
    #[cold]
    pub(crate) fn refuse(&mut self, chain: &mut Chain<N>) -> bool {
        either!(self, queue => queue.refuse(chain))
    }

    /// The same for a queue with IN_ORDER and the chain that [`is_next`](Self::is_next): the ring
    /// hears of it at the latest when [`needs_interrupt`](Self::needs_interrupt) is asked.
    pub(crate) fn push_in_order(&mut self, chain: &Chain<N>, written: u32) -> bool {
        either!(self, queue => queue.push_in_order(chain, written))
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked. One
    /// load.
    #[inline(always)]
    pub(crate) fn needs_interrupt(&mut self) -> bool {
        either!(self, queue => queue.needs_interrupt())
    }

    /// Tells the driver that kicks are not needed while we look anyway.
    pub(crate) fn disable_kicks(&mut self) {
        either!(self, queue => queue.disable_kicks());
    }

    /// Asks for a kick with the next buffer, then looks once more: true if more came meanwhile.
    ///
    /// # Errors
    /// As for `pop`.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, DriverFault> {
        either!(self, queue => queue.enable_kicks())
    }
}

impl<W, const N: usize> Virtqueue<W, N> {
    /// While it is quiet, whether the driver wants an interrupt is answered with no, and without a
    /// look at the rings.
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        either!(self, queue => queue.set_quiet(quiet));
    }

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        either!(self, queue => queue.size())
    }

    /// Whether it is packed.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        match self {
            #[cfg(feature = "split")]
            Self::Split(_) => false,
            #[cfg(feature = "packed")]
            Self::Packed(_) => true,
        }
    }

    /// Whether chains are to be given back in the order in which they came.
    #[inline(always)]
    pub(crate) const fn is_in_order(&self) -> bool {
        either!(self, queue => queue.is_in_order())
    }

    /// Whether a chain is the one to be given back next, with IN_ORDER.
    pub(crate) fn is_next(&self, chain: &Chain<N>) -> bool {
        either!(self, queue => queue.is_next(chain))
    }

    /// Whether a chain was popped and may still be given back.
    pub(crate) fn is_in_flight(&self, chain: &Chain<N>) -> bool {
        either!(self, queue => queue.is_in_flight(chain))
    }

    /// Whether nothing more can be given back: with IN_ORDER, after a chain was lost.
    pub(crate) fn is_stuck(&self) -> bool {
        either!(self, queue => queue.is_stuck())
    }

    /// How far it is.
    pub(crate) fn snapshot(&self) -> RingSnapshot {
        either!(self, queue => queue.snapshot())
    }

    /// Slots of a packed ring that a chain in flight takes; 1 in a split one.
    pub(crate) fn slots_of(&self, chain: &Chain<N>) -> u16 {
        either!(self, queue => queue.slots_of(chain))
    }

    /// How long ago a chain in flight was popped, in chains or more.
    pub(crate) fn age(&self, chain: &Chain<N>) -> u32 {
        either!(self, queue => queue.age(chain))
    }

    /// A chain that a snapshot has in hand, after all older ones; false if it cannot be.
    pub(crate) fn adopt(&mut self, chain: &mut Chain<N>, slots: u16) -> bool {
        either!(self, queue => queue.adopt(chain, slots))
    }

    /// Whether the positions fit the chains that were adopted.
    pub(crate) fn is_whole(&self) -> bool {
        either!(self, queue => queue.is_whole())
    }

    /// Chains that were popped and may still be given back.
    pub(crate) fn in_flight(&self) -> u16 {
        either!(self, queue => queue.in_flight())
    }

    /// A popped chain will not be given back. Nothing, if it is not in flight.
    #[cold]
    pub(crate) fn abandon(&mut self, chain: &Chain<N>) {
        either!(self, queue => queue.abandon(chain));
    }

    /// No popped chain will be given back.
    pub(crate) fn abandon_all(&mut self) {
        either!(self, queue => queue.abandon_all());
    }
}

//! Where chains are while a device has them.

use crate::{model::Token, queue::Chain};

/// Room for one chain of up to `N` buffers: `16 * N` bytes and a few words.
///
/// The caller supplies the slots, and so decides how many chains may be pending at once. All queues
/// share them:
///
/// * A model that always answers at once needs one slot, whatever the number of queues.
/// * A model that keeps chains needs one slot for each queue that the driver may use, and one for each
///   further chain that is to be pending at the same time.
///
/// One free slot is reserved for each queue that has no chain in hand. A queue that has one takes
/// another slot only if the reserved ones remain. So with `S` slots, a device whose driver uses `n <= S`
/// queues serves every queue, whatever chains the other queues keep, and a queue that is alone in its
/// work keeps up to `S - (n - 1)` chains. A queue that was stopped or taken still counts among the `n`.
///
/// With fewer slots than queues, no queue keeps more than one chain; the queues that keep one must be
/// fewer than the slots, or the others wait.
///
/// With IN_ORDER, a chain that is answered before its turn keeps its slot until its turn.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ChainSlot<const N: usize> {
    chain: Chain<N>,
    state: State,
    queue: u16,
    /// Counts uses, so that a token of an earlier one is void.
    serial: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum State {
    Free,
    Pending,
    /// Pending, and to be served again by the next poll.
    Again,
    /// Answered with so many bytes, before its turn (IN_ORDER).
    Answered(u32),
}

impl<const N: usize> ChainSlot<N> {
    /// Free.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chain: Chain::new(),
            state: State::Free,
            queue: 0,
            serial: 0,
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.state == State::Free
    }

    /// Whether the model has it and may still answer.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending | State::Again)
    }

    pub(crate) fn is_of(&self, queue: u16) -> bool {
        self.state != State::Free && self.queue == queue
    }

    pub(crate) fn queue(&self) -> u16 {
        self.queue
    }

    pub(crate) fn chain(&self) -> &Chain<N> {
        &self.chain
    }

    pub(crate) fn chain_mut(&mut self) -> &mut Chain<N> {
        &mut self.chain
    }

    pub(crate) fn occupy(&mut self, queue: u16) {
        self.state = State::Pending;
        self.queue = queue;
    }

    pub(crate) fn release(&mut self) {
        self.state = State::Free;
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn again(&mut self) {
        if self.state == State::Pending {
            self.state = State::Again;
        }
    }

    /// Its answer waits for those of older chains. Its token is void.
    pub(crate) fn answer(&mut self, written: u32) {
        self.state = State::Answered(written);
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn answered(&self) -> Option<u32> {
        match self.state {
            State::Answered(written) => Some(written),
            _ => None,
        }
    }

    pub(crate) fn wants_again(&self) -> bool {
        self.state == State::Again
    }

    pub(crate) fn take_again(&mut self) -> bool {
        let again = self.state == State::Again;
        if again {
            self.state = State::Pending;
        }
        again
    }

    pub(crate) fn token(&self, at: usize) -> Token {
        Token {
            slot: crate::num::clamp_u16(at),
            serial: self.serial,
        }
    }
}

impl<const N: usize> Default for ChainSlot<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Nothing to do before the next kick.
    Idle,
    /// There is, or may be, more: poll again.
    More,
    /// Nothing to do before the next kick, `complete` or `backend_ready`, or before the model has an
    /// answer that it did not have. One of these holds:
    ///
    /// * A chain is pending or, with IN_ORDER, answered before an older one.
    /// * A queue was kicked that the model cannot serve
    ///   ([`can_serve`](crate::DeviceModel::can_serve)). Its ring is not looked into, so there may be no
    ///   chain in it. Every ready queue counts as kicked at DRIVER_OK: a console that has no input is
    ///   blocked from then on.
    /// * A queue was kicked and the caller supplied no slots at all.
    Blocked,
}

/// What a device did, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters {
    /// Chains given back.
    pub chains: u32,
    /// Used-buffer interrupts sent. (Taken queues send their own.)
    pub interrupts: u32,
    /// Times the driver did not want one.
    pub suppressed: u32,
    /// Chains given back because of what the driver did wrong
    /// ([`FaultPolicy::Refuse`](crate::error::FaultPolicy::Refuse)). Those of a taken queue count when it is
    /// put back; until then it [tells itself](crate::device::TakenQueue::refusals).
    pub refused: u32,
}

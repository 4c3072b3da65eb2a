//! The storage of chains in hand.

use crate::{
    error::{DriverFault, HostFault},
    memory::DriverMem,
    model::{Answer, DeviceModel, Request, Token},
    queue::Chain,
};

/// Storage for one chain of up to `N` buffers: `16 * N` bytes and a few words.
///
/// The caller supplies the slots, and so decides how many chains may be pending at once. All queues
/// share the slots:
///
/// * A model that always answers at once needs one slot, whatever the number of queues.
/// * A model that keeps chains needs one slot for each queue that the driver may use, and one for
///   each further chain that is to be pending at the same time.
///
/// One free slot is reserved for each queue that has no chain in hand. A queue with a chain in hand
/// takes another slot only if the reserved slots remain free. With `S` slots and a driver that uses
/// `n <= S` queues:
///
/// * Every queue is served, whatever chains the other queues keep.
/// * If only one queue keeps chains, it keeps up to `S - (n - 1)` of them.
/// * A queue that was stopped or taken still counts among the `n`.
///
/// With fewer slots than queues, no queue keeps more than one chain. While every slot holds a
/// chain, the queues without a chain wait.
///
/// With IN_ORDER, a chain that is answered before its turn keeps its slot until its turn.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ChainSlot<const N: usize> {
    chain: Chain<N>,
    state: SlotState,
    queue: u16,
    /// Counts uses, so that a token of an earlier use is stale.
    serial: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum SlotState {
    Free,
    Pending,
    /// Pending; the next poll serves the chain again.
    Again,
    /// Answered with this many bytes before its turn (IN_ORDER).
    Answered(u32),
}

impl<const N: usize> ChainSlot<N> {
    /// Creates a free slot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chain: Chain::new(),
            state: SlotState::Free,
            queue: 0,
            serial: 0,
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.state == SlotState::Free
    }

    /// Returns whether the model may still answer the chain.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, SlotState::Pending | SlotState::Again)
    }

    /// Returns whether this is the pending chain of a token for this slot.
    pub(crate) fn holds(&self, token: Token) -> bool {
        self.is_pending() && self.token(token.slot().into()) == token
    }

    pub(crate) fn is_of(&self, queue: u16) -> bool {
        self.state != SlotState::Free && self.queue == queue
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
        self.state = SlotState::Pending;
        self.queue = queue;
    }

    pub(crate) fn release(&mut self) {
        self.state = SlotState::Free;
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn again(&mut self) {
        if self.state == SlotState::Pending {
            self.state = SlotState::Again;
        }
    }

    /// Keeps the answer until older chains are answered. The chain's token becomes stale.
    pub(crate) fn answer(&mut self, written: u32) {
        self.state = SlotState::Answered(written);
        self.serial = self.serial.wrapping_add(1);
    }

    pub(crate) fn answered(&self) -> Option<u32> {
        match self.state {
            SlotState::Answered(written) => Some(written),
            _ => None,
        }
    }

    pub(crate) fn wants_again(&self) -> bool {
        self.state == SlotState::Again
    }

    pub(crate) fn take_again(&mut self) -> bool {
        let again = self.state == SlotState::Again;
        if again {
            self.state = SlotState::Pending;
        }
        again
    }

    /// Asks the model to serve the chain in slot number `at`. Returns the answer, and what went
    /// wrong on the host's side.
    #[inline(always)]
    pub(crate) fn ask<M: DriverMem, D: DeviceModel>(
        &self,
        at: usize,
        queue: u16,
        mem: &M,
        model: &mut D,
    ) -> (Result<Answer, DriverFault>, Option<HostFault>) {
        let mut request = Request {
            queue,
            token: self.token(at),
            head: self.chain.head(),
            readable: self.chain.readable(mem),
            writable: self.chain.writable(mem),
            fault: None,
        };
        let answer = model.serve(&mut request);
        (answer, request.fault)
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

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// The device has nothing to do until the next kick.
    Idle,
    /// There may be more chains: poll again.
    More,
    /// The device has nothing to do until the next kick, `complete` or `backend_ready`, or until
    /// the model has a new answer. One of these holds:
    ///
    /// * A chain is pending or, with IN_ORDER, answered before an older chain.
    /// * A queue was kicked that the model cannot serve
    ///   ([`can_serve`](crate::DeviceModel::can_serve)). The device does not look into the ring, so
    ///   the ring may be empty. Every ready queue counts as kicked at DRIVER_OK: a console without
    ///   input is blocked from then on.
    /// * A queue was kicked, and the caller supplied no slots.
    /// * The host polls ([`set_polling`](crate::Device::set_polling)), so every queue that was kicked
    ///   stays so.
    Blocked,
}

/// Counters of a device's work, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters {
    /// Chains that were given back, including rejected chains, without those of taken queues.
    pub chains: u32,
    /// Used-buffer interrupts that were sent, without those of taken queues.
    pub interrupts: u32,
    /// Used-buffer interrupts that were not sent, because the driver did not want them.
    pub suppressed: u32,
    /// Chains that were rejected for a protocol violation
    /// ([`FaultPolicy::Reject`](crate::error::FaultPolicy::Reject)). Chains that a taken queue
    /// rejected count when the queue is put back; until then see
    /// [`TakenQueue::rejections`](crate::device::TakenQueue::rejections).
    pub rejected: u32,
}

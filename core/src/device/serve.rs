//! Serving the queues: choosing the next chain, asking the model, giving the chain back, and
//! notifying the driver.

use super::Device;
use crate::{
    device::{ChainSlot, Counters, QueueState, Step},
    error::{DriverFault, HostFault},
    features::built,
    interrupt::DriverNotify,
    memory::{DriverMem, RingWindow},
    model::{Answer, DeviceModel},
    num,
    queue::{Chain, Popped, Virtqueue},
    queue_set::QueueBits,
    shared::{InterruptStatus, SharedHandle},
    trace::{Event, Trace},
};

/// What one poll has done so far.
pub(super) struct Round<const Q: usize> {
    /// What remains of the budget.
    left: u16,
    /// The next slot whose chain may wait to be served again.
    next_slot: usize,
    /// The queue whose turn it was last.
    last: Option<u16>,
    /// The chosen queue has a turn, and no other queue gets one until the round ends.
    alone: bool,
    /// Queues that get no further chain in this round.
    blocked: QueueBits<Q>,
    /// Queues that the model could not serve.
    unready: QueueBits<Q>,
    /// Queues that got chains back.
    pub(super) touched: QueueBits<Q>,
    /// The poll has seen a slot in use, so free slots may be scarce.
    kept: bool,
    /// A queue was left alone because the free slots are reserved for other queues.
    short: bool,
    /// A slot has become free since `short` was set.
    freed: bool,
}

impl<const Q: usize> Round<Q> {
    fn new(budget: u16) -> Self {
        Self {
            left: budget,
            next_slot: 0,
            last: None,
            alone: false,
            blocked: QueueBits::new(),
            unready: QueueBits::new(),
            touched: QueueBits::new(),
            kept: false,
            short: false,
            freed: false,
        }
    }

    /// Starts a round for the pending chain in a slot.
    pub(super) fn of_slot(at: usize) -> Self {
        let mut round = Self::new(1);
        round.next_slot = at;
        round.keep(true);
        round
    }

    /// Takes one chain of the budget.
    #[inline(always)]
    fn spend(&mut self) {
        self.left = self.left.wrapping_sub(1);
    }

    /// Returns whether one queue may use up the slots of another. Always false with one queue.
    #[inline(always)]
    fn is_shared(&self) -> bool {
        Q > 1 && self.kept
    }

    /// Records that a slot was seen, and whether it is in use.
    #[inline(always)]
    fn keep(&mut self, in_use: bool) {
        if Q > 1 {
            self.kept |= in_use;
        }
    }
}

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Serves up to `budget` chains, one chain of each queue in turn, and sends interrupts at the
    /// end.
    ///
    /// A look into an empty queue takes one chain of the budget. Worst case:
    ///
    /// * `budget * (N + 5) + 2 * min(budget, Q)` ring accesses,
    /// * `budget * (N + 1)` descriptors of indirect tables,
    /// * the buffer accesses of the model,
    /// * with IN_ORDER two more ring accesses for each waiting chain that the poll gives back, for
    ///   at most as many chains as there are slots,
    /// * one store to the used ring of each ready queue, in the first poll after a
    ///   [`ReadyResponder`](crate::ReadyResponder) has made the driver live.
    pub fn poll<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        budget: u16,
    ) -> Step {
        if !self.start_if_live() || self.is_suspended() {
            return Step::Idle;
        }
        self.drain_doorbell();
        let mut round = Round::new(budget);
        self.work(model, slots, &mut round);
        self.notify_driver(&round.touched);
        if self.is_suspending() {
            return suspending_step(model, slots);
        }
        // A chain of one queue may let the model serve another queue.
        let again = round.unready.iter().any(|queue| model.can_serve(queue));
        if again || (Q > 1 && round.freed) || due(model, slots).is_some() {
            return Step::More;
        }
        self.finish_poll(&round, slots)
    }

    /// Moves kicks from the doorbell to `notified`. Kicks of taken queues stay in the doorbell for
    /// the queues' owners.
    fn drain_doorbell(&mut self) {
        let Self {
            shared,
            table,
            notified,
            stopping,
            quiesced,
            ..
        } = self;
        shared.doorbell().drain_where(|queue| {
            let state = table.state(queue);
            let waits = built::RING_RESET && stopping.contains(queue) || quiesced.contains(queue);
            if state == QueueState::Live && !waits {
                notified.insert(queue);
            }
            state != QueueState::Taken
        });
    }

    /// Serves chains until the budget is spent or nothing is left to serve.
    pub(super) fn work<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        while round.left != 0 {
            let Some((at, queue)) = self.choose(model, slots, round) else {
                return;
            };
            self.serve(at, queue, model, slots, round);
        }
    }

    /// Chooses the slot and the queue of the next chain: a pending chain that can be served again,
    /// or else a free slot and the queue whose turn it is.
    #[inline(always)]
    fn choose<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) -> Option<(usize, u16)> {
        round.alone = false;
        // Pending chains come first, since they are older.
        while let Some(slot) = slots.get_mut(round.next_slot) {
            let at = round.next_slot;
            round.next_slot = at.wrapping_add(1);
            round.keep(!slot.is_free());
            if slot.take_again() {
                return Some((at, slot.queue()));
            }
        }
        loop {
            if let Some(found) = due(model, slots) {
                return Some(found);
            }
            let queue = self.notified.next_from(self.next_queue, &round.blocked)?;
            if self.is_suspending() {
                // suspend-10
                return None;
            }
            if !model.can_serve(queue) {
                round.blocked.insert(queue);
                round.unready.insert(queue);
                continue;
            }
            let Some(at) = slots.iter().position(ChainSlot::is_free) else {
                for slot in slots.iter() {
                    model.drained(slot.queue());
                }
                if due(model, slots).is_some() {
                    continue;
                }
                round.blocked.add(&self.notified);
                return None;
            };
            self.next_queue = queue.wrapping_add(1);
            if self.is_short(queue, model, slots, round) {
                model.drained(queue);
                round.blocked.insert(queue);
                continue;
            }
            // No queue becomes notified during a round, so a queue whose turn comes twice running
            // is the only one that is left.
            round.alone = Q == 1 || round.last == Some(queue);
            round.last = Some(queue);
            return Some((at, queue));
        }
    }

    /// Serves the pending chain in a slot. If the slot is free, pops a chain into it first, or finds
    /// the queue empty.
    ///
    /// If no other queue gets a turn, goes on with the queue's next chain while the model answers
    /// each chain at once. With IN_ORDER, and while another slot is in use, serves one chain.
    #[inline(always)]
    fn serve<D: DeviceModel>(
        &mut self,
        at: usize,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        round.spend();
        let Some(slot) = slots.get_mut(at) else {
            return;
        };
        let Some(mut virtqueue) = self.table.virtqueue(queue) else {
            self.notified.remove(queue);
            slot.release();
            return;
        };
        loop {
            if slot.is_free() {
                match virtqueue.pop(&self.mem, slot.chain_mut()) {
                    Popped::Chain => {}
                    Popped::Empty if self.polling => {
                        virtqueue.disable_kicks();
                        round.blocked.insert(queue);
                        model.drained(queue);
                        return;
                    }
                    Popped::Empty => {
                        match virtqueue.enable_kicks() {
                            Ok(true) => {}
                            Ok(false) => {
                                self.notified.remove(queue);
                                model.drained(queue);
                            }
                            Err(fault) => self.fault(queue, fault, model, slots, round),
                        }
                        return;
                    }
                    Popped::Broken
                        if self.policy.rejects() && virtqueue.reject(slot.chain_mut()) =>
                    {
                        let head = slot.chain().head();
                        if let Some(fault) = slot.chain_mut().take_fault() {
                            self.rejected(queue, fault);
                        }
                        return self.given(queue, head, 0, round);
                    }
                    Popped::Broken | Popped::Fault => {
                        if let Some(fault) = slot.chain_mut().take_fault() {
                            self.fault(queue, fault, model, slots, round);
                        }
                        return;
                    }
                }
                slot.occupy(queue);
                if round.is_shared() && virtqueue.in_flight() > 1 {
                    self.extra = self.extra.wrapping_add(1);
                }
                let chain = slot.chain();
                self.trace.event(&Event::Popped {
                    queue,
                    head: chain.head(),
                    readable: chain.readable_len(),
                    writable: chain.writable_len(),
                    next_avail: virtqueue.next_avail(),
                });
            }
            let (answer, host) = slot.ask(at, queue, &self.mem, model);
            if let Some(fault) = host {
                host_failed(&mut self.host_fault, &mut self.trace, fault);
            }
            let written = match answer {
                Ok(Answer::Done { written }) => written,
                Ok(Answer::Pending) => {
                    round.keep(true);
                    let token = slot.token(at);
                    self.trace.event(&Event::Pending { queue, token });
                    return;
                }
                Err(fault) if self.policy.rejects() => {
                    self.rejected(queue, fault);
                    match self.table.virtqueue(queue) {
                        Some(found) => virtqueue = found,
                        None => return,
                    }
                    0
                }
                Err(fault) => {
                    self.fault(queue, fault, model, slots, round);
                    return;
                }
            };
            let written = limited(written, slot.chain()).unwrap_or_else(|fault| {
                host_failed(&mut self.host_fault, &mut self.trace, fault);
                0
            });
            if virtqueue.is_in_order() {
                slot.answer(written);
                self.give_in_order(queue, slots, round);
                round.keep(slots.get(at).is_some_and(|slot| !slot.is_free()));
                return;
            }
            let head = slot.chain().head();
            let given = virtqueue.push_used(slot.chain(), written);
            slot.release();
            if given {
                given_back(&mut self.counters, &mut self.trace, queue, head, written);
                round.touched.insert(queue);
            }
            if round.is_shared() {
                self.count_freed(queue, round);
                return;
            }
            if !round.alone || round.left == 0 || model.due().is_some() || !model.can_serve(queue) {
                return;
            }
            round.spend();
        }
    }

    /// Returns whether the free slots are reserved for other queues.
    fn is_short<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &D,
        slots: &[ChainSlot<N>],
        round: &mut Round<Q>,
    ) -> bool {
        // A slot remains for each queue that has no chain in hand.
        let short = round.is_shared()
            && slots.len() <= usize::from(self.reserved).wrapping_add(self.extra.into())
            && self.table.virtqueue(queue).is_some_and(|virtqueue| {
                virtqueue.in_flight() != 0 && (virtqueue.is_in_order() || model.may_keep(queue))
            });
        round.short |= short;
        short
    }

    /// Gives back the answered chains of a queue whose turn has come (rsvd-05): at most one chain
    /// for each slot.
    #[inline(never)]
    pub(super) fn give_in_order(
        &mut self,
        queue: u16,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        loop {
            let Some(virtqueue) = self.table.virtqueue(queue) else {
                return;
            };
            let Some((written, slot)) = next_answered(queue, virtqueue, slots) else {
                return;
            };
            let head = slot.chain().head();
            let given = virtqueue.push_in_order(slot.chain(), written);
            slot.release();
            self.slot_freed(queue, round);
            if given {
                self.given(queue, head, written, round);
            }
        }
    }

    /// Records that a slot has become free.
    #[inline(always)]
    pub(super) fn slot_freed(&mut self, queue: u16, round: &mut Round<Q>) {
        if round.is_shared() {
            self.count_freed(queue, round);
        }
    }

    #[inline(never)]
    fn count_freed(&mut self, queue: u16, round: &mut Round<Q>) {
        round.freed |= round.short;
        if self
            .table
            .virtqueue(queue)
            .is_some_and(|virtqueue| virtqueue.in_flight() != 0)
        {
            self.extra = self.extra.saturating_sub(1);
        }
    }

    /// Records that a chain was rejected for a protocol violation.
    #[cold]
    fn rejected(&mut self, queue: u16, fault: DriverFault) {
        self.counters.rejected = self.counters.rejected.wrapping_add(1);
        self.table.chain_rejected(queue, fault);
        self.trace.event(&Event::DriverFault { queue, fault });
    }

    /// Records that a chain was given back.
    #[inline(always)]
    pub(super) fn given(&mut self, queue: u16, head: u16, written: u32, round: &mut Round<Q>) {
        given_back(&mut self.counters, &mut self.trace, queue, head, written);
        round.touched.insert(queue);
    }

    /// Stops a queue whose driver broke the protocol.
    #[cold]
    fn fault<D: DeviceModel>(
        &mut self,
        queue: u16,
        fault: DriverFault,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        // Chains that the queue gave back earlier still need an interrupt (split-usedsup-03), and
        // the stopped queue is not asked again.
        if round.touched.remove(queue) {
            let mut last = QueueBits::new();
            last.insert(queue);
            self.notify_driver(&last);
        }
        self.trace.event(&Event::DriverFault { queue, fault });
        self.stop(queue, Some(fault), model, slots);
        round.freed |= round.short;
        self.broke_protocol();
    }

    /// Sends one interrupt for all chains that were given back, if the driver wants one for any of
    /// the queues.
    pub(super) fn notify_driver(&mut self, touched: &QueueBits<Q>) {
        let mut wanted = false;
        for queue in touched.iter() {
            if let Some(virtqueue) = self.table.virtqueue(queue) {
                if virtqueue.needs_interrupt() {
                    wanted = true;
                    self.notify.used(queue);
                } else {
                    self.counters.suppressed = self.counters.suppressed.wrapping_add(1);
                }
            }
        }
        if wanted {
            self.counters.interrupts = self.counters.interrupts.wrapping_add(1);
            self.interrupt(InterruptStatus::USED_BUFFER);
        }
    }

    /// Chooses the result of a poll. If the next poll looks into a queue anyway, turns off the
    /// kicks of that queue. Only queues that got chains back in this poll are considered, so that
    /// the work stays within the budget.
    fn finish_poll(&mut self, round: &Round<Q>, slots: &[ChainSlot<N>]) -> Step {
        if self.notified.next_from(0, &round.blocked).is_some() {
            for queue in round.touched.iter() {
                if self.notified.contains(queue)
                    && !round.blocked.contains(queue)
                    && let Some(virtqueue) = self.table.virtqueue(queue)
                {
                    virtqueue.disable_kicks();
                }
            }
            return Step::More;
        }
        if slots.iter().any(ChainSlot::wants_again) {
            return Step::More;
        }
        let pending = slots.iter().any(|slot| !slot.is_free());
        if pending || !self.notified.is_empty() {
            Step::Blocked
        } else {
            Step::Idle
        }
    }
}

/// Returns the length that the model states. Fails if the chain is shorter.
#[inline(always)]
pub(super) fn limited<const N: usize>(written: u32, chain: &Chain<N>) -> Result<u32, HostFault> {
    let writable = chain.writable_len();
    if u64::from(written) <= writable {
        return Ok(written);
    }
    // `writable` is less than `written`, so it fits in 32 bits.
    let writable = num::low(writable);
    Err(HostFault::WrittenTooMuch { written, writable })
}

/// Returns the answered chain of a queue with IN_ORDER whose turn it is, and its length.
pub(super) fn next_answered<'s, W: RingWindow, const N: usize>(
    queue: u16,
    virtqueue: &Virtqueue<W, N>,
    slots: &'s mut [ChainSlot<N>],
) -> Option<(u32, &'s mut ChainSlot<N>)> {
    slots.iter_mut().find_map(|slot| {
        let there = slot.is_of(queue) && virtqueue.is_next(slot.chain());
        Some((slot.answered().filter(|_| there)?, slot))
    })
}

/// Records a failure of the host's side.
#[cold]
pub(super) fn host_failed<T: Trace>(last: &mut Option<HostFault>, trace: &mut T, fault: HostFault) {
    *last = Some(fault);
    trace.event(&Event::HostFault { fault });
}

/// Counts and traces a chain that was given back.
#[inline(always)]
fn given_back<T: Trace>(
    counters: &mut Counters,
    trace: &mut T,
    queue: u16,
    head: u16,
    written: u32,
) {
    counters.chains = counters.chains.wrapping_add(1);
    trace.event(&Event::Used {
        queue,
        head,
        written,
    });
}

/// Returns the result of a poll of a device that is being suspended, which takes no chains.
fn suspending_step<D: DeviceModel, const N: usize>(model: &D, slots: &[ChainSlot<N>]) -> Step {
    if slots.iter().any(ChainSlot::wants_again) || due(model, slots).is_some() {
        Step::More
    } else if slots.iter().any(|slot| !slot.is_free()) {
        Step::Blocked
    } else {
        Step::Idle
    }
}

/// Returns the slot and the queue of the pending chain that the model wants to serve again.
pub(super) fn due<D: DeviceModel, const N: usize>(
    model: &D,
    slots: &[ChainSlot<N>],
) -> Option<(usize, u16)> {
    let token = model.due()?;
    let at = usize::from(token.slot());
    let slot = slots.get(at)?;
    slot.holds(token).then(|| (at, slot.queue()))
}

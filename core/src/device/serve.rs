//! Serving the queues: choosing the next chain, asking the model, giving the chain back, and
//! notifying the driver.

use super::Device;
use crate::{
    device::{ChainSlot, QueueState, Step},
    error::{DriverFault, HostFault, Refusal},
    features::built,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{Answer, DeviceModel, Request, Token},
    num,
    queue::Popped,
    queue_set::QueueBits,
    shared::{InterruptStatus, SharedHandle},
    trace::{Event, Trace},
};

/// What one poll has done so far.
struct Round<const Q: usize> {
    /// Queues that got chains back.
    touched: QueueBits<Q>,
    /// The poll has seen a slot in use, so free slots may be scarce.
    kept: bool,
    /// A queue was left alone because the free slots are reserved for other queues.
    short: bool,
    /// A slot has become free since `short` was set.
    freed: bool,
}

impl<const Q: usize> Round<Q> {
    fn new() -> Self {
        Self {
            touched: QueueBits::new(),
            kept: false,
            short: false,
            freed: false,
        }
    }

    /// Starts a round that serves a chain from a slot.
    fn kept() -> Self {
        let mut round = Self::new();
        round.keep(true);
        round
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
        let mut left = budget;
        let mut blocked = QueueBits::<Q>::new();
        let mut unready = QueueBits::<Q>::new();
        let mut round = Round::new();
        // Pending chains that can be served again come first, since they are older.
        for at in 0..slots.len() {
            if left == 0 {
                break;
            }
            let Some(slot) = slots.get_mut(at) else {
                break;
            };
            round.keep(!slot.is_free());
            if !slot.take_again() {
                continue;
            }
            left = left.wrapping_sub(1);
            let queue = slot.queue();
            self.serve(at, queue, model, slots, &mut round);
        }
        while left != 0 {
            if let Some((at, queue)) = due(model, slots) {
                left = left.wrapping_sub(1);
                self.serve(at, queue, model, slots, &mut round);
                continue;
            }
            let Some(queue) = self.notified.next_from(self.next_queue, &blocked) else {
                break;
            };
            if self.is_suspending() {
                // suspend-10
                break;
            }
            if !model.can_serve(queue) {
                blocked.insert(queue);
                unready.insert(queue);
                continue;
            }
            let Some(at) = slots.iter().position(ChainSlot::is_free) else {
                for slot in slots.iter() {
                    model.drained(slot.queue());
                }
                if due(model, slots).is_some() {
                    continue;
                }
                blocked.add(&self.notified);
                break;
            };
            self.next_queue = queue.wrapping_add(1);
            if self.take_one(at, queue, model, slots, &mut round) {
                left = left.wrapping_sub(1);
            } else {
                model.drained(queue);
                blocked.insert(queue);
            }
        }
        self.notify_driver(&round.touched);
        if self.is_suspending() {
            return suspending_step(model, slots);
        }
        // A chain of one queue may let the model serve another queue.
        let again = unready.iter().any(|queue| model.can_serve(queue));
        if again || (Q > 1 && round.freed) || due(model, slots).is_some() {
            return Step::More;
        }
        self.finish_poll(&blocked, &round.touched, slots)
    }

    /// Moves kicks from the doorbell to `notified`. Kicks of taken queues stay in the doorbell for
    /// the queues' owners.
    fn drain_doorbell(&mut self) {
        let Self {
            shared,
            table,
            notified,
            stopping,
            ..
        } = self;
        shared.doorbell().drain_where(|queue| {
            let state = table.state(queue);
            if state == QueueState::Live && !(built::RING_RESET && stopping.contains(queue)) {
                notified.insert(queue);
            }
            state != QueueState::Taken
        });
    }

    /// Pops one chain of a queue into a free slot and serves it, or finds the queue empty. Returns
    /// false without a memory access if the free slots are reserved for other queues.
    fn take_one<D: DeviceModel>(
        &mut self,
        at: usize,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) -> bool {
        let Some(virtqueue) = self.table.virtqueue(queue) else {
            self.notified.remove(queue);
            return true;
        };
        // A slot remains for each queue that has no chain in hand.
        if round.is_shared()
            && slots.len() <= usize::from(self.reserved).wrapping_add(self.extra.into())
            && virtqueue.in_flight() != 0
            && (virtqueue.is_in_order() || model.may_keep(queue))
        {
            round.short = true;
            return false;
        }
        let Some(slot) = slots.get_mut(at) else {
            return true;
        };
        match virtqueue.pop(&self.mem, slot.chain_mut()) {
            Popped::Chain => {
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
                });
                self.serve(at, queue, model, slots, round);
            }
            Popped::Empty => match virtqueue.enable_kicks() {
                Ok(true) => {}
                Ok(false) => {
                    self.notified.remove(queue);
                    model.drained(queue);
                }
                Err(fault) => self.fault(queue, fault, model, slots, round),
            },
            Popped::Broken if self.policy.rejects() && virtqueue.reject(slot.chain_mut()) => {
                let head = slot.chain().head();
                if let Some(fault) = slot.chain_mut().take_fault() {
                    self.rejected(queue, fault);
                }
                self.given(queue, head, 0, round);
            }
            Popped::Broken | Popped::Fault => {
                if let Some(fault) = slot.chain_mut().take_fault() {
                    self.fault(queue, fault, model, slots, round);
                }
            }
        }
        true
    }

    /// Lets the model serve the chain in a slot, and gives the chain back if the model has
    /// answered.
    fn serve<D: DeviceModel>(
        &mut self,
        at: usize,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        let Some(slot) = slots.get_mut(at) else {
            return;
        };
        let chain = slot.chain();
        let (head, token) = (chain.head(), slot.token(at));
        let mut request = Request {
            queue,
            token,
            head,
            readable: chain.readable(&self.mem),
            writable: chain.writable(&self.mem),
            fault: None,
        };
        let mut answer = model.serve(&mut request);
        let mut host = request.fault;
        if let Err(fault) = answer
            && self.policy.rejects()
        {
            self.rejected(queue, fault);
            answer = Ok(Answer::Done { written: 0 });
        }
        match answer {
            Ok(Answer::Done { written }) => {
                host = self.settle(at, queue, written, slots, round).or(host);
            }
            Ok(Answer::Pending) => {
                round.keep(true);
                self.trace.event(&Event::Pending { queue, token });
            }
            Err(fault) => self.fault(queue, fault, model, slots, round),
        }
        if let Some(fault) = host {
            self.host_failed(fault);
        }
    }

    /// Gives the chain in a slot back with the length that the model states, or keeps the answer
    /// until the chain's turn (IN_ORDER).
    #[inline(always)]
    fn settle(
        &mut self,
        at: usize,
        queue: u16,
        written: u32,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) -> Option<HostFault> {
        let slot = slots.get_mut(at)?;
        let (head, writable) = (slot.chain().head(), slot.chain().writable_len());
        let mut host = None;
        let written = if u64::from(written) > writable {
            // `writable` is less than `written`, so it fits in 32 bits.
            let writable = num::low(writable);
            host = Some(HostFault::WrittenTooMuch { written, writable });
            0
        } else {
            written
        };
        let virtqueue = self.table.virtqueue(queue);
        if virtqueue
            .as_ref()
            .is_some_and(|virtqueue| virtqueue.is_in_order())
        {
            slot.answer(written);
            self.give_in_order(queue, slots, round);
            round.keep(slots.get(at).is_some_and(|slot| !slot.is_free()));
        } else {
            let given =
                virtqueue.is_some_and(|virtqueue| virtqueue.push_used(slot.chain(), written));
            slot.release();
            self.slot_freed(queue, round);
            if given {
                self.given(queue, head, written, round);
            }
        }
        host
    }

    /// Gives back the answered chains of a queue whose turn has come (rsvd-05): at most one chain
    /// for each slot.
    #[inline(never)]
    fn give_in_order(&mut self, queue: u16, slots: &mut [ChainSlot<N>], round: &mut Round<Q>) {
        loop {
            let Some(virtqueue) = self.table.virtqueue(queue) else {
                return;
            };
            let next = slots.iter_mut().find_map(|slot| {
                let there = slot.is_of(queue) && virtqueue.is_next(slot.chain());
                Some((slot.answered().filter(|_| there)?, slot))
            });
            let Some((written, slot)) = next else {
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
    fn slot_freed(&mut self, queue: u16, round: &mut Round<Q>) {
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
    fn rejected(&mut self, queue: u16, fault: DriverFault) {
        self.counters.rejected = self.counters.rejected.wrapping_add(1);
        self.table.chain_rejected(queue, fault);
        self.trace.event(&Event::DriverFault { queue, fault });
    }

    /// Records that a chain was given back.
    #[inline(always)]
    fn given(&mut self, queue: u16, head: u16, written: u32, round: &mut Round<Q>) {
        self.counters.chains = self.counters.chains.wrapping_add(1);
        round.touched.insert(queue);
        self.trace.event(&Event::Used {
            queue,
            head,
            written,
        });
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
    fn notify_driver(&mut self, touched: &QueueBits<Q>) {
        let mut wanted = false;
        for queue in touched.iter() {
            if let Some(virtqueue) = self.table.virtqueue(queue) {
                if virtqueue.needs_interrupt() {
                    wanted = true;
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
    fn finish_poll(
        &mut self,
        blocked: &QueueBits<Q>,
        touched: &QueueBits<Q>,
        slots: &[ChainSlot<N>],
    ) -> Step {
        if self.notified.next_from(0, blocked).is_some() {
            for queue in touched.iter() {
                if self.notified.contains(queue)
                    && !blocked.contains(queue)
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

    /// Serves a pending chain again, because its back end has finished with the chain.
    ///
    /// The call serves the chain at once, and notifies the driver if the model answers. If the
    /// device is suspended, the first poll after it resumes serves the chain.
    ///
    /// Worst case: four ring accesses; with IN_ORDER two more for each chain that waited for this
    /// chain, for at most as many chains as there are slots.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not pending: it was answered, its queue was stopped
    /// or reset, or the driver set FAILED.
    pub fn complete<D: DeviceModel>(
        &mut self,
        token: Token,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let suspended = self.is_suspended();
        let (at, queue) = self.pending(token, slots)?;
        if suspended {
            // The first poll after the resume serves the chain.
            if let Some(slot) = slots.get_mut(at) {
                slot.again();
            }
            return Ok(());
        }
        let mut round = Round::kept();
        self.serve(at, queue, model, slots, &mut round);
        self.notify_driver(&round.touched);
        Ok(())
    }

    /// Answers a pending chain without asking the model. The chain's first `written`
    /// device-writable bytes hold the answer. Use this method for a back end that stores the answer
    /// itself, such as a host thread or a DMA controller.
    ///
    /// The model is not told of the answer, so it must not keep state for this token. If `written`
    /// is larger than the chain's writable length, the chain is given back with 0 bytes and
    /// [`HostFault::WrittenTooMuch`] is recorded. Worst case: the ring accesses of
    /// [`complete`](Self::complete).
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] as for [`complete`](Self::complete). [`Refusal::WrongPhase`] while
    /// the device is suspended: the chain stays pending, so answer it after the device has resumed.
    pub fn complete_with(
        &mut self,
        token: Token,
        written: u32,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let (at, queue) = self.pending(token, slots)?;
        if self.is_suspended() {
            return Err(Refusal::WrongPhase);
        }
        let mut round = Round::kept();
        if let Some(fault) = self.settle(at, queue, written, slots, &mut round) {
            self.host_failed(fault);
        }
        self.notify_driver(&round.touched);
        Ok(())
    }

    /// Returns the slot and the queue of a pending chain.
    fn pending(&self, token: Token, slots: &[ChainSlot<N>]) -> Result<(usize, u16), Refusal> {
        let at = usize::from(token.slot());
        match slots.get(at) {
            Some(slot) if self.shared.is_live() && slot.is_pending() && slot.token(at) == token => {
                Ok((at, slot.queue()))
            }
            _ => Err(Refusal::StaleToken),
        }
    }
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
fn due<D: DeviceModel, const N: usize>(model: &D, slots: &[ChainSlot<N>]) -> Option<(usize, u16)> {
    let token = model.due()?;
    let at = usize::from(token.slot());
    let slot = slots.get(at)?;
    (slot.is_pending() && slot.token(at) == token).then(|| (at, slot.queue()))
}

//! Serving the queues: which chain is next, what the model makes of it, and who hears of it.

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

/// What a poll has done so far.
struct Round<const Q: usize> {
    /// Queues that chains were given back to.
    touched: QueueBits<Q>,
    /// Chains of earlier requests are in hand, or were.
    kept: bool,
    /// A queue found no slot that it may take,
    short: bool,
    /// and a slot has come free since.
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

    /// For a chain that was kept.
    fn kept() -> Self {
        let mut round = Self::new();
        round.keep(true);
        round
    }

    /// Whether the queues may be in the way of each other. Never, if there is one.
    #[inline(always)]
    fn is_shared(&self) -> bool {
        Q > 1 && self.kept
    }

    /// A slot was looked at, which may be in use.
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
    /// Serves up to `budget` chains or looks into as many empty queues, round-robin, one chain of
    /// each in turn; interrupts are sent at the end.
    ///
    /// At most `budget * (N + 5) + 2 * min(budget, Q)` ring accesses, and `budget * (N + 1)`
    /// descriptors of indirect tables, beside what the model reads and writes in buffers. With
    /// IN_ORDER two more ring accesses for each chain that was answered before and has its turn now,
    /// at most one for each slot. The first
    /// poll after the driver went live by a [`ReadyResponder`](crate::ReadyResponder) stores once to
    /// each ready queue's used ring, too.
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
        // Chains that were pending and may be served now come first: they are older.
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
            let Some(queue) = self.notified.next_from(self.turn, &blocked) else {
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
            self.turn = queue.wrapping_add(1);
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
        // What one queue brought may be what another one waits for.
        let again = unready.iter().any(|queue| model.can_serve(queue));
        if again || (Q > 1 && round.freed) || due(model, slots).is_some() {
            return Step::More;
        }
        self.finish_poll(&blocked, &round.touched, slots)
    }

    /// Takes the kicks of the queues that are here. Those of taken queues are not ours to hear.
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

    /// Pops one chain of a queue into a free slot and serves it, or finds the queue empty. False, and
    /// nothing is done, if the slot is kept for another queue.
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
        // Each queue that has no chain in hand has to find a slot afterwards.
        if round.is_shared()
            && slots.len() <= usize::from(self.claims).wrapping_add(self.extra.into())
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
            Popped::Broken if self.policy.refuses() && virtqueue.reject(slot.chain_mut()) => {
                let head = slot.chain().head();
                if let Some(fault) = slot.chain_mut().take_fault() {
                    self.refused(queue, fault);
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

    /// Lets the model serve the chain in a slot, and gives it back if it is done.
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
            && self.policy.refuses()
        {
            self.refused(queue, fault);
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
            self.failed(fault);
        }
    }

    /// The chain in a slot is answered, with `written` bytes by the model's account: gives it back, or
    /// keeps it until its turn.
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
            // Less than `written`, so none of it is cut off.
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
            self.let_go(queue, round);
            if given {
                self.given(queue, head, written, round);
            }
        }
        host
    }

    /// Gives back the chains of a queue whose turn it is (rsvd-05). At most one for each slot.
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
            self.let_go(queue, round);
            if given {
                self.given(queue, head, written, round);
            }
        }
    }

    /// The slot of a chain came free.
    #[inline(always)]
    fn let_go(&mut self, queue: u16, round: &mut Round<Q>) {
        if round.is_shared() {
            self.count_out(queue, round);
        }
    }

    #[inline(never)]
    fn count_out(&mut self, queue: u16, round: &mut Round<Q>) {
        round.freed |= round.short;
        if self
            .table
            .virtqueue(queue)
            .is_some_and(|virtqueue| virtqueue.in_flight() != 0)
        {
            self.extra = self.extra.saturating_sub(1);
        }
    }

    /// A chain is given back for what the driver did wrong.
    fn refused(&mut self, queue: u16, fault: DriverFault) {
        self.counters.refused = self.counters.refused.wrapping_add(1);
        self.table.refused(queue, fault);
        self.trace.event(&Event::DriverFault { queue, fault });
    }

    /// A chain was given back.
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

    /// The driver broke the protocol of a queue.
    #[cold]
    fn fault<D: DeviceModel>(
        &mut self,
        queue: u16,
        fault: DriverFault,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        // What it gave back before is announced still (split-usedsup-03): it is not asked again.
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

    /// One interrupt for all that was given back, if any of the queues' drivers wants it.
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

    /// How a poll ends: kicks are not needed for queues that will be looked at anyway.
    /// (Of those, the ones that gave something back now: no poll pays for more than its budget.)
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

    /// Serves a pending chain again, now that its back end is done with it.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not pending: it was answered, its queue was stopped
    /// or reset, or the driver gave the device up.
    ///
    /// While the device is suspended it is served no earlier than in the first poll after it resumed.
    ///
    /// At most four ring accesses; with IN_ORDER two more for each chain that waited for this one, at
    /// most one for each slot.
    pub fn complete<D: DeviceModel>(
        &mut self,
        token: Token,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let suspended = self.is_suspended();
        let (at, queue) = self.pending(token, slots)?;
        if suspended {
            // Its time comes when the driver resumes.
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

    /// Answers a pending chain: its first `written` device-writable bytes hold the answer. For a back
    /// end that stored them itself, such as a thread of the host or a DMA controller.
    ///
    /// The model is not asked, so it must not wait for this token itself. More than the chain's
    /// writable length counts as 0, and is a
    /// [`HostFault::WrittenTooMuch`].
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] as for [`complete`](Self::complete). [`Refusal::WrongPhase`] while the
    /// device is suspended: the chain stays pending, so answer it after the device has resumed.
    ///
    /// Ring accesses as for [`complete`](Self::complete).
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
            self.failed(fault);
        }
        self.notify_driver(&round.touched);
        Ok(())
    }

    /// The slot of a pending chain, and its queue.
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

/// How a poll ends that takes no chains.
fn suspending_step<D: DeviceModel, const N: usize>(model: &D, slots: &[ChainSlot<N>]) -> Step {
    if slots.iter().any(ChainSlot::wants_again) || due(model, slots).is_some() {
        Step::More
    } else if slots.iter().any(|slot| !slot.is_free()) {
        Step::Blocked
    } else {
        Step::Idle
    }
}

/// The slot of the pending chain that the model wants served again, and its queue.
fn due<D: DeviceModel, const N: usize>(model: &D, slots: &[ChainSlot<N>]) -> Option<(usize, u16)> {
    let token = model.due()?;
    let at = usize::from(token.slot());
    let slot = slots.get(at)?;
    (slot.is_pending() && slot.token(at) == token).then(|| (at, slot.queue()))
}

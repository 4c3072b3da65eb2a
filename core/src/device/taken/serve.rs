//! Serving a taken queue with a model.

use super::{Stop, TakenQueue};
use crate::{
    device::{
        ChainSlot, Step,
        serve::{due, limited, next_answered},
    },
    error::{HostFault, Refusal},
    interrupt::DriverNotify,
    memory::{DriverMem, RingWindow},
    model::{Answer, DeviceModel, Token},
    shared::SharedHandle,
};

impl<W, I, H, const Q: usize, const N: usize> TakenQueue<W, I, Q, N, H>
where
    W: RingWindow,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    /// Serves up to `budget` chains with a model, as [`Device::poll`](crate::Device::poll) does,
    /// and notifies the driver at the end.
    ///
    /// The model is this owner's own: a clone of the device's model, with a back end that may be
    /// used by several owners at once. The model has seen
    /// [`negotiate`](crate::DeviceConfig::negotiate) before it was cloned. The slots are this
    /// owner's own, too; one is enough for a model that always answers at once. If the queue is
    /// taken again, use the same slots again: fresh slots do not recognise the tokens of old ones.
    ///
    /// [`Step`] is what it is for a device. Before the owner sleeps, it needs a call that returned
    /// [`Step::Idle`] or [`Step::Blocked`].
    ///
    /// Worst case: `budget * (N + 5) + 2` ring accesses, `budget * (N + 1)` descriptors of indirect
    /// tables, and the buffer accesses of the model; with IN_ORDER two more ring accesses for each
    /// slot.
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, DeviceModel, DriverMem, DriverNotify, Step, device::{Stop, TakenQueue},
    /// };
    /// /// The thread of one queue. Returns when the device wants the queue back.
    /// fn run<M: DriverMem, I: DriverNotify, D: DeviceModel>(
    ///     mut queue: TakenQueue<M::Window, I>,
    ///     memory: &M,
    ///     mut model: D,
    ///     wait: impl Fn(),
    /// ) -> TakenQueue<M::Window, I> {
    ///     let mut slots = [const { ChainSlot::new() }; 4];
    ///     loop {
    ///         match queue.serve(memory, &mut model, &mut slots, 64) {
    ///             Ok(Step::More) => {}
    ///             Ok(Step::Idle | Step::Blocked) => wait(),
    ///             // Chains in hand are still to be answered, unless they wait for an event.
    ///             Err(Stop::Asked) if queue.in_flight() != 0 && !model.may_sleep(0) => wait(),
    ///             Err(_) => break,
    ///         }
    ///     }
    ///     queue.discard(&mut model, &mut slots);
    ///     queue
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Stop::Asked`] and [`Stop::Driver`]. After `Asked`, call `serve` again until
    /// [`in_flight`](Self::in_flight) is 0: pending chains are still answered. After `Driver` the
    /// chains in hand are discarded. A rejected chain is no error here; see
    /// [`rejections`](Self::rejections).
    pub fn serve<M: DriverMem<Window = W>, D: DeviceModel>(
        &mut self,
        mem: &M,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        budget: u16,
    ) -> Result<Step, Stop> {
        if self.quiet.told {
            // The driver's memory must not be touched again.
            self.discard(model, slots);
            return Err(Stop::Asked);
        }
        let step = self.work(mem, model, slots, budget);
        if let Err(Stop::Driver(_)) = step {
            self.discard(model, slots);
        } else if !self.quiet.told {
            self.flush();
        }
        step
    }

    /// Abandons every chain in hand, and tells the model that the queue has stopped. Call this
    /// after [`Stop::Asked`] for chains that would wait for an event, such as buffers of an event
    /// queue. See [`abandon_all`](Self::abandon_all).
    pub fn discard<D: DeviceModel>(&mut self, model: &mut D, slots: &mut [ChainSlot<N>]) {
        let queue = self.number();
        let mut any = false;
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.release();
            any = true;
        }
        if any {
            model.queue_stopped(queue);
        }
        self.abandon_all();
    }

    fn work<M: DriverMem<Window = W>, D: DeviceModel>(
        &mut self,
        mem: &M,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
        budget: u16,
    ) -> Result<Step, Stop> {
        let queue = self.number();
        let mut left = budget;
        // Pending chains come first, since they are older.
        for at in 0..slots.len() {
            let again = |slot: &mut ChainSlot<N>| slot.is_of(queue) && slot.take_again();
            if left != 0 && slots.get_mut(at).is_some_and(again) {
                left = left.wrapping_sub(1);
                self.ask(at, mem, model, slots)?;
            }
        }
        while left != 0 {
            left = left.wrapping_sub(1);
            if let Some(at) = due_in(queue, model, slots) {
                self.ask(at, mem, model, slots)?;
                continue;
            }
            if self.is_stopped() {
                model.drained(queue);
                if due_in(queue, model, slots).is_some() {
                    continue;
                }
                // Makes the queue quiet, if no chain is in hand.
                return self.enable_kicks().map(|_| Step::More);
            }
            if !model.can_serve(queue) {
                return Ok(Step::Blocked);
            }
            let free = slots.iter().position(ChainSlot::is_free);
            let Some((at, slot)) = free.and_then(|at| Some((at, slots.get_mut(at)?))) else {
                model.drained(queue);
                if due_in(queue, model, slots).is_some() {
                    continue;
                }
                return Ok(Step::Blocked);
            };
            match self.pop(mem, slot.chain_mut()) {
                Ok(true) => {
                    slot.occupy(queue);
                    self.ask(at, mem, model, slots)?;
                }
                Ok(false) if self.enable_kicks()? => {}
                Ok(false) => {
                    model.drained(queue);
                    return Ok(if due_in(queue, model, slots).is_some() {
                        Step::More
                    } else if slots.iter().all(ChainSlot::is_free) {
                        Step::Idle
                    } else {
                        Step::Blocked
                    });
                }
                Err(Stop::Rejected(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(Step::More)
    }

    /// Lets the model serve the chain in a slot, and gives the chain back if the model has
    /// answered.
    fn ask<M: DriverMem<Window = W>, D: DeviceModel>(
        &mut self,
        at: usize,
        mem: &M,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Stop> {
        let Some(slot) = slots.get_mut(at) else {
            return Ok(());
        };
        let (answer, host) = slot.ask(at, self.number(), mem, model);
        self.host_fault = host.or(self.host_fault);
        let written = match answer {
            Ok(Answer::Pending) => return Ok(()),
            Ok(Answer::Done { written }) => written,
            Err(fault) if self.policy.rejects() => {
                self.count_rejected(fault);
                0
            }
            Err(fault) => return Err(self.fault(fault)),
        };
        self.settle(at, written, slots);
        Ok(())
    }

    /// Gives the chain in a slot back with the length that the model states, or keeps the answer
    /// until the chain's turn (IN_ORDER).
    fn settle(&mut self, at: usize, written: u32, slots: &mut [ChainSlot<N>]) {
        let Some(slot) = slots.get_mut(at) else {
            return;
        };
        let written = limited(written, slot.chain()).unwrap_or_else(|fault| {
            self.host_fault = Some(fault);
            0
        });
        if self.queue.is_in_order() {
            slot.answer(written);
            let (number, queue) = (self.quiet.number, &mut self.queue);
            while let Some((written, slot)) = next_answered(number, queue, slots) {
                queue.push_in_order(slot.chain(), written);
                slot.release();
            }
        } else {
            self.queue.push_used(slot.chain(), written);
            slot.release();
        }
        if self.watched == u16::MAX {
            self.stop();
        }
    }

    /// Makes the next [`serve`](Self::serve) serve every pending chain again, because the back end
    /// has data or room. A model that knows which chain can be answered returns it from
    /// [`due`](DeviceModel::due) instead.
    pub fn backend_ready(&self, slots: &mut [ChainSlot<N>]) {
        let queue = self.number();
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.again();
        }
    }

    /// Answers a pending chain without asking the model. The chain's first `written`
    /// device-writable bytes hold the answer. The driver is notified by the next
    /// [`serve`](Self::serve), or by [`flush`](Self::flush).
    ///
    /// Worst case: two ring accesses; with IN_ORDER two more for each slot.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not pending, or if the queue is quiet.
    pub fn complete_with(
        &mut self,
        token: Token,
        written: u32,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let at = usize::from(token.slot());
        let is_it = |slot: &ChainSlot<N>| slot.is_of(self.number()) && slot.holds(token);
        if self.quiet.told || !slots.get(at).is_some_and(is_it) {
            return Err(Refusal::StaleToken);
        }
        self.settle(at, written, slots);
        Ok(())
    }

    /// Takes the most recent failure of the host's side. The device takes over what is left when
    /// the queue is put back.
    pub const fn take_host_fault(&mut self) -> Option<HostFault> {
        self.host_fault.take()
    }
}

/// Returns the slot of the pending chain of this queue that the model wants to serve again.
fn due_in<D: DeviceModel, const N: usize>(
    queue: u16,
    model: &D,
    slots: &[ChainSlot<N>],
) -> Option<usize> {
    due(model, slots)
        .filter(|(_, its)| *its == queue)
        .map(|(at, _)| at)
}

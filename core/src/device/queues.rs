//! Operations on one queue: moving it out and back, stopping it, setting it up again, and
//! translating its rings again.

use super::serve::host_failed;
use super::{Device, PutBackError, QueueTable, TakenQueue};
use crate::{
    device::{ChainSlot, QueueState},
    error::{DeviceError, DriverFault, HostFault, Refusal},
    features::built,
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{QueueConfig, RingPosition},
    model::DeviceModel,
    queue::check::QueueCheck,
    shared::SharedHandle,
    trace::{Event, Trace},
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Moves a queue out, so that another thread, core or handler can serve it.
    ///
    /// The call rings the queue's doorbell: the owner pops until the queue is empty and calls
    /// [`enable_kicks`](TakenQueue::enable_kicks) before it sleeps.
    ///
    /// # Errors
    /// * [`Refusal::NotNegotiated`] after [`without_take_queue`](Self::without_take_queue).
    /// * [`Refusal::WrongPhase`] before the driver is live, and while the device is suspended or
    ///   being suspended.
    /// * [`Refusal::QueueBusy`] while chains of the queue are in hand.
    /// * [`Refusal::QueueTaken`] if the queue is already taken.
    /// * [`Refusal::QueueNotReady`] if the queue is not live, while the driver stops it, or while the
    ///   host keeps it quiet.
    /// * [`Refusal::NoSuchQueue`] if the number is not below `Q`.
    #[allow(clippy::type_complexity, reason = "a queue of this device")]
    pub fn take_queue(&mut self, queue: u16) -> Result<TakenQueue<M::Window, I, Q, N, H>, Refusal>
    where
        I: Clone,
    {
        if !self.may_take {
            return Err(Refusal::NotNegotiated);
        }
        if !self.start_if_live() || self.is_suspending() {
            return Err(Refusal::WrongPhase);
        }
        if self.is_stopping(queue) {
            return Err(Refusal::QueueNotReady { queue });
        }
        let (virtqueue, generation) = self.table.take(queue)?;
        self.notified.remove(queue);
        // The kicks that came before are now the owner's.
        self.shared.ring(queue);
        Ok(TakenQueue::new(
            virtqueue,
            queue,
            (self.shared.epoch(), generation),
            self.policy,
            self.shared.clone(),
            self.notify.clone(),
        ))
    }

    /// Moves a taken queue back in. The queue counts as kicked.
    ///
    /// Worst case: three translations and the accesses of [`flush`](TakenQueue::flush), which are
    /// one load or, with IN_ORDER, one load and two stores.
    ///
    /// # Errors
    /// [`PutBackError::Returned`] with the queue while chains of it are in flight, or if it was
    /// taken from another device. [`PutBackError::Discarded`] if the queue cannot serve any more.
    #[allow(clippy::type_complexity, reason = "a queue of this device")]
    pub fn put_back(
        &mut self,
        mut taken: TakenQueue<M::Window, I, Q, N, H>,
    ) -> Result<(), PutBackError<TakenQueue<M::Window, I, Q, N, H>>> {
        if taken.in_flight() != 0 || !taken.shares(&self.shared) {
            return Err(PutBackError::Returned(taken));
        }
        let (rejected, last) = taken.rejections();
        self.counters.rejected = self.counters.rejected.wrapping_add(rejected);
        if let Some(fault) = taken.take_host_fault() {
            host_failed(&mut self.host_fault, &mut self.trace, fault);
        }
        let (virtqueue, queue, (epoch, generation)) = taken.dissolve();
        if epoch != self.shared.epoch() {
            return Err(PutBackError::Discarded);
        }
        if let Some(fault) = last
            && self.table.is_out(queue, generation)
        {
            self.table.chain_rejected(queue, fault);
        }
        let virtqueue = match virtqueue {
            Ok(virtqueue) => virtqueue,
            Err(fault) => {
                if self.table.is_out(queue, generation) {
                    self.table.stop_with(queue, Some(fault));
                    self.trace.event(&Event::DriverFault { queue, fault });
                    self.broke_protocol();
                }
                return Err(PutBackError::Discarded);
            }
        };
        let stuck = virtqueue.is_stuck();
        self.table
            .put_back(queue, generation, virtqueue)
            .map_err(|_| PutBackError::Discarded)?;
        if stuck {
            self.table.stop_with(queue, None);
            if !self.is_stopping(queue) {
                self.needs_reset();
            }
            return Err(PutBackError::Discarded);
        }
        // The memory may have changed while the queue was out.
        if self.table.translate_one(queue, &self.mem) {
            self.mark_notified(queue);
        } else {
            self.ring_gone(queue);
        }
        Ok(())
    }

    /// Translates every ring again after the memory has changed. Returns [`Quiesce::Done`] when no
    /// queue works on the old memory.
    ///
    /// A queue whose ring is no longer mapped stops, and DEVICE_NEEDS_RESET is set. A taken queue
    /// is asked to stop, and gets its new translation when it is put back. The call returns
    /// [`Quiesce::Pending`] until every taken queue is quiet.
    ///
    /// Make the first call directly after the change, before any other call of the device. Worst
    /// case: three translations for each queue.
    pub fn memory_changed<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Quiesce {
        let quiet = self.shared.stop_all();
        for queue in self.table.translate_again(&self.mem) {
            self.ring_gone(queue);
            self.discard_pending(queue, model, slots);
        }
        quiet.into()
    }

    fn ring_gone(&mut self, queue: u16) {
        host_failed(
            &mut self.host_fault,
            &mut self.trace,
            HostFault::RingGone { queue },
        );
        self.table.stop_with(queue, None);
        self.needs_reset();
    }

    /// Stops a queue until reset, and discards its pending chains.
    pub(super) fn stop<D: DeviceModel>(
        &mut self,
        queue: u16,
        fault: Option<DriverFault>,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) {
        self.table.stop_with(queue, fault);
        self.discard_pending(queue, model, slots);
    }

    /// Stops a queue for the driver ([`Message::ResetQueue`](crate::Message)). Returns
    /// [`Quiesce::Done`] when the device will not touch the queue's memory again. Acknowledge the
    /// message then.
    ///
    /// If the queue is taken, its owner is asked to stop, and the call returns
    /// [`Quiesce::Pending`] until the queue is quiet. Chains in hand are discarded. To let them
    /// finish, and to know where the queue was, call [`quiesce`](Self::quiesce) before.
    pub fn stop_queue<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Quiesce {
        let quiet = self.shared.stop(queue);
        if quiet {
            if built::RING_RESET {
                self.stopping.remove(queue);
            }
            self.quiesced.remove(queue);
            self.table.remove(queue);
            self.discard_pending(queue, model, slots);
            self.trace.event(&Event::QueueStopped { queue });
        } else if built::RING_RESET {
            // A queue that is put back now serves nothing more.
            let _ = self.stopping.insert(queue);
        }
        quiet.into()
    }

    /// Keeps a queue quiet for the host: the device takes no more chains of it, and finishes the
    /// chains in hand. Returns [`Quiesce::Done`] when no chain is in hand.
    ///
    /// Until then the call returns [`Quiesce::Pending`]: call it again after `poll` or `complete`.
    /// If the queue is taken, its owner is asked to stop. A chain that a model keeps until
    /// something happens, such as a buffer for an event, stays in hand until the model answers it;
    /// [`stop_queue`](Self::stop_queue) discards it.
    ///
    /// A quiet queue stays configured, and the driver sees no difference to a slow device. Put a
    /// taken queue back first. The host can then read its
    /// [`ring_position`](Self::ring_position), and go on with
    /// [`resume_queue`](Self::resume_queue), stop the queue, or save the device. Before the driver
    /// is live, no queue is served, and the call has no effect.
    ///
    /// Worst case: one step for each slot. The driver's memory is not accessed.
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, Device, DeviceModel, DriverMem, DriverNotify, message::RingPosition,
    /// };
    /// /// The front end of a vhost-user device asks for the position of a queue (GET_VRING_BASE).
    /// /// Returns `None` while chains are in hand; call again after the next poll.
    /// fn position<D: DeviceModel, M: DriverMem, I: DriverNotify>(
    ///     device: &mut Device<M, I>,
    ///     model: &mut D,
    ///     slots: &mut [ChainSlot<16>],
    /// ) -> Option<RingPosition> {
    ///     if !device.quiesce(0, model, slots).is_done() {
    ///         return None;
    ///     }
    ///     let position = device.ring_position(0);
    ///     let _ = device.stop_queue(0, model, slots);
    ///     position
    /// }
    /// ```
    pub fn quiesce<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Quiesce {
        let live = self.start_if_live();
        let mut done = self.shared.stop(queue);
        if live
            && matches!(
                self.table.state(queue),
                QueueState::Live | QueueState::Taken
            )
        {
            // The set has room for every queue of the table.
            let _ = self.quiesced.insert(queue);
            self.notified.remove(queue);
        }
        if slots.iter().any(|slot| slot.is_of(queue)) {
            model.drained(queue);
            done = false;
        }
        done.into()
    }

    /// Serves a queue again that [`quiesce`](Self::quiesce) has kept quiet. The queue counts as
    /// kicked. A taken queue stays asked to stop: put it back, and take it again.
    pub fn resume_queue(&mut self, queue: u16) {
        if self.quiesced.remove(queue) {
            self.mark_notified(queue);
        }
    }

    /// Returns the positions of a queue in its rings, for
    /// [`enable_queue_at`](Self::enable_queue_at). Returns `None` if the queue is taken, has failed,
    /// or was set up without positions before the driver is live.
    ///
    /// The positions are those of the next chain only if no chain is in hand; see
    /// [`quiesce`](Self::quiesce).
    #[must_use]
    pub fn ring_position(&self, queue: u16) -> Option<RingPosition> {
        self.table.position(queue)
    }

    /// Sets up a queue of a live device again, after a queue reset
    /// ([`Message::ConfigureQueue`](crate::Message)).
    ///
    /// The device checks the queue as before DRIVER_OK, and serves the queue at once. `max` is the
    /// largest size that is allowed, in elements. `queue_check` is called for every configured
    /// queue, as when the driver goes live.
    ///
    /// Worst case: three translations, `9 * Q` comparisons, `Q + 1` calls of `queue_check` and one
    /// store to the device area.
    ///
    /// # Errors
    /// Nothing changes on an error.
    ///
    /// * The error of `queue_check`, if it refuses this queue.
    /// * [`DeviceError::Refused`] with the refusal, if another check fails. If `queue_check`
    ///   refuses another queue beside this one, the refusal names the other queue.
    /// * [`Refusal::WrongPhase`] if the device is not live, or is suspended or being suspended.
    pub fn enable_queue<C: QueueCheck + ?Sized>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        queue_check: &C,
    ) -> Result<(), DeviceError> {
        self.enable(config, max, queue_check, |table, epoch| {
            table.start(epoch);
            true
        })
    }

    /// Sets up a queue of a live device that starts in the middle of its rings, because another
    /// device has served it before. See [`enable_queue`](Self::enable_queue).
    ///
    /// The driver's memory is not accessed. Kicks and interrupts are as the driver left them: the
    /// first poll looks into the ring.
    ///
    /// ```
    /// use virtside::{
    ///     Configuring, DeviceBuilder, Features, Message, QueueConfig, Shared, memory::Ram,
    ///     message::RingPosition, setup::Progress,
    /// };
    /// static RAM: Ram<4096> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let builder = DeviceBuilder::new(&SHARED);
    /// let mut configuring = Configuring::<_, _, _>::new(builder, &.., RAM.flat(0));
    /// let Progress::Ready(mut device, responder) =
    ///     configuring.step(Message::Ready { features: Features::VERSION_1 })?
    /// else {
    ///     panic!("not ready");
    /// };
    /// responder.accept();
    /// let queue = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x200, device: 0x300 };
    /// device.enable_queue_at(&queue, &RingPosition::at(300, 300), 16, &..)?;
    /// assert_eq!(device.ring_position(0).map(|position| position.next_avail), Some(300));
    /// # Ok::<(), virtside::error::DeviceError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`enable_queue`](Self::enable_queue), and [`Refusal::BadPosition`] if the positions
    /// contradict each other or the size of the queue, or if they say that chains are in hand.
    pub fn enable_queue_at<C: QueueCheck + ?Sized>(
        &mut self,
        config: &QueueConfig,
        position: &RingPosition,
        max: u16,
        queue_check: &C,
    ) -> Result<(), DeviceError> {
        let queue = config.queue;
        self.enable(config, max, queue_check, |table, epoch| {
            table.start_at(queue, position, epoch)
        })
    }

    fn enable<C: QueueCheck + ?Sized>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        queue_check: &C,
        start: impl FnOnce(&mut QueueTable<M::Window, Q, N>, u32) -> bool,
    ) -> Result<(), DeviceError> {
        if !self.start_if_live() || self.is_suspending() {
            return Err(Refusal::WrongPhase.into());
        }
        let (table, features) = (&mut self.table, self.features);
        table.lay_out(config, max, features, &self.mem)?;
        let unwanted = table.first_unwanted(features, queue_check);
        // The set is checked when as many queues are back as the driver had at once. Otherwise two
        // queues that are reset at the same time could never return.
        let complete = table.configured().len() >= usize::from(self.reserved);
        if let Some(unwanted) = unwanted.filter(|one| complete || one.queue.is_some()) {
            table.remove(config.queue);
            return Err(if unwanted.queue == Some(config.queue) {
                unwanted.error
            } else {
                unwanted.refusal().into()
            });
        }
        if !start(&mut self.table, self.shared.epoch()) {
            self.table.remove(config.queue);
            let queue = config.queue;
            return Err(Refusal::BadPosition { queue }.into());
        }
        self.quiesced.remove(config.queue);
        self.reserve_slots();
        self.mark_notified(config.queue);
        self.trace.event(&Event::QueueReady { config: *config });
        Ok(())
    }

    /// Discards the pending chains and kicks of a queue, and tells the model.
    fn discard_pending<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) {
        self.notified.remove(queue);
        let mut first = true;
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.release();
            if Q > 1 && !core::mem::take(&mut first) {
                self.extra = self.extra.saturating_sub(1);
            }
        }
        model.queue_stopped(queue);
    }

    /// Makes the next poll serve the pending chains of a queue again, and look into the queue if
    /// the model can serve it. Call this method when the back end has data or room for the queue.
    pub fn backend_ready(&mut self, queue: u16, slots: &mut [ChainSlot<N>]) {
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.again();
        }
        self.mark_notified(queue);
    }

    /// Makes the next poll look into a queue, if the queue is live and neither taken nor stopping.
    pub(super) fn mark_notified(&mut self, queue: u16) {
        if self.table.state(queue) == QueueState::Live && !self.is_stopping(queue) {
            self.notified.insert(queue);
        }
    }

    /// Returns whether the driver stops the queue, or the host keeps it quiet.
    fn is_stopping(&self, queue: u16) -> bool {
        built::RING_RESET && self.stopping.contains(queue) || self.quiesced.contains(queue)
    }
}

/// Whether the device has stopped using memory that the driver takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "call again while it is pending"]
pub enum Quiesce {
    /// The device does not use the memory any more.
    Done,
    /// An owner of a taken queue still works, a [`ReadyResponder`](crate::ReadyResponder) is
    /// refusing, or, for [`suspend`](Device::suspend) and [`quiesce`](Device::quiesce), a chain is
    /// in hand. Call again later.
    Pending,
}

impl Quiesce {
    /// Returns whether the value is [`Done`](Self::Done).
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }
}

impl From<bool> for Quiesce {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::Pending }
    }
}

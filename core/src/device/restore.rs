//! Restoring a device from a plain value. Every part of the value is checked.

use super::Device;
use crate::{
    device::ChainSlot,
    error::Refusal,
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    message::RingPosition,
    model::{DeviceModel, Start},
    num,
    queue_set::{QueueBits, QueueSet},
    shared::{InterruptStatus, SharedHandle, StartAnswer},
    snapshot::{ChainSnapshot, DeviceSnapshot, QueueSnapshot, SnapshotError, Suspension},
    trace::Trace,
};

/// The transport of a device that is restored. It decides when ready queues are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreFrom {
    /// A conversation of messages: every ready queue has passed all checks.
    Messages,
    /// A register block: DRIVER_OK checks every ready queue again, so a queue that is ready before
    /// DRIVER_OK is checked only with the features that it was made ready with.
    Registers,
}

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Restores a state that [`save`](Self::save) returned.
    ///
    /// This device must have the same `Q` and `N` as the saved device. Its model must offer the
    /// same features and queues, and the driver's memory must have the same contents. Every value
    /// of the state is checked as if the driver had written it.
    ///
    /// To restore a device of messages, first build it without queues: send
    /// [`Message::Ready`](crate::Message) to a new [`Configuring`](crate::Configuring). After the
    /// restore of a live state, the responder of that conversation has no effect; drop it.
    ///
    /// The caller tells the model the features ([`negotiate`](crate::DeviceConfig::negotiate))
    /// before the call. If the state is live, `restore` calls [`ready`](DeviceModel::ready), and
    /// any answer other than [`Start::Refuse`] starts the device. Every queue counts as kicked.
    ///
    /// Pending interrupts are raised again. A suspended device raises them when it resumes or when
    /// its driver sets FAILED (suspend-03; see the table of [`DriverNotify`]). Until then a level
    /// line stays low even if [`interrupt_status`](crate::Shared::interrupt_status) is not empty;
    /// the host may raise the line itself.
    ///
    /// Worst case: for each queue three translations, `9 * Q` comparisons and one call of the
    /// model's [`queue_check`](DeviceModel::queue_check); for each segment of a chain one
    /// translation. The driver's memory is not accessed.
    ///
    /// # Errors
    /// [`SnapshotError`]. The device is then in reset, and a device of messages must be built anew.
    /// After [`SnapshotError::NotInReset`] the device is unchanged.
    pub fn restore<D: DeviceModel, const P: usize>(
        &mut self,
        snapshot: &DeviceSnapshot<Q, N, P>,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), SnapshotError> {
        if !self.is_fresh(slots) {
            return Err(SnapshotError::NotInReset);
        }
        let features = Features::from_halves(snapshot.features);
        let restored = self.try_restore(snapshot, features, RestoreFrom::Messages, model, slots);
        if restored.is_err() {
            self.reset(slots);
            model.reset();
        }
        restored
    }

    /// Returns whether the device is in reset: no queue, no chain, no answer to DRIVER_OK.
    pub(crate) fn is_fresh(&self, slots: &[ChainSlot<N>]) -> bool {
        !self.started
            && self.table.configured().is_empty()
            && self.shared.answer() == StartAnswer::Waiting
            && !self.shared.is_refusing()
            && slots.iter().all(ChainSlot::is_free)
    }

    /// Restores a fresh device. `known` are the features that the driver has accepted so far.
    ///
    /// # Errors
    /// [`SnapshotError`]. The caller must reset the device then.
    pub(crate) fn try_restore<D: DeviceModel, const P: usize>(
        &mut self,
        snapshot: &DeviceSnapshot<Q, N, P>,
        known: Features,
        from: RestoreFrom,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), SnapshotError> {
        snapshot.check_version()?;
        let live = snapshot.live;
        let interrupt = check_status(snapshot)?;
        // The transport has checked the features that a register block accepted so far.
        if live || from == RestoreFrom::Messages && !is_blank(snapshot) {
            check_features(snapshot, model)?;
        }
        for saved in &snapshot.queues {
            self.lay_out_again(saved, live, known, from, model)?;
        }
        if live || from == RestoreFrom::Messages {
            self.check_queue_set(known, model)?;
        }
        let features = Features::from_halves(snapshot.features);
        if live {
            if model.ready(features, self.table.queues()) == Start::Refuse {
                return Err(SnapshotError::Features);
            }
            self.start_queues_at(snapshot)?;
        }
        self.restore_chains(snapshot, slots)?;
        let live_queues = self.check_chains()?;

        self.features = features;
        self.changed = snapshot.config_changed;
        self.suspension = snapshot.suspension;
        if live {
            self.started = true;
            self.notified = QueueBits::of(live_queues);
            self.reserve_slots();
            let epoch = self.shared.epoch();
            if !self.shared.accept(epoch) {
                return Err(SnapshotError::NotInReset);
            }
        }
        if snapshot.needs_reset {
            self.shared.fail(false, &self.notify);
        }
        if self.is_suspended() {
            // suspend-03
            self.shared.hold(interrupt);
        } else if !interrupt.is_empty() {
            self.shared.used_anywhere(interrupt, &self.notify);
            self.interrupt(interrupt);
        }
        Ok(())
    }

    /// Makes a saved queue ready, or marks it stopped if it was.
    fn lay_out_again<D: DeviceModel>(
        &mut self,
        saved: &QueueSnapshot,
        live: bool,
        known: Features,
        from: RestoreFrom,
        model: &D,
    ) -> Result<(), SnapshotError> {
        let QueueSnapshot { config, ring, .. } = saved;
        let queue = config.queue;
        let checked = Features::from_halves(saved.checked);
        let ready = !live && ring.is_some();
        let (max, features) = if ready && from == RestoreFrom::Registers {
            (u16::MAX, checked)
        } else {
            let expected = if ready { known } else { Features::empty() };
            if checked != expected {
                return Err(SnapshotError::Features);
            }
            (model.queue_size_max(queue), known)
        };
        if let Err(why) = self.table.lay_out(config, max, features, &self.mem) {
            // Unmapped rings may be why the queue was stopped. A stopped queue does not use them.
            if ring.is_some() || !matches!(why, Refusal::Unmapped { .. }) {
                return Err(SnapshotError::Queue { queue, why });
            }
            self.table.mark_failed(config);
        }
        match ring {
            None => self.table.stop_with(queue, None),
            Some(ring) if !live && *ring != RingPosition::default() => {
                return Err(SnapshotError::Positions { queue });
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Calls the model's queue check, as at DRIVER_OK.
    fn check_queue_set<D: DeviceModel>(
        &mut self,
        features: Features,
        model: &D,
    ) -> Result<(), SnapshotError> {
        match self.table.first_unwanted(features, &model.queue_check()) {
            None => Ok(()),
            Some(unwanted) => Err(match (unwanted.queue, unwanted.refusal()) {
                (Some(queue), why) => SnapshotError::Queue { queue, why },
                (None, why) => SnapshotError::Queues { why },
            }),
        }
    }

    /// Starts each queue that was live at its saved positions.
    fn start_queues_at<const P: usize>(
        &mut self,
        snapshot: &DeviceSnapshot<Q, N, P>,
    ) -> Result<(), SnapshotError> {
        let epoch = self.shared.epoch();
        for QueueSnapshot { config, ring, .. } in &snapshot.queues {
            let queue = config.queue;
            let Some(ring) = ring else {
                continue;
            };
            let in_hand = snapshot.chains.iter().filter(|chain| chain.queue == queue);
            let in_hand = num::clamp_u16(in_hand.count());
            if !self.table.restore_at(queue, ring, in_hand, epoch) {
                return Err(SnapshotError::Positions { queue });
            }
        }
        Ok(())
    }

    /// Puts each chain in hand into a slot, in the order of the slots.
    fn restore_chains<const P: usize>(
        &mut self,
        snapshot: &DeviceSnapshot<Q, N, P>,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), SnapshotError> {
        let mut free = slots.iter_mut();
        for (chain, at) in snapshot.chains.iter().zip(0u16..) {
            let slot = free.next().ok_or(SnapshotError::NoRoom)?;
            if !self.restore_chain(chain, slot) {
                slot.release();
                return Err(SnapshotError::Chain { at });
            }
        }
        Ok(())
    }

    /// Puts one chain in hand into a slot. Returns false if its queue cannot have that chain in
    /// flight.
    fn restore_chain(&mut self, snapshot: &ChainSnapshot<N>, slot: &mut ChainSlot<N>) -> bool {
        let queue = snapshot.queue;
        let Some(virtqueue) = self.table.virtqueue(queue) else {
            return false;
        };
        // Every descriptor of a packed chain in the ring describes a buffer.
        if usize::from(snapshot.slots) > snapshot.segments.len() {
            return false;
        }
        let chain = slot.chain_mut();
        if !chain.restore(&self.mem, snapshot) || !virtqueue.adopt(chain, snapshot.slots) {
            return false;
        }
        let writable = chain.writable_len();
        // A chain that is answered in its turn was given back, so it is not in hand.
        let waits = virtqueue.is_in_order() && !virtqueue.is_next(chain);
        slot.occupy(queue);
        match snapshot.answered {
            None => slot.again(),
            Some(written) if waits && u64::from(written) <= writable => slot.answer(written),
            Some(_) => return false,
        }
        true
    }

    /// Checks that each live queue has all its chains, and counts the chains beyond the first.
    /// Returns the live queues.
    fn check_chains(&mut self) -> Result<QueueSet<Q>, SnapshotError> {
        let mut live_queues = QueueSet::new();
        for queue in self.table.configured() {
            let Some(virtqueue) = self.table.virtqueue(queue) else {
                continue;
            };
            if !virtqueue.is_whole() {
                return Err(SnapshotError::Positions { queue });
            }
            if Q > 1 {
                let extra = virtqueue.in_flight().saturating_sub(1);
                self.extra = self.extra.saturating_add(extra);
            }
            // A set of `Q` words holds every number below `Q`.
            let _ = live_queues.insert(queue);
        }
        Ok(live_queues)
    }
}

/// Returns whether the state is that of a device in reset, which has no features and no queues.
fn is_blank<const Q: usize, const N: usize, const P: usize>(
    snapshot: &DeviceSnapshot<Q, N, P>,
) -> bool {
    snapshot.features == Features::empty().halves() && snapshot.queues.is_empty()
}

/// Checks that the parts of the state agree with each other. Returns the pending interrupts.
fn check_status<const Q: usize, const N: usize, const P: usize>(
    snapshot: &DeviceSnapshot<Q, N, P>,
) -> Result<InterruptStatus, SnapshotError> {
    let live = snapshot.live;
    let suspended = snapshot.suspension == Suspension::Suspended;
    let awake = snapshot.suspension == Suspension::Awake;
    // Only a live device is suspended or has chains in hand, and a live device that is not
    // suspended announces a change at once.
    if !live && (!awake || !snapshot.chains.is_empty())
        || live && snapshot.config_changed && !suspended
    {
        return Err(SnapshotError::Status);
    }
    InterruptStatus::from_bits(snapshot.interrupt).ok_or(SnapshotError::Status)
}

/// Checks the features of a state against what this crate implements and the model excludes.
fn check_features<D: DeviceModel, const Q: usize, const N: usize, const P: usize>(
    snapshot: &DeviceSnapshot<Q, N, P>,
    model: &D,
) -> Result<(), SnapshotError> {
    let features = Features::from_halves(snapshot.features);
    let suspends = snapshot.suspension != Suspension::Awake;
    if Features::offer(features) != features
        || features.intersection(model.excluded()) != Features::empty()
        || suspends && !features.contains(Features::SUSPEND)
    {
        return Err(SnapshotError::Features);
    }
    Ok(())
}

//! A device as a plain value, and back.

use heapless::Vec;

use super::Device;
use crate::{
    device::ChainSlot,
    device::table::QueueState,
    error::Refusal,
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{DeviceModel, Start},
    num,
    queue_set::{QueueBits, QueueSet},
    shared::{InterruptStatus, SharedHandle, StartAnswer},
    snapshot::{
        ChainSnapshot, DeviceSnapshot, QueueSnapshot, SNAPSHOT_VERSION, SnapshotError, Suspension,
    },
    trace::{Event, Trace},
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// The whole state as a plain value, with up to `P` chains in hand; see
    /// [`DeviceSnapshot`]. The device may go on, but then the value is of the past: who restores it
    /// elsewhere has to stop this one first. The back end should be at rest, too: what it does for a
    /// chain in hand after this moment is done again by whoever restores.
    ///
    /// No memory access (but for a device that has just gone live, as in [`poll`](Self::poll)).
    ///
    /// # Errors
    /// [`Refusal::QueueTaken`] while a queue is moved out (one that was dropped is saved as stopped),
    /// [`Refusal::QueueBusy`] if more than `P` chains are in hand.
    pub fn save<const P: usize>(
        &mut self,
        slots: &[ChainSlot<N>],
    ) -> Result<DeviceSnapshot<Q, N, P>, Refusal> {
        let live = self.start_if_live();
        let out = |queue: &u16| !self.shared.was_dropped(*queue);
        if let Some(queue) = self.table.taken().iter().find(out) {
            return Err(Refusal::QueueTaken { queue });
        }
        let mut snapshot = DeviceSnapshot {
            version: SNAPSHOT_VERSION,
            features: self.features.halves(),
            live,
            // A device that the driver gave up is not suspended.
            suspension: if live {
                self.suspension
            } else {
                Suspension::Awake
            },
            needs_reset: self.shared.needs_reset(),
            interrupt: self.shared.interrupt_status().bits(),
            config_changed: self.changed,
            queues: Vec::new(),
            chains: Vec::new(),
        };
        for queue in self.table.configured() {
            let Some(config) = self.table.config(queue).copied() else {
                continue;
            };
            let ring = match self.table.state(queue) {
                QueueState::Ready => Some(crate::snapshot::RingSnapshot::default()),
                // One that the driver gave up, or is stopping, is of no more use.
                QueueState::Live if live && !self.stopping.contains(queue) => {
                    self.table.virtqueue(queue).map(|queue| queue.snapshot())
                }
                _ => None,
            };
            let checked = self.table.checked(queue).unwrap_or_default().halves();
            // There is room for `Q`.
            let _ = snapshot.queues.push(QueueSnapshot {
                config,
                ring,
                checked,
            });
        }
        if live {
            self.save_chains(slots, &mut snapshot.chains)?;
        }
        Ok(snapshot)
    }

    /// The chains in hand, oldest first.
    fn save_chains<const P: usize>(
        &mut self,
        slots: &[ChainSlot<N>],
        chains: &mut Vec<ChainSnapshot<N>, P>,
    ) -> Result<(), Refusal> {
        for queue in self.table.configured() {
            let Some(virtqueue) = self.table.virtqueue(queue) else {
                continue;
            };
            // Each time the oldest of those that are younger than the last.
            let mut last = u32::MAX;
            loop {
                let ages = slots
                    .iter()
                    .filter(|slot| slot.is_of(queue))
                    .map(|slot| (virtqueue.age(slot.chain()), slot));
                let next = ages
                    .filter(|(age, _)| *age < last)
                    .max_by_key(|(age, _)| *age);
                let Some((age, slot)) = next else {
                    break;
                };
                last = age;
                let chain = slot.chain();
                let snapshot = chain.snapshot(queue, virtqueue.slots_of(chain), slot.answered());
                chains
                    .push(snapshot)
                    .map_err(|_| Refusal::QueueBusy { queue })?;
            }
        }
        Ok(())
    }

    /// Takes a state that [`save`](Self::save) gave, of a device with as many queues and elements, a
    /// model that offers the same, and the same driver's memory. Everything in it is checked.
    ///
    /// A device of messages is built without queues for it: [`Configuring`](crate::Configuring) with
    /// [`Message::Ready`](crate::Message) and nothing before. If the state is live, its responder has
    /// nothing left to say.
    ///
    /// The model hears the features ([`negotiate`](crate::DeviceConfig::negotiate) is the register
    /// block's to call) and that the driver is [`ready`](DeviceModel::ready), whose answer may be
    /// anything but [`Start::Refuse`]. Every queue counts as notified, and pending interrupts are
    /// raised again; those of a suspended device when it resumes or its driver gives it up, since until
    /// then it tells nothing (suspend-03; see the table of [`DriverNotify`]). A host whose line is level,
    /// and restored as low, may raise it itself if
    /// [`interrupt_status`](crate::Shared::interrupt_status) is not empty.
    ///
    /// Worst case: three translations, `9 * Q` comparisons and a call of the model's
    /// [`queue_check`](DeviceModel::queue_check) for each queue, one look-up for each segment of a chain; no access to the driver's memory.
    ///
    /// # Errors
    /// [`SnapshotError`]; the device is then as after a reset, and of use in a new conversation. Only
    /// [`SnapshotError::NotInReset`] leaves it as it was.
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
        let restored = self.try_restore(snapshot, features, false, model, slots);
        if restored.is_err() {
            self.reset(slots);
            model.reset();
        }
        restored
    }

    /// Whether nothing has begun that a snapshot would be in the way of.
    pub(crate) fn is_fresh(&self, slots: &[ChainSlot<N>]) -> bool {
        !self.started
            && self.table.configured().is_empty()
            && self.shared.answer() == StartAnswer::Waiting
            && slots.iter().all(ChainSlot::is_free)
    }

    /// Restores a fresh device with the features `known` so far. If queues are checked `again` at
    /// DRIVER_OK, the model is not asked before whether it wants them. After an error the device is
    /// still to be reset.
    pub(crate) fn try_restore<D: DeviceModel, const P: usize>(
        &mut self,
        snapshot: &DeviceSnapshot<Q, N, P>,
        known: Features,
        again: bool,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), SnapshotError> {
        snapshot.check_version()?;
        let features = Features::from_halves(snapshot.features);
        let live = snapshot.live;
        let bad = SnapshotError::Status;
        if !live && (snapshot.suspension != Suspension::Awake || !snapshot.chains.is_empty()) {
            return Err(bad);
        }
        // A device that is awake announces a change at once.
        if live && snapshot.config_changed && snapshot.suspension != Suspension::Suspended {
            return Err(bad);
        }
        let interrupt = InterruptStatus::from_bits(snapshot.interrupt).ok_or(bad)?;
        if live {
            let suspends = snapshot.suspension != Suspension::Awake;
            if Features::offer(features) != features
                || features.intersection(model.excluded()) != Features::empty()
                || suspends && !features.contains(Features::SUSPEND)
            {
                return Err(SnapshotError::Features);
            }
        }
        for QueueSnapshot {
            config,
            ring,
            checked,
        } in &snapshot.queues
        {
            let queue = config.queue;
            let checked = Features::from_halves(*checked);
            let early = !live && ring.is_some();
            let expected = if early { known } else { Features::empty() };
            if checked != expected && !(early && again) {
                return Err(SnapshotError::Features);
            }
            let (max, with) = if early && again {
                (u16::MAX, checked)
            } else {
                (model.queue_size_max(queue), known)
            };
            let table = &mut self.table;
            if let Err(why) = table.lay_out(config, max, with, &self.mem) {
                // That may be why it was stopped, and what is not there is not touched.
                if ring.is_some() || !matches!(why, Refusal::Unmapped { .. }) {
                    return Err(SnapshotError::Queue { queue, why });
                }
                table.mark_failed(config);
            }
            let Some(ring) = ring else {
                table.stop_with(queue, None);
                continue;
            };
            if !live && *ring != crate::snapshot::RingSnapshot::default() {
                return Err(SnapshotError::Positions { queue });
            }
        }
        if live || !again {
            self.table
                .check_wanted(known, &model.queue_check(), |_, _| false)
                .map_err(|unwanted| match (unwanted.queue, unwanted.refusal()) {
                    (Some(queue), why) => SnapshotError::Queue { queue, why },
                    (None, why) => SnapshotError::Queues { why },
                })?;
        }
        if live && model.ready(features, self.table.queues()) == Start::Refuse {
            return Err(SnapshotError::Features);
        }
        for QueueSnapshot { config, ring, .. } in &snapshot.queues {
            let queue = config.queue;
            let Some(ring) = ring.as_ref().filter(|_| live) else {
                continue;
            };
            let of_it = |chain: &&ChainSnapshot<N>| chain.queue == queue;
            let chains = num::clamp_u16(snapshot.chains.iter().filter(of_it).count());
            let epoch = self.shared.epoch();
            if !self.table.start_at(queue, ring, chains, epoch) {
                return Err(SnapshotError::Positions { queue });
            }
        }
        let mut places = slots.iter_mut();
        for (chain, at) in snapshot.chains.iter().zip(0u16..) {
            let slot = places.next().ok_or(SnapshotError::NoRoom)?;
            if !self.take_over(chain, slot) {
                slot.release();
                return Err(SnapshotError::Chain { at });
            }
        }
        let mut at_work = QueueSet::new();
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
            // `Q` words always hold `Q` numbers.
            let _ = at_work.insert(queue);
        }
        self.features = features;
        self.changed = snapshot.config_changed;
        self.suspension = snapshot.suspension;
        if live {
            self.started = true;
            self.notified = QueueBits::of(at_work);
            self.claim();
            let epoch = self.shared.epoch();
            self.shared.accept(epoch);
        }
        if snapshot.needs_reset {
            self.shared.fail(false, &self.notify);
        }
        if self.is_suspended() {
            // suspend-03
            self.shared.hold(interrupt);
        } else if !interrupt.is_empty() {
            self.trace.event(&Event::Interrupt { status: interrupt });
            self.shared.raise(interrupt, &self.notify);
        }
        Ok(())
    }

    /// One chain in hand; false if it cannot be.
    fn take_over(&mut self, snapshot: &ChainSnapshot<N>, slot: &mut ChainSlot<N>) -> bool {
        let queue = snapshot.queue;
        let Some(virtqueue) = self.table.virtqueue(queue) else {
            return false;
        };
        // A slot of a packed ring holds a buffer at least.
        if usize::from(snapshot.slots) > snapshot.segments.len() {
            return false;
        }
        let chain = slot.chain_mut();
        if !chain.restore(&self.mem, snapshot) || !virtqueue.adopt(chain, snapshot.slots) {
            return false;
        }
        let room = chain.writable_len();
        // One whose turn it is would have been given back.
        let waits = virtqueue.is_in_order() && !virtqueue.is_next(chain);
        slot.occupy(queue);
        match snapshot.answered {
            None => slot.again(),
            Some(written) if waits && u64::from(written) <= room => slot.answer(written),
            Some(_) => return false,
        }
        true
    }
}

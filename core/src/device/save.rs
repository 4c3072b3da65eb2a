//! Saving a device as a plain value.

use heapless::Vec;

use super::Device;
use crate::{
    device::{ChainSlot, QueueState},
    error::Refusal,
    interrupt::DriverNotify,
    memory::DriverMem,
    message::RingPosition,
    shared::{SharedHandle, StartAnswer},
    snapshot::{ChainSnapshot, DeviceSnapshot, QueueSnapshot, SNAPSHOT_VERSION, Suspension},
    trace::Trace,
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Returns the state of the device as a plain value, with up to `P` chains in hand.
    ///
    /// This device may continue afterwards, but only one device may serve the driver: stop this
    /// device and its back end before the state is restored elsewhere. The restored device serves
    /// the chains in hand again, from their start. See [`DeviceSnapshot`].
    ///
    /// The call accesses no driver memory, with one exception: if it is the first call after a
    /// [`ReadyResponder`](crate::ReadyResponder) has made the driver live, it stores once to the
    /// used ring of each ready queue.
    ///
    /// # Errors
    /// [`Refusal::QueueTaken`] while a queue is taken. A taken queue that was dropped is saved
    /// as stopped. [`Refusal::QueueBusy`] if more than `P` chains are in hand.
    /// [`Refusal::WrongPhase`] before the driver is live, if a queue has positions
    /// ([`DeviceBuilder::add_queue_at`](crate::DeviceBuilder::add_queue_at)): save the device after
    /// its driver is live.
    pub fn save<const P: usize>(
        &mut self,
        slots: &[ChainSlot<N>],
    ) -> Result<DeviceSnapshot<Q, N, P>, Refusal> {
        let live = self.start_if_live();
        let moved_out = |queue: &u16| !self.shared.was_dropped(*queue);
        if let Some(queue) = self.table.taken().iter().find(moved_out) {
            return Err(Refusal::QueueTaken { queue });
        }
        if !live && self.shared.answer() == StartAnswer::Waiting {
            let mut queues = self.table.configured().into_iter();
            if queues.any(|queue| self.table.state(queue) == QueueState::Live) {
                return Err(Refusal::WrongPhase);
            }
        }
        let mut snapshot = DeviceSnapshot {
            version: SNAPSHOT_VERSION,
            features: self.features.halves(),
            live,
            // A device with FAILED set is not suspended.
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
            if let Some(saved) = self.save_queue(queue, live) {
                // The vector has room for `Q` queues.
                let _ = snapshot.queues.push(saved);
            }
        }
        if live {
            self.save_chains(slots, &mut snapshot.chains)?;
        }
        Ok(snapshot)
    }

    fn save_queue(&mut self, queue: u16, live: bool) -> Option<QueueSnapshot> {
        let config = *self.table.config(queue)?;
        let ring = match self.table.state(queue) {
            QueueState::Ready => Some(RingPosition::default()),
            // The positions of a queue that the driver gave up, or is stopping, are of no more use.
            QueueState::Live if live && !self.stopping.contains(queue) => {
                self.table.virtqueue(queue).map(|queue| queue.snapshot())
            }
            _ => None,
        };
        let checked = self.table.checked(queue).unwrap_or_default().halves();
        Some(QueueSnapshot {
            config,
            ring,
            checked,
        })
    }

    /// Saves the chains in hand, queue by queue, the oldest of each queue first.
    fn save_chains<const P: usize>(
        &mut self,
        slots: &[ChainSlot<N>],
        chains: &mut Vec<ChainSnapshot<N>, P>,
    ) -> Result<(), Refusal> {
        for queue in self.table.configured() {
            let Some(virtqueue) = self.table.virtqueue(queue) else {
                continue;
            };
            let mut last_age = u32::MAX;
            loop {
                // The oldest chain that is younger than the last one.
                let next = slots
                    .iter()
                    .filter(|slot| slot.is_of(queue))
                    .map(|slot| (virtqueue.age(slot.chain()), slot))
                    .filter(|(age, _)| *age < last_age)
                    .max_by_key(|(age, _)| *age);
                let Some((age, slot)) = next else {
                    break;
                };
                last_age = age;
                let chain = slot.chain();
                let saved = chain.snapshot(queue, virtqueue.slots_of(chain), slot.answered());
                chains
                    .push(saved)
                    .map_err(|_| Refusal::QueueBusy { queue })?;
            }
        }
        Ok(())
    }
}

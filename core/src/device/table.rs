//! The queue table: the sole owner of every queue that is not taken.
//!
//! An entry is off, ready, live, taken or failed. The rings of a ready queue are checked and
//! translated, but not accessed before the driver is live. A queue enters the table only as a
//! [`CheckedQueue`].

use crate::{
    error::{DeviceError, DriverFault, Refusal},
    features::Features,
    memory::{DriverMem, RingWindow},
    message::{QueueConfig, ReadyQueues, RingPosition},
    num,
    queue::Virtqueue,
    queue::check::{self, CheckedQueue, QueueCheck, largest},
    queue_set::QueueSet,
};

/// The state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum QueueState {
    /// Not configured, or stopped by QueueReady = 0.
    Off,
    /// Configured; the driver is not live yet.
    Ready,
    /// The device serves the queue.
    Live,
    /// Moved out with `take_queue`.
    Taken,
    /// Stopped until a reset of the queue or of the device: the driver broke the protocol, the ring
    /// is no longer mapped, or the taken queue was dropped.
    Failed,
}

/// Returns the generation that the serial numbers of a queue start from: the `nth` configuration
/// since the table was made, in this epoch of the shared block. A table that is made anew counts
/// configurations from 0 again, so the epoch keeps the generations of two tables apart.
const fn serial_generation(nth: u32, epoch: u32) -> u32 {
    // Epochs are multiples of 8. The factor is odd and near the golden ratio of 2^15, so that the
    // generations of neighbouring epochs lie far apart.
    nth.wrapping_add((epoch >> 3).wrapping_mul(0x4f1b))
}

/// A queue, or the set of queues, that a [`QueueCheck`] refused while the driver goes live.
#[derive(Debug)]
pub(crate) struct Unwanted {
    /// Queue number; `None` for the set of all queues.
    pub(crate) queue: Option<u16>,
    /// Why.
    pub(crate) error: DeviceError,
}

impl Unwanted {
    /// Returns the refusal that the transport records.
    pub(crate) fn refusal(&self) -> Refusal {
        let by_the_device = match self.queue {
            Some(queue) => Refusal::QueueCheck { queue },
            None => Refusal::QueueSet,
        };
        self.error.refusal_or(by_the_device)
    }
}

#[derive(Debug)]
pub(crate) enum Place<W, const N: usize> {
    Off,
    Ready(CheckedQueue<W>),
    Live(Virtqueue<W, N>),
    Taken,
    Failed,
}

#[derive(Debug)]
struct Entry<W, const N: usize> {
    place: Place<W, N>,
    /// Counts stops, so that taken queues from before a stop are stale.
    generation: u32,
    /// The table's `configured` when this queue was configured, so that chains of an earlier
    /// configuration are stale.
    nth: u32,
    /// In a failed queue: the fault that stopped the queue. In any other: the fault of the chain
    /// that was rejected last.
    fault: Option<DriverFault>,
}

#[derive(Debug)]
pub(crate) struct QueueTable<W, const Q: usize, const N: usize> {
    entries: [Entry<W, N>; Q],
    /// Layouts by queue number. The size is 0 where the entry is off.
    configs: [QueueConfig; Q],
    /// Counts configurations.
    configured: u32,
}

impl<W, const Q: usize, const N: usize> QueueTable<W, Q, N> {
    pub(crate) const fn new() -> Self {
        const {
            assert!(Q > 0 && Q <= 2048, "a device has 1 to 2048 queues");
        }
        Self {
            entries: [const {
                Entry {
                    place: Place::Off,
                    generation: 0,
                    nth: 0,
                    fault: None,
                }
            }; Q],
            configs: [QueueConfig::ABSENT; Q],
            configured: 0,
        }
    }

    fn entry(&self, queue: u16) -> Option<&Entry<W, N>> {
        self.entries.get(usize::from(queue))
    }

    fn entry_mut(&mut self, queue: u16) -> Option<&mut Entry<W, N>> {
        self.entries.get_mut(usize::from(queue))
    }

    pub(crate) fn state(&self, queue: u16) -> QueueState {
        match self.entry(queue).map(|entry| &entry.place) {
            None | Some(Place::Off) => QueueState::Off,
            Some(Place::Ready(_)) => QueueState::Ready,
            Some(Place::Live(_)) => QueueState::Live,
            Some(Place::Taken) => QueueState::Taken,
            Some(Place::Failed) => QueueState::Failed,
        }
    }

    pub(crate) fn config(&self, queue: u16) -> Option<&QueueConfig> {
        self.queues().get(queue)
    }

    /// Returns the configured queues, including taken and failed ones.
    pub(crate) fn queues(&self) -> ReadyQueues<'_> {
        ReadyQueues {
            configs: &self.configs,
        }
    }

    /// Returns the features that a ready queue was checked with.
    pub(crate) fn checked(&self, queue: u16) -> Option<Features> {
        match self.entry(queue).map(|entry| &entry.place) {
            Some(Place::Ready(checked)) => Some(checked.features),
            _ => None,
        }
    }

    /// Returns the fault that stopped a queue if `stopped`, else the fault of the chain that the
    /// queue rejected last.
    pub(crate) fn fault(&self, queue: u16, stopped: bool) -> Option<DriverFault> {
        self.entry(queue)
            .filter(|entry| matches!(entry.place, Place::Failed) == stopped)
            .and_then(|entry| entry.fault)
    }

    /// Records the fault of a rejected chain of a queue that goes on.
    pub(crate) fn chain_rejected(&mut self, queue: u16, fault: DriverFault) {
        if let Some(entry) = self.entry_mut(queue) {
            entry.fault = Some(fault);
        }
    }

    pub(crate) fn virtqueue(&mut self, queue: u16) -> Option<&mut Virtqueue<W, N>> {
        match self.entry_mut(queue).map(|entry| &mut entry.place) {
            Some(Place::Live(virtqueue)) => Some(virtqueue),
            _ => None,
        }
    }

    /// Returns the positions of a live queue.
    pub(crate) fn position(&self, queue: u16) -> Option<RingPosition> {
        match self.entry(queue).map(|entry| &entry.place) {
            Some(Place::Live(virtqueue)) => Some(virtqueue.snapshot()),
            _ => None,
        }
    }

    /// Returns the queues that are taken.
    pub(crate) fn taken(&self) -> QueueSet<Q> {
        let mut set = QueueSet::new();
        for (entry, queue) in self.entries.iter().zip(0u16..) {
            if matches!(entry.place, Place::Taken) {
                // A set of `Q` words holds every number below `Q`.
                let _ = set.insert(queue);
            }
        }
        set
    }

    /// Returns the configured queues, including taken and failed ones.
    pub(crate) fn configured(&self) -> QueueSet<Q> {
        let mut set = QueueSet::new();
        for (entry, queue) in self.entries.iter().zip(0u16..) {
            if !matches!(entry.place, Place::Off) {
                // A set of `Q` words holds every number below `Q`.
                let _ = set.insert(queue);
            }
        }
        set
    }

    pub(crate) fn stop_with(&mut self, queue: u16, fault: Option<DriverFault>) {
        if let Some(entry) = self.entry_mut(queue) {
            // The first fault stays.
            if !matches!(entry.place, Place::Failed) || entry.fault.is_none() {
                entry.fault = fault;
            }
            entry.place = Place::Failed;
            entry.generation = entry.generation.wrapping_add(1);
        }
    }

    /// Adds a stopped queue whose rings are no longer mapped, without a check.
    pub(crate) fn mark_failed(&mut self, config: &QueueConfig) {
        if let Some(entry) = self.claim(config) {
            entry.place = Place::Failed;
        }
    }

    /// Records the layout of a configured queue. The caller fills `place` itself, so that no value
    /// of the size of a queue is moved.
    fn claim(&mut self, config: &QueueConfig) -> Option<&mut Entry<W, N>> {
        let at = usize::from(config.queue);
        let entry = self.entries.get_mut(at)?;
        *self.configs.get_mut(at)? = *config;
        self.configured = self.configured.wrapping_add(1);
        entry.nth = self.configured;
        Some(entry)
    }

    /// Removes a queue. Its rings are not touched again.
    pub(crate) fn remove(&mut self, queue: u16) {
        if let Some(entry) = self.entry_mut(queue) {
            entry.place = Place::Off;
            entry.fault = None;
            entry.generation = entry.generation.wrapping_add(1);
        }
        if let Some(config) = self.configs.get_mut(usize::from(queue)) {
            config.size = 0;
        }
    }

    pub(crate) fn reset(&mut self) {
        for queue in 0..num::clamp_u16(Q) {
            self.remove(queue);
        }
        self.configured = 0;
    }

    /// Moves a live queue out, unless the device has chains of it in hand.
    pub(crate) fn take(&mut self, queue: u16) -> Result<(Virtqueue<W, N>, u32), Refusal> {
        let Some(entry) = self.entry_mut(queue) else {
            return Err(Refusal::NoSuchQueue {
                queue: queue.into(),
            });
        };
        match core::mem::replace(&mut entry.place, Place::Taken) {
            Place::Live(virtqueue) if virtqueue.in_flight() != 0 => {
                entry.place = Place::Live(virtqueue);
                Err(Refusal::QueueBusy { queue })
            }
            Place::Live(virtqueue) => Ok((virtqueue, entry.generation)),
            Place::Taken => Err(Refusal::QueueTaken { queue }),
            other => {
                entry.place = other;
                Err(Refusal::QueueNotReady { queue })
            }
        }
    }

    /// Moves a taken queue back in. Fails if the queue was stopped or reset since it was taken.
    pub(crate) fn put_back(
        &mut self,
        queue: u16,
        generation: u32,
        virtqueue: Virtqueue<W, N>,
    ) -> Result<(), Refusal> {
        if !self.is_out(queue, generation) {
            return Err(Refusal::StaleToken);
        }
        match self.entry_mut(queue) {
            Some(entry) => {
                entry.place = Place::Live(virtqueue);
                Ok(())
            }
            None => Err(Refusal::StaleToken),
        }
    }

    /// Returns whether a queue that was taken with this generation is still taken.
    pub(crate) fn is_out(&self, queue: u16, generation: u32) -> bool {
        self.entry(queue).is_some_and(|entry| {
            entry.generation == generation && matches!(entry.place, Place::Taken)
        })
    }
}

impl<W: RingWindow, const Q: usize, const N: usize> QueueTable<W, Q, N> {
    /// Checks a queue against the other queues, calls `queue_check` for it, and makes it ready.
    pub(crate) fn configure<M: DriverMem<Window = W>, C: QueueCheck + ?Sized>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        features: Features,
        mem: &M,
        queue_check: &C,
    ) -> Result<(), DeviceError> {
        self.lay_out(config, max, features, mem)?;
        let others = self.queues().beside(config.queue);
        let wanted = queue_check.check_config(config, features, others);
        if wanted.is_err() {
            self.remove(config.queue);
        }
        wanted.map_err(Into::into)
    }

    /// Checks a queue against the other queues, and makes it ready. The caller must call
    /// [`first_unwanted`](Self::first_unwanted) afterwards.
    pub(crate) fn lay_out<M: DriverMem<Window = W>>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        features: Features,
        mem: &M,
    ) -> Result<(), Refusal> {
        let queue = config.queue;
        if usize::from(queue) >= Q {
            return Err(Refusal::NoSuchQueue {
                queue: queue.into(),
            });
        }
        if self.state(queue) != QueueState::Off {
            return Err(Refusal::QueueExists { queue });
        }
        self.install(config, max, features, mem, num::clamp_u16(Q))?;
        let _ = self.claim(config);
        Ok(())
    }

    /// Checks a queue against the other queues with numbers below `end`, and makes it ready.
    ///
    /// This is the largest function of a set-up. It is kept out of line, so that there is one copy.
    #[inline(never)]
    fn install<M: DriverMem<Window = W>>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        features: Features,
        mem: &M,
        end: u16,
    ) -> Result<(), Refusal> {
        // A chain may be as long as the queue, and a chain buffer holds `N` segments.
        let max = largest(max, num::clamp_u16(N));
        let others = self.queues().iter().take_while(|other| other.queue < end);
        let checked = check::check(config, max, features, mem, others)?;
        if let Some(entry) = self.entry_mut(config.queue) {
            entry.place = Place::Ready(checked);
        }
        Ok(())
    }

    /// Checks every ready queue again at DRIVER_OK, when features and queues are final. Returns
    /// whether the device may go live.
    ///
    /// Each queue is checked against the queues with lower numbers, lowest number first. Then
    /// [`first_unwanted`](Self::first_unwanted) is called. `refused` is called for each queue that
    /// does not pass, and for the set of queues if the set does not pass. If `refused` returns true
    /// for a queue, the queue is removed and `queue_check` is called for the remaining queues
    /// again. Worst case: `Q * (Q + 1) / 2` calls of `queue_check` for single queues; `Q` calls if
    /// no queue is removed.
    pub(crate) fn check_again<M: DriverMem<Window = W>, C: QueueCheck + ?Sized>(
        &mut self,
        features: Features,
        max: impl Fn(u16) -> u16,
        mem: &M,
        queue_check: &C,
        mut refused: impl FnMut(&Unwanted) -> bool,
    ) -> bool {
        let mut queues = 0..num::clamp_u16(Q);
        loop {
            let invalid = queues.find_map(|queue| {
                let config = self.config(queue).copied()?;
                let installed = self.install(&config, max(queue), features, mem, queue);
                Some(Unwanted {
                    queue: Some(queue),
                    error: installed.err()?.into(),
                })
            });
            let Some(unwanted) = invalid.or_else(|| self.first_unwanted(features, queue_check))
            else {
                return true;
            };
            match unwanted.queue {
                Some(queue) if refused(&unwanted) => self.remove(queue),
                Some(_) => return false,
                None => {
                    refused(&unwanted);
                    return false;
                }
            }
        }
    }

    /// Calls `queue_check` for each queue beside all others, lowest number first, and then for the
    /// set of all queues. Returns the first queue that is refused, or the set.
    pub(crate) fn first_unwanted<C: QueueCheck + ?Sized>(
        &self,
        features: Features,
        queue_check: &C,
    ) -> Option<Unwanted> {
        let queues = self.queues();
        let unwanted = queues.iter().find_map(|config| {
            let queue = config.queue;
            let checked = queue_check.check_config(config, features, queues.beside(queue));
            Some(Unwanted {
                queue: Some(queue),
                error: checked.err()?.into(),
            })
        });
        unwanted.or_else(|| {
            let checked = queue_check.check_ready(queues.iter(), features);
            Some(Unwanted {
                queue: None,
                error: checked.err()?.into(),
            })
        })
    }

    /// Makes every ready queue live, with one store to each used ring. Serial numbers start at a
    /// value that depends on `epoch`, so that chains of earlier epochs are stale, in this table and
    /// in any other over the same shared block.
    pub(crate) fn start(&mut self, epoch: u32) {
        for entry in &mut self.entries {
            if let Place::Ready(_) = entry.place
                && let Place::Ready(checked) = core::mem::replace(&mut entry.place, Place::Off)
            {
                entry.place =
                    Place::Live(Virtqueue::new(checked, serial_generation(entry.nth, epoch)));
                // Called in place, so that the queue is not moved.
                if let Place::Live(virtqueue) = &mut entry.place {
                    virtqueue.begin();
                }
            }
        }
    }

    /// Makes a ready queue live at the positions of a snapshot, with this number of chains in hand,
    /// which the caller adopts. Returns false if the positions are impossible.
    pub(crate) fn restore_at(
        &mut self,
        queue: u16,
        ring: &RingPosition,
        chains: u16,
        epoch: u32,
    ) -> bool {
        self.go_live(queue, epoch, |checked, generation| {
            Virtqueue::restored(checked, generation, ring, chains)
        })
    }

    /// Makes a ready queue live at these positions, without chains in hand. Returns false if the
    /// positions are impossible.
    pub(crate) fn start_at(&mut self, queue: u16, position: &RingPosition, epoch: u32) -> bool {
        self.go_live(queue, epoch, |checked, generation| {
            Virtqueue::at(checked, generation, position)
        })
    }

    fn go_live(
        &mut self,
        queue: u16,
        epoch: u32,
        start: impl FnOnce(CheckedQueue<W>, u32) -> Option<Virtqueue<W, N>>,
    ) -> bool {
        let Some(entry) = self.entry_mut(queue) else {
            return false;
        };
        let Place::Ready(checked) = core::mem::replace(&mut entry.place, Place::Off) else {
            return false;
        };
        match start(checked, serial_generation(entry.nth, epoch)) {
            Some(virtqueue) if !virtqueue.is_stuck() => {
                entry.place = Place::Live(virtqueue);
                true
            }
            _ => false,
        }
    }

    /// Translates the rings of one queue again. Returns false if they are no longer mapped.
    pub(crate) fn translate_one<M: DriverMem<Window = W>>(&mut self, queue: u16, mem: &M) -> bool {
        let at = usize::from(queue);
        let (Some(entry), Some(config)) = (self.entries.get_mut(at), self.configs.get(at)) else {
            return false;
        };
        let packed = match &entry.place {
            Place::Ready(checked) => checked.is_packed(),
            Place::Live(virtqueue) => virtqueue.is_packed(),
            _ => return true,
        };
        let Ok(windows) = check::translate_again(config, packed, mem) else {
            return false;
        };
        match &mut entry.place {
            Place::Ready(checked) => checked.windows = windows,
            Place::Live(virtqueue) => virtqueue.set_windows(windows),
            _ => {}
        }
        true
    }

    /// Translates every ring again after the memory has changed. Returns the queues whose rings are
    /// no longer mapped. Taken queues are skipped.
    pub(crate) fn translate_again<M: DriverMem<Window = W>>(&mut self, mem: &M) -> QueueSet<Q> {
        let mut gone = QueueSet::new();
        for queue in 0..num::clamp_u16(Q) {
            if !self.translate_one(queue, mem) {
                // A set of `Q` words holds every number below `Q`.
                let _ = gone.insert(queue);
            }
        }
        gone
    }
}

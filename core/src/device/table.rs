//! The queues of a device: the sole owner of every queue that is not taken.
//!
//! An entry is off, ready (checked and translated, but not touched before the driver is live),
//! live, taken, or stopped until reset. A queue gets in only as a [`CheckedQueue`].

use crate::{
    error::{DeviceError, DriverFault, Refusal},
    features::Features,
    memory::{DriverMem, RingWindow},
    message::{QueueConfig, ReadyQueues},
    num,
    queue::Virtqueue,
    queue::check::{self, CheckedQueue, QueueCheck, largest},
    queue_set::QueueSet,
    snapshot::RingSnapshot,
};

/// Where a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum QueueState {
    /// Not configured, or stopped by QueueReady = 0.
    Off,
    /// Configured; the driver is not live yet.
    Ready,
    /// In use, in the device's hands.
    Live,
    /// Moved out with `take_queue`.
    Taken,
    /// The driver broke its protocol, its memory is gone, or its taken queue was dropped: quiet
    /// until reset.
    Failed,
}

/// Room for what is configured between two resets, a multiple of 8 apart.
const fn generation_of(nth: u32, epoch: u32) -> u32 {
    nth.wrapping_add(epoch.wrapping_mul(8))
}

/// What a [`QueueCheck`] refused while the driver goes live.
#[derive(Debug)]
pub(crate) struct Unwanted {
    /// Queue number; `None` if it was the set of all.
    pub(crate) queue: Option<u16>,
    /// Why.
    pub(crate) error: DeviceError,
}

impl Unwanted {
    /// What the driver is told.
    pub(crate) fn refusal(&self) -> Refusal {
        let by_the_device = match self.queue {
            Some(queue) => Refusal::Policy { queue },
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
    /// Counts stops, so that tokens and taken queues from before one are void.
    generation: u32,
    /// Counts configurations of the whole table, so that chains from before the last one are void.
    nth: u32,
    /// Of a dead queue what stopped it, of another one why a chain was last refused.
    fault: Option<DriverFault>,
}

#[derive(Debug)]
pub(crate) struct QueueTable<W, const Q: usize, const N: usize> {
    entries: [Entry<W, N>; Q],
    /// How each queue is laid out, by its number; size 0 where the entry is off.
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

    /// The queues that are configured, stopped ones included.
    pub(crate) fn queues(&self) -> ReadyQueues<'_> {
        ReadyQueues {
            configs: &self.configs,
        }
    }

    /// The features that a ready queue was checked with.
    pub(crate) fn checked(&self, queue: u16) -> Option<Features> {
        match self.entry(queue).map(|entry| &entry.place) {
            Some(Place::Ready(checked)) => Some(checked.features),
            _ => None,
        }
    }

    /// What stopped a queue, or if it was not `stopped` why a chain of it was last refused.
    pub(crate) fn fault(&self, queue: u16, stopped: bool) -> Option<DriverFault> {
        self.entry(queue)
            .filter(|entry| matches!(entry.place, Place::Failed) == stopped)
            .and_then(|entry| entry.fault)
    }

    /// A chain of a queue that goes on was refused.
    pub(crate) fn refused(&mut self, queue: u16, fault: DriverFault) {
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

    /// The queues that are moved out.
    pub(crate) fn taken(&self) -> QueueSet<Q> {
        let mut set = QueueSet::new();
        for (entry, queue) in self.entries.iter().zip(0u16..) {
            if matches!(entry.place, Place::Taken) {
                // `Q` words always hold `Q` numbers.
                let _ = set.insert(queue);
            }
        }
        set
    }

    /// The queues that are configured, stopped ones included.
    pub(crate) fn configured(&self) -> QueueSet<Q> {
        let mut set = QueueSet::new();
        for (entry, queue) in self.entries.iter().zip(0u16..) {
            if !matches!(entry.place, Place::Off) {
                // `Q` words always hold `Q` numbers.
                let _ = set.insert(queue);
            }
        }
        set
    }

    pub(crate) fn stop_with(&mut self, queue: u16, fault: Option<DriverFault>) {
        if let Some(entry) = self.entry_mut(queue) {
            // What stopped it first stays.
            if !matches!(entry.place, Place::Failed) || entry.fault.is_none() {
                entry.fault = fault;
            }
            entry.place = Place::Failed;
            entry.generation = entry.generation.wrapping_add(1);
        }
    }

    /// A queue whose rings are gone: stopped, though it could not be checked.
    pub(crate) fn mark_failed(&mut self, config: &QueueConfig) {
        if let Some(entry) = self.claim(config) {
            entry.place = Place::Failed;
        }
    }

    /// Notes how a queue is laid out that is configured. Its place is the caller's to fill, so that
    /// nothing of the size of a queue is moved about.
    fn claim(&mut self, config: &QueueConfig) -> Option<&mut Entry<W, N>> {
        let at = usize::from(config.queue);
        let entry = self.entries.get_mut(at)?;
        *self.configs.get_mut(at)? = *config;
        self.configured = self.configured.wrapping_add(1);
        entry.nth = self.configured;
        Some(entry)
    }

    /// Forgets a queue. Its rings are not touched again.
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
    }

    /// Moves a live queue out, unless chains of it are in flight here: they would be lost.
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

    /// Moves a taken queue back in; `Err` if it was stopped or reset meanwhile.
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

    /// Whether what was taken under this number and generation is what the queue still is.
    pub(crate) fn is_out(&self, queue: u16, generation: u32) -> bool {
        self.entry(queue).is_some_and(|entry| {
            entry.generation == generation && matches!(entry.place, Place::Taken)
        })
    }
}

impl<W: RingWindow, const Q: usize, const N: usize> QueueTable<W, Q, N> {
    /// Checks a configuration against everything that is there, asks about it beside the queues that
    /// are there, and makes it ready.
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

    /// The same, but the device's own check is left to [`check_wanted`](Self::check_wanted).
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

    /// Checks a queue against the others with numbers below `end`, and makes it ready. One copy serves
    /// both callers, and nothing is moved between them: it is the largest function of a set-up.
    #[inline(never)]
    fn install<M: DriverMem<Window = W>>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        features: Features,
        mem: &M,
        end: u16,
    ) -> Result<(), Refusal> {
        // The chain buffer bounds what may be offered, and so what may be asked for.
        let max = largest(max, num::clamp_u16(N));
        let others = self.queues().iter().take_while(|other| other.queue < end);
        let checked = check::check(config, max, features, mem, others)?;
        if let Some(entry) = self.entry_mut(config.queue) {
            entry.place = Place::Ready(checked);
        }
        Ok(())
    }

    /// The features and the queues are final: every ready queue is checked again, lowest first, each
    /// against those below it, and all that passed are asked about as
    /// [`check_wanted`](Self::check_wanted) does. `drops` is told of each queue that did not pass, and
    /// says whether to go on without it.
    pub(crate) fn check_again<M: DriverMem<Window = W>, C: QueueCheck + ?Sized>(
        &mut self,
        features: Features,
        max: impl Fn(u16) -> u16,
        mem: &M,
        queue_check: &C,
        mut drops: impl FnMut(u16, &Unwanted) -> bool,
    ) -> Result<(), Unwanted> {
        for queue in 0..num::clamp_u16(Q) {
            let Some(config) = self.config(queue).copied() else {
                continue;
            };
            if let Err(refusal) = self.install(&config, max(queue), features, mem, queue) {
                let unwanted = Unwanted {
                    queue: Some(queue),
                    error: refusal.into(),
                };
                if !drops(queue, &unwanted) {
                    return Err(unwanted);
                }
                self.remove(queue);
            }
        }
        self.check_wanted(features, queue_check, drops)
    }

    /// Asks about each queue beside all others, lowest first, and then about the set of all. `drops`
    /// is told of a queue that is not wanted, and says whether to go on without it; the others are
    /// asked about again then. At most `Q * (Q + 1) / 2` calls for single queues, `Q` if nothing is
    /// dropped.
    pub(crate) fn check_wanted<C: QueueCheck + ?Sized>(
        &mut self,
        features: Features,
        queue_check: &C,
        mut drops: impl FnMut(u16, &Unwanted) -> bool,
    ) -> Result<(), Unwanted> {
        while let Some((queue, unwanted)) = self.first_unwanted(features, queue_check) {
            if !drops(queue, &unwanted) {
                return Err(unwanted);
            }
            self.remove(queue);
        }
        queue_check
            .check_ready(self.queues().iter(), features)
            .map_err(|error| Unwanted {
                queue: None,
                error: error.into(),
            })
    }

    fn first_unwanted<C: QueueCheck + ?Sized>(
        &self,
        features: Features,
        queue_check: &C,
    ) -> Option<(u16, Unwanted)> {
        let queues = self.queues();
        queues.iter().find_map(|config| {
            let queue = config.queue;
            let asked = queue_check.check_config(config, features, queues.beside(queue));
            let error = asked.err()?.into();
            let unwanted = Unwanted {
                queue: Some(queue),
                error,
            };
            Some((queue, unwanted))
        })
    }

    /// The driver is live: every ready queue becomes one, whose chains are of another life than any of
    /// before this `epoch`, in this table or another. One store to each used ring.
    pub(crate) fn start(&mut self, epoch: u32) {
        for entry in &mut self.entries {
            if let Place::Ready(_) = entry.place
                && let Place::Ready(checked) = core::mem::replace(&mut entry.place, Place::Off)
            {
                entry.place = Place::Live(Virtqueue::new(checked, generation_of(entry.nth, epoch)));
                // In its place, so that nothing of it is moved about.
                if let Place::Live(virtqueue) = &mut entry.place {
                    virtqueue.begin();
                }
            }
        }
    }

    /// A ready queue becomes one that is as far as a snapshot says; false if it cannot be.
    pub(crate) fn start_at(
        &mut self,
        queue: u16,
        ring: &RingSnapshot,
        chains: u16,
        epoch: u32,
    ) -> bool {
        let Some(entry) = self.entry_mut(queue) else {
            return false;
        };
        let Place::Ready(checked) = core::mem::replace(&mut entry.place, Place::Off) else {
            return false;
        };
        match Virtqueue::restored(checked, generation_of(entry.nth, epoch), ring, chains) {
            Some(virtqueue) if !virtqueue.is_stuck() => {
                entry.place = Place::Live(virtqueue);
                true
            }
            _ => false,
        }
    }

    /// Translates the rings of one queue again; false if they are gone.
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

    /// Translates every ring again, after the memory changed; the set names the queues whose rings
    /// are gone. Taken queues are not looked at.
    pub(crate) fn translate_again<M: DriverMem<Window = W>>(&mut self, mem: &M) -> QueueSet<Q> {
        let mut gone = QueueSet::new();
        for queue in 0..num::clamp_u16(Q) {
            if !self.translate_one(queue, mem) {
                // `Q` words always hold `Q` numbers.
                let _ = gone.insert(queue);
            }
        }
        gone
    }
}

//! What the driver says of its queues: parameters, QueueReady and QueueNotify.

use super::{Outstanding, Phase, Reply, Transport, access::DONE, registers::at};
use crate::{
    error::{Frozen, Refusal},
    message::QueueConfig,
    model::DeviceConfig,
    num,
    queue_set::QueueSet,
    shared::Shared,
    table::largest,
};

/// What the driver wrote for one queue, not looked at before QueueReady.
#[derive(Clone, Copy, Debug)]
struct Latch {
    size: u32,
    desc: u64,
    driver: u64,
    device: u64,
    ready: bool,
}

impl Latch {
    const NEW: Self = Self {
        size: 0,
        desc: 0,
        driver: 0,
        device: 0,
        ready: false,
    };
}

/// The latches, and what became of the queues that were made ready.
#[derive(Debug)]
pub(super) struct Queues<const Q: usize> {
    pub(super) sel: u32,
    latches: [Latch; Q],
    /// Queues that the driver made ready and that were refused.
    refused: QueueSet<Q>,
    refused_beyond: bool,
    refusal: Option<Refusal>,
}

impl<const Q: usize> Queues<Q> {
    pub(super) const fn new() -> Self {
        Self {
            sel: 0,
            latches: [Latch::NEW; Q],
            refused: QueueSet::new(),
            refused_beyond: false,
            refusal: None,
        }
    }

    /// As after reset; field by field, so that nothing is built elsewhere and copied.
    pub(super) fn reset(&mut self) {
        self.sel = 0;
        for latch in &mut self.latches {
            latch.size = 0;
            latch.desc = 0;
            latch.driver = 0;
            latch.device = 0;
            latch.ready = false;
        }
        self.refused.clear();
        self.refused_beyond = false;
        self.refusal = None;
    }

    /// Whether the driver wanted a queue that it did not get.
    pub(super) fn any_refused(&self) -> bool {
        self.refused_beyond || !self.refused.is_empty()
    }

    /// What is to be checked.
    pub(super) fn config(&self, queue: u16) -> Option<QueueConfig> {
        let Latch {
            size,
            desc,
            driver,
            device,
            ..
        } = *self.latches.get(usize::from(queue))?;
        Some(QueueConfig {
            queue,
            size,
            desc,
            driver,
            device,
        })
    }

    /// The queue was checked.
    pub(super) fn checked(&mut self, queue: u16, verdict: Result<(), Refusal>) {
        match verdict {
            Ok(()) => {
                self.refused.remove(queue);
                if !self.any_refused() {
                    self.refusal = None;
                }
                self.set_ready(queue, true);
            }
            Err(refusal) => {
                // `Q` words always hold `Q` numbers.
                let _ = self.refused.insert(queue);
                self.refusal = Some(refusal);
            }
        }
    }

    /// The queue has stopped.
    pub(super) fn stopped(&mut self, queue: u16) {
        self.set_ready(queue, false);
    }

    fn set_ready(&mut self, queue: u16, ready: bool) {
        if let Some(latch) = self.latch(queue) {
            latch.ready = ready;
        }
    }

    fn latch(&mut self, queue: u16) -> Option<&mut Latch> {
        self.latches.get_mut(usize::from(queue))
    }
}

impl<const Q: usize> Transport<Q> {
    /// Why a queue was last refused, until every refused queue is ready or the device is reset.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.queues.refusal
    }

    /// A queue did not pass when it was checked again.
    pub(crate) fn note_refusal(&mut self, refusal: Refusal) {
        self.queues.refusal = Some(refusal);
    }

    fn selected<C: DeviceConfig>(&self, config: &C) -> Option<u16> {
        match u16::try_from(self.queues.sel) {
            Ok(queue) if usize::from(queue) < Q && config.queue_size_max(queue) != 0 => Some(queue),
            _ => None,
        }
    }

    #[inline(never)]
    pub(super) fn queue_size_max<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.fit(config);
        self.selected(config).map_or(0, |queue| {
            u32::from(largest(config.queue_size_max(queue), self.capacity))
        })
    }

    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        let selected = u16::try_from(self.queues.sel).unwrap_or(u16::MAX);
        let latch = self.queues.latches.get(usize::from(selected));
        latch.is_some_and(|latch| latch.ready)
    }

    #[inline(never)]
    pub(super) fn parameter<C: DeviceConfig>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
    ) -> Result<(), Refusal> {
        self.fit(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queues.sel,
        };
        let queue = self.selected(config).ok_or(absent)?;
        let phase = self.phase();
        let latch = self.queues.latch(queue).ok_or(absent)?;
        let why = match phase {
            Phase::Failed => Some(Frozen::Failed),
            _ if latch.ready => Some(Frozen::QueueReady),
            Phase::Live => Some(Frozen::Live),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Refusal::QueueFrozen { queue, why });
        }
        match offset {
            at::QUEUE_SIZE => latch.size = value,
            at::QUEUE_DESC_LOW => latch.desc = num::with_low(latch.desc, value),
            at::QUEUE_DESC_HIGH => latch.desc = num::with_high(latch.desc, value),
            at::QUEUE_DRIVER_LOW => latch.driver = num::with_low(latch.driver, value),
            at::QUEUE_DRIVER_HIGH => latch.driver = num::with_high(latch.driver, value),
            at::QUEUE_DEVICE_LOW => latch.device = num::with_low(latch.device, value),
            _ => latch.device = num::with_high(latch.device, value),
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn queue_ready<C: DeviceConfig>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
    ) -> Reply {
        self.fit(config);
        if value > 1 {
            return Refusal::BadValue { offset, value }.into();
        }
        let phase = self.phase();
        // A queue that is ready can be stopped even if what was negotiated since hides it.
        let made = u16::try_from(self.queues.sel).unwrap_or(u16::MAX);
        if value == 0 && self.queues.latch(made).is_some_and(|latch| latch.ready) {
            return self.expect(Outstanding::Stop(made));
        }
        let selected = self.selected(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queues.sel,
        };
        let Some((queue, ready)) =
            selected.and_then(|queue| Some((queue, self.queues.latch(queue)?.ready)))
        else {
            if value == 1 && !matches!(phase, Phase::Live | Phase::Failed) {
                self.queues.refused_beyond = true;
                self.queues.refusal = Some(absent);
            }
            return absent.into();
        };
        match (value == 1, ready) {
            (true, true) => DONE,
            (false, _) => {
                // It goes on without this queue, then.
                self.queues.refused.remove(queue);
                DONE
            }
            (true, false) => match phase {
                Phase::Live => Refusal::QueueFrozen {
                    queue,
                    why: Frozen::Live,
                }
                .into(),
                Phase::Failed => Refusal::QueueFrozen {
                    queue,
                    why: Frozen::Failed,
                }
                .into(),
                _ => self.expect(Outstanding::Configure(queue)),
            },
        }
    }

    pub(super) fn queue_notify(&mut self, value: u32, shared: &Shared<Q>) -> Reply {
        let absent = Refusal::NoSuchQueue { queue: value };
        let Ok(queue) = u16::try_from(value) else {
            return absent.into();
        };
        match self.queues.latches.get(usize::from(queue)) {
            None => absent.into(),
            Some(latch) if !latch.ready => Refusal::QueueNotReady { queue }.into(),
            // At DRIVER_OK every queue counts as notified, so an early kick needs no note.
            Some(_) if self.phase() != Phase::Live => Refusal::WrongPhase.into(),
            Some(_) => {
                shared.ring(queue);
                DONE
            }
        }
    }
}

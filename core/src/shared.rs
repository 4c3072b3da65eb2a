//! The one block of atomics that a device, its taken queues and its interrupt handlers share.
//!
//! Everything else has one owner at a time. What is here is single words with single meanings, so
//! there is no lock: a taken queue's hot path loads one of them.

use portable_atomic::{AtomicU32, Ordering};

use crate::{
    notify::{Doorbell, DriverNotify},
    num,
};

bitflags::bitflags! {
    /// InterruptStatus of virtio-mmio.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct InterruptStatus: u32 {
        /// The device used a buffer of at least one queue.
        const USED_BUFFER = 1;
        /// The device's configuration has changed.
        const CONFIG_CHANGE = 2;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for InterruptStatus {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "InterruptStatus({=u32:#x})", self.bits());
    }
}

/// What became of the driver's DRIVER_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Waiting,
    Accepted,
    Refused,
}

const STOPPED: u32 = 0;
const RUNNING: u32 = 1;
const STOPPING: u32 = 2;

const WAITING: u32 = 0;
const ACCEPTED: u32 = 1;
const REFUSED: u32 = 2;

/// What a device of up to `Q` queues shares with its taken queues and interrupt handlers.
///
/// It outlives the device by construction: the device holds a handle to it, which in firmware is a
/// `&'static Shared<Q>` and on a host an `Arc<Shared<Q>>`; both implement [`SharedHandle`].
///
/// ```
/// use virtside::Shared;
/// static SHARED: Shared<2> = Shared::new();
/// // An interrupt handler:
/// SHARED.doorbell().ring(1);
/// ```
#[derive(Debug)]
pub struct Shared<const Q: usize> {
    /// `Q` words of 32 queues: more than needed, for want of `(Q + 31) / 32` in stable Rust.
    doorbell: Doorbell<Q>,
    interrupt: AtomicU32,
    needs_reset: AtomicU32,
    driver_ok: AtomicU32,
    /// Counts resets, so that an answer to DRIVER_OK from before one is void.
    epoch: AtomicU32,
    answer: AtomicU32,
    /// STOPPED, RUNNING or STOPPING, per queue: written by the device, and STOPPED by the queue.
    taken: [AtomicU32; Q],
}

/// A way to the [`Shared`] block that can be handed to another thread or handler.
pub trait SharedHandle<const Q: usize>: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize, H> SharedHandle<Q> for H where H: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize> Shared<Q> {
    /// For a device in reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            doorbell: Doorbell::new(),
            interrupt: AtomicU32::new(0),
            needs_reset: AtomicU32::new(0),
            driver_ok: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            answer: AtomicU32::new(WAITING),
            taken: [const { AtomicU32::new(STOPPED) }; Q],
        }
    }

    /// The kicks that were not looked at yet. Ring it from wherever kicks arrive.
    #[must_use]
    pub const fn doorbell(&self) -> &Doorbell<Q> {
        &self.doorbell
    }

    /// What is pending, as the driver reads it (mmio-03, mmio-04).
    #[must_use]
    pub fn interrupt_status(&self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.interrupt.load(Ordering::Acquire))
    }

    /// Sets pending bits and raises the interrupt.
    pub(crate) fn raise<I: DriverNotify>(&self, bits: InterruptStatus, notify: &I) {
        self.interrupt.fetch_or(bits.bits(), Ordering::AcqRel);
        notify.assert();
    }

    /// Clears pending bits, and lets a level line follow what is left.
    pub(crate) fn acknowledge<I: DriverNotify>(&self, bits: InterruptStatus, notify: &I) {
        let left = self.interrupt.fetch_and(!bits.bits(), Ordering::AcqRel) & !bits.bits();
        if left != 0 {
            notify.assert();
            return;
        }
        notify.deassert();
        // A queue on another core may have raised between the two: its line must not stay low.
        if self.interrupt.load(Ordering::Acquire) != 0 {
            notify.assert();
        }
    }

    /// Whether the driver is live: DRIVER_OK was written and accepted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.driver_ok.load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_live(&self, live: bool) {
        self.driver_ok.store(u32::from(live), Ordering::Release);
    }

    /// Whether DEVICE_NEEDS_RESET is set.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire) != 0
    }

    /// Sets DEVICE_NEEDS_RESET; the first time after DRIVER_OK, with the configuration interrupt
    /// that has to follow it (status-03, status-04).
    pub(crate) fn fail<I: DriverNotify>(&self, driver_ok: bool, notify: &I) {
        let before = self.needs_reset.swap(1, Ordering::AcqRel);
        if before == 0 && driver_ok {
            self.raise(InterruptStatus::CONFIG_CHANGE, notify);
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn expect_answer(&self) {
        self.answer.store(WAITING, Ordering::Release);
    }

    pub(crate) fn give_answer(&self, epoch: u32, accepted: bool) -> bool {
        if self.epoch() != epoch {
            return false;
        }
        let answer = if accepted { ACCEPTED } else { REFUSED };
        self.answer.store(answer, Ordering::Release);
        true
    }

    pub(crate) fn answer(&self) -> Answer {
        match self.answer.load(Ordering::Acquire) {
            ACCEPTED => Answer::Accepted,
            REFUSED => Answer::Refused,
            _ => Answer::Waiting,
        }
    }

    fn taken(&self, queue: u16) -> Option<&AtomicU32> {
        self.taken.get(usize::from(queue))
    }

    pub(crate) fn start(&self, queue: u16) {
        if let Some(state) = self.taken(queue) {
            state.store(RUNNING, Ordering::Release);
        }
    }

    /// Asks a taken queue to stop; true if it is quiet already.
    pub(crate) fn stop(&self, queue: u16) -> bool {
        let Some(state) = self.taken(queue) else {
            return true;
        };
        // Only RUNNING may become STOPPING: the queue may fall quiet at this moment.
        let asked = state.compare_exchange(RUNNING, STOPPING, Ordering::AcqRel, Ordering::Acquire);
        matches!(asked, Err(STOPPED))
    }

    /// Whether a taken queue has to stop. The hot path's one load.
    #[inline(always)]
    pub(crate) fn must_stop(&self, queue: u16) -> bool {
        self.taken(queue)
            .is_none_or(|state| state.load(Ordering::Acquire) != RUNNING)
    }

    /// From the taken queue: it will touch no memory of the driver any more.
    pub(crate) fn quiet(&self, queue: u16) {
        if let Some(state) = self.taken(queue) {
            state.store(STOPPED, Ordering::Release);
        }
    }

    /// Device reset, after every taken queue is quiet (mmio-05).
    pub(crate) fn reset<I: DriverNotify>(&self, notify: &I) {
        self.set_live(false);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.answer.store(WAITING, Ordering::Release);
        self.needs_reset.store(0, Ordering::Release);
        self.doorbell.drain();
        self.interrupt.store(0, Ordering::Release);
        notify.deassert();
    }

    /// Notes a kick if there is such a queue.
    pub(crate) fn ring(&self, queue: u16) -> bool {
        usize::from(queue) < Q && self.doorbell.ring(queue)
    }

    /// Asks every taken queue to stop; true if all are quiet.
    pub(crate) fn stop_all(&self) -> bool {
        let mut quiet = true;
        for queue in 0..num::clamp_u16(Q) {
            quiet &= self.stop(queue);
        }
        quiet
    }
}

impl<const Q: usize> Default for Shared<Q> {
    fn default() -> Self {
        Self::new()
    }
}

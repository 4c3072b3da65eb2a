//! Atomics that a device shares with its taken queues and interrupt handlers.
//!
//! All other state has one owner at a time. Each shared value is a single word, so no lock is
//! needed. The hot path of a taken queue loads one of these words.

use portable_atomic::{AtomicU32, Ordering};

use crate::{
    doorbell::Doorbell,
    interrupt::{DriverNotify, sync_level},
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

/// The device's answer to DRIVER_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartAnswer {
    Waiting,
    Accepted,
    Refused,
}

/// State of a queue: not taken, or taken and [quiet](crate::device::TakenQueue). The bits from
/// [`COUNT`] on count the takes.
const STOPPED: u32 = 0;
/// State of a taken queue: its owner serves it.
const RUNNING: u32 = 1;
/// State of a taken queue: asked to stop.
const STOPPING: u32 = 2;
/// State of a taken queue: quiet, and dropped by its owner.
const DROPPED: u32 = 3;
/// Increment of the count of takes. In the states RUNNING and STOPPING the word contains no count,
/// so that a taken queue compares the whole word with RUNNING.
const COUNT: u32 = 4;

/// Flag beside the bits of InterruptStatus: the pending interrupts are held back until the device
/// leaves its suspension.
const HELD: u32 = 1 << 31;

/// Answer to DRIVER_OK: not given yet.
const WAITING: u32 = 0;
/// Answer to DRIVER_OK: the device starts.
const ACCEPTED: u32 = 1;
/// Answer to DRIVER_OK: the device does not start.
const REFUSED: u32 = 2;
/// Answer to DRIVER_OK: not given yet, and DEVICE_NEEDS_RESET is being set before the refusal.
const REFUSING: u32 = 3;
/// The driver set FAILED.
const FAILED: u32 = 7;
/// Mask of the answer in `Shared::epoch_and_answer`. The other bits count resets.
const ANSWER: u32 = 7;

/// The state that a device of up to `Q` queues shares with its taken queues and interrupt handlers.
///
/// The device holds a handle to the block, so the block outlives the device. Firmware uses a
/// `&'static Shared<Q>`, and a host an `Arc<Shared<Q>>`. Both implement [`SharedHandle`].
///
/// ```
/// use virtside::Shared;
/// static SHARED: Shared<2> = Shared::new();
/// // An interrupt handler:
/// SHARED.doorbell().ring(1);
/// ```
#[derive(Debug)]
pub struct Shared<const Q: usize> {
    doorbell: Doorbell<Q>,
    interrupt: AtomicU32,
    needs_reset: AtomicU32,
    /// The answer to DRIVER_OK and the number of resets. Both are in one word, so that an answer is
    /// given only once, and an answer from before a reset has no effect.
    epoch_and_answer: AtomicU32,
    /// STOPPED, RUNNING, STOPPING or DROPPED, for each queue. The device writes RUNNING and
    /// STOPPING, and the taken queue writes STOPPED and DROPPED.
    taken: [AtomicU32; Q],
}

/// A handle to the [`Shared`] block that can be given to another thread or handler.
pub trait SharedHandle<const Q: usize>: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize, H> SharedHandle<Q> for H where H: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize> Shared<Q> {
    /// Creates the shared block of a device in reset.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(Q > 0 && Q <= 2048, "a device has 1 to 2048 queues");
        }
        Self {
            doorbell: Doorbell::new(),
            interrupt: AtomicU32::new(0),
            needs_reset: AtomicU32::new(0),
            epoch_and_answer: AtomicU32::new(WAITING),
            taken: [const { AtomicU32::new(STOPPED) }; Q],
        }
    }

    /// Returns the doorbell with the kicks that no poll has taken yet. Ring it wherever kicks
    /// arrive.
    #[must_use]
    pub const fn doorbell(&self) -> &Doorbell<Q> {
        &self.doorbell
    }

    /// Returns the pending interrupts, as the driver reads them (mmio-03, mmio-04).
    #[must_use]
    pub fn interrupt_status(&self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.interrupt.load(Ordering::Acquire))
    }

    /// Sets pending bits and raises the interrupt. The caller has told the interrupt which queues
    /// have used buffers.
    pub(crate) fn raise<I: DriverNotify>(&self, bits: InterruptStatus, notify: &I) {
        self.interrupt.fetch_or(bits.bits(), Ordering::AcqRel);
        if bits.contains(InterruptStatus::CONFIG_CHANGE) {
            notify.config_changed();
        }
        notify.assert();
        self.sync_level(true, notify);
    }

    /// Sets a level line to the level of InterruptStatus, after the caller has driven it `high` or
    /// low.
    #[inline(always)]
    fn sync_level<I: DriverNotify>(&self, high: bool, notify: &I) {
        sync_level(notify, high, || !self.interrupt_status().is_empty());
    }

    /// Sets pending bits and holds the interrupt back until the device is resumed or failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn hold(&self, bits: InterruptStatus) {
        self.interrupt
            .fetch_or(bits.bits() | HELD, Ordering::AcqRel);
    }

    /// Raises the interrupt for the held-back bits that are still pending, if there are any.
    pub(crate) fn release_held<I: DriverNotify>(&self, notify: &I) {
        let held = self.take_held();
        if !held.is_empty() {
            self.used_anywhere(held, notify);
            self.raise(held, notify);
        }
    }

    /// Tells the interrupt that any queue may have used buffers, if the bits say that one has.
    #[cold]
    pub(crate) fn used_anywhere<I: DriverNotify>(&self, bits: InterruptStatus, notify: &I) {
        if bits.contains(InterruptStatus::USED_BUFFER) {
            for queue in 0..num::clamp_u16(Q) {
                notify.used(queue);
            }
        }
    }

    /// Stops holding interrupts back. Returns the held-back bits that are still pending.
    pub(crate) fn take_held(&self) -> InterruptStatus {
        let pending = self.interrupt.fetch_and(!HELD, Ordering::AcqRel);
        if pending & HELD == 0 {
            return InterruptStatus::empty();
        }
        InterruptStatus::from_bits_truncate(pending)
    }

    /// Clears pending bits and adjusts the level line.
    ///
    /// If bits stay pending, an edge-triggered interrupt must be sent again: at once if `raise_now`
    /// returns true, otherwise when the device leaves its suspension.
    #[inline(always)]
    pub(crate) fn acknowledge<I: DriverNotify>(
        &self,
        bits: InterruptStatus,
        raise_now: impl FnOnce() -> bool,
        notify: &I,
    ) {
        let left = self.interrupt.fetch_and(!bits.bits(), Ordering::AcqRel) & !bits.bits();
        let left = InterruptStatus::from_bits_truncate(left);
        if left.is_empty() {
            notify.deassert();
            self.sync_level(false, notify);
        } else {
            self.raise_again(left, raise_now(), notify);
        }
    }

    /// Raises the interrupt again for the bits that the driver did not acknowledge, or holds it
    /// back.
    #[cold]
    #[inline(never)]
    fn raise_again<I: DriverNotify>(&self, left: InterruptStatus, raise_now: bool, notify: &I) {
        if raise_now {
            notify.assert();
        } else {
            self.hold(left);
        }
        self.sync_level(true, notify);
    }

    /// Returns whether the driver is live: DRIVER_OK was written and accepted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.epoch_and_answer.load(Ordering::Acquire) & ANSWER == ACCEPTED
    }

    /// Records that the driver set FAILED. The driver is not live again before a reset.
    pub(crate) fn give_up(&self) {
        self.epoch_and_answer.fetch_or(FAILED, Ordering::AcqRel);
    }

    /// Returns whether DEVICE_NEEDS_RESET is set.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire) != 0
    }

    /// Sets DEVICE_NEEDS_RESET. Raises a configuration interrupt if DEVICE_NEEDS_RESET was clear
    /// and DRIVER_OK was written (status-03, status-04). Returns whether it raised the interrupt.
    pub(crate) fn fail<I: DriverNotify>(&self, driver_ok: bool, notify: &I) -> bool {
        let before = self.needs_reset.swap(1, Ordering::AcqRel);
        let first = before == 0 && driver_ok;
        if first {
            self.raise(InterruptStatus::CONFIG_CHANGE, notify);
        }
        first
    }

    /// Sets DEVICE_NEEDS_RESET at DRIVER_OK and raises the configuration interrupt, even if
    /// DEVICE_NEEDS_RESET was set before.
    pub(crate) fn fail_at_driver_ok<I: DriverNotify>(&self, notify: &I) {
        self.needs_reset.store(1, Ordering::Release);
        self.raise(InterruptStatus::CONFIG_CHANGE, notify);
    }

    /// Returns the epoch, which identifies the time between two resets of the device.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch_and_answer.load(Ordering::Acquire) & !ANSWER
    }

    /// Accepts DRIVER_OK. Returns false if DRIVER_OK was already answered, or the device is in
    /// another epoch.
    pub(crate) fn accept(&self, epoch: u32) -> bool {
        self.transition(epoch | WAITING, epoch | ACCEPTED)
    }

    /// Refuses DRIVER_OK. Has no effect if DRIVER_OK was already answered, or the device is in
    /// another epoch.
    ///
    /// DEVICE_NEEDS_RESET and its interrupt come before the answer, so that a reset after the
    /// answer clears both.
    pub(crate) fn refuse<I: DriverNotify>(&self, epoch: u32, notify: &I) {
        if self.transition(epoch | WAITING, epoch | REFUSING) {
            self.fail(true, notify);
            self.transition(epoch | REFUSING, epoch | REFUSED);
        }
    }

    /// Returns whether a refusal is setting DEVICE_NEEDS_RESET and raising its interrupt now.
    pub(crate) fn is_refusing(&self) -> bool {
        self.epoch_and_answer.load(Ordering::Acquire) & ANSWER == REFUSING
    }

    #[inline(never)]
    fn transition(&self, from: u32, to: u32) -> bool {
        let transitioned =
            self.epoch_and_answer
                .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        transitioned.is_ok()
    }

    pub(crate) fn answer(&self) -> StartAnswer {
        match self.epoch_and_answer.load(Ordering::Acquire) & ANSWER {
            WAITING | REFUSING => StartAnswer::Waiting,
            ACCEPTED => StartAnswer::Accepted,
            _ => StartAnswer::Refused,
        }
    }

    fn taken(&self, queue: u16) -> Option<&AtomicU32> {
        self.taken.get(usize::from(queue))
    }

    /// Records that a queue is taken. Returns a number that identifies the take, for
    /// [`quiet`](Self::quiet) and [`dropped`](Self::dropped).
    pub(crate) fn start(&self, queue: u16) -> u32 {
        let Some(state) = self.taken(queue) else {
            return 0;
        };
        let before = state.swap(RUNNING, Ordering::AcqRel);
        (before & !DROPPED).wrapping_add(COUNT)
    }

    /// Asks a taken queue to stop. Returns whether the queue is quiet already.
    #[inline(never)]
    pub(crate) fn stop(&self, queue: u16) -> bool {
        let Some(state) = self.taken(queue) else {
            return true;
        };
        // The queue may become quiet at this moment, so only RUNNING may change to STOPPING.
        let asked = state.compare_exchange(RUNNING, STOPPING, Ordering::AcqRel, Ordering::Acquire);
        if asked.is_ok() {
            // The queue's owner may be waiting for a kick.
            self.ring(queue);
        }
        asked.is_err_and(|now| now != STOPPING)
    }

    /// Returns whether a taken queue must stop. This is the one load of its hot path.
    #[inline(always)]
    pub(crate) fn must_stop(&self, queue: u16) -> bool {
        self.taken(queue)
            .is_none_or(|state| state.load(Ordering::Acquire) != RUNNING)
    }

    /// Called by a taken queue that becomes quiet: the queue will not access the driver's memory
    /// again.
    pub(crate) fn quiet(&self, queue: u16, take: u32) {
        if let Some(state) = self.taken(queue) {
            state.store(take | STOPPED, Ordering::Release);
        }
    }

    /// Called by a taken queue that is dropped. `was_quiet` tells whether the queue was quiet
    /// before. If so, another taken queue may have this number already, and its state is not
    /// changed.
    pub(crate) fn dropped(&self, queue: u16, take: u32, was_quiet: bool) {
        let Some(state) = self.taken(queue) else {
            return;
        };
        let (from, to) = (take | STOPPED, take | DROPPED);
        if was_quiet {
            let _ = state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        } else {
            state.store(to, Ordering::Release);
        }
    }

    /// Returns whether the last taken queue with this number was dropped.
    pub(crate) fn was_dropped(&self, queue: u16) -> bool {
        self.taken(queue)
            .is_some_and(|state| state.load(Ordering::Acquire) & DROPPED == DROPPED)
    }

    /// Resets the block. Every taken queue must be quiet (mmio-05).
    pub(crate) fn reset<I: DriverNotify>(&self, notify: &I) {
        let next = self.epoch().wrapping_add(ANSWER.wrapping_add(1));
        self.epoch_and_answer
            .store(next | WAITING, Ordering::Release);
        self.needs_reset.store(0, Ordering::Release);
        self.doorbell.drain();
        self.interrupt.store(0, Ordering::Release);
        notify.deassert();
    }

    /// Records a kick. Returns false if there is no such queue.
    pub(crate) fn ring(&self, queue: u16) -> bool {
        self.doorbell.ring(queue)
    }

    /// Asks every taken queue to stop. Returns whether all are quiet.
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

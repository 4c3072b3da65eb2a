//! The one block of atomics that a device, its taken queues and its interrupt handlers share.
//!
//! Everything else has one owner at a time. What is here is single words with single meanings, so
//! there is no lock: a taken queue's hot path loads one of them.

use portable_atomic::{AtomicU32, Ordering};

use crate::{
    doorbell::Doorbell,
    interrupt::{DriverNotify, follow},
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

/// With the number of takes in the bits from [`COUNT`] on.
const STOPPED: u32 = 0;
const RUNNING: u32 = 1;
const STOPPING: u32 = 2;
/// As STOPPED, and its owner dropped it.
const DROPPED: u32 = 3;
/// One take. It is in the word only while none is at work, so that RUNNING is one value.
const COUNT: u32 = 4;

/// Beside the bits of InterruptStatus: the driver is to be told of them when the device leaves its
/// suspension.
const HELD: u32 = 1 << 31;

const WAITING: u32 = 0;
const ACCEPTED: u32 = 1;
const REFUSED: u32 = 2;
/// Being refused: DEVICE_NEEDS_RESET comes before the answer.
const REFUSING: u32 = 3;
/// The driver gave up (FAILED).
const OVER: u32 = 7;
/// The answer's bits of `Shared::epoch_and_answer`; the others count resets.
const ANSWER: u32 = 7;

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
    doorbell: Doorbell<Q>,
    interrupt: AtomicU32,
    needs_reset: AtomicU32,
    /// The answer to DRIVER_OK and the number of resets, in one word: an answer is given once, and
    /// one from before a reset is void.
    epoch_and_answer: AtomicU32,
    /// STOPPED, RUNNING, STOPPING or DROPPED, per queue: RUNNING and STOPPING are written by the
    /// device, the others by the queue.
    taken: [AtomicU32; Q],
}

/// A way to the [`Shared`] block that can be handed to another thread or handler.
pub trait SharedHandle<const Q: usize>: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize, H> SharedHandle<Q> for H where H: core::ops::Deref<Target = Shared<Q>> + Clone {}

impl<const Q: usize> Shared<Q> {
    /// For a device in reset.
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
        self.follow(true, notify);
    }

    /// Lets a level line follow what is pending, after it was driven `high` or low.
    #[inline(always)]
    fn follow<I: DriverNotify>(&self, high: bool, notify: &I) {
        follow(notify, high, || !self.interrupt_status().is_empty());
    }

    /// Sets pending bits, of which the driver is told when it resumes the device or gives it up.
    #[cold]
    #[inline(never)]
    pub(crate) fn hold(&self, bits: InterruptStatus) {
        self.interrupt
            .fetch_or(bits.bits() | HELD, Ordering::AcqRel);
    }

    /// Raises the interrupt for what was held and is still pending, if anything.
    pub(crate) fn release_held<I: DriverNotify>(&self, notify: &I) {
        let held = self.take_held();
        if !held.is_empty() {
            self.raise(held, notify);
        }
    }

    /// What was held, and is still pending.
    pub(crate) fn take_held(&self) -> InterruptStatus {
        let pending = self.interrupt.fetch_and(!HELD, Ordering::AcqRel);
        if pending & HELD == 0 {
            return InterruptStatus::empty();
        }
        InterruptStatus::from_bits_truncate(pending)
    }

    /// Clears pending bits, and lets a level line follow what is left. An interrupt that is an edge
    /// is sent again for that: `now`, or when the device leaves its suspension.
    #[inline(always)]
    pub(crate) fn acknowledge<I: DriverNotify>(
        &self,
        bits: InterruptStatus,
        now: impl FnOnce() -> bool,
        notify: &I,
    ) {
        let left = self.interrupt.fetch_and(!bits.bits(), Ordering::AcqRel) & !bits.bits();
        let left = InterruptStatus::from_bits_truncate(left);
        if left.is_empty() {
            notify.deassert();
            self.follow(false, notify);
        } else {
            self.remind(left, now(), notify);
        }
    }

    /// What the driver did not acknowledge.
    #[cold]
    #[inline(never)]
    fn remind<I: DriverNotify>(&self, left: InterruptStatus, now: bool, notify: &I) {
        if now {
            notify.assert();
        } else {
            self.hold(left);
        }
        self.follow(true, notify);
    }

    /// Whether the driver is live: DRIVER_OK was written and accepted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.epoch_and_answer.load(Ordering::Acquire) & ANSWER == ACCEPTED
    }

    /// The driver wrote FAILED: not live until reset.
    pub(crate) fn give_up(&self) {
        self.epoch_and_answer.fetch_or(OVER, Ordering::AcqRel);
    }

    /// Whether DEVICE_NEEDS_RESET is set.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire) != 0
    }

    /// Sets DEVICE_NEEDS_RESET; the first time after DRIVER_OK, with the configuration interrupt
    /// that has to follow it (status-03, status-04); says whether there was one.
    pub(crate) fn fail<I: DriverNotify>(&self, driver_ok: bool, notify: &I) -> bool {
        let before = self.needs_reset.swap(1, Ordering::AcqRel);
        let first = before == 0 && driver_ok;
        if first {
            self.raise(InterruptStatus::CONFIG_CHANGE, notify);
        }
        first
    }

    /// Sets DEVICE_NEEDS_RESET, or announces that it was set before DRIVER_OK.
    pub(crate) fn fail_at_driver_ok<I: DriverNotify>(&self, notify: &I) {
        self.needs_reset.store(1, Ordering::Release);
        self.raise(InterruptStatus::CONFIG_CHANGE, notify);
    }

    /// Names the time between two resets.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch_and_answer.load(Ordering::Acquire) & !ANSWER
    }

    /// Accepts DRIVER_OK; false if it was answered before, or in another epoch.
    pub(crate) fn accept(&self, epoch: u32) -> bool {
        self.transition(epoch | WAITING, epoch | ACCEPTED)
    }

    /// Refuses DRIVER_OK, unless it was answered before, or in another epoch: DEVICE_NEEDS_RESET
    /// and its interrupt first, so that a reset after the answer finds both.
    pub(crate) fn refuse<I: DriverNotify>(&self, epoch: u32, notify: &I) {
        if self.transition(epoch | WAITING, epoch | REFUSING) {
            self.fail(true, notify);
            self.transition(epoch | REFUSING, epoch | REFUSED);
        }
    }

    /// Whether DEVICE_NEEDS_RESET and its interrupt are just coming.
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

    pub(crate) fn answer(&self) -> Answer {
        match self.epoch_and_answer.load(Ordering::Acquire) & ANSWER {
            WAITING | REFUSING => Answer::Waiting,
            ACCEPTED => Answer::Accepted,
            _ => Answer::Refused,
        }
    }

    fn taken(&self, queue: u16) -> Option<&AtomicU32> {
        self.taken.get(usize::from(queue))
    }

    /// A queue is taken: names this take, for [`quiet`](Self::quiet) and [`dropped`](Self::dropped).
    pub(crate) fn start(&self, queue: u16) -> u32 {
        let Some(state) = self.taken(queue) else {
            return 0;
        };
        let before = state.swap(RUNNING, Ordering::AcqRel);
        (before & !DROPPED).wrapping_add(COUNT)
    }

    /// Asks a taken queue to stop; true if it is quiet already.
    #[inline(never)]
    pub(crate) fn stop(&self, queue: u16) -> bool {
        let Some(state) = self.taken(queue) else {
            return true;
        };
        // Only RUNNING may become STOPPING: the queue may fall quiet at this moment.
        let asked = state.compare_exchange(RUNNING, STOPPING, Ordering::AcqRel, Ordering::Acquire);
        if asked.is_ok() {
            // Its owner may be waiting for a kick.
            self.ring(queue);
        }
        asked.is_err_and(|now| now != STOPPING)
    }

    /// Whether a taken queue has to stop. The hot path's one load.
    #[inline(always)]
    pub(crate) fn must_stop(&self, queue: u16) -> bool {
        self.taken(queue)
            .is_none_or(|state| state.load(Ordering::Acquire) != RUNNING)
    }

    /// From the taken queue: it will touch no memory of the driver any more.
    pub(crate) fn quiet(&self, queue: u16, take: u32) {
        if let Some(state) = self.taken(queue) {
            state.store(take | STOPPED, Ordering::Release);
        }
    }

    /// From the taken queue: it is gone. If it was quiet before, the number may have another owner.
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

    /// Whether the queue that was last taken under this number was dropped.
    pub(crate) fn was_dropped(&self, queue: u16) -> bool {
        self.taken(queue)
            .is_some_and(|state| state.load(Ordering::Acquire) & DROPPED == DROPPED)
    }

    /// Device reset, after every taken queue is quiet (mmio-05).
    pub(crate) fn reset<I: DriverNotify>(&self, notify: &I) {
        let next = self.epoch().wrapping_add(ANSWER.wrapping_add(1));
        self.epoch_and_answer
            .store(next | WAITING, Ordering::Release);
        self.needs_reset.store(0, Ordering::Release);
        self.doorbell.drain();
        self.interrupt.store(0, Ordering::Release);
        notify.deassert();
    }

    /// Notes a kick if there is such a queue.
    pub(crate) fn ring(&self, queue: u16) -> bool {
        self.doorbell.ring(queue)
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

//! The driver's interrupt: the trait [`DriverNotify`] and ready-made interrupt lines.

use portable_atomic::{AtomicU32, Ordering, fence};

use crate::num;

/// The driver's interrupt.
///
/// There are two kinds of interrupt, and each implements two of the methods:
///
/// * A **line** has one interrupt for all causes: [`assert`](Self::assert) and
///   [`deassert`](Self::deassert). A level line follows InterruptStatus (mmio-32): `assert` is
///   called when a bit of InterruptStatus is set, and `deassert` when the driver has acknowledged
///   the last bit. An edge-triggered line uses only `assert`.
/// * **Messages** have one interrupt for each cause, such as MSI-X vectors, or the call eventfds of
///   vhost-user: [`used`](Self::used) for each queue, and
///   [`config_changed`](Self::config_changed). Their `assert` does nothing.
///
/// Each event calls the method of its cause first, and then `assert`. All methods may be called
/// from any thread or handler that owns a queue, and must not block.
///
/// The table shows the level of the line, and the calls at each transition of the device:
///
/// | the device | level line | calls |
/// |---|---|---|
/// | is in reset, or DRIVER_OK was not written yet | low: InterruptStatus is 0 | `deassert` at the reset |
/// | is live, suspending or failed | high while InterruptStatus is not 0 (mmio-32) | `assert` for each event; once more after an InterruptACK that leaves bits set |
/// | was live and is suspended | high while InterruptStatus is not 0; only InterruptACK changes the level | no `assert` (suspend-03, suspend-06) |
/// | was restored as live, suspending or failed | high while InterruptStatus is not 0 | `assert` if InterruptStatus is not 0 |
/// | was restored as suspended, and is still suspended | low, whatever InterruptStatus is | no `assert` (suspend-03) |
/// | is resumed | high while InterruptStatus is not 0 | one `assert` for the held-back interrupts (suspend-07) |
/// | is suspended, and the driver sets FAILED | high while InterruptStatus is not 0 | one `assert` for the held-back interrupts |
///
/// A suspended device holds back the interrupts with which it was restored, the interrupts that an
/// InterruptACK left pending, and a change of its configuration. A driver that sets FAILED is not
/// told of a change of the configuration. It is not known which queues the interrupts of used
/// buffers belong to that are held back or restored, so `used` is then called for every queue
/// number below `Q`.
///
/// ```
/// use virtside::{DriverNotify, interrupt::CountingNotify};
/// let line = CountingNotify::new();
/// line.assert();
/// assert_eq!((line.asserted(), line.is_high()), (1, true));
/// line.deassert();
/// assert!(!line.is_high());
/// ```
///
/// Messages, here with a bit for each queue and one for the configuration:
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use virtside::DriverNotify;
/// struct Vectors(AtomicU32);
/// impl DriverNotify for Vectors {
///     fn used(&self, queue: u16) {
///         self.0.fetch_or(1 << queue, Ordering::AcqRel);
///     }
///     fn config_changed(&self) {
///         self.0.fetch_or(1 << 31, Ordering::AcqRel);
///     }
///     fn assert(&self) {}
/// }
/// ```
pub trait DriverNotify {
    /// Raises the line. Called once for each event, whatever its cause.
    fn assert(&self);

    /// Lowers the line: no interrupt is pending. An edge-triggered interrupt needs no action.
    fn deassert(&self) {}

    /// Tells the driver that the device has used buffers of this queue (notif-05). Does nothing by
    /// default, since [`assert`](Self::assert) follows.
    fn used(&self, queue: u16) {
        let _ = queue;
    }

    /// Tells the driver that the configuration has changed, or that DEVICE_NEEDS_RESET is set
    /// (notif-01, status-04). Does nothing by default, since [`assert`](Self::assert) follows.
    fn config_changed(&self) {}
}

/// Sets a level line to the level that `wanted` returns, after the caller has driven it `high` or
/// low.
///
/// Several cores may drive the line at once. Each core reads the wanted level again after it has
/// driven the line, so the last core leaves the line at the right level.
#[inline(always)]
pub(crate) fn sync_level<I: DriverNotify>(notify: &I, high: bool, wanted: impl Fn() -> bool) {
    // Orders the drive of the line before the load of the wanted level.
    fence(Ordering::SeqCst);
    if wanted() != high {
        drive(notify, !high, wanted);
    }
}

/// Drives the line until it has the wanted level. Repeats only if another core changes the wanted
/// level in between.
#[cold]
#[inline(never)]
fn drive<I: DriverNotify>(notify: &I, mut high: bool, wanted: impl Fn() -> bool) {
    loop {
        if high {
            notify.assert();
        } else {
            notify.deassert();
        }
        fence(Ordering::SeqCst);
        if wanted() == high {
            return;
        }
        high = !high;
    }
}

/// No interrupt, for a driver that polls.
impl DriverNotify for () {
    fn assert(&self) {}
}

impl<N: DriverNotify + ?Sized> DriverNotify for &N {
    fn assert(&self) {
        (**self).assert();
    }
    fn deassert(&self) {
        (**self).deassert();
    }
    fn used(&self, queue: u16) {
        (**self).used(queue);
    }
    fn config_changed(&self) {
        (**self).config_changed();
    }
}

/// An interrupt line that counts its interrupts, for tests and statistics.
#[derive(Debug, Default)]
pub struct CountingNotify {
    asserted: AtomicU32,
    high: AtomicU32,
}

impl CountingNotify {
    /// Creates a low line with a count of 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asserted: AtomicU32::new(0),
            high: AtomicU32::new(0),
        }
    }

    /// Returns how often the interrupt was raised, modulo 2^32.
    #[must_use]
    pub fn asserted(&self) -> u32 {
        self.asserted.load(Ordering::Acquire)
    }

    /// Returns whether the line is high.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.high.load(Ordering::Acquire) != 0
    }
}

impl DriverNotify for CountingNotify {
    fn assert(&self) {
        self.asserted.fetch_add(1, Ordering::AcqRel);
        self.high.store(1, Ordering::Release);
    }
    fn deassert(&self) {
        self.high.store(0, Ordering::Release);
    }
}

/// An interrupt that holds interrupts back until [`flush`](Self::flush). It then raises the line
/// once, or sends one message for each cause.
///
/// Messages of queues from 32 up are not held back. [`deassert`](DriverNotify::deassert), which a
/// reset calls, discards what is held back.
///
/// ```
/// use virtside::{DriverNotify, interrupt::{BufferedNotify, CountingNotify}};
/// let line = CountingNotify::new();
/// let buffered = BufferedNotify::new(&line);
/// buffered.assert();
/// buffered.assert();
/// assert_eq!(line.asserted(), 0);
/// buffered.flush();
/// assert_eq!(line.asserted(), 1);
/// ```
#[derive(Debug, Default)]
pub struct BufferedNotify<N> {
    inner: N,
    /// Flags WAITING, HIGH and CONFIG.
    state: AtomicU32,
    /// A bit for each queue below 32 that has used buffers.
    used: AtomicU32,
}

/// An interrupt is held back.
const WAITING: u32 = 1;
/// The last interrupt was passed on and is not acknowledged yet.
const HIGH: u32 = 2;
/// A change of the configuration is held back.
const CONFIG: u32 = 4;

impl<N: DriverNotify> BufferedNotify<N> {
    /// Wraps the interrupt line `inner`.
    pub const fn new(inner: N) -> Self {
        Self {
            inner,
            state: AtomicU32::new(0),
            used: AtomicU32::new(0),
        }
    }

    /// Sends the interrupts that were held back since the last flush.
    pub fn flush(&self) {
        self.send_messages();
        let waiting = |state| (state & WAITING != 0).then_some(state & CONFIG | HIGH);
        let flushed = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, waiting);
        if flushed.is_ok() {
            self.inner.assert();
            self.sync_level(true);
        }
    }

    fn send_messages(&self) {
        let mut used = self.used.swap(0, Ordering::AcqRel);
        while used != 0 {
            self.inner.used(num::low16(used.trailing_zeros()));
            used &= used.wrapping_sub(1);
        }
        if self.state.fetch_and(!CONFIG, Ordering::AcqRel) & CONFIG != 0 {
            self.inner.config_changed();
        }
    }

    fn sync_level(&self, high: bool) {
        let is_high = || self.state.load(Ordering::Acquire) & HIGH != 0;
        sync_level(&self.inner, high, is_high);
    }
}

impl<N: DriverNotify> DriverNotify for BufferedNotify<N> {
    fn assert(&self) {
        self.state.fetch_or(WAITING, Ordering::AcqRel);
    }
    fn used(&self, queue: u16) {
        match 1_u32.checked_shl(queue.into()) {
            Some(bit) => {
                self.used.fetch_or(bit, Ordering::AcqRel);
            }
            None => self.inner.used(queue),
        }
    }
    fn config_changed(&self) {
        self.state.fetch_or(CONFIG, Ordering::AcqRel);
    }
    fn deassert(&self) {
        self.used.store(0, Ordering::Release);
        self.state.store(0, Ordering::Release);
        self.inner.deassert();
        self.sync_level(false);
    }
}

/// An interrupt as an output pin. The pin is high while an interrupt is pending.
///
/// A critical-section mutex protects the pin, so `main` and handlers can share the line.
/// [`failures`](IrqLine::failures) counts the failed attempts to switch the pin.
#[cfg(feature = "embedded-hal")]
pub struct IrqLine<P> {
    pin: critical_section::Mutex<core::cell::RefCell<P>>,
    failures: AtomicU32,
}

#[cfg(feature = "embedded-hal")]
impl<P> core::fmt::Debug for IrqLine<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IrqLine")
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

#[cfg(all(feature = "defmt", feature = "embedded-hal"))]
impl<P> defmt::Format for IrqLine<P> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let failures = self.failures.load(Ordering::Relaxed);
        defmt::write!(f, "IrqLine {{ failures: {=u32} }}", failures);
    }
}

#[cfg(feature = "embedded-hal")]
impl<P: embedded_hal::digital::OutputPin> IrqLine<P> {
    /// Creates a line on this pin. The pin is not driven before the first interrupt or reset.
    pub const fn new(pin: P) -> Self {
        Self {
            pin: critical_section::Mutex::new(core::cell::RefCell::new(pin)),
            failures: AtomicU32::new(0),
        }
    }

    /// Returns how often the pin failed to switch, modulo 2^32.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    fn drive(&self, set: impl FnOnce(&mut P) -> Result<(), P::Error>) {
        let done = critical_section::with(|token| {
            // The pin is borrowed only here, and the critical section excludes a second borrow.
            self.pin
                .borrow(token)
                .try_borrow_mut()
                .is_ok_and(|mut pin| set(&mut pin).is_ok())
        });
        if !done {
            self.failures.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(feature = "embedded-hal")]
impl<P: embedded_hal::digital::OutputPin> DriverNotify for IrqLine<P> {
    fn assert(&self) {
        self.drive(P::set_high);
    }
    fn deassert(&self) {
        self.drive(P::set_low);
    }
}

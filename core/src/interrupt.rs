//! The driver's interrupt: the trait [`DriverNotify`] and ready-made interrupt lines.

use portable_atomic::{AtomicU32, Ordering, fence};

/// The driver's interrupt.
///
/// A level line follows InterruptStatus (mmio-32): [`assert`](Self::assert) is called when a bit of
/// InterruptStatus is set, and [`deassert`](Self::deassert) when the driver has acknowledged the
/// last bit. An edge-triggered or message-signalled interrupt uses only `assert`. Both methods may
/// be called from any thread or handler that owns a queue, and must not block.
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
/// told of a change of the configuration.
///
/// ```
/// use virtside::{DriverNotify, interrupt::CountingNotify};
/// let line = CountingNotify::new();
/// line.assert();
/// assert_eq!((line.asserted(), line.is_high()), (1, true));
/// line.deassert();
/// assert!(!line.is_high());
/// ```
pub trait DriverNotify {
    /// Raises the interrupt.
    fn assert(&self);

    /// Lowers the line: no interrupt is pending. An edge-triggered interrupt needs no action.
    fn deassert(&self) {}
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
}

/// An interrupt line that counts, for tests and statistics.
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

/// An interrupt line that holds interrupts back until [`flush`](Self::flush) and then raises one
/// interrupt for all of them.
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
    /// Flags WAITING and HIGH.
    state: AtomicU32,
}

/// An interrupt is held back.
const WAITING: u32 = 1;
/// The last interrupt was passed on and is not acknowledged yet.
const HIGH: u32 = 2;

impl<N: DriverNotify> BufferedNotify<N> {
    /// Wraps the interrupt line `inner`.
    pub const fn new(inner: N) -> Self {
        Self {
            inner,
            state: AtomicU32::new(0),
        }
    }

    /// Raises the interrupt if it was asserted since the last flush.
    pub fn flush(&self) {
        let waiting = |state| (state & WAITING != 0).then_some(HIGH);
        let flushed = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, waiting);
        if flushed.is_ok() {
            self.inner.assert();
            self.sync_level(true);
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
    fn deassert(&self) {
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

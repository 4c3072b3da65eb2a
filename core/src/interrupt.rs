//! The driver's interrupt: what a device raises when it has used buffers or changed its configuration.

use portable_atomic::{AtomicU32, Ordering, fence};

/// The driver's interrupt.
///
/// [`assert`](Self::assert) is called when a bit of InterruptStatus was set,
/// [`deassert`](Self::deassert) when the driver acknowledged the last one, so a level line follows
/// InterruptStatus (mmio-32). An edge or a message is sent by `assert` alone. Both may be called
/// from any thread or handler that has a queue, and must not block.
///
/// Where the line is, and what is called when the device comes there:
///
/// | the device | a level line | called |
/// |---|---|---|
/// | is in reset, or DRIVER_OK was not written yet | low: InterruptStatus is 0 | `deassert` at the reset |
/// | is live, suspending or failed | high while InterruptStatus is not 0 (mmio-32) | `assert` for each event; once more after an InterruptACK that leaves bits |
/// | was live and is suspended | the same; InterruptACK alone changes it | no `assert` (suspend-03, suspend-06) |
/// | was restored as live, suspending or failed | high while InterruptStatus is not 0 | `assert` if it is not 0 |
/// | was restored as suspended, and is so still | low, whatever InterruptStatus says | no `assert` (suspend-03) |
/// | is resumed | high while InterruptStatus is not 0 | one `assert` for what was held back (suspend-07) |
/// | is suspended, and gets FAILED | high while InterruptStatus is not 0 | one `assert` for what was held back |
///
/// Held back is what a suspended device was restored with, what an InterruptACK left pending
/// meanwhile, and a change of the configuration. A driver that writes FAILED is not told of the last:
/// it has given the device up.
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
    /// Raise the interrupt.
    fn assert(&self);

    /// Nothing is pending any more. An edge-triggered interrupt has nothing to do.
    fn deassert(&self) {}
}

/// Lets a level line follow what is `wanted`, after it was driven `high` or low. Several cores may
/// drive it: each looks after it has driven, so the last one leaves it right.
#[inline(always)]
pub(crate) fn follow<I: DriverNotify>(notify: &I, high: bool, wanted: impl Fn() -> bool) {
    // The line is driven before it is looked whether that was right.
    fence(Ordering::SeqCst);
    if wanted() != high {
        drive(notify, !high, wanted);
    }
}

/// More than one round only if another core changes what is wanted meanwhile.
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

/// No interrupt: a driver that polls.
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

/// A line that counts: for tests and statistics.
#[derive(Debug, Default)]
pub struct CountingNotify {
    asserted: AtomicU32,
    high: AtomicU32,
}

impl CountingNotify {
    /// Low, nothing counted.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asserted: AtomicU32::new(0),
            high: AtomicU32::new(0),
        }
    }

    /// How often the interrupt was raised (modulo 2^32).
    #[must_use]
    pub fn asserted(&self) -> u32 {
        self.asserted.load(Ordering::Acquire)
    }

    /// Whether the line is high now.
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

/// Holds interrupts back until [`flush`](Self::flush), so that a batch costs one.
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
    /// WAITING, HIGH.
    state: AtomicU32,
}

/// An interrupt is held back.
const WAITING: u32 = 1;
/// The last one was let through, and is not acknowledged.
const HIGH: u32 = 2;

impl<N: DriverNotify> BufferedNotify<N> {
    /// Holds back what is meant for `inner`.
    pub const fn new(inner: N) -> Self {
        Self {
            inner,
            state: AtomicU32::new(0),
        }
    }

    /// Raises the interrupt if it was asserted since the last flush.
    pub fn flush(&self) {
        let waiting = |state| (state & WAITING != 0).then_some(HIGH);
        let turned = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, waiting);
        if turned.is_ok() {
            self.inner.assert();
            self.follow(true);
        }
    }

    fn follow(&self, high: bool) {
        let let_through = || self.state.load(Ordering::Acquire) & HIGH != 0;
        follow(&self.inner, high, let_through);
    }
}

impl<N: DriverNotify> DriverNotify for BufferedNotify<N> {
    fn assert(&self) {
        self.state.fetch_or(WAITING, Ordering::AcqRel);
    }
    fn deassert(&self) {
        self.state.store(0, Ordering::Release);
        self.inner.deassert();
        self.follow(false);
    }
}

/// The interrupt as an output pin: high while anything is pending.
///
/// The pin sits in a critical-section mutex, so that `main` and handlers may share the line. A pin
/// that fails to switch is counted, not hidden: see [`failures`](IrqLine::failures).
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
    /// The line on this pin. The pin is not driven until the first interrupt.
    pub const fn new(pin: P) -> Self {
        Self {
            pin: critical_section::Mutex::new(core::cell::RefCell::new(pin)),
            failures: AtomicU32::new(0),
        }
    }

    /// How often the pin failed to switch (modulo 2^32).
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    fn drive(&self, set: impl FnOnce(&mut P) -> Result<(), P::Error>) {
        let done = critical_section::with(|token| {
            // Borrowed only here, and the critical section excludes a second borrower.
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

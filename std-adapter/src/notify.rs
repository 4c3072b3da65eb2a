//! Delivery of the driver's interrupt on a host: by an eventfd or a condition variable.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use virtside::DriverNotify;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// An interrupt by eventfd, such as a KVM irqfd or the call descriptor of vhost-user.
///
/// The interrupt is edge-triggered: `assert` writes to the eventfd, and `deassert` does nothing.
/// Clones signal the same eventfd.
#[derive(Clone, Debug)]
pub struct EventFdNotify {
    inner: Arc<EventFdLine>,
}

#[derive(Debug)]
struct EventFdLine {
    event: EventFd,
    failures: AtomicU64,
}

impl EventFdNotify {
    /// Creates a non-blocking eventfd.
    ///
    /// # Errors
    /// The system cannot create the eventfd, for instance because it has no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self::from(EventFd::new(EFD_NONBLOCK)?))
    }

    /// Returns the eventfd, for the code that delivers the interrupt.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.inner.event
    }

    /// Returns how many writes to the eventfd failed.
    ///
    /// A write to a full counter does not count as a failure, because an interrupt is pending then.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.inner.failures.load(Ordering::Relaxed)
    }
}

impl From<EventFd> for EventFdNotify {
    /// Uses an existing eventfd, which should be non-blocking.
    fn from(event: EventFd) -> Self {
        let failures = AtomicU64::new(0);
        Self {
            inner: Arc::new(EventFdLine { event, failures }),
        }
    }
}

impl DriverNotify for EventFdNotify {
    fn assert(&self) {
        match self.inner.event.write(1) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.inner.failures.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A level-triggered interrupt line that threads can wait for. Clones share the line.
///
/// ```
/// use std::time::Duration;
/// use virtside::DriverNotify;
/// use virtside_std::CondvarNotify;
///
/// let line = CondvarNotify::new();
/// assert!(!line.wait_timeout(Duration::ZERO));
/// line.assert();
/// assert!(line.wait_timeout(Duration::ZERO));
/// line.deassert();
/// assert!(!line.is_high());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CondvarNotify {
    inner: Arc<CondvarLine>,
}

#[derive(Debug, Default)]
struct CondvarLine {
    state: Mutex<Line>,
    raised: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    high: bool,
    asserted: u64,
    waiting: u32,
}

impl CondvarNotify {
    /// Creates a line that is low.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the line is high: an interrupt is pending.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.lock().high
    }

    /// Returns how many times [`assert`](DriverNotify::assert) was called.
    #[must_use]
    pub fn asserted(&self) -> u64 {
        self.lock().asserted
    }

    /// Waits at most `timeout` for a pending interrupt. Returns whether one is pending.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        let mut line = self.lock();
        line.waiting = line.waiting.saturating_add(1);
        while !line.high {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            let waited = self.inner.raised.wait_timeout(line, left);
            (line, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        line.waiting = line.waiting.saturating_sub(1);
        line.high
    }
}

impl DriverNotify for CondvarNotify {
    fn assert(&self) {
        let mut line = self.lock();
        line.high = true;
        line.asserted = line.asserted.wrapping_add(1);
        // Notifying without a waiter costs a system call too.
        if line.waiting != 0 {
            self.inner.raised.notify_all();
        }
    }

    fn deassert(&self) {
        self.lock().high = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eventfd_counts_what_every_clone_asserts() {
        let line = EventFdNotify::new().unwrap();
        line.clone().assert();
        line.assert();
        line.deassert();
        assert_eq!(line.event().read().unwrap(), 2);
        assert!(line.event().read().is_err());
    }

    #[test]
    fn a_full_eventfd_is_no_failure() {
        let line = EventFdNotify::new().unwrap();
        line.event().write(u64::MAX - 1).unwrap();
        line.assert();
        assert_eq!(line.failures(), 0);
    }

    #[test]
    fn a_line_wakes_who_waits() {
        let line = CondvarNotify::new();
        let other = line.clone();
        let waiting = std::thread::spawn(move || other.wait_timeout(Duration::from_secs(10)));
        std::thread::sleep(Duration::from_millis(2));
        line.assert();
        assert!(waiting.join().unwrap());
        assert_eq!(line.asserted(), 1);
    }
}

//! How long a device looks for chains before it sleeps.

use std::{thread, time::Duration};

/// An adaptive time: the longest time that the host allows, while chains come within it, and
/// shorter, down to nothing, while they do not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    longest: Duration,
    window: Duration,
}

/// A shorter time is not worth a look.
const SHORTEST: Duration = Duration::from_micros(1);

impl Spin {
    /// Starts with the longest time. On a machine with one core the time is always zero, because
    /// the driver could not run meanwhile.
    pub(super) fn new(longest: Duration) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let longest = if cores > 1 { longest } else { Duration::ZERO };
        Self {
            longest,
            window: longest,
        }
    }

    /// Returns the time to look for chains.
    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// A chain came within the time.
    pub(super) const fn found(&mut self) {
        self.window = self.longest;
    }

    /// No chain came within the time.
    pub(super) fn failed(&mut self) {
        self.window /= 2;
        if self.window < SHORTEST {
            self.window = Duration::ZERO;
        }
    }

    /// The device slept for this long, although it might have looked for chains.
    pub(super) fn slept(&mut self, time: Duration) {
        if time < self.longest {
            self.window = self.longest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(64);

    fn spin() -> Spin {
        Spin {
            longest: LONGEST,
            window: LONGEST,
        }
    }

    #[test]
    fn a_device_without_work_soon_sleeps_at_once() {
        let mut spin = spin();
        for _ in 0..7 {
            assert!(!spin.window().is_zero());
            spin.failed();
        }
        assert_eq!(spin.window(), Duration::ZERO);
    }

    #[test]
    fn a_chain_within_the_time_restores_the_time() {
        let mut spin = spin();
        spin.failed();
        spin.found();
        assert_eq!(spin.window(), LONGEST);
    }

    #[test]
    fn a_short_sleep_restores_the_time() {
        let mut spin = spin();
        (0..9).for_each(|_| spin.failed());
        spin.slept(LONGEST);
        assert_eq!(spin.window(), Duration::ZERO);
        spin.slept(LONGEST / 2);
        assert_eq!(spin.window(), LONGEST);
    }

    #[test]
    fn a_time_of_zero_stays_zero() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.slept(Duration::ZERO);
        spin.found();
        assert_eq!(spin.window(), Duration::ZERO);
    }
}

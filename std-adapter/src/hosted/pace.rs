//! How long the worker of a hosted device sleeps.

use std::time::{Duration, Instant};

use virtside::Step;

/// A blocked device is looked at again after at most 2 to this power milliseconds.
const LONGEST_SLEEP: u32 = 4;
/// How often the worker retries a pending access before it sleeps in between.
const RETRIES: u32 = 10;

/// What a round of the worker has found.
pub(super) struct Round {
    /// The result of the poll.
    pub(super) step: Step,
    /// Number of chains given back so far.
    pub(super) chains: u32,
    /// An event has begun the round.
    pub(super) woken: bool,
    /// An access is pending.
    pub(super) held: bool,
    /// Each answer of the back end is announced by a descriptor.
    pub(super) announced: bool,
}

/// Decides how long the worker sleeps after each round.
pub(super) struct Pace {
    spin: Duration,
    /// Number of chains given back at the last round.
    chains: u32,
    /// How often the device was blocked without an event in between.
    blocked: u32,
    /// How often a pending access was retried.
    retries: u32,
    /// Time of the last event or chain, if the worker spins.
    active: Option<Instant>,
    looks: bool,
}

impl Pace {
    pub(super) const fn new(spin: Duration) -> Self {
        Self {
            spin,
            chains: 0,
            blocked: 0,
            retries: 0,
            active: None,
            looks: false,
        }
    }

    /// Returns whether the next round serves the pending chains again.
    pub(super) const fn looks(&self) -> bool {
        self.looks
    }

    /// Returns how long to sleep, in milliseconds; -1 is without limit.
    pub(super) fn next(&mut self, round: &Round) -> i32 {
        let is_active = round.woken || round.chains != self.chains;
        self.chains = round.chains;
        let is_blocked = round.step == Step::Blocked;
        self.blocked = if is_blocked && !is_active {
            self.blocked.saturating_add(1)
        } else {
            0
        };
        self.retries = if round.held {
            self.retries.saturating_add(1)
        } else {
            0
        };
        self.looks = is_blocked && !round.announced;
        if round.step == Step::More || round.held && self.retries <= RETRIES {
            return 0;
        }
        if self.spins(is_active) {
            self.looks = true;
            return 0;
        }
        if round.held {
            1
        } else if self.looks {
            1 << self.blocked.min(LONGEST_SLEEP)
        } else {
            -1
        }
    }

    /// Returns whether the last event or chain was less than `spin` ago.
    fn spins(&mut self, is_active: bool) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        let now = Instant::now();
        if is_active {
            self.active = Some(now);
        }
        let age = |active| now.saturating_duration_since(active);
        self.active.is_some_and(|active| age(active) < self.spin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Round = Round {
        step: Step::Idle,
        chains: 0,
        woken: false,
        held: false,
        announced: false,
    };

    fn times(pace: &mut Pace, round: &Round, count: usize) -> Vec<i32> {
        (0..count).map(|_| pace.next(round)).collect()
    }

    #[test]
    fn an_idle_worker_sleeps_and_a_busy_one_does_not() {
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(times(&mut pace, &ROUND, 2), [-1, -1]);
        let busy = Round {
            step: Step::More,
            ..ROUND
        };
        assert_eq!(times(&mut pace, &busy, 2), [0, 0]);
        assert!(!pace.looks());
    }

    #[test]
    fn a_blocked_worker_looks_less_and_less_often() {
        let mut pace = Pace::new(Duration::ZERO);
        let blocked = Round {
            step: Step::Blocked,
            ..ROUND
        };
        assert_eq!(times(&mut pace, &blocked, 6), [2, 4, 8, 16, 16, 16]);
        assert!(pace.looks());
        let woken = Round {
            woken: true,
            ..blocked
        };
        assert_eq!(pace.next(&woken), 1);
        assert_eq!(pace.next(&blocked), 2);
        let served = Round {
            chains: 1,
            ..blocked
        };
        assert_eq!(pace.next(&served), 1);
        let announced = Round {
            announced: true,
            ..served
        };
        assert_eq!(pace.next(&announced), -1);
        assert!(!pace.looks());
    }

    #[test]
    fn a_pending_access_is_retried_at_once_then_each_millisecond() {
        let mut pace = Pace::new(Duration::ZERO);
        let held = Round {
            held: true,
            ..ROUND
        };
        assert_eq!(times(&mut pace, &held, 10), [0; 10]);
        assert_eq!(times(&mut pace, &held, 3), [1; 3]);
        assert_eq!(pace.next(&ROUND), -1);
        assert_eq!(pace.next(&held), 0);
    }

    #[test]
    fn a_worker_spins_for_some_time_after_an_event_or_a_chain() {
        let spin = Duration::from_millis(5);
        let mut pace = Pace::new(spin);
        assert_eq!(pace.next(&ROUND), -1, "nothing has happened yet");
        for (chains, woken) in [(0, true), (1, false)] {
            let active = Round {
                chains,
                woken,
                ..ROUND
            };
            let start = Instant::now();
            assert_eq!(pace.next(&active), 0);
            assert!(pace.looks());
            let idle = Round { chains, ..ROUND };
            while pace.next(&idle) == 0 {
                assert!(start.elapsed() < Duration::from_secs(10));
            }
            assert!(start.elapsed() >= spin);
            assert!(!pace.looks());
        }
    }
}

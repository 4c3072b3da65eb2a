//! Counters and latencies of the requests of a device.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    /// A request of a device other than a disk, or a request that reached no back end.
    Other,
}

impl Operation {
    const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Discard,
        Self::WriteZeroes,
        Self::Other,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write zeroes",
            Self::Other => "request",
        })
    }
}

/// Counts the requests of one device. Clones share the counters.
#[derive(Clone, Debug)]
pub(super) struct Meter(Arc<Mutex<Tally>>);

/// What happened in a time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    counts: [u64; Operation::ALL.len()],
    bytes: u64,
    /// In nanoseconds.
    latencies: Histogram<u64>,
}

/// A tally over the time in which it was taken.
#[derive(Debug)]
pub(super) struct Rates<'a> {
    pub(super) tally: &'a Tally,
    pub(super) time: Duration,
}

impl Meter {
    /// Creates counters of zero.
    ///
    /// # Errors
    /// The error of the histogram.
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self(Arc::new(Mutex::new(Tally::new()?))))
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request. A request that waited for an event has no latency.
    pub(super) fn add(&self, operation: Operation, bytes: u64, latency: Option<Duration>) {
        let mut tally = self.lock();
        for (count, of) in tally.counts.iter_mut().zip(Operation::ALL) {
            if of == operation {
                *count = count.saturating_add(1);
            }
        }
        tally.bytes = tally.bytes.saturating_add(bytes);
        if let Some(latency) = latency {
            let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            tally.latencies.saturating_record(nanoseconds);
        }
    }

    /// Returns what was counted since the last call.
    pub(super) fn take(&self) -> Tally {
        let mut tally = self.lock();
        let taken = tally.clone();
        tally.counts = [0; Operation::ALL.len()];
        tally.bytes = 0;
        tally.latencies.reset();
        taken
    }
}

impl Tally {
    /// Creates a tally of nothing.
    ///
    /// # Errors
    /// The error of the histogram.
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            counts: [0; Operation::ALL.len()],
            bytes: 0,
            latencies: Histogram::new_with_max(longest, DIGITS)?,
        })
    }

    /// Adds what another tally has.
    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.bytes = self.bytes.saturating_add(other.bytes);
        // Both have the same bounds, so every latency fits.
        let _ = self.latencies.add(&other.latencies);
    }

    /// Returns the number of requests.
    pub(super) fn requests(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the number of transferred bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the latency in microseconds that this share of the requests did not exceed.
    #[allow(clippy::cast_precision_loss, reason = "printed with three digits")]
    pub(super) fn latency(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Writes the number of each kind of request, such as `12 read, 3 flush`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.iter().zip(Operation::ALL);
        let mut some = counts.filter(|(count, _)| **count != 0);
        let Some((count, operation)) = some.next() else {
            return f.write_str("no requests");
        };
        write!(f, "{count} {operation}")?;
        some.try_for_each(|(count, operation)| write!(f, ", {count} {operation}"))
    }
}

impl Rates<'_> {
    /// Returns the number of requests a second.
    #[allow(clippy::cast_precision_loss, reason = "printed without a fraction")]
    pub(super) fn iops(&self) -> f64 {
        self.tally.requests() as f64 / self.time.as_secs_f64()
    }

    /// Returns the number of bytes a second.
    #[allow(clippy::cast_precision_loss, reason = "printed with three digits")]
    pub(super) fn bytes(&self) -> f64 {
        self.tally.bytes() as f64 / self.time.as_secs_f64()
    }
}

impl fmt::Display for Rates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes() / 1e6;
        write!(f, "{:.0} requests/s, {megabytes:.1} MB/s", self.iops())?;
        if self.tally.latencies.is_empty() {
            return Ok(());
        }
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| self.tally.latency(quantile));
        write!(
            f,
            ", latency p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_has_what_was_counted_since_the_last_one() {
        let meter = Meter::new().unwrap();
        for microseconds in 1..=1000 {
            let latency = Duration::from_micros(microseconds);
            meter.add(Operation::Read, 4096, Some(latency));
        }
        meter.add(Operation::Flush, 0, None);
        let tally = meter.take();
        assert_eq!(tally.to_string(), "1000 read, 1 flush");
        assert_eq!((tally.requests(), tally.bytes()), (1001, 4_096_000));
        assert!((tally.latency(0.5) - 500.0).abs() < 1.0);
        assert!((tally.latency(0.999) - 999.0).abs() < 1.0);
        let time = Duration::from_secs(2);
        let rates = Rates {
            tally: &tally,
            time,
        };
        let text = rates.to_string();
        assert!(
            text.starts_with("500 requests/s, 2.0 MB/s, latency p50 500"),
            "{text}"
        );
        assert_eq!(meter.take().to_string(), "no requests");
    }

    #[test]
    fn tallies_add_up() {
        let meter = Meter::new().unwrap();
        let mut all = Tally::new().unwrap();
        for _ in 0..3 {
            meter.add(Operation::Write, 512, Some(Duration::from_secs(100)));
            all.add(&meter.take());
        }
        assert_eq!(all.to_string(), "3 write");
        assert!(
            (all.latency(1.0) / 60e6 - 1.0).abs() < 0.01,
            "the longest latency"
        );
    }
}

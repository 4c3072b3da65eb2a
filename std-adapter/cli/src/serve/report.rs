//! The lines of `--stats`: a live line for each device on a terminal, and messages elsewhere.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::stats::{Meter, Rates, Tally};
use crate::failure::{Failure, Result};

/// Shows what the devices do.
pub(super) struct Report {
    interval: Duration,
    bars: MultiProgress,
    begun: Instant,
    last: Instant,
    devices: Vec<Counted>,
}

struct Counted {
    name: String,
    meter: Meter,
    total: Tally,
    /// The live line.
    bar: Option<ProgressBar>,
}

impl Report {
    pub(super) fn new(interval: Duration, bars: MultiProgress) -> Self {
        let now = Instant::now();
        Self {
            interval,
            bars,
            begun: now,
            last: now,
            devices: Vec::new(),
        }
    }

    /// Returns the counters of one more device.
    ///
    /// # Errors
    /// There is no memory for the counters.
    pub(super) fn meter(&mut self, name: &str) -> Result<Meter> {
        let meter = Meter::new().map_err(Failure::work)?;
        let bar = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{wide_msg}").map_err(Failure::work)?;
            Some(self.bars.add(ProgressBar::new(0).with_style(style)))
        } else {
            None
        };
        self.devices.push(Counted {
            name: name.to_owned(),
            meter: meter.clone(),
            total: Tally::new().map_err(Failure::work)?,
            bar,
        });
        Ok(meter)
    }

    /// Returns the time until the next lines.
    pub(super) fn until_next(&self) -> Duration {
        self.interval.saturating_sub(self.last.elapsed())
    }

    /// Shows what happened in the interval, once it is over.
    pub(super) fn show_if_due(&mut self) {
        let time = self.last.elapsed();
        if time < self.interval {
            return;
        }
        self.last = Instant::now();
        for Counted {
            name,
            meter,
            total,
            bar,
        } in &mut self.devices
        {
            let tally = meter.take();
            total.add(&tally);
            let rates = Rates {
                tally: &tally,
                time,
            };
            match bar {
                Some(bar) => bar.set_message(format!("{name}: {rates}")),
                None => tell(name, &rates, "last interval"),
            }
        }
    }

    /// Shows what happened in all.
    pub(super) fn end(self) {
        let time = self.begun.elapsed();
        for Counted {
            name,
            meter,
            mut total,
            bar,
        } in self.devices
        {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            total.add(&meter.take());
            let rates = Rates {
                tally: &total,
                time,
            };
            tell(&name, &rates, "total");
        }
    }
}

/// Writes the rates to the log.
fn tell(name: &str, rates: &Rates<'_>, period: &str) {
    let tally = rates.tally;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| tally.latency(quantile));
    log::info!(
        target: name,
        period = period,
        seconds = rates.time.as_secs_f64(),
        requests = tally.requests(),
        bytes = tally.bytes(),
        iops = rates.iops(),
        bytes_per_second = rates.bytes(),
        latency_us_p50 = p50,
        latency_us_p99 = p99,
        latency_us_p999 = p999;
        "{period}: {rates} ({tally})"
    );
}

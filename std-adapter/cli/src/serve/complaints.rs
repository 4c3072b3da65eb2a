//! Errors of a back end, as messages that do not flood the log.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// There is at most one message in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes the errors of one device to the log.
#[derive(Debug)]
pub(super) struct Complaints {
    device: String,
    last: Option<Instant>,
    /// Number of errors since the last message.
    unsaid: u64,
}

impl Complaints {
    pub(super) fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            last: None,
            unsaid: 0,
        }
    }

    /// Writes an error to the log, or counts it if the last message is not a second old.
    pub(super) fn report(&mut self, error: impl fmt::Display) {
        let now = Instant::now();
        let is_early = |last| now.saturating_duration_since(last) < INTERVAL;
        if self.last.is_some_and(is_early) {
            self.unsaid = self.unsaid.saturating_add(1);
            return;
        }
        self.last = Some(now);
        self.tell_unsaid();
        log::error!(target: &self.device, "{error}");
    }

    /// Writes how many errors were only counted.
    pub(super) fn tell_unsaid(&mut self) {
        if self.unsaid != 0 {
            log::error!(target: &self.device, "{} more errors like the last one", self.unsaid);
            self.unsaid = 0;
        }
    }
}

impl Drop for Complaints {
    fn drop(&mut self) {
        self.tell_unsaid();
    }
}

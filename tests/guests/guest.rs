//! A guest that runs, and what it says.

use std::time::Duration;

use crate::{
    outcome::{Outcome, check, failure},
    process::Program,
};

/// What the guest's lines begin with. The rest is a word and its value.
const MARK: &str = "guest: ";

/// Bit of a packed ring in the features of a device.
const RING_PACKED: usize = 34;

/// A machine that runs `tests/guests/guest/init`.
#[derive(Debug)]
pub struct Guest {
    pub program: Program,
}

impl Guest {
    /// Waits until the guest has printed this word.
    pub fn wait_for(&mut self, word: &str, limit: Duration) -> Outcome<()> {
        self.program.wait_for(&format!("{MARK}{word}"), limit)
    }

    /// Waits until the guest has powered its machine off, and returns what it said. The machine
    /// must end with exit code 0.
    pub fn finish(&mut self, limit: Duration) -> Outcome<Report> {
        let report = self.halt(limit)?;
        self.program.succeed(limit)?;
        Ok(report)
    }

    /// Waits until the guest has powered its machine off, and returns what it said.
    pub fn halt(&mut self, limit: Duration) -> Outcome<Report> {
        self.wait_for("done", limit)?;
        self.program.wait(limit)?;
        let report = self.report();
        report.check_no_failure()?;
        Ok(report)
    }

    /// Returns what the guest has said up to now.
    pub fn report(&self) -> Report {
        Report::of(&self.program.said())
    }
}

/// The words of a guest with their values.
#[derive(Clone, Debug, Default)]
pub struct Report(Vec<(String, String)>);

impl Report {
    fn of(text: &str) -> Self {
        // The firmware's last line has no end.
        let marked = text
            .lines()
            .filter_map(|line| Some(line.split_once(MARK)?.1));
        let pairs = marked.map(|line| {
            let (word, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            (word.to_owned(), value.trim().to_owned())
        });
        Self(pairs.collect())
    }

    /// Returns the values of a word.
    pub fn all<'r>(&'r self, word: &str) -> impl Iterator<Item = &'r str> {
        let is_word = move |pair: &&(String, String)| pair.0 == word;
        let found: Vec<_> = self.0.iter().filter(is_word).collect();
        found.into_iter().map(|pair| pair.1.as_str())
    }

    /// Returns the value of a word that the guest must have printed.
    pub fn value(&self, word: &str) -> Outcome<&str> {
        let value = self.all(word).next();
        value.ok_or_else(|| failure(format!("the guest did not say {word}")))
    }

    /// Fails if the value of a word is another one.
    pub fn expect(&self, word: &str, expected: &str) -> Outcome<()> {
        let value = self.value(word)?;
        check(value == expected, || {
            format!("{word} is {value:?} instead of {expected:?}")
        })
    }

    fn check_no_failure(&self) -> Outcome<()> {
        match self.all("failed").next() {
            Some(reason) => Err(failure(format!("in the guest: {reason}"))),
            None => Ok(()),
        }
    }

    /// Fails unless the guest's driver uses this ring format for each of these devices.
    pub fn check_ring(&self, packed: bool, devices: &[u32]) -> Outcome<()> {
        for device in devices {
            let features = self.all("device").find_map(|value| {
                let (number, features) = value.split_once(' ')?;
                (number == device.to_string()).then_some(features)
            });
            let features =
                features.ok_or_else(|| failure(format!("the guest has no device {device}")))?;
            let is_packed = features.as_bytes().get(RING_PACKED) == Some(&b'1');
            check(is_packed == packed, || {
                format!("device {device}: the ring is packed: {is_packed}")
            })?;
        }
        Ok(())
    }
}

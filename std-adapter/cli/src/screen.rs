//! The trace: every register access in words.

use std::io;

use indicatif::ProgressBar;
use virtside::mmio::{Access, Reply};

use crate::{output, words::Selectors};

/// Prints the accesses of one device.
pub(crate) struct Screen {
    name: &'static str,
    /// DeviceID, for the names of its features.
    id: u32,
    bar: ProgressBar,
    selectors: Selectors,
    /// Nobody reads the trace.
    failed: Option<io::Error>,
}

impl Screen {
    pub(crate) fn new(name: &'static str, id: u32, bar: ProgressBar) -> Self {
        Self {
            name,
            id,
            bar,
            selectors: Selectors::default(),
            failed: None,
        }
    }

    pub(crate) fn show(&mut self, access: Access, reply: Reply) {
        self.selectors.follow(access);
        let line = self.selectors.describe(self.id, access, reply);
        let name = self.name;
        let shown = self
            .bar
            .suspend(|| output::trace(format_args!("{name}  {line}")));
        if let Err(error) = shown {
            self.failed = Some(error);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
}

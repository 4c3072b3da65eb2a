//! The trace: prints every register access as text.

use std::io;

use indicatif::ProgressBar;
use virtside::mmio::{Access, Reply};

use super::registers::Selectors;
use crate::output;

/// Prints the register accesses of one device.
pub(crate) struct TracePrinter {
    name: &'static str,
    /// DeviceID, which selects the names of the feature bits.
    id: u32,
    bar: ProgressBar,
    selectors: Selectors,
    /// The most recent error of writing the trace.
    failed: Option<io::Error>,
}

impl TracePrinter {
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
        self.selectors.update(access);
        let line = self.selectors.describe(self.id, access, reply);
        let name = self.name;
        let shown = self
            .bar
            .suspend(|| output::print_trace(format_args!("{name}  {line}")));
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

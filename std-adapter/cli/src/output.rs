//! Lines on stdout and stderr.

use std::{
    fmt,
    io::{self, Write},
};

use crate::failure::{Failure, Result};

/// Prints a line on stdout.
pub(crate) fn print_line(line: impl fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// Prints an error on stderr. If printing fails too, the exit code still reports the error.
pub(crate) fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "virtside: {line}");
}

/// Prints a line of the trace on stderr.
pub(crate) fn print_trace(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stderr(), "{line}")
}

/// Returns the width of the terminal in columns, or 80 without a terminal.
pub(crate) fn columns() -> u16 {
    let size = console::Term::stdout().size_checked();
    size.map_or(80, |(_, columns)| columns)
}

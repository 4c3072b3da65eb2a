//! Lines to stdout and stderr.

use std::{
    fmt,
    io::{self, Write},
};

use crate::failure::{Failure, Result};

/// Prints a line of the story.
pub(crate) fn say(line: impl fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// Prints why the command failed. If that fails, too, the exit code still tells.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "virtside: {line}");
}

/// Prints a line of the trace.
pub(crate) fn trace(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stderr(), "{line}")
}

/// Columns of the terminal; 80 where there is none.
pub(crate) fn columns() -> u16 {
    let size = console::Term::stdout().size_checked();
    size.map_or(80, |(_, columns)| columns)
}

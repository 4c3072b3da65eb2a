//! Why the command failed, and its exit code.

use std::{fmt, io, process::ExitCode};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, or the image that it names. Nothing was done.
    Usage(String),
    /// The work failed, or its result is wrong.
    Work(String),
    /// Nobody reads what is printed.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn work(why: impl fmt::Display) -> Self {
        Self::Work(why.to_string())
    }

    /// What to say on stderr. A reader that left wants to hear nothing.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Usage(why) | Self::Work(why) => Some(why.clone()),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(format!("cannot print: {error}")),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Work(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::work(error)
    }
}

//! Errors of the command, and their exit codes.

use std::{fmt, io, process::ExitCode};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong, or the image cannot be used. Nothing was done.
    Usage(String),
    /// The run failed, or its result is wrong.
    Work(String),
    /// The output could not be written.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn work(why: impl fmt::Display) -> Self {
        Self::Work(why.to_string())
    }

    /// Returns the message for stderr. After a broken pipe there is none.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Usage(why) | Self::Work(why) => Some(why.clone()),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(format!("cannot write the output: {error}")),
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

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::work(error)
    }
}

//! Why a row of the table fails.

use std::{error::Error, fmt};

/// The result of a step.
pub type Outcome<T> = Result<T, Failure>;

/// Why a step failed.
#[derive(Debug)]
pub struct Failure(String);

pub fn failure(text: impl Into<String>) -> Failure {
    Failure(text.into())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Fails with this text unless the condition is met.
pub fn check(met: bool, text: impl FnOnce() -> String) -> Outcome<()> {
    if met { Ok(()) } else { Err(failure(text())) }
}

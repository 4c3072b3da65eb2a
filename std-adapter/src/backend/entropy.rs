//! Random bytes from the operating system.

use virtside::models::{EntropyError, EntropySource};

/// An [`EntropySource`] over the operating system's random numbers, for
/// [`Entropy`](virtside::models::Entropy).
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl EntropySource for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        match getrandom::fill(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(EntropyError::Failed),
        }
    }
}

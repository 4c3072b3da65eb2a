//! Back ends for the device models.

mod entropy;
mod file;

pub use entropy::OsEntropy;
pub use file::{DiskError, DiskOperation, FileDisk};

//! Back ends for the device models.

mod entropy;
mod file;
#[cfg(feature = "io-uring")]
mod uring;

pub use entropy::OsEntropy;
pub use file::{DiskError, DiskOperation, FileDisk};
#[cfg(feature = "io-uring")]
pub use uring::UringDisk;

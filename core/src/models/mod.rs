//! Ready-made devices, generic over their back ends.

pub mod blk;
pub mod entropy;

pub use blk::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions};
pub use entropy::{Entropy, EntropyError, EntropySource};

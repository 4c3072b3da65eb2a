//! The rings: chains out of the driver's memory, used elements into it.

pub mod chain;
mod split;
mod walk;

pub use chain::{Chain, ChainError, ReadableChain, Segment, WritableChain};
pub use split::SplitQueue;

pub(crate) use split::Popped;

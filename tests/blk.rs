//! The block device: every request, every way to get one wrong, and what is on the disk afterwards.

#[path = "blk/config.rs"]
mod config;
#[path = "blk/durability.rs"]
mod durability;
#[path = "blk/errors.rs"]
mod errors;
#[path = "blk/features.rs"]
mod features;
#[path = "blk/pending.rs"]
mod pending;
#[path = "blk/queues.rs"]
mod queues;
#[cfg(feature = "packed")]
#[path = "blk/raced.rs"]
mod raced;
#[path = "blk/ranges.rs"]
mod ranges;
#[path = "blk/requests.rs"]
mod requests;
#[path = "blk/room.rs"]
mod room;
#[path = "blk/saved.rs"]
mod saved;
#[path = "blk/support.rs"]
mod support;
#[cfg(feature = "packed")]
#[path = "blk/twins.rs"]
mod twins;

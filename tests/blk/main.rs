//! The block device: every request, every way to get one wrong, and what is on the disk afterwards.

mod config;
mod durability;
mod errors;
mod features;
mod pending;
mod queues;
#[cfg(feature = "packed")]
mod raced;
mod ranges;
mod requests;
mod room;
mod saved;
#[cfg(feature = "packed")]
#[path = "../messages/spoken.rs"]
mod spoken;
mod support;
#[cfg(feature = "packed")]
mod twins;

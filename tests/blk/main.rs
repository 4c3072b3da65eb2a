//! The block device: every request, every malformed form of it, and the resulting contents of the
//! disk.

mod config;
mod durability;
mod errors;
mod features;
mod pending;
mod queues;
mod ranges;
mod requests;
mod room;
mod saved;
mod taken;

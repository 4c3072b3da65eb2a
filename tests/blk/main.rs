//! The block device: every request, every way to get one wrong, and what is on the disk afterwards.

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

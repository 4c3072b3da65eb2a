//! Device reset, at any moment, and stopping one queue.

#[path = "reset/every_phase.rs"]
mod every_phase;
#[path = "reset/pending.rs"]
mod pending;
#[path = "reset/sweep.rs"]
mod sweep;

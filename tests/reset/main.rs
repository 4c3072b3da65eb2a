//! Device reset, at any moment, and stopping one queue.

mod every_phase;
mod pending;
mod sweep;

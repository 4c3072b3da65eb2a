//! Device reset in any phase, and the stop of one queue by QueueReady = 0.

mod every_phase;
mod pending;
mod sweep;

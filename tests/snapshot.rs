//! A device as a plain value: saved and restored in every phase and in the middle of its work, in
//! this process and in a fresh one, and refused when somebody tampered with it.

#[path = "snapshot/blocking_loop.rs"]
mod blocking_loop;
#[path = "snapshot/every_phase.rs"]
mod every_phase;
#[path = "snapshot/formats.rs"]
mod formats;
#[path = "snapshot/history.rs"]
mod history;
#[path = "snapshot/messages.rs"]
mod messages;
#[path = "snapshot/models.rs"]
mod models;
#[path = "snapshot/processes.rs"]
mod processes;
#[path = "snapshot/refused.rs"]
mod refused;
#[path = "snapshot/rings.rs"]
mod rings;
#[path = "snapshot/support.rs"]
mod support;
#[path = "snapshot/tampered.rs"]
mod tampered;

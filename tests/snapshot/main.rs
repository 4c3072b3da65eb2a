//! A device as a plain value: saved and restored in every phase and during its work, in the same
//! process and in a new one, and refused if the snapshot was tampered with.

mod before_live;
mod blocking_loop;
mod children;
mod every_phase;
mod formats;
mod history;
mod kept_chains;
mod messages;
mod models;
mod processes;
mod refused;
mod rings;
mod support;
mod tampered;

//! A device as a plain value: saved and restored in every phase and in the middle of its work, in
//! this process and in a fresh one, and refused when somebody tampered with it.

mod blocking_loop;
mod children;
mod every_phase;
mod formats;
mod history;
mod messages;
mod models;
mod processes;
mod refused;
mod rings;
mod support;
mod tampered;

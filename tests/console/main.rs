//! The console device: input, output, and the control messages about ports.

mod control;
mod emergency;
mod foreign;
mod gone;
mod input;
mod known;
mod output;
mod ports;
mod saved;
mod shape;
mod streams;

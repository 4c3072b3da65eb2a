//! The SPI controller: what it says that it can do, what it refuses, and what happens on the lines.

mod config;
mod devices;
mod errors;
mod framing;
mod lines;
mod parameters;
mod saved;
mod transfers;

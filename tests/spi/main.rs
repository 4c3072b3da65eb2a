//! The SPI controller: the capabilities that it reports, the requests that it refuses, and what
//! happens on the lines.

mod config;
mod devices;
mod errors;
mod framing;
mod lines;
mod parameters;
mod saved;
mod transfers;

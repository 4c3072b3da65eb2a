//! The SPI controller: what it says that it can do, what it refuses, and what happens on the lines.

#[path = "spi/config.rs"]
mod config;
#[path = "spi/devices.rs"]
mod devices;
#[path = "spi/errors.rs"]
mod errors;
#[path = "spi/framing.rs"]
mod framing;
#[path = "spi/lines.rs"]
mod lines;
#[path = "spi/parameters.rs"]
mod parameters;
#[path = "spi/saved.rs"]
mod saved;
#[path = "spi/support.rs"]
mod support;
#[path = "spi/transfers.rs"]
mod transfers;

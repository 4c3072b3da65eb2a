//! The I2C adapter: what reaches the bus, in which order, and what the driver is answered.

mod combining;
mod errors;
mod framing;
mod groups;
mod identity;
mod requests;
mod saved;

//! The I2C adapter: what reaches the bus, in which order, and what the driver hears of it.

#[path = "i2c/combining.rs"]
mod combining;
#[path = "i2c/errors.rs"]
mod errors;
#[path = "i2c/framing.rs"]
mod framing;
#[path = "i2c/groups.rs"]
mod groups;
#[path = "i2c/identity.rs"]
mod identity;
#[path = "i2c/requests.rs"]
mod requests;
#[path = "i2c/saved.rs"]
mod saved;
#[path = "i2c/support.rs"]
mod support;

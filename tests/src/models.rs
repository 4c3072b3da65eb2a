//! For each ready-made model: a back end that records its calls, and a driver.

#![allow(
    clippy::new_without_default,
    reason = "`new` is only one of several constructors"
)]

pub mod blk;
pub mod console;
pub mod gpio;
pub mod i2c;
pub mod spi;

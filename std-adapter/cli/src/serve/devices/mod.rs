//! What is behind each kind of device.

pub(super) mod blk;
pub(super) mod console;
pub(super) mod gpio;
pub(super) mod i2c;
pub(super) mod rng;
mod simulated;
pub(super) mod spi;
mod terminal;

/// The failure of a device that needs hardware.
#[cfg(not(feature = "hardware"))]
fn without_hardware() -> crate::failure::Failure {
    let why = "this virtside was built without the feature `hardware`: use `simulate`";
    crate::failure::Failure::Usage(why.into())
}

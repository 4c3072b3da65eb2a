//! `Display` and `Error` for the error types of the models.

use core::{error::Error, fmt};

use super::{BlockError, ConsoleError, EntropyError};
#[cfg(feature = "embedded-hal")]
use super::{gpio::GpioError, spi::SpiError};

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "the block back end failed to execute the request",
            Self::Unsupported => "the block back end does not support the request",
            Self::NotReady => "the block back end is not ready for the request",
        })
    }
}

impl Error for BlockError {}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "the console port is not ready",
            Self::Failed => "the console port failed",
        })
    }
}

impl Error for ConsoleError {}

impl fmt::Display for EntropyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "the entropy source has no bytes ready",
            Self::Failed => "the entropy source failed",
        })
    }
}

impl Error for EntropyError {}

#[cfg(feature = "embedded-hal")]
impl fmt::Display for GpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "the gpio line does not support the operation",
            Self::Failed => "the gpio line failed",
        })
    }
}

#[cfg(feature = "embedded-hal")]
impl Error for GpioError {}

#[cfg(feature = "embedded-hal")]
impl fmt::Display for SpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => {
                "the spi controller does not support this combination of transfer settings"
            }
            Self::Failed => "the spi bus or a pin failed",
        })
    }
}

#[cfg(feature = "embedded-hal")]
impl Error for SpiError {}

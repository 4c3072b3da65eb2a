//! A device as the command line and the configuration file describe it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{
    devices::{blk, console, gpio, i2c, rng, spi},
    hosted::{Context, Hosted},
    options::{BlkOptions, ConsoleOptions, GpioOptions, I2cOptions, RngOptions, SpiOptions},
};
use crate::failure::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// A disk over an image file or a block device
    Blk(Described<BlkOptions>),
    /// A source of random bytes
    Rng(Described<RngOptions>),
    /// A console: a pseudo terminal, a socket, or standard input and output
    Console(Described<ConsoleOptions>),
    /// An I2C bus
    I2c(Described<I2cOptions>),
    /// GPIO lines
    Gpio(Described<GpioOptions>),
    /// An SPI controller with one chip
    Spi(Described<SpiOptions>),
}

/// The options of a device, and what all devices have.
#[derive(Debug, Args)]
pub(super) struct Described<T: Args> {
    #[command(flatten)]
    pub(super) options: T,

    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Path of the socket to create. A VMM connects to it. Without this option, the socket comes
    /// from the service manager (LISTEN_FDS)
    #[arg(long, value_name = "SOCKET")]
    pub(super) vhost_user: Option<PathBuf>,

    /// The name of the device in messages. By default the name is the kind of device
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,

    /// Offer no packed rings. Drivers that would use them then use split rings
    #[arg(long)]
    pub(super) no_packed: bool,
}

impl Device {
    pub(super) const fn common(&self) -> &Common {
        match self {
            Self::Blk(Described { common, .. })
            | Self::Rng(Described { common, .. })
            | Self::Console(Described { common, .. })
            | Self::I2c(Described { common, .. })
            | Self::Gpio(Described { common, .. })
            | Self::Spi(Described { common, .. }) => common,
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Blk(_) => "blk",
            Self::Rng(_) => "rng",
            Self::Console(_) => "console",
            Self::I2c(_) => "i2c",
            Self::Gpio(_) => "gpio",
            Self::Spi(_) => "spi",
        }
    }

    /// Returns the paths of the sockets that are created.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Path> {
        let terminal = match self {
            Self::Console(console) => console.options.socket.as_deref(),
            _ => None,
        };
        self.common()
            .vhost_user
            .as_deref()
            .into_iter()
            .chain(terminal)
    }

    /// Opens what is behind the device.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn open(&self, context: Context) -> Result<Box<dyn Hosted>> {
        match self {
            Self::Blk(device) => blk::hosted(context, &device.options),
            Self::Rng(device) => rng::hosted(context, &device.options),
            Self::Console(device) => console::hosted(context, &device.options),
            Self::I2c(device) => i2c::hosted(context, &device.options),
            Self::Gpio(device) => gpio::hosted(context, &device.options),
            Self::Spi(device) => spi::hosted(context, &device.options),
        }
    }
}

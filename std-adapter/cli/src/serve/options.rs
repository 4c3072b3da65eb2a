//! The options of each device.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Options of a disk.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BlkOptions {
    /// The disk image: a regular file or a block device. It is locked while it is served
    #[arg(long, value_name = "FILE")]
    pub(super) disk: PathBuf,

    /// The driver can only read. Several services may then share the image
    #[arg(long)]
    #[serde(default)]
    pub(super) read_only: bool,

    /// Number of queues, from 1 to 16
    #[arg(long, value_name = "N", default_value_t)]
    #[serde(default)]
    pub(super) queues: Queues,

    /// Largest size of a queue: a power of two from 4 to 1024
    #[arg(long, value_name = "N", default_value_t)]
    #[serde(default)]
    pub(super) queue_size: QueueSize,

    /// What the guest sees as the serial number: up to 20 ASCII characters
    #[arg(long, value_name = "ID", default_value_t)]
    #[serde(default)]
    pub(super) serial: Serial,

    /// When a write is answered
    #[arg(long, value_enum, default_value_t)]
    #[serde(default)]
    pub(super) cache: Cache,

    /// How the file is accessed
    #[arg(long, value_enum, default_value_t)]
    #[serde(default)]
    pub(super) aio: Aio,

    /// Look for the next request for this many microseconds before sleeping. Shorter latency costs
    /// processor time
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    #[serde(default)]
    pub(super) spin: u64,
}

/// Options of a source of random bytes.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RngOptions {
    /// Take the bytes from this file, such as /dev/hwrng, instead of the operating system
    #[arg(long, value_name = "FILE")]
    pub(super) source: Option<PathBuf>,
}

/// Options of a console.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[group(required = true, multiple = false)]
pub(super) struct ConsoleOptions {
    /// Create a pseudo terminal, and write its path to the log
    #[arg(long)]
    #[serde(default)]
    pub(super) pty: bool,

    /// Path of a second socket to create, for one terminal program at a time
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// Use standard input and output
    #[arg(long)]
    #[serde(default)]
    pub(super) stdio: bool,
}

/// Options of an I2C bus.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[group(required = true, multiple = false)]
pub(super) struct I2cOptions {
    /// The bus of the host, such as /dev/i2c-1. The guest reaches every chip on it
    #[arg(long, value_name = "DEVICE")]
    pub(super) bus: Option<PathBuf>,

    /// A bus in software, with an EEPROM 24C02 at address 0x50
    #[arg(long)]
    #[serde(default)]
    pub(super) simulate: bool,
}

/// Options of GPIO lines.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[group(required = true, multiple = false)]
pub(super) struct GpioOptions {
    /// The chip of the host, such as /dev/gpiochip0. The guest gets its free lines, up to 64
    #[arg(long, value_name = "DEVICE")]
    pub(super) chip: Option<PathBuf>,

    /// 16 lines in software. Each input has the level that the line before it drives
    #[arg(long)]
    #[serde(default)]
    pub(super) simulate: bool,
}

/// Options of an SPI controller with one chip.
#[derive(Debug, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SpiOptions {
    /// The device of the host, such as /dev/spidev0.0
    #[arg(long, value_name = "DEVICE", required_unless_present = "simulate")]
    pub(super) device: Option<PathBuf>,

    /// A chip in software, which sends back what it receives
    #[arg(long, conflicts_with = "device")]
    #[serde(default)]
    pub(super) simulate: bool,

    /// The clock mode of the chip, from 0 to 3
    #[arg(long, value_name = "N", default_value_t)]
    #[serde(default)]
    pub(super) mode: ClockMode,

    /// The clock rate of the chip in Hz
    #[arg(long, value_name = "HZ", default_value_t = default_hz())]
    #[serde(default = "default_hz")]
    pub(super) hz: u32,

    /// Deselect the chip after each transfer, even within a message. Linux guests need it, and it is
    /// right for chips whose messages are single transfers
    #[arg(long)]
    #[serde(default)]
    pub(super) split_messages: bool,
}

fn default_hz() -> u32 {
    1_000_000
}

/// The clock mode of an SPI chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct ClockMode(u16);

impl ClockMode {
    pub(super) fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for ClockMode {
    type Error = String;

    fn try_from(mode: u16) -> Result<Self, String> {
        if mode <= 3 {
            Ok(Self(mode))
        } else {
            Err(format!("{mode} is not from 0 to 3"))
        }
    }
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cache {
    /// At once. It is on the disk after a flush, which the driver asks for. The driver may change
    /// the mode
    #[default]
    Writeback,
    /// When it is on the disk
    Writethrough,
}

/// How a file is accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aio {
    /// By io_uring if the kernel has it and the image is not in memory, else one request at a time
    #[default]
    Auto,
    /// By io_uring: a request that the page cache cannot serve does not delay the next one
    #[value(name = "io_uring")]
    IoUring,
    /// One request at a time
    Sync,
}

/// Number of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct Queues(u16);

/// Largest number of queues.
pub(super) const MOST_QUEUES: u16 = 16;

impl Queues {
    pub(super) fn get(self) -> u16 {
        self.0
    }
}

impl Default for Queues {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u16> for Queues {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        if (1..=MOST_QUEUES).contains(&count) {
            Ok(Self(count))
        } else {
            Err(format!("{count} is not from 1 to {MOST_QUEUES}"))
        }
    }
}

/// Largest size of a queue, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct QueueSize(u16);

/// Largest size of the largest queue.
pub(super) const LARGEST_QUEUE: u16 = 1024;

impl QueueSize {
    pub(super) fn get(self) -> u16 {
        self.0
    }
}

impl Default for QueueSize {
    fn default() -> Self {
        Self(256)
    }
}

impl TryFrom<u16> for QueueSize {
    type Error = String;

    fn try_from(size: u16) -> Result<Self, String> {
        if size.is_power_of_two() && (4..=LARGEST_QUEUE).contains(&size) {
            Ok(Self(size))
        } else {
            Err(format!(
                "{size} is not a power of two from 4 to {LARGEST_QUEUE}"
            ))
        }
    }
}

/// The serial number of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Serial(String);

impl Serial {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Serial {
    fn default() -> Self {
        Self("virtside".into())
    }
}

impl TryFrom<String> for Serial {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && text.len() <= 20 {
            Ok(Self(text))
        } else {
            Err("a serial number has up to 20 ASCII characters".into())
        }
    }
}

/// Parses and prints a number as the number inside it.
macro_rules! as_number {
    ($($type:ty),*) => {$(
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let number: u16 = text.parse().map_err(|_| format!("{text} is not such a number"))?;
                number.try_into()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

as_number!(Queues, QueueSize, ClockMode);

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

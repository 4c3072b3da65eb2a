//! The options of each device.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};

/// Options of a disk.
#[derive(Debug, Args)]
pub(super) struct BlkOptions {
    /// The disk image: a regular file or a block device. It is locked while it is served
    #[arg(long, value_name = "FILE")]
    pub(super) disk: PathBuf,

    /// The driver can only read. Several services may then share the image
    #[arg(long)]
    pub(super) read_only: bool,

    /// Number of queues, from 1 to 16
    #[arg(long, value_name = "N", default_value_t)]
    pub(super) queues: Queues,

    /// Largest size of a queue: a power of two from 4 to 1024
    #[arg(long, value_name = "N", default_value_t)]
    pub(super) queue_size: QueueSize,

    /// What the guest sees as the serial number: up to 20 ASCII characters
    #[arg(long, value_name = "ID", default_value_t)]
    pub(super) serial: Serial,

    /// When a write is answered
    #[arg(long, value_enum, default_value_t)]
    pub(super) cache: Cache,

    /// Look for the next request for this many microseconds before sleeping. Shorter latency costs
    /// processor time
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub(super) spin: u64,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Cache {
    /// At once. It is on the disk after a flush, which the driver asks for. The driver may change
    /// the mode
    #[default]
    Writeback,
    /// When it is on the disk
    Writethrough,
}

/// Number of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

as_number!(Queues, QueueSize);

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

//! The command line.

use std::path::PathBuf;

use clap::{Parser, error::ErrorKind};

use crate::{
    failure::{Failure, Result},
    output::say,
};

/// MiB of a temporary image, at least and at most.
const MIB: std::ops::RangeInclusive<u64> = 4..=4096;

/// Lets unmodified virtio drivers do real I/O through virtside's block and entropy devices, and
/// shows that guest and host see the same files.
///
/// Exit code: 0 if both sides see the same files, 1 if they do not or the work failed, 2 for a
/// wrong command line or an image that cannot be used.
#[derive(Debug, Parser)]
#[command(name = "virtside", version)]
pub(crate) struct Args {
    /// Print every register access to stderr
    #[arg(long)]
    pub(crate) trace: bool,

    /// Use this disk image instead of a temporary one: a regular file or a block device of at least
    /// 1 MiB. One with a FAT file system gets a new directory, an empty one (all zeroes) is
    /// formatted, any other is refused. The image is locked while the command runs
    #[arg(long, value_name = "FILE", conflicts_with = "mib")]
    pub(crate) disk: Option<PathBuf>,

    /// Size of the temporary image in MiB, from 4 to 4096. It is in TMPDIR, or /tmp
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(MIB))]
    pub(crate) mib: u64,
}

impl Args {
    /// The arguments, or nothing if all was said already.
    pub(crate) fn parse() -> Result<Option<Self>> {
        let error = match Self::try_parse() {
            Ok(args) => return Ok(Some(args)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                say(error.to_string().trim_end()).map(|()| None)
            }
            _ => {
                // clap says more than fits in a line; the first has what matters.
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                Err(Failure::Usage(format!("{line} (see --help)")))
            }
        }
    }
}

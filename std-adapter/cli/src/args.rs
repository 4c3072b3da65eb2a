//! The command line.

use std::path::PathBuf;

use clap::{Parser, error::ErrorKind};

use crate::{
    failure::{Failure, Result},
    output::print_line,
};

/// Allowed sizes of the temporary image, in MiB.
const MIB: std::ops::RangeInclusive<u64> = 4..=4096;

/// Runs unmodified virtio drivers against virtside's block and entropy devices, and checks that
/// guest and host see the same files.
///
/// Exit code: 0 if both see the same files, 1 if they do not or if the run failed, 2 if the command
/// line is wrong or the disk image cannot be used.
#[derive(Debug, Parser)]
#[command(name = "virtside", version)]
pub(crate) struct Args {
    /// Print every register access to stderr
    #[arg(long)]
    pub(crate) trace: bool,

    /// Use this disk image instead of a temporary one: a regular file or a block device of at least
    /// 1 MiB. The files go into a new directory. An empty image (all zeros) is formatted first. An
    /// image with other content than a FAT file system is refused. The image is locked while the
    /// command runs
    #[arg(long, value_name = "FILE", conflicts_with = "mib")]
    pub(crate) disk: Option<PathBuf>,

    /// Size of the temporary image in MiB, from 4 to 4096. The image is in $TMPDIR, or in /tmp
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(MIB))]
    pub(crate) mib: u64,
}

impl Args {
    /// Parses the command line. Returns `None` if `--help` or `--version` was printed.
    pub(crate) fn parse() -> Result<Option<Self>> {
        let error = match Self::try_parse() {
            Ok(args) => return Ok(Some(args)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                print_line(error.to_string().trim_end()).map(|()| None)
            }
            _ => {
                // The first line of clap's message has the error; the rest is usage.
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                Err(Failure::Usage(format!("{line} (see --help)")))
            }
        }
    }
}

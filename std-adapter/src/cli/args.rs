//! The command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, error::ErrorKind};

/// Lets unmodified virtio drivers do real I/O through virtside's block and entropy devices, and
/// shows that guest and host see the same files.
#[derive(Debug, Parser)]
#[command(name = "virtside", version)]
pub(crate) struct Args {
    /// Print every register access to stderr
    #[arg(long)]
    pub(crate) trace: bool,

    /// Use this disk image: one with a FAT file system gets a new directory, an empty one is
    /// formatted, any other is refused. Default: a temporary image
    #[arg(long, value_name = "FILE", conflicts_with = "mib")]
    pub(crate) disk: Option<PathBuf>,

    /// Size of the temporary image in MiB
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(4..=4096))]
    pub(crate) mib: u64,
}

impl Args {
    /// The arguments, or the code to exit with after all is said.
    pub(crate) fn parse() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                say!("{error}");
                ExitCode::SUCCESS
            }
            _ => {
                // clap says more than fits in a line; the first has what matters.
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                complain!("virtside: {line} (see --help)");
                ExitCode::from(2)
            }
        })
    }
}

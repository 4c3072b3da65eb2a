//! The `virtside` command: unmodified `virtio-drivers` against devices of `virtside`, in one
//! process.
//!
//! A module imports only from modules above it in this list:
//!
//! ```text
//! failure             errors and exit codes
//! output              lines on stdout and stderr
//! args                the command line
//! files, image        the FAT file system and its disk image
//! words, trace        register accesses as text
//! device              a device in its thread
//! disk, guest         the driver's side
//! report              the printed report and the verdict
//! job                 the main job
//! ```
#![deny(unsafe_code)]

mod args;
mod device;
mod disk;
mod failure;
mod files;
mod guest;
mod image;
mod job;
mod output;
mod report;
mod trace;
mod words;

use std::process::ExitCode;

use args::Args;
use failure::Result;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                output::print_error(&text);
            }
            failure.code()
        }
    }
}

fn run() -> Result<()> {
    match Args::parse()? {
        Some(args) => job::run(&args),
        None => Ok(()),
    }
}

//! The `virtside` command: unmodified `virtio-drivers` against devices of `virtside`, in one
//! process.
//!
//! Modules import from those above them only:
//!
//! ```text
//! failure             why the command failed, and its exit code
//! output              lines to stdout and stderr
//! args                the command line
//! files, image        a FAT file system, and the disk image that it is on
//! words, screen       register accesses in words
//! device              a device behind its loop
//! disk, guest         the driver's side
//! report              the story, the table, the verdict
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
mod screen;
mod words;

use std::process::ExitCode;

use args::Args;
use failure::Result;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                output::complain(&text);
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

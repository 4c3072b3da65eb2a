//! The `virtside` command: serves devices to virtual machines, and shows them at work.
//!
//! A module imports only from modules above it in this list:
//!
//! ```text
//! failure             errors and exit codes
//! output              lines on stdout and stderr
//! words               names of features
//! disk_file           opening and locking a disk image
//! demo                `virtside demo`: a driver and its devices in one process
//! serve               `virtside serve`: devices behind vhost-user sockets
//! args                the command line
//! ```
#![deny(unsafe_code)]

mod args;
mod demo;
mod disk_file;
mod failure;
mod output;
mod serve;
mod words;

use std::process::ExitCode;

use args::{Args, Command};
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
    let Some(args) = Args::parse()? else {
        return Ok(());
    };
    match args.command {
        None => demo::run(&args.demo),
        Some(Command::Demo(demo)) => demo::run(&demo),
        Some(Command::Serve(serve)) => serve::run(*serve),
    }
}

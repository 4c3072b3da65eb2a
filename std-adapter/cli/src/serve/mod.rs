//! `virtside serve`: devices behind vhost-user sockets, until a signal ends the service.
//!
//! Each device has its own socket and its own thread. A device serves one front end at a time. The
//! next front end waits in the socket's queue until the first one leaves.
//!
//! A module imports only from modules above it in this list:
//!
//! ```text
//! messages            messages on stderr
//! options             flags of the devices
//! socket              listening sockets and their files
//! signals             SIGINT and SIGTERM
//! watched             a model that is watched
//! hosted              a device of any model and any size
//! blk                 what is behind each device
//! device_thread       a device in its thread: its front ends, one after the other
//! ```

mod blk;
mod device_thread;
mod hosted;
mod messages;
mod options;
mod signals;
mod socket;
mod watched;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use device_thread::DeviceThread;
use hosted::Hosted;
use options::BlkOptions;
use signals::Signals;
use socket::Socket;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(subcommand)]
    device: Device,
}

#[derive(Debug, Subcommand)]
enum Device {
    /// A disk
    Blk(DeviceArgs<BlkOptions>),
}

#[derive(Debug, Args)]
struct DeviceArgs<T: Args> {
    #[command(flatten)]
    options: T,

    /// Path of the socket to create. A VMM connects to it
    #[arg(long, value_name = "SOCKET")]
    vhost_user: PathBuf,
}

/// A device that is ready to be served.
struct Plan {
    name: String,
    socket: Socket,
    hosted: Box<dyn Hosted>,
}

/// Serves the devices until a signal, or until no device is left.
pub(crate) fn run(args: ServeArgs) -> Result<()> {
    messages::init();
    let Device::Blk(DeviceArgs {
        options,
        vhost_user,
    }) = args.device;
    let plans = vec![Plan {
        name: "blk".into(),
        hosted: blk::hosted(&options)?,
        socket: Socket::bind(&vhost_user)?,
    }];
    let mut signals = Signals::new()?;
    let threads: Vec<_> = plans
        .into_iter()
        .map(|plan| DeviceThread::start(plan.name, plan.socket, plan.hosted, signals.waker()?))
        .collect::<Result<_>>()?;
    while !signals.wait()? && !threads.iter().all(DeviceThread::is_finished) {}
    for thread in &threads {
        thread.stop();
    }
    let ends: Vec<_> = threads.into_iter().map(DeviceThread::join).collect();
    if ends.iter().all(|ended_well| *ended_well) {
        Ok(())
    } else {
        Err(Failure::work("a device failed"))
    }
}

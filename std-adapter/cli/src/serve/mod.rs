//! `virtside serve`: devices behind vhost-user sockets, until a signal ends the service.
//!
//! Each device has its own socket and its own thread. A device serves one front end at a time. The
//! next front end waits in the socket's queue until the first one leaves.
//!
//! A module imports only from modules above it in this list:
//!
//! ```text
//! messages            messages on stderr
//! complaints          errors that do not flood the log
//! options             flags of the devices
//! socket              listening sockets and their files
//! signals             SIGINT and SIGTERM
//! stats               counters and latencies
//! watched             a model that is counted, timed and traced
//! hosted              a device of any model and any size
//! devices             what is behind each kind of device
//! device              a device as it is described
//! sandbox             what the process can do once everything is open
//! break_out           tries what the sandbox forbids
//! config              the configuration file
//! device_thread       a device in its thread: its front ends, one after the other
//! report              the lines of `--stats`
//! ```

mod break_out;
mod complaints;
mod config;
mod device;
mod device_thread;
mod devices;
mod hosted;
mod messages;
mod options;
mod report;
mod sandbox;
mod signals;
mod socket;
mod stats;
mod watched;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use indicatif::MultiProgress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::failure::{Failure, Result};
use break_out::BreakOut;
use device::Device;
use device_thread::{DeviceThread, Service};
use hosted::Context;
use messages::LogFormat;
use report::Report;
use signals::Signals;
use socket::Sockets;

/// Heading of the options that all devices have.
const SERVICE: &str = "Options of the service";

/// A disk, and the QEMU that uses it.
const EXAMPLE: &str = "\
Example:
  virtside serve blk --disk disk.img --vhost-user disk.sock &
  qemu-system-x86_64 -m 1G -machine q35,memory-backend=mem \\
    -object memory-backend-memfd,id=mem,size=1G,share=on \\
    -chardev socket,id=disk,path=disk.sock -device vhost-user-blk-pci,chardev=disk";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServeArgs {
    /// Serve the devices of this TOML file. Each [[device]] has a kind, and the options of that kind
    /// without their dashes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Write each request to the log
    #[arg(long, global = true, help_heading = SERVICE)]
    trace: bool,

    /// How messages look
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        global = true,
        help_heading = SERVICE
    )]
    log_format: LogFormat,

    /// Print the rate of requests and bytes, and latencies, every SECONDS (1 if none are given)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..=86400),
        global = true, help_heading = SERVICE)]
    stats: Option<u64>,

    /// Do not limit the process to the system calls and files that running devices need
    #[arg(long, global = true, help_heading = SERVICE)]
    no_sandbox: bool,

    /// Break out of the sandbox, for its test
    #[arg(long, global = true, hide = true)]
    break_out: Option<BreakOut>,

    #[command(subcommand)]
    device: Option<Device>,
}

/// Serves the devices until a signal, or until no device is left.
pub(crate) fn run(args: ServeArgs) -> Result<()> {
    let sockets = Sockets::from_env()?;
    let bars = MultiProgress::new();
    messages::init(args.log_format, args.trace, bars.clone());
    let devices = match (&args.config, args.device) {
        (Some(path), None) => config::read(path)?,
        (None, Some(device)) => vec![device],
        (None, None) => {
            return Err(Failure::Usage(
                "serve: name a device, or give --config".into(),
            ));
        }
        (Some(_), Some(_)) => {
            let why = "serve: give either a device or --config";
            return Err(Failure::Usage(why.into()));
        }
    };
    let mut signals = Signals::new()?;
    let mut report = args
        .stats
        .map(|seconds| Report::new(Duration::from_secs(seconds), bars));
    let stop = EventFd::new(EFD_NONBLOCK)?;
    let services = open(&devices, sockets, args.trace, &stop, report.as_mut())?;
    if !args.no_sandbox {
        sandbox::enter(devices.iter().flat_map(Device::sockets))?;
    }
    if let Some(break_out) = args.break_out {
        return break_out.run();
    }
    let mut threads = Vec::new();
    let served = start(services, &signals, &mut threads)
        .and_then(|()| wait(&mut signals, &threads, report.as_mut()));
    stop.write(1)?;
    let ends: Vec<_> = threads.into_iter().map(DeviceThread::join).collect();
    if let Some(report) = report {
        report.end();
    }
    served?;
    if ends.iter().all(|ended_well| *ended_well) {
        Ok(())
    } else {
        Err(Failure::work("a device failed"))
    }
}

/// Starts the devices. Those in `threads` run even after an error.
fn start(services: Vec<Service>, signals: &Signals, threads: &mut Vec<DeviceThread>) -> Result<()> {
    for (number, service) in services.into_iter().enumerate() {
        signals.watch(number, &service.socket)?;
        threads.push(DeviceThread::start(service, signals.waker()?)?);
    }
    Ok(())
}

/// Waits for a signal, or until no device is left. Meanwhile shows the report.
fn wait(
    signals: &mut Signals,
    threads: &[DeviceThread],
    mut report: Option<&mut Report>,
) -> Result<()> {
    loop {
        let timeout = report.as_ref().map(|report| report.until_next());
        let connected = |device: usize| {
            if let Some(device) = threads.get(device) {
                device.connected();
            }
        };
        let ends = signals.wait(timeout, connected)?;
        if ends || threads.iter().all(DeviceThread::has_ended) {
            return Ok(());
        }
        if let Some(report) = &mut report {
            report.show_if_due();
        }
    }
}

/// Opens everything that the devices need.
fn open(
    devices: &[Device],
    mut sockets: Sockets,
    traced: bool,
    stop: &EventFd,
    mut report: Option<&mut Report>,
) -> Result<Vec<Service>> {
    let mut services: Vec<Service> = Vec::new();
    for device in devices {
        let common = device.common();
        let name = unused_name(common.name.as_deref(), device.kind(), &services)?;
        let meter = match &mut report {
            Some(report) => Some(report.meter(&name)?),
            None => None,
        };
        let context = Context {
            name: name.clone(),
            stop: stop.try_clone()?,
            meter,
            traced,
            no_packed: common.no_packed,
        };
        services.push(Service {
            name,
            stop: stop.try_clone()?,
            hosted: device.open(context)?,
            socket: sockets.take(common.vhost_user.as_deref())?,
        });
    }
    sockets.end()?;
    Ok(services)
}

/// Returns the name of a device: the given one, or its kind with a number if there are several.
fn unused_name(given: Option<&str>, kind: &str, services: &[Service]) -> Result<String> {
    let is_used = |name: &str| services.iter().any(|service| service.name == name);
    if let Some(name) = given {
        if is_used(name) {
            return Err(Failure::Usage(format!("two devices have the name {name}")));
        }
        return Ok(name.to_owned());
    }
    let mut name = kind.to_owned();
    let mut number: u32 = 1;
    while is_used(&name) {
        number = number.saturating_add(1);
        name = format!("{kind}{number}");
    }
    Ok(name)
}

//! `virtside demo`: starts two devices, runs a third-party driver against them in the same process,
//! and compares the files that guest and host see.
//!
//! A module imports only from modules above it in this list:
//!
//! ```text
//! files, image        the FAT file system and its disk image
//! registers, trace    register accesses as text
//! device              a device in its thread
//! disk, guest         the driver's side
//! report              the printed report and the verdict
//! ```

mod device;
mod disk;
mod files;
mod guest;
mod image;
mod registers;
mod report;
mod trace;

use std::{
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use virtside::{
    DeviceConfig, Features,
    features::Offer,
    models::{Block, BlockOptions, Entropy},
};
use virtside_std::{FileDisk, OsEntropy, guest::GuestHal};

use crate::failure::{Failure, Result};
use device::{DevicePlan, QUEUE_MAX, RunningDevice, SetUp};
use guest::{Guest, Outcome};
use image::Image;
use trace::TracePrinter;

/// Allowed sizes of the temporary image, in MiB.
const MIB: std::ops::RangeInclusive<u64> = 4..=4096;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Print every register access to stderr
    #[arg(long)]
    trace: bool,

    /// Use this disk image instead of a temporary one: a regular file or a block device of at least
    /// 1 MiB. The files go into a new directory. An empty image (all zeros) is formatted first. An
    /// image with other content than a FAT file system is refused. The image is locked while the
    /// command runs
    #[arg(long, value_name = "FILE", conflicts_with = "mib")]
    disk: Option<PathBuf>,

    /// Size of the temporary image in MiB, from 4 to 4096. The image is in $TMPDIR, or in /tmp
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(MIB))]
    mib: u64,
}

/// A driver that makes no register access for this many seconds is stuck.
const STUCK_SECONDS: u64 = 20;

/// Maximum length of one entropy request, in bytes.
const ENTROPY_LIMIT: u32 = 64 << 10;

/// Runs the demo. Fails unless guest and host see the same files.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let image = match &args.disk {
        Some(path) => Image::existing(path)?,
        None => Image::temporary(args.mib << 20)?,
    };
    report::begin(&image)?;
    let template = "{msg:>8} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template).map_err(Failure::work)?;
    let bar = ProgressBar::new(0).with_style(style);
    let printer = |name, model: &dyn Identified| {
        let trace = args.trace.then_some(model.id());
        trace.map(|id| TracePrinter::new(name, id, bar.clone()))
    };
    let memory = GuestHal::memory().map_err(Failure::work)?;
    let (ready, set_up) = mpsc::channel();

    let disk = FileDisk::new(image.file()?, false)?;
    let block = Block::new(disk, BlockOptions::new(QUEUE_MAX).with_id("virtside"));
    let plan = DevicePlan {
        name: "blk",
        printer: printer("blk", &block),
        model: block,
        offer: Offer::AS_IS,
        ready: ready.clone(),
        backend_error: |block| {
            let error = block.backend_mut().take_error();
            error.map(|error| error.to_string())
        },
    };
    let block = RunningDevice::new(plan, memory)?;
    let entropy = Entropy::new(OsEntropy).with_limit(ENTROPY_LIMIT);
    let plan = DevicePlan {
        name: "rng",
        printer: printer("rng", &entropy),
        model: entropy,
        // The driver suppresses interrupts by ring flags, which EVENT_IDX replaces.
        offer: Offer::AS_IS.without(Features::EVENT_IDX),
        ready,
        backend_error: |_| None,
    };
    let entropy = RunningDevice::new(plan, memory)?;

    let guest = Guest {
        block: block.side(),
        entropy: entropy.side(),
        format: image.is_blank(),
        bar: bar.clone(),
    };
    let report_set_up = |set_up: &SetUp| bar.suspend(|| report::set_up(set_up));
    let driven = drive(guest, &[&block, &entropy], &set_up, report_set_up);
    bar.finish_and_clear();
    let outcome = match driven {
        Ok(outcome) => outcome,
        Err(GuestError::Stuck(why)) => return Err(why),
        // An error on the device's side is the cause of the driver's error.
        Err(GuestError::Ended(why)) => {
            let ends = [block.join(), entropy.join()];
            let cause = ends.into_iter().find_map(std::result::Result::err);
            return Err(match cause {
                Some(Failure::Work(cause)) => Failure::Work(format!("{}: {cause}", image.name())),
                Some(other) => other,
                None => why,
            });
        }
    };
    let served = [block.join()?, entropy.join()?];

    report::table(&[&outcome.block, &outcome.entropy], &served)?;
    let host = files::read_all(image.file()?, &outcome.directory)?;
    report::verdict(&outcome, &host)
}

/// A model of any type.
trait Identified {
    fn id(&self) -> u32;
}

impl<D: DeviceConfig> Identified for D {
    fn id(&self) -> u32 {
        self.device_id()
    }
}

/// Reason why the guest returned no outcome.
enum GuestError {
    /// The guest thread has ended with this error.
    Ended(Failure),
    /// The guest thread may never end, so it cannot be joined.
    Stuck(Failure),
}

/// Runs the guest in its own thread. Meanwhile reports what the drivers set up, and stops if a
/// driver makes no progress.
fn drive(
    guest: Guest,
    devices: &[&RunningDevice],
    set_up: &mpsc::Receiver<SetUp>,
    report_set_up: impl Fn(&SetUp) -> Result<()>,
) -> std::result::Result<Outcome, GuestError> {
    let guest = thread::Builder::new()
        .name("guest".into())
        .spawn(move || guest.run())
        .map_err(|error| GuestError::Ended(error.into()))?;
    let stuck = |why: String| Err(GuestError::Stuck(Failure::Work(why)));
    let mut seen = 0;
    let mut since = Instant::now();
    loop {
        let is_finished = guest.is_finished();
        while let Ok(set_up) = set_up.try_recv() {
            report_set_up(&set_up).map_err(GuestError::Stuck)?;
        }
        if is_finished {
            break;
        }
        thread::sleep(Duration::from_millis(10));
        let accesses = devices.iter().map(|device| device.accesses()).sum();
        if accesses != seen {
            (seen, since) = (accesses, Instant::now());
        }
        if let Some(device) = devices.iter().find(|device| device.needs_reset()) {
            return stuck(format!("{} set DEVICE_NEEDS_RESET", device.name()));
        }
        if since.elapsed() > Duration::from_secs(STUCK_SECONDS) {
            return stuck(format!(
                "the driver made no register access for {STUCK_SECONDS} s"
            ));
        }
    }
    match guest.join() {
        Ok(outcome) => outcome.map_err(GuestError::Ended),
        Err(_) => Err(GuestError::Ended(Failure::work("the driver panicked"))),
    }
}

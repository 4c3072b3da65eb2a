//! The main job: two devices, a driver that nobody here wrote, and the same files from both sides.

/// Prints a line. Whoever stops reading does not end the work, so a failure to print is no error.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// The same on stderr.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod args;
mod device;
mod disk;
mod files;
mod guest;
mod image;
mod report;
mod screen;
mod words;

use std::{
    error::Error,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use virtside::{
    Features, Offer,
    models::{Block, BlockOptions, Entropy},
};
use virtside_std::{FileDisk, OsEntropy, guest::GuestHal};

use args::Args;
use device::{QUEUE_MAX, Spawned};
use guest::{Guest, Outcome};
use image::Image;
use screen::Screen;

/// A driver that makes no request for so long is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Bytes of one entropy request, at most.
const ENTROPY_LIMIT: u32 = 64 << 10;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let image = match Image::open(&args) {
        Ok(image) => image,
        Err(error) => {
            complain!("virtside: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&args, &image) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain!("virtside: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether both sides see the same files.
fn run(args: &Args, image: &Image) -> Result<bool> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{msg:>8} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}",
    )?);
    let screen = |name| Screen::new(name, args.trace, bar.clone());
    let memory = GuestHal::memory()?;
    say!("image  {image}");

    let disk = FileDisk::open(image.path())?;
    let options = BlockOptions::new(QUEUE_MAX).with_id("virtside");
    let block = Spawned::new(
        "blk",
        Block::new(disk, options),
        Offer::AS_IS,
        memory,
        screen("blk"),
    )?;
    let entropy = Entropy::new(OsEntropy).with_limit(ENTROPY_LIMIT);
    // Its driver suppresses by flags.
    let flags_only = Offer::AS_IS.without(Features::EVENT_IDX);
    let entropy = Spawned::new("rng", entropy, flags_only, memory, screen("rng"))?;

    let guest = Guest {
        block: block.side(),
        entropy: entropy.side(),
        format: image.is_blank(),
        bar: bar.clone(),
    };
    let outcome = drive(guest, &[&block, &entropy])?;
    bar.finish_and_clear();
    let reports = [block.join()?, entropy.join()?];

    let host = files::read_all(std::fs::File::open(image.path())?, &outcome.directory)?;
    let same = report::files(&outcome, &host);
    report::devices(&[&outcome.block, &outcome.entropy], &reports);
    report::verdict(&outcome, same);
    Ok(same)
}

/// Runs the guest in a thread of its own, and watches that it gets on.
fn drive(guest: Guest, devices: &[&Spawned]) -> Result<Outcome> {
    let guest = thread::Builder::new()
        .name("guest".into())
        .spawn(move || guest.run())?;
    let mut seen = 0;
    let mut since = Instant::now();
    while !guest.is_finished() {
        thread::sleep(Duration::from_millis(10));
        let accesses = devices.iter().map(|device| device.accesses()).sum();
        if accesses != seen {
            (seen, since) = (accesses, Instant::now());
        }
        // The driver would wait for ever, so it cannot be joined.
        if let Some(device) = devices.iter().find(|device| device.needs_reset()) {
            return Err(format!("{} set DEVICE_NEEDS_RESET", device.name()).into());
        }
        if let Some(device) = devices.iter().find(|device| device.is_over()) {
            return Err(format!("the loop of {} ended early", device.name()).into());
        }
        if since.elapsed() > STUCK {
            return Err("the driver is stuck".into());
        }
    }
    match guest.join() {
        Ok(outcome) => outcome,
        Err(_) => Err("the driver panicked".into()),
    }
}

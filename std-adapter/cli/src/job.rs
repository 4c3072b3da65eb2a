//! The main job: two devices, a driver that nobody here wrote, and the same files from both sides.

use std::{
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

use crate::{
    args::Args,
    device::{Plan, QUEUE_MAX, SetUp, Spawned},
    failure::{Failure, Result},
    files,
    guest::{Guest, Outcome},
    image::Image,
    report,
    screen::Screen,
};

/// A driver that makes no register access for so long is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Bytes of one entropy request, at most.
const ENTROPY_LIMIT: u32 = 64 << 10;

/// Both sides see the same files, or it is a failure.
pub(crate) fn run(args: &Args) -> Result<()> {
    let image = Image::open(args)?;
    report::begin(&image)?;
    let template = "{msg:>8} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template).map_err(Failure::work)?;
    let bar = ProgressBar::new(0).with_style(style);
    let screen = |name, model: &dyn Identified| {
        let trace = args.trace.then_some(model.id());
        trace.map(|id| Screen::new(name, id, bar.clone()))
    };
    let memory = GuestHal::memory().map_err(Failure::work)?;
    let (ready, set_up) = mpsc::channel();

    let disk = FileDisk::new(image.file()?, false)?;
    let block = Block::new(disk, BlockOptions::new(QUEUE_MAX).with_id("virtside"));
    let plan = Plan {
        name: "blk",
        screen: screen("blk", &block),
        model: block,
        offer: Offer::AS_IS,
        ready: ready.clone(),
        trouble: |block| {
            let error = block.backend_mut().take_error();
            error.map(|error| error.to_string())
        },
    };
    let block = Spawned::new(plan, memory)?;
    let entropy = Entropy::new(OsEntropy).with_limit(ENTROPY_LIMIT);
    let plan = Plan {
        name: "rng",
        screen: screen("rng", &entropy),
        model: entropy,
        // Its driver suppresses by flags.
        offer: Offer::AS_IS.without(Features::EVENT_IDX),
        ready,
        trouble: |_| None,
    };
    let entropy = Spawned::new(plan, memory)?;

    let guest = Guest {
        block: block.side(),
        entropy: entropy.side(),
        format: image.is_blank(),
        bar: bar.clone(),
    };
    let tell = |set_up: &SetUp| bar.suspend(|| report::set_up(set_up));
    let driven = drive(guest, &[&block, &entropy], &set_up, tell);
    bar.finish_and_clear();
    let outcome = match driven {
        Ok(outcome) => outcome,
        Err(Ended::Stuck(why)) => return Err(why),
        // What the device's side says is the cause of what the driver was told.
        Err(Ended::Over(why)) => {
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

/// A model, whichever.
trait Identified {
    fn id(&self) -> u32;
}

impl<D: DeviceConfig> Identified for D {
    fn id(&self) -> u32 {
        self.device_id()
    }
}

/// Why there is no outcome.
enum Ended {
    /// The driver's thread is gone.
    Over(Failure),
    /// It would wait for ever, so it cannot be joined.
    Stuck(Failure),
}

/// Runs the guest in a thread of its own, tells what it sets up, and watches that it gets on.
fn drive(
    guest: Guest,
    devices: &[&Spawned],
    set_up: &mpsc::Receiver<SetUp>,
    tell: impl Fn(&SetUp) -> Result<()>,
) -> std::result::Result<Outcome, Ended> {
    let guest = thread::Builder::new()
        .name("guest".into())
        .spawn(move || guest.run())
        .map_err(|error| Ended::Over(error.into()))?;
    let stuck = |why: String| Err(Ended::Stuck(Failure::Work(why)));
    let mut seen = 0;
    let mut since = Instant::now();
    loop {
        let over = guest.is_finished();
        while let Ok(set_up) = set_up.try_recv() {
            tell(&set_up).map_err(Ended::Stuck)?;
        }
        if over {
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
        if since.elapsed() > STUCK {
            return stuck("the driver is stuck".into());
        }
    }
    match guest.join() {
        Ok(outcome) => outcome.map_err(Ended::Over),
        Err(_) => Err(Ended::Over(Failure::work("the driver panicked"))),
    }
}

//! The guest: runs the drivers, makes a file system on the disk, and writes files of random bytes.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use virtio_drivers::device::rng::VirtIORng;
use virtside_std::guest::{ChannelTransport, GuestHal};

use super::{
    device::DriverSide,
    disk::{Disk, Stream, Traffic},
    files::{self, FileSummary},
};
use crate::failure::{Failure, Result};

/// Total length of all files in bytes, if the free space is at least twice as large.
const TOTAL: u64 = 16 << 20;

/// Lengths of the first files, around multiples of the sector and cluster size.
const SMALL: [u64; 8] = [0, 1, 511, 512, 513, 4096, 16383, 16385];

/// Number of large files, which share the remaining bytes.
const LARGE: u64 = 4;

/// Length of one entropy request, in bytes.
const PIECE: usize = 32 << 10;

pub(crate) struct Guest {
    pub(crate) block: DriverSide,
    pub(crate) entropy: DriverSide,
    pub(crate) format: bool,
    pub(crate) bar: ProgressBar,
}

/// The result of a guest run.
pub(crate) struct Outcome {
    pub(crate) directory: String,
    /// The files that the guest wrote.
    pub(crate) written: Vec<FileSummary>,
    /// The files that the guest read back.
    pub(crate) read: Vec<FileSummary>,
    pub(crate) block: Traffic,
    pub(crate) entropy: Traffic,
    pub(crate) time: Duration,
}

/// The entropy driver as a source of bytes.
struct Random {
    driver: VirtIORng<GuestHal, ChannelTransport>,
    traffic: Traffic,
}

impl Random {
    fn new(side: DriverSide) -> Result<Self> {
        let transport = ChannelTransport::new(side.port).map_err(Failure::work)?;
        let mut driver = VirtIORng::new(transport).map_err(broken)?;
        // The driver polls.
        driver.disable_interrupts();
        Ok(Self {
            driver,
            traffic: Traffic::default(),
        })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = Instant::now();
            let count = self.driver.request_entropy(rest).map_err(broken)?;
            self.traffic.add(count, start);
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }
}

fn broken(error: virtio_drivers::Error) -> io::Error {
    io::Error::other(format!("entropy driver: {error}"))
}

impl Guest {
    pub(crate) fn run(self) -> Result<Outcome> {
        let start = Instant::now();
        let mut random = Random::new(self.entropy)?;
        let transport = ChannelTransport::new(self.block.port).map_err(Failure::work)?;
        let mut disk = Disk::new(transport, self.block.line)?;
        let bar = self.bar;
        if self.format {
            let mut stream = Stream::new(&mut disk);
            files::format(&mut stream)?;
            stream.flush()?;
        }
        bar.set_message("writing");
        let (directory, written) = write(&mut disk, &mut random, &bar)?;
        bar.set_message("reading");
        let read = read_back(&mut disk, &directory, &written, &bar)?;
        Ok(Outcome {
            directory,
            written,
            read,
            block: disk.traffic,
            entropy: random.traffic,
            time: start.elapsed(),
        })
    }
}

/// Returns names and lengths of the files. They fill at most half of the free space.
fn plan(free: u64) -> Result<Vec<(String, u64)>> {
    let total = TOTAL.min(free / 2);
    let small: u64 = SMALL.iter().sum();
    let left = total.checked_sub(small);
    let left = left.ok_or_else(|| {
        let (least, free) = ((small * 2) >> 10, free >> 10);
        Failure::Work(format!(
            "the image has {free} KiB free, but at least {least} KiB are needed"
        ))
    })?;
    let large = std::iter::repeat_n(left / LARGE, usize::try_from(LARGE).map_err(Failure::work)?);
    let sizes = SMALL.into_iter().chain(large);
    Ok((0..)
        .zip(sizes)
        .map(|(at, len)| (format!("file-{at:02}.bin"), len))
        .collect())
}

/// Mounts the file system, writes files into a new directory, and unmounts.
fn write(
    disk: &mut Disk,
    random: &mut Random,
    bar: &ProgressBar,
) -> Result<(String, Vec<FileSummary>)> {
    let mut stream = Stream::new(disk);
    let fs = files::mount(&mut stream)?;
    let stats = fs.stats()?;
    let free = u64::from(stats.free_clusters()).saturating_mul(stats.cluster_size().into());
    let plan = plan(free)?;
    // Each byte is written once and read once.
    bar.set_length(plan.iter().map(|(_, len)| len * 2).sum());
    let name = files::new_directory(&fs)?;
    let mut written = Vec::new();
    {
        let directory = fs.root_dir().open_dir(&name)?;
        let mut piece = vec![0; PIECE];
        for (name, len) in plan {
            let mut file = directory.create_file(&name)?;
            let mut hasher = crc32fast::Hasher::new();
            let mut left = usize::try_from(len).map_err(Failure::work)?;
            while left != 0 {
                let piece = &mut piece[..left.min(PIECE)];
                random.fill(piece)?;
                hasher.update(piece);
                file.write_all(piece)?;
                left -= piece.len();
                bar.inc(u64::try_from(piece.len()).unwrap_or(0));
            }
            file.flush()?;
            let checksum = hasher.finalize();
            written.push(FileSummary {
                name,
                len,
                checksum,
            });
        }
    }
    fs.unmount()?;
    stream.flush()?;
    Ok((name, written))
}

/// Mounts the file system again, with an empty cache, and reads the files.
fn read_back(
    disk: &mut Disk,
    directory: &str,
    written: &[FileSummary],
    bar: &ProgressBar,
) -> Result<Vec<FileSummary>> {
    let fs = files::mount(Stream::new(disk))?;
    let directory = fs.root_dir().open_dir(directory)?;
    let mut read = Vec::new();
    for FileSummary { name, .. } in written {
        let file = directory.open_file(name)?;
        read.push(files::read(name, file, |count| {
            bar.inc(u64::try_from(count).unwrap_or(0));
        })?);
    }
    Ok(read)
}

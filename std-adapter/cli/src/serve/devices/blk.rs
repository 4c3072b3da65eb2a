//! The block device over a disk image.

use std::time::Duration;

use virtio_spec::blk::F;
use virtside::{
    Features,
    memory::DeviceRange,
    models::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions},
};
use virtside_std::FileDisk;

use crate::{
    disk_file::{self, Access},
    failure::Result,
    serve::{
        complaints::Complaints,
        hosted::{Context, Hosted, Plan},
        options::{BlkOptions, Cache},
        stats::Operation,
        watched::Watch,
    },
};

type BlockResult = std::result::Result<(), BlockError>;

/// Opens the image.
///
/// # Errors
/// The image cannot be used.
pub(in crate::serve) fn hosted(context: Context, options: &BlkOptions) -> Result<Box<dyn Hosted>> {
    let path = options.disk.as_path();
    let access = if options.read_only {
        Access::Read
    } else {
        Access::Write
    };
    let (file, _) = disk_file::open(path, access)?;
    let disk =
        FileDisk::new(file, options.read_only).map_err(|error| disk_file::refused(path, error))?;
    let disk = WatchedDisk {
        disk,
        complaints: Complaints::new(&context.name),
        last: None,
    };
    let (queues, size) = (options.queues.get(), options.queue_size.get());
    let block = BlockOptions::new(size)
        .with_queues(queues)
        .with_id(options.serial.as_str());
    let withheld = match options.cache {
        Cache::Writeback => F::empty(),
        // The answer to a driver that cannot flush waits until the write is durable.
        Cache::Writethrough => F::FLUSH | F::CONFIG_WCE,
    };
    let plan = Plan::new(context, Block::new(disk, block))
        .without(Features::from_spec(withheld.bits()))
        .with_spin(Duration::from_micros(options.spin));
    Ok(match (queues, size) {
        (1, ..=256) => plan.sized::<1, 256>(),
        (1, _) => plan.sized::<1, 1024>(),
        (_, ..=256) => plan.sized::<16, 256>(),
        (_, _) => plan.sized::<16, 1024>(),
    })
}

/// A disk whose errors go to the log.
#[derive(Debug)]
struct WatchedDisk {
    disk: FileDisk,
    complaints: Complaints,
    /// What the current request has done so far.
    last: Option<(Operation, u64)>,
}

impl WatchedDisk {
    fn done(&mut self, operation: Operation, len: u64, result: BlockResult) -> BlockResult {
        // A request may have several pieces. Without a cache, it ends with a flush.
        let (first, before) = self.last.unwrap_or((operation, 0));
        self.last = Some((first, before.saturating_add(len)));
        if let Some(error) = self.disk.take_error() {
            self.complaints.report(error);
        }
        result
    }
}

impl BlockBackend for WatchedDisk {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn features(&self) -> BlockFeatures {
        self.disk.features()
    }

    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> BlockResult {
        let result = self.disk.read(offset, to);
        self.done(Operation::Read, bytes(to), result)
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> BlockResult {
        let result = self.disk.write(offset, from);
        self.done(Operation::Write, bytes(from), result)
    }

    fn flush(&mut self) -> BlockResult {
        let result = self.disk.flush();
        self.done(Operation::Flush, 0, result)
    }

    fn discard(&mut self, offset: u64, len: u64) -> BlockResult {
        let result = self.disk.discard(offset, len);
        self.done(Operation::Discard, len, result)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> BlockResult {
        let result = self.disk.write_zeroes(offset, len, unmap);
        self.done(Operation::WriteZeroes, len, result)
    }
}

fn bytes(range: &DeviceRange<'_>) -> u64 {
    u64::try_from(range.len()).unwrap_or(u64::MAX)
}

impl Watch for Block<WatchedDisk> {
    fn last(&mut self) -> Option<(Operation, u64)> {
        let last = self.backend_mut().last.take();
        Some(last.unwrap_or((Operation::Other, 0)))
    }

    fn front_end_left(&mut self) {
        self.backend_mut().complaints.tell_unsaid();
    }

    fn finish(&mut self) -> std::result::Result<(), String> {
        let disk = &mut self.backend_mut().disk;
        if disk.features().read_only {
            return Ok(());
        }
        disk.flush().map_err(|_| match disk.take_error() {
            Some(error) => error.to_string(),
            None => "the disk cannot be flushed".into(),
        })
    }
}

//! The block device over a disk image.

use std::{fs::File, io, time::Duration};

use virtio_spec::blk::F;
use virtside::{
    Features,
    memory::DeviceRange,
    model::Token,
    models::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions},
};
use virtside_std::{FileDisk, UringDisk};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    disk_file::{self, Access},
    failure::Result,
    serve::{
        complaints::Complaints,
        hosted::{Context, Hosted, Plan},
        options::{Aio, BlkOptions, Cache},
        stats::Operation,
        watched::Watch,
    },
};

/// Most operations that are in hand at once, with io_uring.
const OPERATIONS: u16 = 128;

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
    let refused = |error| disk_file::refused(path, error);
    let to_flush = file.try_clone()?;
    let disk = FileDisk::new(file, options.read_only).map_err(refused)?;
    let disk = Disk::new(disk, options.aio, &context.name).map_err(refused)?;
    let wake = disk.wake()?;
    let disk = WatchedDisk {
        disk,
        to_flush,
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
    let mut plan = Plan::new(context, Block::new(disk, block))
        .without(Features::from_spec(withheld.bits()))
        .with_spin(Duration::from_micros(options.spin));
    if let Some(wake) = wake {
        plan = plan.with_slots(OPERATIONS.into()).with_wake(wake);
    }
    Ok(match (queues, size) {
        (1, ..=256) => plan.sized::<1, 256>(),
        (1, _) => plan.sized::<1, 1024>(),
        (_, ..=256) => plan.sized::<16, 256>(),
        (_, _) => plan.sized::<16, 1024>(),
    })
}

/// An image, in one of two ways.
#[derive(Debug)]
enum Disk {
    /// Each call waits for the disk.
    Sync(FileDisk),
    /// Calls that have to wait complete later.
    Uring(Box<UringDisk>),
}

/// Returns whether the file is in memory, so that no call has to wait.
fn is_in_memory(file: &File) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC`.
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    let kind = rustix::fs::fstatfs(file).map(|found| found.f_type);
    kind.is_ok_and(|kind| u64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

/// Calls a method of either disk.
macro_rules! either {
    ($disk:expr, $inner:ident => $call:expr) => {
        match $disk {
            Disk::Sync($inner) => $call,
            Disk::Uring($inner) => $call,
        }
    };
}

impl Disk {
    fn new(disk: FileDisk, aio: Aio, name: &str) -> io::Result<Self> {
        match aio {
            Aio::Sync => Ok(Self::Sync(disk)),
            Aio::IoUring => Ok(Self::Uring(Box::new(UringDisk::new(disk, OPERATIONS)?))),
            Aio::Auto if is_in_memory(disk.file()) => Ok(Self::Sync(disk)),
            Aio::Auto => match UringDisk::new(disk.try_clone()?, OPERATIONS) {
                Ok(uring) => Ok(Self::Uring(Box::new(uring))),
                Err(error) => {
                    log::info!(target: name, "io_uring is not available ({error}), so requests run one at a time");
                    Ok(Self::Sync(disk))
                }
            },
        }
    }

    /// Returns the descriptor that becomes readable when a request can be completed.
    fn wake(&self) -> io::Result<Option<EventFd>> {
        match self {
            Self::Sync(_) => Ok(None),
            Self::Uring(disk) => disk.wake().map(Some),
        }
    }
}

/// A disk whose errors go to the log.
#[derive(Debug)]
struct WatchedDisk {
    disk: Disk,
    /// The same file, for the flush at the end.
    to_flush: File,
    complaints: Complaints,
    /// What the current request has done so far.
    last: Option<(Operation, u64)>,
}

impl WatchedDisk {
    fn done(&mut self, operation: Operation, len: u64, result: BlockResult) -> BlockResult {
        // A request may have several calls. Without a cache, it ends with a flush.
        let (first, before) = self.last.unwrap_or((operation, 0));
        self.last = Some((first, before.saturating_add(len)));
        if result == Err(BlockError::Io)
            && let Some(error) = either!(&mut self.disk, disk => disk.take_error())
        {
            self.complaints.report(error);
        }
        result
    }
}

// Each method is passed on, those with a default too.
#[warn(clippy::missing_trait_methods)]
impl BlockBackend for WatchedDisk {
    fn capacity(&self) -> u64 {
        either!(&self.disk, disk => disk.capacity())
    }

    fn features(&self) -> BlockFeatures {
        either!(&self.disk, disk => disk.features())
    }

    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> BlockResult {
        let result = either!(&mut self.disk, disk => disk.read(offset, to));
        self.done(Operation::Read, bytes(to), result)
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> BlockResult {
        let result = either!(&mut self.disk, disk => disk.write(offset, from));
        self.done(Operation::Write, bytes(from), result)
    }

    fn read_vectored<'a>(
        &mut self,
        offset: u64,
        to: impl Iterator<Item = DeviceRange<'a>>,
    ) -> BlockResult {
        let mut len: u64 = 0;
        let to = to.inspect(|piece| len = len.saturating_add(bytes(piece)));
        let result = either!(&mut self.disk, disk => disk.read_vectored(offset, to));
        self.done(Operation::Read, len, result)
    }

    fn write_vectored<'a>(
        &mut self,
        offset: u64,
        from: impl Iterator<Item = DeviceRange<'a>>,
    ) -> BlockResult {
        let mut len: u64 = 0;
        let from = from.inspect(|piece| len = len.saturating_add(bytes(piece)));
        let result = either!(&mut self.disk, disk => disk.write_vectored(offset, from));
        self.done(Operation::Write, len, result)
    }

    fn begin(&mut self, request: Token) {
        self.last = None;
        either!(&mut self.disk, disk => disk.begin(request));
    }

    fn settle(&mut self) {
        either!(&mut self.disk, disk => disk.settle());
    }

    fn flush(&mut self) -> BlockResult {
        let result = either!(&mut self.disk, disk => disk.flush());
        self.done(Operation::Flush, 0, result)
    }

    fn discard(&mut self, offset: u64, len: u64) -> BlockResult {
        let result = either!(&mut self.disk, disk => disk.discard(offset, len));
        self.done(Operation::Discard, len, result)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> BlockResult {
        let result = either!(&mut self.disk, disk => disk.write_zeroes(offset, len, unmap));
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
        let disk = self.backend();
        if disk.features().read_only {
            return Ok(());
        }
        let flushed = disk.to_flush.sync_data();
        flushed.map_err(|error| format!("flush: {error}"))
    }
}

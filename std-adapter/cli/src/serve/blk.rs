//! The block device over a disk image.

use std::time::Duration;

use virtio_spec::blk::F;
use virtside::{
    Features,
    models::{Block, BlockBackend, BlockOptions},
};
use virtside_std::FileDisk;

use super::{
    hosted::{Hosted, Model},
    options::{BlkOptions, Cache},
};
use crate::{
    disk_file::{self, Access},
    failure::Result,
};

/// Opens the image.
///
/// # Errors
/// The image cannot be used.
pub(super) fn hosted(options: &BlkOptions) -> Result<Box<dyn Hosted>> {
    let path = options.disk.as_path();
    let access = if options.read_only {
        Access::Read
    } else {
        Access::Write
    };
    let (file, _) = disk_file::open(path, access)?;
    let disk =
        FileDisk::new(file, options.read_only).map_err(|error| disk_file::refused(path, error))?;
    let (queues, size) = (options.queues.get(), options.queue_size.get());
    let block = BlockOptions::new(size)
        .with_queues(queues)
        .with_id(options.serial.as_str());
    let withheld = match options.cache {
        Cache::Writeback => F::empty(),
        // The answer to a driver that cannot flush waits until the write is durable.
        Cache::Writethrough => F::FLUSH | F::CONFIG_WCE,
    };
    let model = Model {
        model: Block::new(disk, block),
        withheld: Features::from_spec(withheld.bits()),
        spin: Duration::from_micros(options.spin),
        // Each request is answered at once.
        slots: 1,
        finish: |block| {
            let disk = block.backend_mut();
            disk.flush().map_err(|_| match disk.take_error() {
                Some(error) => error.to_string(),
                None => "the disk cannot be flushed".into(),
            })
        },
    };
    Ok(match (queues, size) {
        (1, ..=256) => model.sized::<1, 256>(),
        (1, _) => model.sized::<1, 1024>(),
        (_, ..=256) => model.sized::<16, 256>(),
        (_, _) => model.sized::<16, 1024>(),
    })
}

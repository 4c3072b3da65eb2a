//! Options, feature offer and configuration space of the block device.

use virtio_spec::blk::F;

use super::{BlockFeatures, MAX_RANGES, feature};
use crate::features::Features;

/// Offset of the field `writeback` in bytes.
pub(super) const WRITEBACK: u32 = 32;

/// Size of the configuration space in bytes, up to and including the field `unused1`.
const LEN: usize = 60;

/// Hints for efficient use of the disk (`VIRTIO_BLK_F_TOPOLOGY`). All fields except
/// `physical_block_exp` are in logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Topology {
    /// Number of logical blocks in a physical block, as the exponent of a power of two.
    pub physical_block_exp: u8,
    /// Offset of the first aligned logical block.
    pub alignment_offset: u8,
    /// Size of the smallest efficient transfer.
    pub min_io_size: u16,
    /// Size of the optimal transfer; 0 if there is none.
    pub opt_io_size: u32,
}

/// Options of a [`Block`](super::Block) device.
///
/// ```
/// use virtside::models::BlockOptions;
/// let options = BlockOptions::new(128).with_id("disk0").with_block_size(4096).with_queues(2);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockOptions {
    pub(super) queue_size: u16,
    pub(super) queues: u16,
    pub(super) id: [u8; super::ID_LEN],
    block_size: Option<u32>,
    size_max: Option<u32>,
    topology: Option<Topology>,
    pub(super) max_transfer: u32,
}

impl BlockOptions {
    /// Creates options for one queue of up to `queue_size` elements. A request has up to
    /// `queue_size - 2` data segments (SEG_MAX).
    ///
    /// The engine limits `queue_size` to its `N`, and rounds it down to a power of two.
    #[must_use]
    pub const fn new(queue_size: u16) -> Self {
        Self {
            queue_size,
            queues: 1,
            id: [0; super::ID_LEN],
            block_size: None,
            size_max: None,
            topology: None,
            max_transfer: u32::MAX,
        }
    }

    /// Sets the answer to GET_ID: the first 20 bytes of `id`. `id` should be ASCII.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = [0; super::ID_LEN];
        for (place, byte) in self.id.iter_mut().zip(id.bytes()) {
            *place = byte;
        }
        self
    }

    /// Sets the number of queues; 0 counts as 1. The engine's `Q` is an upper limit. The device
    /// offers `VIRTIO_BLK_F_MQ` if there is more than one queue.
    ///
    /// If the back end returns [`BlockError::NotReady`](super::BlockError::NotReady) and can tell
    /// requests apart, supply one [`ChainSlot`](crate::ChainSlot) for each queue, and one more for
    /// each further request that may be pending at the same time. With fewer slots than queues, a
    /// pending request of one queue may delay another queue.
    #[must_use]
    pub fn with_queues(self, queues: u16) -> Self {
        Self {
            queues: queues.max(1),
            ..self
        }
    }

    /// Sets the logical block size in bytes (`VIRTIO_BLK_F_BLK_SIZE`). The value is not checked.
    #[must_use]
    pub const fn with_block_size(self, bytes: u32) -> Self {
        Self {
            block_size: Some(bytes),
            ..self
        }
    }

    /// Sets the size of the largest segment in bytes (`VIRTIO_BLK_F_SIZE_MAX`).
    #[must_use]
    pub const fn with_size_max(self, bytes: u32) -> Self {
        Self {
            size_max: Some(bytes),
            ..self
        }
    }

    /// Sets the hints for efficient use of the disk (`VIRTIO_BLK_F_TOPOLOGY`).
    #[must_use]
    pub const fn with_topology(self, topology: Topology) -> Self {
        Self {
            topology: Some(topology),
            ..self
        }
    }

    /// Sets the largest data length of a request in bytes, to limit the time that one request
    /// takes. The device answers longer requests with IOERR. By default there is no limit.
    ///
    /// A driver may send `queue_size - 2` data segments of any size, or of the size that
    /// [`with_size_max`](Self::with_size_max) sets. Set that size, and choose at least the product.
    #[must_use]
    pub const fn with_max_transfer(self, bytes: u32) -> Self {
        Self {
            max_transfer: bytes,
            ..self
        }
    }
}

/// Returns the features that the device offers. The device offers FLUSH and CONFIG_WCE if the back
/// end has a cache (blk-01, blk-02, blk-05).
pub(super) fn offer(backend: &BlockFeatures, options: &BlockOptions) -> Features {
    let mut flags = F::empty();
    flags.set(F::SEG_MAX, options.queue_size > 2);
    flags.set(F::SIZE_MAX, options.size_max.is_some());
    flags.set(F::BLK_SIZE, options.block_size.is_some());
    flags.set(F::TOPOLOGY, options.topology.is_some());
    flags.set(F::RO, backend.read_only);
    flags.set(F::FLUSH, backend.flush);
    flags.set(F::CONFIG_WCE, backend.flush);
    flags.set(F::MQ, options.queues > 1);
    flags.set(F::DISCARD, backend.discard.is_some());
    flags.set(F::WRITE_ZEROES, backend.write_zeroes.is_some());
    feature(flags).union(Features::ALL_RINGS)
}

/// Returns the configuration space. Fields whose feature is not offered are 0 (blk-04).
pub(super) fn space(
    capacity: u64,
    backend: &BlockFeatures,
    options: &BlockOptions,
    writeback: bool,
) -> [u8; LEN] {
    let mut space = [0; LEN];
    let mut rest = space.as_mut_slice();
    let mut put = |bytes: &[u8]| {
        let all = core::mem::take(&mut rest);
        // The fields add up to `LEN`.
        if let Some((field, after)) = all.split_at_mut_checked(bytes.len()) {
            field.copy_from_slice(bytes);
            rest = after;
        }
    };
    let topology = options.topology.unwrap_or_default();
    let ranges = |limits: Option<super::RangeLimits>| {
        limits.map_or((0, 0, 0), |limits| {
            (
                limits.max_sectors,
                limits.max_ranges.min(MAX_RANGES),
                limits.alignment,
            )
        })
    };
    put(&capacity.to_le_bytes());
    put(&options.size_max.unwrap_or(0).to_le_bytes());
    put(&u32::from(options.queue_size.saturating_sub(2)).to_le_bytes());
    put(&[0; 4]); // geometry
    put(&options.block_size.unwrap_or(0).to_le_bytes());
    put(&[topology.physical_block_exp, topology.alignment_offset]);
    put(&topology.min_io_size.to_le_bytes());
    put(&topology.opt_io_size.to_le_bytes());
    put(&[u8::from(writeback), 0]);
    let queues = if options.queues > 1 {
        options.queues
    } else {
        0
    };
    put(&queues.to_le_bytes());
    let (sectors, count, alignment) = ranges(backend.discard);
    put(&sectors.to_le_bytes());
    put(&count.to_le_bytes());
    put(&alignment.to_le_bytes());
    let (sectors, count, unmap) = ranges(backend.write_zeroes);
    put(&sectors.to_le_bytes());
    put(&count.to_le_bytes());
    put(&[u8::from(unmap != 0), 0, 0, 0]);
    space
}

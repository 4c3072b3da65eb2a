//! What a disk is to the block device.

use crate::memory::DeviceRange;

/// Why the back end did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BlockError {
    /// It failed: the driver gets IOERR, and [`HostFault::Backend`](crate::HostFault) is reported.
    Io,
    /// It does not know how: UNSUPP.
    Unsupported,
    /// Not yet. The request stays pending and is asked again from its start, with the same calls in
    /// the same order, after `complete(token)` or `backend_ready(queue)`. A back end that answers so
    /// should have one chain slot, or tell requests apart by their offsets.
    NotReady,
}

/// How much one DISCARD or WRITE_ZEROES request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RangeLimits {
    /// Sectors of one range.
    pub max_sectors: u32,
    /// Ranges of one request; [`MAX_RANGES`](super::MAX_RANGES) bounds it further.
    pub max_ranges: u32,
    /// DISCARD: sectors that an operating system should align to. WRITE_ZEROES: not 0 if the
    /// storage may be released (`write_zeroes_may_unmap`).
    pub alignment: u32,
}

impl RangeLimits {
    /// Any size, up to 8 ranges, aligned to `alignment` sectors.
    #[must_use]
    pub const fn new(alignment: u32) -> Self {
        Self {
            max_sectors: u32::MAX,
            max_ranges: super::MAX_RANGES,
            alignment,
        }
    }
}

/// What a back end can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockFeatures {
    /// Writes are refused (`VIRTIO_BLK_F_RO`).
    pub read_only: bool,
    /// It has a volatile cache that `flush` empties (`VIRTIO_BLK_F_FLUSH`). Without one, every
    /// write is durable when it returns.
    pub flush: bool,
    /// `VIRTIO_BLK_F_DISCARD`
    pub discard: Option<RangeLimits>,
    /// `VIRTIO_BLK_F_WRITE_ZEROES`
    pub write_zeroes: Option<RangeLimits>,
}

/// A disk.
///
/// Offsets and lengths are in bytes, and have been checked to be on the disk. A request is a whole
/// number of sectors, but a call need not be: a driver may split a sector over several buffers, and
/// each is a call of its own. A back end that can only do whole sectors has to gather them.
pub trait BlockBackend {
    /// Capacity in sectors of 512 bytes.
    fn capacity(&self) -> u64;

    /// What it can do. Constant between resets.
    fn features(&self) -> BlockFeatures;

    /// Fills all of `to` from `offset` on.
    ///
    /// # Errors
    /// [`BlockError`]; what is in `to` then does not matter.
    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError>;

    /// Stores all of `from` at `offset`.
    ///
    /// # Errors
    /// [`BlockError`]
    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError>;

    /// Makes every completed write durable.
    ///
    /// # Errors
    /// [`BlockError`]
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }

    /// The bytes are not needed any more.
    ///
    /// # Errors
    /// [`BlockError`]
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        let _ = (offset, len);
        Err(BlockError::Unsupported)
    }

    /// The bytes read as zero from now on; their storage may be released if `unmap`.
    ///
    /// # Errors
    /// [`BlockError`]
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        let _ = (offset, len, unmap);
        Err(BlockError::Unsupported)
    }
}

/// A disk in memory: of as many whole sectors as `D` has.
///
/// ```
/// use virtside::models::blk::{BlockBackend, RamDisk};
/// assert_eq!(RamDisk::new([0u8; 1500]).capacity(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct RamDisk<D> {
    bytes: D,
}

impl<D: AsRef<[u8]> + AsMut<[u8]>> RamDisk<D> {
    /// A disk of these bytes.
    pub const fn new(bytes: D) -> Self {
        Self { bytes }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    fn part(&mut self, offset: u64, len: usize) -> Result<&mut [u8], BlockError> {
        let offset = usize::try_from(offset).map_err(|_| BlockError::Io)?;
        let rest = self.bytes.as_mut().get_mut(offset..);
        rest.and_then(|rest| rest.get_mut(..len))
            .ok_or(BlockError::Io)
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        let len = usize::try_from(len).map_err(|_| BlockError::Io)?;
        self.part(offset, len)?.fill(0);
        Ok(())
    }
}

impl<D: AsRef<[u8]> + AsMut<[u8]>> BlockBackend for RamDisk<D> {
    fn capacity(&self) -> u64 {
        crate::num::wide(self.bytes.as_ref().len()) >> super::SECTOR_SHIFT
    }

    fn features(&self) -> BlockFeatures {
        BlockFeatures {
            read_only: false,
            flush: true,
            discard: Some(RangeLimits::new(1)),
            write_zeroes: Some(RangeLimits::new(0)),
        }
    }

    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError> {
        to.copy_from(self.part(offset, to.len())?);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        from.copy_to(self.part(offset, from.len())?);
        Ok(())
    }

    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.zero(offset, len)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, _unmap: bool) -> Result<(), BlockError> {
        self.zero(offset, len)
    }
}

//! The back end of the block device: the [`BlockBackend`] trait and a disk in memory.

use crate::{memory::DeviceRange, model::Token, num};

/// Error of a [`BlockBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BlockError {
    /// The operation failed. The driver gets IOERR, and the device reports
    /// [`HostFault::Backend`](crate::HostFault).
    Io,
    /// The back end does not support the operation. The driver gets UNSUPP.
    Unsupported,
    /// The back end cannot complete the operation yet, and the request stays pending. After
    /// `backend_ready(queue)`, the device serves the request again from its start. Unless the driver
    /// has changed the request, the calls are the same, in the same order.
    ///
    /// With several [`ChainSlot`](crate::ChainSlot)s, the calls for several requests may alternate.
    /// [`begin`](BlockBackend::begin) tells which request the next calls belong to.
    NotReady,
}

/// Limits of one DISCARD or WRITE_ZEROES request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RangeLimits {
    /// Largest number of sectors in one range.
    pub max_sectors: u32,
    /// Largest number of ranges in one request. The device uses at most
    /// [`MAX_RANGES`](super::MAX_RANGES).
    pub max_ranges: u32,
    /// For DISCARD: the alignment in sectors that an operating system should use.
    ///
    /// For WRITE_ZEROES: a value other than 0 means that the back end may release the storage
    /// (`write_zeroes_may_unmap`).
    pub alignment: u32,
}

impl RangeLimits {
    /// Creates limits that allow ranges of any size and up to [`MAX_RANGES`](super::MAX_RANGES)
    /// ranges a request, with this [`alignment`](Self::alignment).
    #[must_use]
    pub const fn new(alignment: u32) -> Self {
        Self {
            max_sectors: u32::MAX,
            max_ranges: super::MAX_RANGES,
            alignment,
        }
    }
}

/// Capabilities of a back end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlockFeatures {
    /// The disk is read-only (`VIRTIO_BLK_F_RO`): the device answers every write with IOERR.
    pub read_only: bool,
    /// The back end has a volatile cache, and [`flush`](BlockBackend::flush) makes its contents
    /// durable (`VIRTIO_BLK_F_FLUSH`). If false, every write is durable when
    /// [`write`](BlockBackend::write) returns.
    pub flush: bool,
    /// Limits of DISCARD requests, if the back end supports them (`VIRTIO_BLK_F_DISCARD`).
    pub discard: Option<RangeLimits>,
    /// Limits of WRITE_ZEROES requests, if the back end supports them
    /// (`VIRTIO_BLK_F_WRITE_ZEROES`).
    pub write_zeroes: Option<RangeLimits>,
}

/// The disk behind a block device.
///
/// Offsets and lengths are in bytes. The device has checked that they are on the disk.
///
/// # Back ends that complete later
///
/// A back end that starts an operation and completes it later returns [`BlockError::NotReady`]:
///
/// 1. [`begin`](Self::begin) tells the token of the request. The back end starts the operation,
///    keeps its state by token, and returns `NotReady`.
/// 2. When the operation completes, the host calls `backend_ready(queue)`, or `complete` with the
///    token.
/// 3. The device calls `begin` with the token and repeats the calls. The back end returns the
///    results.
///
/// [`settle`](Self::settle) is called before the driver may take its buffers back.
///
/// # Pieces of a request
///
/// A read or write request covers a whole number of sectors, but a call of [`read`](Self::read) or
/// [`write`](Self::write) may cover part of a sector. A driver may split a sector over several
/// buffers, and the device makes one call for each contiguous piece of a buffer. A back end that
/// can access only whole sectors must gather these pieces.
///
/// ```
/// use virtside::memory::DeviceRange;
/// use virtside::models::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions};
///
/// /// A read-only disk.
/// struct Rom(&'static [u8]);
///
/// impl BlockBackend for Rom {
///     fn capacity(&self) -> u64 { self.0.len() as u64 / 512 }
///     fn features(&self) -> BlockFeatures {
///         BlockFeatures { read_only: true, ..BlockFeatures::default() }
///     }
///     fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError> {
///         let start = usize::try_from(offset).map_err(|_| BlockError::Io)?;
///         let from = self.0.get(start..).and_then(|rest| rest.get(..to.len()));
///         to.copy_from(from.ok_or(BlockError::Io)?);
///         Ok(())
///     }
///     fn write(&mut self, _: u64, _: &DeviceRange<'_>) -> Result<(), BlockError> {
///         Err(BlockError::Io)
///     }
/// }
///
/// let device = Block::new(Rom(&[0; 4096]), BlockOptions::new(16));
/// # let _ = device;
/// ```
pub trait BlockBackend {
    /// Returns the capacity in sectors of 512 bytes.
    fn capacity(&self) -> u64;

    /// Returns the capabilities of the back end. They must not change between two resets.
    fn features(&self) -> BlockFeatures;

    /// Fills all of `to` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`BlockError`]; the contents of `to` are then unspecified.
    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError>;

    /// Stores all of `from` at `offset`.
    ///
    /// # Errors
    /// [`BlockError`]
    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError>;

    /// Fills all of `to`, one piece after the other, with the bytes from `offset` on. The default
    /// calls [`read`](Self::read) for each piece.
    ///
    /// If the call fails, the device counts the pieces that were taken before the last one as filled,
    /// unless the iterator has ended. A back end that takes pieces before it fills them takes all of
    /// them before it fails.
    ///
    /// # Errors
    /// [`BlockError`]
    fn read_vectored<'a>(
        &mut self,
        mut offset: u64,
        to: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError>
    where
        Self: Sized,
    {
        for piece in to {
            self.read(offset, &piece)?;
            offset = offset.wrapping_add(num::wide(piece.len()));
        }
        Ok(())
    }

    /// Stores all of `from`, one piece after the other, at `offset`. The default calls
    /// [`write`](Self::write) for each piece.
    ///
    /// # Errors
    /// [`BlockError`]
    fn write_vectored<'a>(
        &mut self,
        mut offset: u64,
        from: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError>
    where
        Self: Sized,
    {
        for piece in from {
            self.write(offset, &piece)?;
            offset = offset.wrapping_add(num::wide(piece.len()));
        }
        Ok(())
    }

    /// Called before the calls of a request. `request` is its token, also when a pending request is
    /// served again. The default does nothing.
    ///
    /// The device reads the request again. A hostile driver that has changed it meanwhile makes the
    /// calls differ from those before.
    fn begin(&mut self, request: Token) {
        let _ = request;
    }

    /// Waits until no operation of a pending request changes the disk or the driver's memory any
    /// more. Called when the driver stops a queue or resets the device. The driver may then reuse its
    /// buffers, and may send other requests for the same sectors. The default does nothing.
    fn settle(&mut self) {}

    /// Makes every completed write durable. The default does nothing.
    ///
    /// # Errors
    /// [`BlockError`]
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }

    /// Discards `len` bytes from `offset` on: the driver does not need their contents any more. The
    /// default returns [`BlockError::Unsupported`].
    ///
    /// # Errors
    /// [`BlockError`]
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        let _ = (offset, len);
        Err(BlockError::Unsupported)
    }

    /// Sets `len` bytes from `offset` on to zero. The back end may release their storage if `unmap`
    /// is true. The default returns [`BlockError::Unsupported`].
    ///
    /// # Errors
    /// [`BlockError`]
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        let _ = (offset, len, unmap);
        Err(BlockError::Unsupported)
    }
}

/// A disk in memory. Its capacity is the number of whole sectors in `D`.
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
    /// Creates a disk of these bytes.
    pub const fn new(bytes: D) -> Self {
        Self { bytes }
    }

    /// Returns the bytes of the disk.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns `len` bytes from `offset` on.
    fn part(&mut self, offset: u64, len: usize) -> Result<&mut [u8], BlockError> {
        let offset = usize::try_from(offset).map_err(|_| BlockError::Io)?;
        let rest = self.bytes.as_mut().get_mut(offset..);
        rest.and_then(|rest| rest.get_mut(..len))
            .ok_or(BlockError::Io)
    }

    /// Sets `len` bytes from `offset` on to zero.
    fn zero(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        let len = usize::try_from(len).map_err(|_| BlockError::Io)?;
        self.part(offset, len)?.fill(0);
        Ok(())
    }
}

impl<D: AsRef<[u8]> + AsMut<[u8]>> BlockBackend for RamDisk<D> {
    fn capacity(&self) -> u64 {
        num::wide(self.bytes.as_ref().len()) >> super::SECTOR_SHIFT
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

//! A block back end over a file.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io, iter,
    path::Path,
};

use virtside::{
    memory::DeviceRange,
    models::blk::{BlockBackend, BlockError, BlockFeatures, RangeLimits, SECTOR},
};
use vmm_sys_util::{
    fallocate::{FallocateMode, fallocate},
    write_zeroes::WriteZeroesAt,
};

use crate::memory::{self, Wait};

/// A disk image in a file, with positioned I/O between the file and guest memory.
///
/// The capacity is the length of the file when it is opened, in whole sectors.
///
/// | request | system call |
/// |---|---|
/// | FLUSH | `fdatasync` |
/// | DISCARD | punches a hole |
/// | WRITE_ZEROES | punches a hole if the driver allows it (`unmap`), else zeroes the range; writes zeros if the file system can do neither |
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    sectors: u64,
    read_only: bool,
    error: Option<DiskError>,
}

/// A failed operation on the file. The driver only learns that its request failed (`IOERR`).
#[derive(Debug)]
pub struct DiskError {
    /// The operation.
    pub operation: DiskOperation,
    /// Offset in the file, in bytes; 0 for a flush.
    pub offset: u64,
    /// Requested length, in bytes; 0 for a flush.
    pub len: u64,
    /// The error of the operating system.
    pub error: io::Error,
}

/// An operation of a [`FileDisk`] on its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// `preadv2`
    Read,
    /// `pwritev2`
    Write,
    /// `fallocate`, or `pwrite` of zeros
    WriteZeroes,
    /// `fdatasync`
    Flush,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            offset,
            len,
            error,
        } = self;
        let operation = match operation {
            DiskOperation::Read => "read",
            DiskOperation::Write => "write",
            DiskOperation::WriteZeroes => "zeroing",
            DiskOperation::Flush => return write!(f, "flush: {error}"),
        };
        write!(f, "{operation} of {len} bytes at offset {offset}: {error}")
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl FileDisk {
    /// Opens an existing image for reading and writing. Creates nothing and writes nothing.
    ///
    /// # Errors
    /// * The error of the operating system.
    /// * [`io::ErrorKind::PermissionDenied`], even for root, if no user has write permission.
    /// * [`io::ErrorKind::InvalidData`] if the file is shorter than one sector.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // Root could open the file, but its owner made it read-only on purpose.
        if file.metadata()?.permissions().readonly() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Self::new(file, false)
    }

    /// Opens an existing image as a read-only disk.
    ///
    /// # Errors
    /// The error of the operating system; [`io::ErrorKind::InvalidData`] if the file is shorter
    /// than one sector.
    pub fn open_read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(File::open(path)?, true)
    }

    /// Uses an open file, which must be readable, and writable unless `read_only`.
    ///
    /// # Errors
    /// The error of the operating system; [`io::ErrorKind::InvalidData`] if the file is shorter
    /// than one sector.
    pub fn new(mut file: File, read_only: bool) -> io::Result<Self> {
        // The metadata of a block special file has length 0, but seeking finds its end.
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        let sectors = len / u64::from(SECTOR);
        if sectors == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a disk image needs at least one sector of 512 bytes",
            ));
        }
        Ok(Self {
            file,
            sectors,
            read_only,
            error: None,
        })
    }

    /// Opens the same file for another owner, such as the thread of another queue. Both may be used
    /// at once: each operation states its offset. Each has its own
    /// [`take_error`](Self::take_error).
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            sectors: self.sectors,
            read_only: self.read_only,
            error: None,
        })
    }

    /// Returns the file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Takes the most recent error of the file.
    pub fn take_error(&mut self) -> Option<DiskError> {
        self.error.take()
    }

    pub(super) fn record(
        &mut self,
        operation: DiskOperation,
        offset: u64,
        len: u64,
        result: io::Result<()>,
    ) -> Result<(), BlockError> {
        result.map_err(|error| {
            self.error = Some(DiskError {
                operation,
                offset,
                len,
                error,
            });
            BlockError::Io
        })
    }

    /// Fails if the disk is read-only. The model has already rejected such a request of a driver.
    pub(super) fn check_writable(&self) -> Result<(), BlockError> {
        if self.read_only {
            Err(BlockError::Io)
        } else {
            Ok(())
        }
    }

    fn punch(&self, offset: u64, len: u64) -> bool {
        fallocate(&self.file, FallocateMode::PunchHole, true, offset, len).is_ok()
    }
}

impl BlockBackend for FileDisk {
    fn capacity(&self) -> u64 {
        self.sectors
    }

    fn features(&self) -> BlockFeatures {
        let limits = (!self.read_only).then_some(RangeLimits::new(1));
        BlockFeatures {
            read_only: self.read_only,
            flush: true,
            discard: limits,
            write_zeroes: limits,
        }
    }

    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.read_vectored(offset, iter::once(*to))
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.write_vectored(offset, iter::once(*from))
    }

    fn read_vectored<'a>(
        &mut self,
        offset: u64,
        to: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError> {
        let mut len = 0;
        let to = to.inspect(|piece| len = bytes(piece).saturating_add(len));
        let result = memory::read_at(&self.file, offset, to, Wait::Allowed);
        self.record(DiskOperation::Read, offset, len, result)
    }

    fn write_vectored<'a>(
        &mut self,
        offset: u64,
        from: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError> {
        self.check_writable()?;
        let mut len = 0;
        let from = from.inspect(|piece| len = bytes(piece).saturating_add(len));
        let result = memory::write_at(&self.file, offset, from, Wait::Allowed);
        self.record(DiskOperation::Write, offset, len, result)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        let result = self.file.sync_data();
        self.record(DiskOperation::Flush, 0, 0, result)
    }

    /// Punches a hole. A discard is a hint: if the file system cannot punch holes, nothing is done.
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.check_writable()?;
        if len != 0 {
            self.punch(offset, len);
        }
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        self.check_writable()?;
        if len == 0 || (unmap && self.punch(offset, len)) {
            return Ok(());
        }
        let result = usize::try_from(len)
            .map_err(|_| io::ErrorKind::InvalidInput.into())
            .and_then(|len| self.file.write_all_zeroes_at(offset, len));
        self.record(DiskOperation::WriteZeroes, offset, len, result)
    }
}

fn bytes(range: &DeviceRange<'_>) -> u64 {
    u64::try_from(range.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! A disk in a file.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
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

use crate::memory;

/// A disk image in a file, with positioned I/O between the file and guest memory.
///
/// The capacity is the file's length at opening, in whole sectors. FLUSH is `fdatasync`, DISCARD
/// punches a hole, WRITE_ZEROES zeroes a range or, where the file system cannot, writes zeros.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    sectors: u64,
    read_only: bool,
    error: Option<DiskError>,
}

/// Why a request failed that the driver was only told `IOERR` of.
#[derive(Debug)]
pub struct DiskError {
    /// What was done to the file.
    pub operation: DiskOperation,
    /// Where in the file it began, in bytes; 0 of a flush.
    pub offset: u64,
    /// How much was asked for, in bytes; 0 of a flush.
    pub len: u64,
    /// What the system says.
    pub error: io::Error,
}

/// What a [`FileDisk`] does to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// `pread`
    Read,
    /// `pwrite`
    Write,
    /// `fallocate`, or `pwrite` of zeroes
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
            DiskOperation::WriteZeroes => "write of zeroes",
            DiskOperation::Flush => return write!(f, "flush: {error}"),
        };
        write!(f, "{operation}, {len} bytes at offset {offset}: {error}")
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl FileDisk {
    /// An existing image, to be read and written.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::PermissionDenied`] also if the file has no write
    /// permission for anybody, whoever asks; [`io::ErrorKind::InvalidData`] if it holds no whole
    /// sector. Nothing is created, and nothing is written.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // Root may open it all the same, but somebody meant it.
        if file.metadata()?.permissions().readonly() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Self::new(file, false)
    }

    /// An existing image, offered as read-only.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] if it holds no whole sector.
    pub fn open_read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(File::open(path)?, true)
    }

    /// An open file, which has to be readable, and writable unless `read_only`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] if it holds no whole sector.
    pub fn new(mut file: File, read_only: bool) -> io::Result<Self> {
        // A block special file has no length of its own, but an end.
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        let sectors = len / u64::from(SECTOR);
        if sectors == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a disk image holds at least one sector of 512 bytes",
            ));
        }
        Ok(Self {
            file,
            sectors,
            read_only,
            error: None,
        })
    }

    /// Takes the most recent failure of the file.
    pub fn take_error(&mut self) -> Option<DiskError> {
        self.error.take()
    }

    fn note(
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

    /// For the driver this cannot happen: the model refuses what changes a read-only disk.
    fn changeable(&self) -> Result<(), BlockError> {
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
        let result = memory::read_at(&self.file, offset, to);
        self.note(DiskOperation::Read, offset, bytes(to), result)
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.changeable()?;
        let result = memory::write_at(&self.file, offset, from);
        self.note(DiskOperation::Write, offset, bytes(from), result)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        let result = self.file.sync_data();
        self.note(DiskOperation::Flush, 0, 0, result)
    }

    /// Advice: where no hole can be punched, nothing is done.
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.changeable()?;
        if len != 0 {
            self.punch(offset, len);
        }
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        self.changeable()?;
        if len == 0 || (unmap && self.punch(offset, len)) {
            return Ok(());
        }
        let result = usize::try_from(len)
            .map_err(|_| io::ErrorKind::InvalidInput.into())
            .and_then(|len| self.file.write_all_zeroes_at(offset, len));
        self.note(DiskOperation::WriteZeroes, offset, len, result)
    }
}

fn bytes(range: &DeviceRange<'_>) -> u64 {
    u64::try_from(range.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

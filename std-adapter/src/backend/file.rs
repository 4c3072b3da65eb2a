//! A disk in a file.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use virtside::{
    DeviceRange,
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
    error: Option<io::Error>,
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

    /// Why a request failed last, since this was last asked.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn note(&mut self, result: io::Result<()>) -> Result<(), BlockError> {
        result.map_err(|error| {
            self.error = Some(error);
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
        self.note(result)
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.changeable()?;
        let result = memory::write_at(&self.file, offset, from);
        self.note(result)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        let result = self.file.sync_data();
        self.note(result)
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
        self.note(result)
    }
}

#[cfg(test)]
mod tests;

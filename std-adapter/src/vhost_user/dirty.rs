//! The log of pages that the device has written, for a front end that migrates its guest.

use std::{
    fs::File,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use vhost::vhost_user::{Error, Result, message::VhostUserLog};
use vm_memory::{
    MmapRegion, VolatileMemory,
    bitmap::{Bitmap, BitmapSlice, WithBitmapSlice},
};

use super::memory::map_part;

/// `VHOST_F_LOG_ALL`: the device logs its writes. The driver never sees this feature.
pub(super) const LOG_ALL: u64 = 1 << 26;
/// Bytes of memory that one bit of the log stands for.
const PAGE: u64 = 4096;

/// The log of a front end: one bit for each page of driver memory, from address 0 on.
#[derive(Debug, Default)]
struct Log {
    /// Set while the front end wants the log.
    on: AtomicBool,
    area: RwLock<Option<MmapRegion>>,
}

/// Marks the writes to a region in the log. Clones share the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    log: Arc<Log>,
    /// Address of the region for the driver.
    start: u64,
}

impl Dirty {
    /// Returns the same log for the region at this address.
    pub(super) fn at(&self, start: u64) -> Self {
        Self {
            log: Arc::clone(&self.log),
            start,
        }
    }

    /// Sets whether writes are logged.
    pub(super) fn set_on(&self, on: bool) {
        self.log.on.store(on, Ordering::Release);
    }

    /// Sets the memory of the log.
    ///
    /// # Errors
    /// The file cannot be mapped, or is too short.
    pub(super) fn set_area(&self, log: &VhostUserLog, file: File) -> Result<()> {
        if log.mmap_size == 0 {
            return Err(Error::InvalidParam);
        }
        let area = map_part(file, log.mmap_offset, log.mmap_size)?;
        let mut place = self
            .log
            .area
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(area);
        Ok(())
    }

    /// Marks the pages of these addresses. Pages beyond the end of the log are not marked.
    #[cold]
    fn mark(&self, offset: usize, len: usize) {
        let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
            return;
        };
        let first = self.start.saturating_add(offset);
        let Some(last) = len.checked_sub(1).map(|most| first.saturating_add(most)) else {
            return;
        };
        let area = self.log.area.read();
        let area = area.unwrap_or_else(PoisonError::into_inner);
        let Some(area) = area.as_ref() else {
            return;
        };
        for page in first / PAGE..=last / PAGE {
            let byte = usize::try_from(page / 8).ok();
            let byte = byte.and_then(|byte| area.get_atomic_ref::<AtomicU8>(byte).ok());
            let Some(byte) = byte else {
                return;
            };
            byte.fetch_or(1 << (page % 8), Ordering::AcqRel);
        }
    }
}

impl WithBitmapSlice<'_> for Dirty {
    type S = Self;
}

impl BitmapSlice for Dirty {}

impl Bitmap for Dirty {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if self.log.on.load(Ordering::Relaxed) {
            self.mark(offset, len);
        }
    }

    /// Always false: only the front end reads its log.
    fn dirty_at(&self, _: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> Self {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        self.at(self.start.saturating_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    fn log(len: u64) -> (Dirty, File) {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(len).unwrap();
        let dirty = Dirty::default();
        let log = VhostUserLog::new(len, 0);
        dirty.set_area(&log, file.try_clone().unwrap()).unwrap();
        dirty.set_on(true);
        (dirty, file)
    }

    fn bytes(file: &File, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn each_page_of_a_write_is_marked() {
        let (dirty, file) = log(4);
        let region = dirty.at(0x2000);
        region.mark_dirty(0xfff, 1);
        assert_eq!(bytes(&file, 4), [0b100, 0, 0, 0]);
        region.mark_dirty(0xfff, 0x5002);
        assert_eq!(bytes(&file, 4), [0b1111_1100, 1, 0, 0]);
    }

    #[test]
    fn nothing_is_marked_unless_the_front_end_wants_it() {
        let (dirty, file) = log(4);
        dirty.set_on(false);
        dirty.mark_dirty(0, 0x5000);
        dirty.set_on(true);
        dirty.mark_dirty(0, 0);
        assert_eq!(bytes(&file, 4), [0; 4]);
    }

    #[test]
    fn pages_beyond_the_log_are_not_marked() {
        let (dirty, file) = log(1);
        dirty.at(u64::MAX).mark_dirty(7, usize::MAX);
        dirty.at(0x7000).mark_dirty(0, 0x3000);
        assert_eq!(bytes(&file, 1), [0b1000_0000]);
    }

    #[test]
    fn a_log_that_is_longer_than_its_file_is_refused() {
        let (dirty, file) = log(4);
        let longer = VhostUserLog::new(5, 0);
        assert!(dirty.set_area(&longer, file).is_err());
    }
}

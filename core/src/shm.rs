//! Shared memory regions: memory of the device that the driver sees for good.

use crate::memory::DriverRange;

/// Where a shared memory region is in the driver's address space.
///
/// The two sides refer to what is in it by offsets from its start (shm-03): [`at`](Self::at) checks
/// one that came from the driver.
///
/// ```
/// use virtside::SharedMemory;
/// let cache = SharedMemory { base: 0x1_0000_0000, len: 0x1000 };
/// assert_eq!(cache.at(0xff0, 16).map(|range| range.start()), Some(0x1_0000_0ff0));
/// assert_eq!(cache.at(0xff1, 16), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SharedMemory {
    /// Address of its first byte, as the driver sees it.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

impl SharedMemory {
    /// The `len` bytes from `offset` on, if they are within the region.
    #[must_use]
    pub fn at(&self, offset: u64, len: u32) -> Option<DriverRange> {
        let end = offset.checked_add(len.into())?;
        if end > self.len {
            return None;
        }
        DriverRange::new(self.base.checked_add(offset)?, len)
    }
}

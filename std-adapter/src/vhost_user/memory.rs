//! The memory that a front end shares.

use std::fs::File;

use vhost::vhost_user::{Error, Result, message::VhostUserMemoryRegion};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
    mmap::MmapRegionBuilder,
};

use super::dirty::Dirty;
use crate::VmMem;

/// A shared region: its addresses for the front end and for the driver, and its mapping.
#[derive(Debug)]
struct Shared {
    /// Address in the front end's process, which ring addresses refer to.
    user: u64,
    region: std::sync::Arc<GuestRegionMmap<Dirty>>,
}

/// The regions of a front end.
#[derive(Debug, Default)]
pub(super) struct Regions(Vec<Shared>);

impl Regions {
    /// Returns the number of regions.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a region.
    ///
    /// # Errors
    /// The file cannot be mapped, or the region overlaps another one or the end of the address
    /// space. Nothing changes.
    pub(super) fn add(
        &mut self,
        region: &VhostUserMemoryRegion,
        file: File,
        dirty: &Dirty,
    ) -> Result<()> {
        let user_end = region.user_addr.checked_add(region.memory_size);
        let overlaps = |other: &Shared| {
            let distance = region.user_addr.wrapping_sub(other.user);
            distance < other.region.len()
                || other.user.wrapping_sub(region.user_addr) < region.memory_size
        };
        if user_end.is_none() || self.0.iter().any(overlaps) {
            return Err(Error::InvalidParam);
        }
        if !is_backed(region, &file) {
            return Err(Error::InvalidParam);
        }
        let len = usize::try_from(region.memory_size).map_err(|_| Error::InvalidParam)?;
        let file = FileOffset::new(file, region.mmap_offset);
        let dirty = dirty.at(region.guest_phys_addr);
        let mapping = MmapRegionBuilder::new_with_bitmap(len, dirty)
            .with_file_offset(file)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
            .build()
            .map_err(|_| Error::InvalidParam)?;
        let start = GuestAddress(region.guest_phys_addr);
        let mapped = GuestRegionMmap::new(mapping, start).ok_or(Error::InvalidParam)?;
        self.0.push(Shared {
            user: region.user_addr,
            region: std::sync::Arc::new(mapped),
        });
        if self.map().is_err() {
            self.0.pop();
            return Err(Error::InvalidParam);
        }
        Ok(())
    }

    /// Removes the region with these addresses.
    ///
    /// # Errors
    /// There is no such region.
    pub(super) fn remove(&mut self, region: &VhostUserMemoryRegion) -> Result<()> {
        let is_it = |shared: &Shared| {
            shared.user == region.user_addr
                && shared.region.start_addr().0 == region.guest_phys_addr
                && shared.region.len() == region.memory_size
        };
        let at = self.0.iter().position(is_it).ok_or(Error::InvalidParam)?;
        self.0.remove(at);
        Ok(())
    }

    /// Returns the regions as driver memory.
    ///
    /// # Errors
    /// Two regions overlap.
    pub(super) fn map(&self) -> Result<VmMem<Dirty>> {
        let mut regions: Vec<_> = self.0.iter().map(|shared| shared.region.clone()).collect();
        regions.sort_by_key(|region| region.start_addr());
        let memory = GuestMemoryMmap::from_arc_regions(regions);
        // A memory without regions is an error for the library, and is a state of the front end.
        match memory {
            Ok(memory) => Ok(VmMem::new(&memory)),
            Err(_) if self.0.is_empty() => Ok(VmMem::new(&GuestMemoryMmap::<Dirty>::new())),
            Err(_) => Err(Error::InvalidParam),
        }
    }

    /// Returns the driver's address for an address of the front end.
    pub(super) fn driver_address(&self, user: u64) -> Option<u64> {
        self.0.iter().find_map(|shared| {
            let offset = user.wrapping_sub(shared.user);
            (offset < shared.region.len())
                .then(|| shared.region.start_addr().0.wrapping_add(offset))
        })
    }
}

/// Maps a part of a file that a front end gives for the device's own records.
///
/// # Errors
/// The file is shorter, or cannot be mapped.
pub(super) fn map_part(file: File, offset: u64, size: u64) -> Result<MmapRegion> {
    let len = usize::try_from(size).map_err(|_| Error::InvalidParam)?;
    let end = offset.checked_add(size);
    if !file
        .metadata()
        .is_ok_and(|meta| end.is_some_and(|end| end <= meta.len()))
    {
        return Err(Error::InvalidParam);
    }
    let file = FileOffset::new(file, offset);
    MmapRegion::from_file(file, len).map_err(|_| Error::InvalidParam)
}

/// Returns whether the file is as long as the region says. An access beyond the end of a file would
/// end the process. The length of anything but a regular file is not known.
fn is_backed(region: &VhostUserMemoryRegion, file: &File) -> bool {
    let end = region.mmap_offset.checked_add(region.memory_size);
    file.metadata()
        .is_ok_and(|meta| !meta.is_file() || end.is_some_and(|end| end <= meta.len()))
}

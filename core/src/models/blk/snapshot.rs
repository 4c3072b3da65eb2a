//! Snapshot of the block device.

use virtio_spec::blk::F;

use super::{Block, BlockBackend};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// The state of a [`Block`] device that its driver can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockSnapshot {
    /// Value of [`BlockSnapshot::VERSION`] when the state was saved.
    pub version: u16,
    /// The cache mode: true for write-back, false for write-through. Only a driver that accepted
    /// CONFIG_WCE can change it.
    pub write_back: bool,
}

impl BlockSnapshot {
    /// Version of the layout. A restore refuses other versions.
    pub const VERSION: u16 = 1;
}

/// A request that was pending at the time of the snapshot is executed again from its start.
/// Executing a request twice has the same result as executing it once.
impl<B: BlockBackend> SaveModel for Block<B> {
    type Snapshot = BlockSnapshot;

    fn save(&self) -> BlockSnapshot {
        BlockSnapshot {
            version: BlockSnapshot::VERSION,
            write_back: self.writeback,
        }
    }

    fn restore(&mut self, snapshot: &BlockSnapshot, _: SavedWith) -> Result<(), SnapshotError> {
        check_version(snapshot.version, BlockSnapshot::VERSION)?;
        // `negotiate` has set the initial mode, and only a driver with CONFIG_WCE can change it.
        if snapshot.write_back != self.writeback && !self.has(F::CONFIG_WCE) {
            return Err(SnapshotError::Model { at: 0 });
        }
        self.writeback = snapshot.write_back;
        Ok(())
    }
}

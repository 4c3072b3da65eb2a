//! What a driver made of a block device.

use virtio_spec::blk::F;

use super::{Block, BlockBackend};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// What a driver made of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockSnapshot {
    /// [`BlockSnapshot::VERSION`] when it was made.
    pub version: u16,
    /// The cache mode: only a driver of CONFIG_WCE has a choice.
    pub write_back: bool,
}

impl BlockSnapshot {
    /// The version of its layout; others are refused.
    pub const VERSION: u16 = 1;
}

/// A request that the back end had not answered is carried out again, which changes nothing about it.
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
        // What every driver of these features begins with is what it is now.
        if snapshot.write_back != self.writeback && !self.has(F::CONFIG_WCE) {
            return Err(SnapshotError::Model { at: 0 });
        }
        self.writeback = snapshot.write_back;
        Ok(())
    }
}

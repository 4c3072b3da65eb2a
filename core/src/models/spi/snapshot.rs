//! Which chip is selected between two transfers.

use super::{Spi, SpiCapabilities, SpiController, SpiSettings};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// What a driver made of an [`Spi`] controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SpiSnapshot {
    /// [`SpiSnapshot::VERSION`] when it was made.
    pub version: u16,
    /// If a chip is selected: the head of a request like the last one that selected it, as
    /// `virtio_spi_transfer_head` has it.
    pub selected: Option<[u8; 32]>,
}

impl SpiSnapshot {
    /// The version of its layout; others are refused.
    pub const VERSION: u16 = 1;
}

/// The chip is selected again. One whose pin was held meanwhile notices nothing of it; to any other it
/// is the start of a transfer.
impl<C: SpiController, const BYTES: usize> SaveModel for Spi<C, BYTES> {
    type Snapshot = SpiSnapshot;

    fn save(&self) -> SpiSnapshot {
        SpiSnapshot {
            version: SpiSnapshot::VERSION,
            selected: self
                .controller
                .selected()
                .filter(|settings| stays(&self.controller.capabilities(), settings))
                .map(|settings| settings.head()),
        }
    }

    fn restore(&mut self, snapshot: &SpiSnapshot, with: SavedWith) -> Result<(), SnapshotError> {
        check_version(snapshot.version, SpiSnapshot::VERSION)?;
        if self.controller.selected().is_some() {
            return Err(SnapshotError::NotInReset);
        }
        let Some(head) = &snapshot.selected else {
            return Ok(());
        };
        if !with.started {
            return Err(SnapshotError::Model { at: 0 });
        }
        let able = self.controller.capabilities().tidy();
        let settings = able.check(head).filter(|settings| stays(&able, settings));
        let settings = settings.ok_or(SnapshotError::Model { at: 0 })?;
        self.controller
            .reselect(&settings)
            .map_err(|_| SnapshotError::Backend { at: 0 })
    }
}

/// Whether a chip stays selected after such a transfer; one that could only not be deselected is not
/// selected elsewhere.
fn stays(able: &SpiCapabilities, settings: &SpiSettings) -> bool {
    able.cs_change && !settings.cs_change
}

//! Snapshot of the SPI controller device.

use super::{Spi, SpiCapabilities, SpiController, SpiSettings};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// The state of an [`Spi`] device that its driver can change: the chip that is selected between two
/// transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SpiSnapshot {
    /// Value of [`SpiSnapshot::VERSION`] when the state was saved.
    pub version: u16,
    /// If a chip is selected: the settings of its last transfer, encoded as a
    /// `virtio_spi_transfer_head`.
    pub selected: Option<[u8; 32]>,
}

impl SpiSnapshot {
    /// Version of the layout. A restore refuses other versions.
    pub const VERSION: u16 = 1;
}

/// A restore selects the chip again. If the chip select stayed active between the save and the
/// restore, the chip does not notice the restore. Otherwise the chip sees the start of a transfer.
impl<C: SpiController, const BYTES: usize> SaveModel for Spi<C, BYTES> {
    type Snapshot = SpiSnapshot;

    fn save(&self) -> SpiSnapshot {
        SpiSnapshot {
            version: SpiSnapshot::VERSION,
            selected: self
                .controller
                .selected()
                .filter(|settings| stays_selected(&self.controller.capabilities(), settings))
                .map(|settings| settings.header()),
        }
    }

    fn is_reset(&self) -> bool {
        self.controller.selected().is_none()
    }

    fn restore(&mut self, snapshot: &SpiSnapshot, with: SavedWith) -> Result<(), SnapshotError> {
        check_version(snapshot.version, SpiSnapshot::VERSION)?;
        if !self.is_reset() {
            return Err(SnapshotError::NotInReset);
        }
        let Some(header) = &snapshot.selected else {
            return Ok(());
        };
        if !with.started {
            return Err(SnapshotError::Model { at: 0 });
        }
        let capabilities = self.controller.capabilities().normalized();
        let settings = capabilities
            .check(header)
            .filter(|settings| stays_selected(&capabilities, settings));
        let settings = settings.ok_or(SnapshotError::Model { at: 0 })?;
        self.controller
            .reselect(&settings)
            .map_err(|_| SnapshotError::Backend { at: 0 })
    }
}

/// Returns whether the chip stays selected after a transfer with these settings. If false, the chip
/// is still selected only because deselecting it failed, and a snapshot does not save the chip.
fn stays_selected(capabilities: &SpiCapabilities, settings: &SpiSettings) -> bool {
    capabilities.cs_change && !settings.cs_change
}

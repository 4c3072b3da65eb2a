//! What is left of a group of requests between two of them.

use super::{FAILED, I2c, I2cBus};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// How far an [`I2c`] adapter is in a group of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct I2cSnapshot {
    /// [`I2cSnapshot::VERSION`] when it was made.
    pub version: u16,
    /// The last request of a group failed, and the next one has to.
    pub failing: bool,
    /// The oldest chain in hand is a write that was carried out, well (true) or not, and not answered
    /// yet.
    pub settled: Option<bool>,
}

impl I2cSnapshot {
    /// The version of its layout; others are refused.
    pub const VERSION: u16 = 1;
}

/// A write that is kept for its read is kept again; one that was carried out already is not carried
/// out again.
impl<B: I2cBus, const BYTES: usize> SaveModel for I2c<B, BYTES> {
    type Snapshot = I2cSnapshot;

    fn save(&self) -> I2cSnapshot {
        I2cSnapshot {
            version: I2cSnapshot::VERSION,
            failing: self.failing,
            settled: self.settled.map(|(_, done)| done.is_ok()),
        }
    }

    fn restore(&mut self, snapshot: &I2cSnapshot, with: SavedWith) -> Result<(), SnapshotError> {
        check_version(snapshot.version, I2cSnapshot::VERSION)?;
        if self.failing || self.held.is_some() || self.settled.is_some() {
            return Err(SnapshotError::NotInReset);
        }
        let served = snapshot.failing || snapshot.settled.is_some();
        if served && !with.started || snapshot.settled.is_some() && !self.combining {
            return Err(SnapshotError::Model { at: 0 });
        }
        let outcome = |well: bool| if well { Ok(()) } else { Err(FAILED) };
        self.failing = snapshot.failing;
        self.settled = snapshot.settled.map(|well| (None, outcome(well)));
        Ok(())
    }
}

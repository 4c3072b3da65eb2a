//! Snapshot of the I2C adapter device.

use super::{FAILED, I2c, I2cBus};
use crate::model::SaveModel;
use crate::model::SavedWith;
use crate::snapshot::SnapshotError;
use crate::snapshot::check_version;

/// The state of an [`I2c`] adapter that its driver can change: the progress of a group of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct I2cSnapshot {
    /// Value of [`I2cSnapshot::VERSION`] when the state was saved.
    pub version: u16,
    /// The previous request of a group failed, so the next request must fail.
    pub failing: bool,
    /// The result of the oldest chain in hand, if that chain is a write that was executed but not
    /// answered: true if the write succeeded.
    pub settled: Option<bool>,
}

impl I2cSnapshot {
    /// Version of the layout. A restore refuses other versions.
    pub const VERSION: u16 = 1;
}

/// A write that the saved adapter kept for its read is kept again after a restore. A write that the
/// saved adapter has executed is not executed again.
impl<B: I2cBus, const BYTES: usize> SaveModel for I2c<B, BYTES> {
    type Snapshot = I2cSnapshot;

    fn save(&self) -> I2cSnapshot {
        I2cSnapshot {
            version: I2cSnapshot::VERSION,
            failing: self.failing,
            settled: self.settled.map(|(_, done)| done.is_ok()),
        }
    }

    fn is_reset(&self) -> bool {
        !self.failing && self.kept.is_none() && self.settled.is_none()
    }

    fn restore(&mut self, snapshot: &I2cSnapshot, with: SavedWith) -> Result<(), SnapshotError> {
        check_version(snapshot.version, I2cSnapshot::VERSION)?;
        if !self.is_reset() {
            return Err(SnapshotError::NotInReset);
        }
        let served = snapshot.failing || snapshot.settled.is_some();
        if served && !with.started || snapshot.settled.is_some() && !self.combining {
            return Err(SnapshotError::Model { at: 0 });
        }
        let outcome = |succeeded: bool| if succeeded { Ok(()) } else { Err(FAILED) };
        self.failing = snapshot.failing;
        self.settled = snapshot.settled.map(|succeeded| (None, outcome(succeeded)));
        Ok(())
    }
}

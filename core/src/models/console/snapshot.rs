//! Snapshot of the console device.

use heapless::Vec;

use super::{Console, ConsolePort, Port, PortSnapshot};
use crate::{
    model::{SaveModel, SavedWith},
    num,
    snapshot::{SnapshotError, check_version},
};

/// The state of a [`Console`] with `P` ports that its driver can change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConsoleSnapshot<const P: usize = 1> {
    /// Value of [`ConsoleSnapshot::VERSION`] when the state was saved.
    pub version: u16,
    /// The driver accepts control messages: it sent DEVICE_READY, or PORT_READY for a port.
    pub driver_ready: bool,
    /// The states of all `P` ports, in the order of their numbers.
    pub ports: Vec<PortSnapshot, P>,
}

impl<const P: usize> ConsoleSnapshot<P> {
    /// Version of the layout. A restore refuses other versions.
    pub const VERSION: u16 = 1;
}

/// For each port, the host decides whether the port is plugged in, whether the host's end is open,
/// and the size. [`restore`](Self::restore) does not change these settings. Set up the ports before
/// the restore, either as they were ([`PortSnapshot`] contains the settings) or with new settings.
/// The device tells the driver about each difference by a control message.
///
/// Output that a port accepted before the snapshot is not written again. If the driver's end of a
/// port is open, the restore calls [`ConsolePort::driver_open`] of that port.
impl<T: ConsolePort, const P: usize> SaveModel for Console<T, P> {
    type Snapshot = ConsoleSnapshot<P>;

    fn save(&self) -> ConsoleSnapshot<P> {
        ConsoleSnapshot {
            version: ConsoleSnapshot::<P>::VERSION,
            driver_ready: self.driver_ready,
            ports: self.ports.iter().map(Port::save).collect(),
        }
    }

    fn is_reset(&self) -> bool {
        !self.driver_ready && self.ports.iter().all(Port::is_reset)
    }

    fn restore(
        &mut self,
        snapshot: &ConsoleSnapshot<P>,
        with: SavedWith,
    ) -> Result<(), SnapshotError> {
        check_version(snapshot.version, ConsoleSnapshot::<P>::VERSION)?;
        if !self.is_reset() {
            return Err(SnapshotError::NotInReset);
        }
        let multiport = self.has_multiport();
        for ((port, was), at) in self.ports.iter().zip(&snapshot.ports).zip(0u16..) {
            // A driver without MULTIPORT uses port 0 only.
            let served = with.started && (at == 0 || multiport) || was.sent.is_none();
            if !served || !port.can_become(was, multiport) {
                return Err(SnapshotError::Model { at });
            }
        }
        if snapshot.ports.len() != P || snapshot.driver_ready && !(multiport && with.started) {
            let at = num::clamp_u16(snapshot.ports.len());
            return Err(SnapshotError::Model { at });
        }
        self.driver_ready = snapshot.driver_ready;
        for (port, was) in self.ports.iter_mut().zip(&snapshot.ports) {
            port.restore(was);
        }
        Ok(())
    }
}

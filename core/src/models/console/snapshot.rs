//! What a driver made of a console device.

use heapless::Vec;

use super::{Console, ConsolePort, Port, PortSnapshot};
use crate::{
    model::{SaveModel, SavedWith},
    num,
    snapshot::{SnapshotError, check_version},
};

/// What a driver made of a [`Console`] of `P` ports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConsoleSnapshot<const P: usize = 1> {
    /// [`ConsoleSnapshot::VERSION`] when it was made.
    pub version: u16,
    /// The driver takes control messages: it said DEVICE_READY, or PORT_READY of a port.
    pub driver_ready: bool,
    /// All `P` ports, from port 0 on.
    pub ports: Vec<PortSnapshot, P>,
}

impl<const P: usize> ConsoleSnapshot<P> {
    /// The version of its layout; others are refused.
    pub const VERSION: u16 = 1;
}

/// What is plugged in, open and of which size is the host's to decide, here as there: make or change
/// the ports first, as they were ([`PortSnapshot`] says how) or as they are to be. Of what differs the
/// driver hears by control messages. Output that a port took is not written again; each port hears of
/// a driver's end that is open ([`ConsolePort::driver_open`]).
impl<T: ConsolePort, const P: usize> SaveModel for Console<T, P> {
    type Snapshot = ConsoleSnapshot<P>;

    fn save(&self) -> ConsoleSnapshot<P> {
        ConsoleSnapshot {
            version: ConsoleSnapshot::<P>::VERSION,
            driver_ready: self.driver_ready,
            ports: self.ports.iter().map(Port::save).collect(),
        }
    }

    fn restore(
        &mut self,
        snapshot: &ConsoleSnapshot<P>,
        with: SavedWith,
    ) -> Result<(), SnapshotError> {
        check_version(snapshot.version, ConsoleSnapshot::<P>::VERSION)?;
        if self.driver_ready || !self.ports.iter().all(Port::is_fresh) {
            return Err(SnapshotError::NotInReset);
        }
        let multiport = self.has_multiport();
        for ((port, was), at) in self.ports.iter().zip(&snapshot.ports).zip(0u16..) {
            // Without MULTIPORT a driver has the first.
            let served = with.started && (at == 0 || multiport) || was.sent.is_none();
            if !served || !port.could_be(was, multiport) {
                return Err(SnapshotError::Model { at });
            }
        }
        if snapshot.ports.len() != P || snapshot.driver_ready && !(multiport && with.started) {
            let at = num::clamp_u16(snapshot.ports.len());
            return Err(SnapshotError::Model { at });
        }
        self.driver_ready = snapshot.driver_ready;
        for (port, was) in self.ports.iter_mut().zip(&snapshot.ports) {
            port.take_over(was);
        }
        Ok(())
    }
}

//! Snapshot of one port of a console.

use super::{ConsoleSize, Owed, Port};
use crate::models::console::ConsolePort;

/// The state of a port: the settings of the host, the state that the driver has changed, and the
/// control messages that are still to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortSnapshot {
    /// The port was plugged in.
    pub plugged: bool,
    /// The host's end was open.
    pub open: bool,
    /// The size of the port.
    pub size: Option<ConsoleSize>,
    /// The driver knows the port: the device sent DEVICE_ADD, or the driver sent PORT_READY.
    pub announced: bool,
    /// The device sent DEVICE_REMOVE, and no DEVICE_ADD since then.
    pub removed: bool,
    /// The driver is ready for the port (PORT_READY).
    pub ready: bool,
    /// The driver's end is open (PORT_OPEN).
    pub driver_open: bool,
    /// Control messages that the driver has not received yet, as bits of [`Owed`].
    pub owed: u8,
    /// Number of written bytes of the pending chain of the transmitq, if a chain was pending.
    pub sent: Option<u32>,
}

impl<T: ConsolePort> Port<T> {
    /// Returns the state of the port.
    pub(in crate::models::console) fn save(&self) -> PortSnapshot {
        PortSnapshot {
            plugged: self.plugged,
            open: self.open,
            size: self.size,
            announced: self.announced,
            removed: self.removed,
            ready: self.ready,
            driver_open: self.driver_open,
            owed: self.owed.bits(),
            sent: self.output.map(|(_, sent)| sent),
        }
    }

    /// Returns whether no driver has changed the port since the last reset.
    pub(in crate::models::console) fn is_reset(&self) -> bool {
        let busy = self.announced || self.removed || self.ready || self.driver_open;
        !busy && self.input.is_none() && self.output.is_none()
    }

    /// Returns whether a driver can bring the port into the state `was`. `multiport` says whether
    /// the driver accepted MULTIPORT.
    pub(in crate::models::console) fn can_become(
        &self,
        was: &PortSnapshot,
        multiport: bool,
    ) -> bool {
        let Some(owed) = Owed::from_bits(was.owed) else {
            return false;
        };
        let touched = was.announced || was.removed || was.ready || was.driver_open;
        // Only a driver with MULTIPORT exchanges messages about a port.
        let flags_fit = (multiport || !touched) && !(was.announced && was.removed);
        // Relates DEVICE_REMOVE and DEVICE_ADD to the port that the driver knows.
        let presence_fits = if was.announced {
            // Both bits: the port was plugged in again before the device sent DEVICE_REMOVE.
            owed.contains(Owed::REMOVE) == (!was.plugged || owed.contains(Owed::ADD))
                && owed.contains(Owed::ADD) <= was.plugged
        } else {
            !owed.contains(Owed::REMOVE) && owed.contains(Owed::ADD) == was.plugged
        };
        // A driver may open a port before DEVICE_ADD. A driver that is ready for a port knows it.
        let usable = was.plugged && !was.removed && !owed.contains(Owed::REMOVE);
        let usage_fits = (usable || !was.driver_open) && (usable && was.announced || !was.ready);
        let details = owed.difference(Owed::REMOVE | Owed::ADD);
        let mut possible = Owed::OPEN | Owed::CLOSE;
        possible.set(Owed::CONSOLE, self.is_console);
        possible.set(Owed::NAME, !self.name.is_empty());
        possible.set(Owed::SIZE, self.is_console && was.size.is_some());
        // The last message about the host's end contains its current state.
        let last = owed.intersection(Owed::OPEN | Owed::CLOSE);
        let last_fits = last.is_empty() || last.contains(Owed::OPEN) == was.open;
        let messages_fit =
            possible.contains(details) && last_fits && (was.ready || details.is_empty());
        flags_fit && presence_fits && usage_fits && messages_fit
    }

    /// Restores the state `was`, and adds control messages for the settings that differ from it.
    pub(in crate::models::console) fn restore(&mut self, was: &PortSnapshot) {
        self.output = was.sent.map(|sent| (None, sent));
        self.announced = was.announced;
        self.removed = was.removed;
        let owed = Owed::from_bits_truncate(was.owed);
        if !self.plugged || owed.contains(Owed::REMOVE) || !was.announced {
            // The driver does not know the port that is plugged in now: remove the old port, and
            // add the new one.
            self.owed = Owed::empty();
            self.owed.set(Owed::REMOVE, was.announced);
            self.owed.set(Owed::ADD, self.plugged);
            self.set_driver_open(was.driver_open && self.is_usable());
            self.reopened = false;
            return;
        }
        self.ready = was.ready;
        self.owed = owed;
        if self.open != was.open {
            self.owe_open();
        }
        if self.size.is_none() {
            self.owed.remove(Owed::SIZE);
        } else if self.is_console && self.size != was.size {
            self.owe(Owed::SIZE);
        }
        self.set_driver_open(was.driver_open);
        // Every chain that was pending is served again after a restore.
        self.reopened = false;
    }
}

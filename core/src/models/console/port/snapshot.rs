//! What a driver knows and said of a port.

use super::{ConsoleSize, Owed, Port};
use crate::models::console::ConsolePort;

/// What the driver was told of a port and said of it, and for the host to see, how the port was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortSnapshot {
    /// It was there.
    pub plugged: bool,
    /// The host's end was open.
    pub open: bool,
    /// Its size.
    pub size: Option<ConsoleSize>,
    /// The driver knows it: by DEVICE_ADD, or because it said PORT_READY by itself.
    pub announced: bool,
    /// The driver was told that it is gone, and not since then that it is there again.
    pub removed: bool,
    /// The driver said that it can use it (PORT_READY).
    pub ready: bool,
    /// The driver's end is open (PORT_OPEN).
    pub driver_open: bool,
    /// What it is still to be told: bits of [`Owed`].
    pub owed: u8,
    /// Bytes of the transmitq's chain in hand that were written.
    pub sent: Option<u32>,
}

impl<T: ConsolePort> Port<T> {
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

    /// Whether it is as after a reset.
    pub(in crate::models::console) fn is_fresh(&self) -> bool {
        let busy = self.announced || self.removed || self.ready || self.driver_open;
        !busy && self.input.is_none() && self.output.is_none()
    }

    /// Whether a driver can have made this of it, with MULTIPORT or without.
    pub(in crate::models::console) fn could_be(&self, was: &PortSnapshot, multiport: bool) -> bool {
        let Some(owed) = Owed::from_bits(was.owed) else {
            return false;
        };
        let touched = was.announced || was.removed || was.ready || was.driver_open;
        let told = (multiport || !touched) && !(was.announced && was.removed);
        // A port that was removed or not added yet has nothing but that to say.
        let exists = if was.announced {
            // Added again before the driver heard of its removal.
            owed.contains(Owed::REMOVE) == (!was.plugged || owed.contains(Owed::ADD))
                && owed.contains(Owed::ADD) <= was.plugged
        } else {
            !owed.contains(Owed::REMOVE) && owed.contains(Owed::ADD) == was.plugged
        };
        // A driver may open a port before it was announced, and knows one that it is ready for.
        let usable = was.plugged && !was.removed && !owed.contains(Owed::REMOVE);
        let used = (usable || !was.driver_open) && (usable && was.announced || !was.ready);
        let details = owed.difference(Owed::REMOVE | Owed::ADD);
        let mut possible = Owed::OPEN | Owed::CLOSE;
        possible.set(Owed::CONSOLE, self.is_console);
        possible.set(Owed::NAME, !self.name.is_empty());
        possible.set(Owed::SIZE, self.is_console && was.size.is_some());
        // The last that the driver is told is how the port is.
        let last = owed.intersection(Owed::OPEN | Owed::CLOSE);
        let ends = last.is_empty() || last.contains(Owed::OPEN) == was.open;
        let described = possible.contains(details) && ends && (was.ready || details.is_empty());
        told && exists && used && described
    }

    /// Goes on from there: what the host has changed meanwhile, the driver is still to be told.
    pub(in crate::models::console) fn take_over(&mut self, was: &PortSnapshot) {
        self.output = was.sent.map(|sent| (None, sent));
        self.announced = was.announced;
        self.removed = was.removed;
        let owed = Owed::from_bits_truncate(was.owed);
        if !self.plugged || owed.contains(Owed::REMOVE) || !was.announced {
            // One that is not as the driver knows it, or that was not announced to it.
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
        // Whatever waits for input is served again anyway.
        self.reopened = false;
    }
}

//! One port of a console: the state of the host's end, the state of the driver's end, and the
//! control messages that are still to be sent.
//!
//! Control messages are not queued. One bit for each kind of message ([`Owed`]) records that the
//! driver has not received the message yet. The bits cannot overflow, and a state that changes
//! several times before the driver has a buffer causes one message.

use virtio_spec::console::Device as Event;

use crate::model::Token;

mod snapshot;

pub use snapshot::PortSnapshot;

/// Size of a console in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConsoleSize {
    /// Number of columns.
    pub cols: u16,
    /// Number of rows.
    pub rows: u16,
}

bitflags::bitflags! {
    /// Control messages that the driver has not received yet. The device sends them in the order of
    /// their bits, lowest bit first, except that [`CLOSE`](Self::CLOSE) precedes
    /// [`OPEN`](Self::OPEN).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Owed: u8 {
        /// VIRTIO_CONSOLE_DEVICE_REMOVE
        const REMOVE = 1;
        /// VIRTIO_CONSOLE_DEVICE_ADD
        const ADD = 2;
        /// VIRTIO_CONSOLE_CONSOLE_PORT
        const CONSOLE = 4;
        /// VIRTIO_CONSOLE_PORT_NAME
        const NAME = 8;
        /// VIRTIO_CONSOLE_RESIZE
        const SIZE = 16;
        /// VIRTIO_CONSOLE_PORT_OPEN with value 1
        const OPEN = 32;
        /// VIRTIO_CONSOLE_PORT_OPEN with value 0
        const CLOSE = 64;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Owed {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Owed({=u8:#x})", self.bits());
    }
}

/// A port of a console device, over the host's end `T`.
///
/// With MULTIPORT, the driver learns about a change of the port by control messages. While the
/// device is live, call `backend_ready(CONTROL_RECEIVEQ)` after each change, so that the device
/// sends the messages.
///
/// ```
/// # use virtside::models::{ConsoleError, ConsolePort};
/// # struct Log;
/// # impl ConsolePort for Log {
/// #     fn has_input(&self) -> bool { false }
/// #     fn read(&mut self, _: &mut [u8]) -> Result<usize, ConsoleError> { Err(ConsoleError::NotReady) }
/// #     fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> { Ok(bytes.len()) }
/// # }
/// use virtside::models::console::Port;
/// let mut port = Port::new(Log).with_name("org.example.log").unplugged();
/// port.plug();
/// assert!(!port.is_ready(), "the driver has not sent PORT_READY yet");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Port<T> {
    pub(super) io: T,
    pub(super) name: &'static str,
    pub(super) size: Option<ConsoleSize>,
    is_console: bool,
    plugged: bool,
    open: bool,
    /// The driver knows the port: the device sent DEVICE_ADD, or the driver sent PORT_READY.
    announced: bool,
    /// The device sent DEVICE_REMOVE, and no DEVICE_ADD since then. A message of the driver refers
    /// to the removed port, so the device ignores it.
    removed: bool,
    /// The driver sent PORT_READY with value 1.
    ready: bool,
    /// The driver's end is open (PORT_OPEN).
    driver_open: bool,
    /// The control messages that the driver has not received yet.
    owed: Owed,
    /// The pending chain of the receiveq. A chain becomes pending if the port reported input, but a
    /// read returned none.
    pub(super) input: Option<Token>,
    /// One end was opened since the chain in `input` was last served. [`due`](Self::due) then
    /// returns the chain, because nothing calls `backend_ready` when an end is opened.
    pub(super) reopened: bool,
    /// The pending chain of the transmitq, and the number of its bytes that were written. After a
    /// restore there is no token: the entry then belongs to the first chain that is served.
    pub(super) output: Option<(Option<Token>, u32)>,
}

impl<T> Port<T> {
    /// Creates a port that is plugged in and open, has no name and no size, and is not a console.
    pub const fn new(io: T) -> Self {
        Self {
            io,
            name: "",
            size: None,
            is_console: false,
            plugged: true,
            open: true,
            announced: false,
            removed: false,
            ready: false,
            driver_open: false,
            owed: Owed::ADD,
            input: None,
            reopened: false,
            output: None,
        }
    }

    /// Marks the port as a console (CONSOLE_PORT).
    #[must_use]
    pub fn console(self) -> Self {
        Self {
            is_console: true,
            ..self
        }
    }

    /// Sets the name of the port (PORT_NAME). The device truncates the name, between two
    /// characters, if the driver's buffer is too short for it.
    #[must_use]
    pub fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Sets the size of the port. The configuration space contains the size of port 0. The device
    /// also sends the size of each port that is a [`console`](Self::console) to the driver
    /// (RESIZE).
    #[must_use]
    pub fn with_size(self, size: ConsoleSize) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }

    /// Makes the port start unplugged. [`plug`](Self::plug) plugs it in.
    #[must_use]
    pub fn unplugged(self) -> Self {
        Self {
            plugged: false,
            owed: Owed::empty(),
            ..self
        }
    }

    /// Makes the host's end start closed. [`set_open`](Self::set_open) opens it.
    #[must_use]
    pub fn closed(self) -> Self {
        Self {
            open: false,
            ..self
        }
    }

    /// Returns the host's end.
    pub const fn io(&self) -> &T {
        &self.io
    }

    /// Returns the host's end for changes.
    pub const fn io_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Returns the size, if the port has one.
    pub const fn size(&self) -> Option<ConsoleSize> {
        self.size
    }

    /// Returns whether the port is plugged in.
    pub const fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// Returns whether the host's end is open.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Returns whether the driver is ready for the port (PORT_READY).
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether the driver's end is open (PORT_OPEN).
    pub const fn is_driver_open(&self) -> bool {
        self.driver_open
    }

    /// Changes the size of the port. The configuration space contains the size of port 0, so resize
    /// port 0 only in [`update_config`](crate::Engine::update_config).
    pub fn resize(&mut self, size: ConsoleSize) {
        self.size = Some(size);
        if self.is_console {
            self.owe(Owed::SIZE);
        }
    }

    /// Opens or closes the host's end.
    ///
    /// The device discards output to a closed port. After closing, call `backend_ready` for the
    /// [`transmitq`](super::transmitq): the device then returns a pending buffer, and discards the
    /// bytes that were not written.
    ///
    /// If the host's end is closed and opened again before the driver has a buffer for the
    /// messages, the device sends both messages. The driver can then tell two consecutive peers
    /// apart.
    pub fn set_open(&mut self, open: bool) {
        if self.open != open {
            self.open = open;
            self.reopened |= open;
            self.owe_open();
        }
    }

    /// Adds the message with the new state of the host's end.
    fn owe_open(&mut self) {
        if self.open {
            self.owe(Owed::OPEN);
        } else {
            self.owed.remove(Owed::OPEN);
            self.owe(Owed::CLOSE);
        }
    }

    /// Plugs the port in. Has no effect if the port is plugged in.
    pub fn plug(&mut self) {
        if !self.plugged {
            self.plugged = true;
            // An unsent DEVICE_REMOVE stays set and precedes DEVICE_ADD (console-03).
            self.owed |= Owed::ADD;
        }
    }

    /// Adds messages for the driver if it is ready for the port. Otherwise
    /// [`set_ready`](Self::set_ready) adds all messages that describe the port at that time.
    fn owe(&mut self, owed: Owed) {
        if self.ready {
            self.owed |= owed;
        }
    }

    /// Returns the next control message to send and its bit, if there is one.
    pub(super) fn next_message(&self) -> Option<(Owed, Event)> {
        let first = [
            (Owed::REMOVE, Event::DeviceRemove),
            (Owed::ADD, Event::DeviceAdd),
            (Owed::CONSOLE, Event::ConsolePort),
            (Owed::NAME, Event::PortName),
            (Owed::SIZE, Event::Resize),
            (Owed::CLOSE, Event::PortOpen),
            (Owed::OPEN, Event::PortOpen),
        ];
        first.into_iter().find(|(bit, _)| self.owed.contains(*bit))
    }

    /// Records that the driver received the message of this bit.
    pub(super) fn mark_sent(&mut self, bit: Owed) {
        match bit {
            Owed::REMOVE => (self.announced, self.removed) = (false, true),
            Owed::ADD => (self.announced, self.removed) = (true, false),
            _ => {}
        }
        self.owed.remove(bit);
    }

    /// Returns whether a message of the driver refers to this port. This is the case if:
    ///
    /// * the port is plugged in,
    /// * the device has no DEVICE_REMOVE to send, and
    /// * after the last DEVICE_REMOVE, if there was one, the device sent DEVICE_ADD.
    ///
    /// Without a DEVICE_REMOVE, no DEVICE_ADD is required: a driver may know the port from before a
    /// reset.
    pub(super) fn is_usable(&self) -> bool {
        self.plugged && !self.removed && !self.owed.contains(Owed::REMOVE)
    }

    /// Applies a PORT_READY of the driver. A driver that is ready for a port knows the port, so the
    /// device does not send DEVICE_ADD any more (console-03).
    pub(super) fn set_ready(&mut self, ready: bool) {
        if ready {
            self.announced = true;
            self.owed.remove(Owed::ADD);
        } else {
            // Value 0 reports a failure of the driver. An unsent DEVICE_ADD stays set.
            self.owed = self.owed.intersection(Owed::ADD);
        }
        if ready && !self.ready {
            self.owed.set(Owed::CONSOLE, self.is_console);
            self.owed.set(Owed::NAME, !self.name.is_empty());
            self.owed
                .set(Owed::SIZE, self.is_console && self.size.is_some());
            self.owed.set(Owed::OPEN, self.open);
        }
        self.ready = ready;
    }
}

impl<T: super::ConsolePort> Port<T> {
    /// Unplugs the port. Has no effect if the port is unplugged.
    ///
    /// The device discards output to an unplugged port. After unplugging, call `backend_ready` for
    /// the [`transmitq`](super::transmitq): the device then returns a pending buffer, and discards
    /// the bytes that were not written.
    pub fn unplug(&mut self) {
        if self.plugged {
            self.plugged = false;
            self.ready = false;
            self.set_driver_open(false);
            // DEVICE_REMOVE is sent only for a port that the driver knows (console-05).
            self.owed = if self.announced {
                Owed::REMOVE
            } else {
                Owed::empty()
            };
        }
    }

    /// Applies a PORT_OPEN of the driver.
    pub(super) fn set_driver_open(&mut self, open: bool) {
        if self.driver_open != open {
            self.driver_open = open;
            self.reopened |= open;
            self.io.driver_open(open);
        }
    }

    /// Resets the state that depends on the driver.
    pub(super) fn reset(&mut self) {
        self.set_driver_open(false);
        self.announced = false;
        self.removed = false;
        self.ready = false;
        self.owed = if self.plugged {
            Owed::ADD
        } else {
            Owed::empty()
        };
        self.input = None;
        self.reopened = false;
        self.output = None;
    }

    /// Returns the pending chain of the receiveq if one end of the port was opened since the chain
    /// was served, and the port has input.
    pub(super) fn due(&self, multiport: bool) -> Option<Token> {
        self.input
            .filter(|_| self.reopened && self.delivers_input(multiport) && self.io.has_input())
    }

    /// Returns whether the port delivers input: it is plugged in, and both ends are open. Without
    /// MULTIPORT, the driver's end counts as open.
    pub(super) fn delivers_input(&self, multiport: bool) -> bool {
        self.plugged && self.open && (self.driver_open || !multiport)
    }

    /// Returns whether the port accepts output: it is plugged in, and the host's end is open.
    pub(super) fn accepts_output(&self) -> bool {
        self.plugged && self.open
    }
}

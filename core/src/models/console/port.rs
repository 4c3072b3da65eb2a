//! One port: what the host wants of it, what the driver knows of it, and which control message is
//! next.
//!
//! Messages are not queued but owed: a bit for each kind says that the driver is still to be told.
//! So there is always room, and what changes again before the driver was told is told once.

use virtio_spec::console::Device as Event;

use crate::model::Token;

mod snapshot;

pub use snapshot::PortSnapshot;

/// Columns and rows of a console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConsoleSize {
    /// Characters in a row.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

bitflags::bitflags! {
    /// Control messages that the driver is still to get, in the order in which they go; but
    /// [`CLOSE`](Self::CLOSE) goes before [`OPEN`](Self::OPEN).
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

/// A port of a console device, over its host's end `T`.
///
/// What is changed while the driver is live reaches it as control messages: call
/// `backend_ready(CONTROL_RECEIVEQ)` afterwards.
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
/// assert!(!port.is_ready(), "the driver has not heard of it yet");
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
    /// The driver knows the port: the device sent DEVICE_ADD, or the driver sent PORT_READY by itself.
    announced: bool,
    /// The device sent DEVICE_REMOVE, and no DEVICE_ADD since: what the driver says is of the old port.
    removed: bool,
    ready: bool,
    driver_open: bool,
    owed: Owed,
    /// The pending chain of the receiveq: the port had said that it has input, and gave none.
    pub(super) input: Option<Token>,
    /// One end was opened since that chain was served: nobody calls `backend_ready` for that.
    pub(super) reopened: bool,
    /// The pending chain of the transmitq, and how much of it was written. Without a token it is the
    /// first that a restored device is shown.
    pub(super) output: Option<(Option<Token>, u32)>,
}

impl<T> Port<T> {
    /// A port that is there, open, without a name, and no console.
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

    /// Nominates it as a console (CONSOLE_PORT).
    #[must_use]
    pub fn console(self) -> Self {
        Self {
            is_console: true,
            ..self
        }
    }

    /// Gives it a name (PORT_NAME). One that the driver leaves no room for is cut.
    #[must_use]
    pub fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Gives it a size: that of port 0 is shown in the configuration space, that of any console is
    /// sent (RESIZE).
    #[must_use]
    pub fn with_size(self, size: ConsoleSize) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }

    /// It is not there until it is plugged in.
    #[must_use]
    pub fn unplugged(self) -> Self {
        Self {
            plugged: false,
            owed: Owed::empty(),
            ..self
        }
    }

    /// It is there, but the host's end is closed.
    #[must_use]
    pub fn closed(self) -> Self {
        Self {
            open: false,
            ..self
        }
    }

    /// The host's end.
    pub const fn io(&self) -> &T {
        &self.io
    }

    /// The host's end.
    pub const fn io_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Its size, if it has one.
    pub const fn size(&self) -> Option<ConsoleSize> {
        self.size
    }

    /// Whether it is there.
    pub const fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// Whether the host's end is open.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the driver said that it can use it.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the driver's end is open.
    pub const fn is_driver_open(&self) -> bool {
        self.driver_open
    }

    /// Changes its size. That of port 0 shows in the configuration space, so do this in
    /// [`update_config`](crate::Engine::update_config).
    pub fn resize(&mut self, size: ConsoleSize) {
        self.size = Some(size);
        if self.is_console {
            self.owe(Owed::SIZE);
        }
    }

    /// Opens or closes the host's end. Output to a closed port is dropped; what waits to be written
    /// is dropped at `backend_ready` for the [`transmitq`](super::transmitq).
    ///
    /// A port that is closed and opened again before the driver was told gets both messages, so that
    /// the driver can tell one peer from the next.
    pub fn set_open(&mut self, open: bool) {
        if self.open != open {
            self.open = open;
            self.reopened |= open;
            self.owe_open();
        }
    }

    /// The host's end was opened or closed, and the driver is still to be told.
    fn owe_open(&mut self) {
        if self.open {
            self.owe(Owed::OPEN);
        } else {
            self.owed.remove(Owed::OPEN);
            self.owe(Owed::CLOSE);
        }
    }

    /// Adds the port, if it is not there.
    pub fn plug(&mut self) {
        if !self.plugged {
            self.plugged = true;
            // A removal that the driver has not heard of goes first (console-03).
            self.owed |= Owed::ADD;
        }
    }

    /// What the driver knows is as before; anything more it is told when it is ready.
    fn owe(&mut self, owed: Owed) {
        if self.ready {
            self.owed |= owed;
        }
    }

    /// The message that is next, if one is, and the bit that stands for it.
    pub(super) fn next(&self) -> Option<(Owed, Event)> {
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

    /// The driver has the message of this bit now.
    pub(super) fn told(&mut self, bit: Owed) {
        match bit {
            Owed::REMOVE => (self.announced, self.removed) = (false, true),
            Owed::ADD => (self.announced, self.removed) = (true, false),
            _ => {}
        }
        self.owed.remove(bit);
    }

    /// Whether what the driver says concerns this port: it is plugged in, and neither about to be
    /// removed nor removed and not added again. The device need not have announced it: a driver may
    /// know the port from before a reset.
    pub(super) fn is_usable(&self) -> bool {
        self.plugged && !self.removed && !self.owed.contains(Owed::REMOVE)
    }

    /// PORT_READY of the driver. A driver that is ready for a port knows it, so it gets no DEVICE_ADD
    /// any more (console-03).
    pub(super) fn set_ready(&mut self, ready: bool) {
        if ready {
            self.announced = true;
            self.owed.remove(Owed::ADD);
        } else {
            // A failure is no reason not to announce a port that was not announced yet.
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
    /// Removes the port, if it is there. Output to it is dropped; what waits to be written is
    /// dropped at `backend_ready` for the [`transmitq`](super::transmitq).
    pub fn unplug(&mut self) {
        if self.plugged {
            self.plugged = false;
            self.ready = false;
            self.set_driver_open(false);
            // Only what was added is removed (console-05).
            self.owed = if self.announced {
                Owed::REMOVE
            } else {
                Owed::empty()
            };
        }
    }

    /// PORT_OPEN of the driver.
    pub(super) fn set_driver_open(&mut self, open: bool) {
        if self.driver_open != open {
            self.driver_open = open;
            self.reopened |= open;
            self.io.driver_open(open);
        }
    }

    /// The driver forgot all it knew.
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

    /// The pending chain of the receiveq, if there is input for it now because an end was opened.
    pub(super) fn due(&self, multiport: bool) -> Option<Token> {
        self.input
            .filter(|_| self.reopened && self.listens(multiport) && self.io.has_input())
    }

    /// Whether the driver is to get input.
    pub(super) fn listens(&self, multiport: bool) -> bool {
        self.plugged && self.open && (self.driver_open || !multiport)
    }

    /// Whether output goes anywhere.
    pub(super) fn takes_output(&self) -> bool {
        self.plugged && self.open
    }
}

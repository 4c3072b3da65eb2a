//! The console device, over ports that are streams of bytes.
//!
//! A console device has one port, or up to `P` ports with `VIRTIO_CONSOLE_F_MULTIPORT`. With
//! MULTIPORT, a port may have a name, may be plugged and unplugged, and may be opened and closed by
//! the host and by the driver. The device offers `VIRTIO_CONSOLE_F_SIZE` if port 0 has a size. The
//! device always offers `VIRTIO_CONSOLE_F_EMERG_WRITE`.
//!
//! # Input
//!
//! The device reads input from the [`ConsolePort`] when the driver has a buffer in the
//! [`receiveq`]. While [`has_input`](ConsolePort::has_input) returns false, the buffers stay in the
//! ring. If `has_input` returns true and [`read`](ConsolePort::read) then returns no byte, one
//! buffer becomes pending. When input arrives, call `backend_ready` for the [`receiveq`]. The
//! device returns a buffer with a used length of 0 only if the buffer has no writable byte, or if
//! its memory is no longer mapped.
//!
//! A port delivers input only while it is plugged in and both of its ends are open. Without
//! MULTIPORT, the driver's end counts as open. If an end is opened while a buffer is pending and
//! the port has input, the next poll serves the buffer without a call of `backend_ready`.
//!
//! # Output
//!
//! A buffer that a port cannot accept completely stays pending, and later buffers of the port wait
//! behind it. Bytes that the port accepted are not written again. When the port has room, call
//! `backend_ready` for the [`transmitq`]. The device discards output to a port that is closed or
//! unplugged.
//!
//! # Control messages
//!
//! With MULTIPORT, both sides send control messages about the ports:
//!
//! * **To the driver:** each port has one bit for each kind of message that the driver has not
//!   received yet ([`Owed`]). The device sends such a message when the driver has a buffer for it.
//!   A port is removed before it is added again, and a port is described only after the driver is
//!   ready for it.
//! * **From the driver:** the device ignores a message with an unknown event or value, or for a
//!   port that does not exist, and [counts](Console::ignored) it. Such a message is not a driver
//!   fault, because the host may have unplugged the port in the meantime.
//! * **After a reset:** a driver may know its ports from before the reset. It may send PORT_READY
//!   and PORT_OPEN for every port that is plugged in, even if the device has not sent DEVICE_ADD
//!   for that port. PORT_READY then counts as DEVICE_READY, and the device sends no DEVICE_ADD for
//!   the port. After a hibernation, Linux sends only these two messages.
//!
//! # Driver faults
//!
//! The driver is at fault, and its queue stops, in two cases: a control message is shorter than its
//! header, or a buffer of the control receiveq is too short for the device's message. A name that
//! does not fit is truncated instead. The device ignores the readable part of a buffer in a
//! receiveq and the writable part of a buffer in a transmitq.
//!
//! # Cost
//!
//! | operation | worst case |
//! |---|---|
//! | buffer of a receiveq | [`limit`](Console::with_limit) bytes, in calls of [`ConsolePort::read`] for up to 64 bytes each |
//! | buffer of a transmitq | the bytes of the buffer, in calls of [`ConsolePort::write`] for up to 64 bytes each; fewer if the port returns [`ConsoleError::NotReady`] |
//! | buffer of the control receiveq | three searches through the `P` ports |
//! | poll | one search through the `P` ports for each call of [`DeviceModel::due`] |
//!
//! # Chain slots and order
//!
//! The model works with IN_ORDER: each port has its own queues, so a pending buffer is always the
//! oldest buffer of its queue.
//!
//! Each queue of a port may keep one buffer pending. Supply two chain slots for each port, and with
//! MULTIPORT one more for the control queues.
//!
//! Clauses: console-01 to console-12.

mod control;
mod io;
mod port;
mod queues;
mod snapshot;

pub use io::{ConsoleError, ConsolePort, IoPort, SplitPort};
pub use port::{ConsoleSize, Owed, Port, PortSnapshot};
pub use queues::{CONTROL_RECEIVEQ, CONTROL_TRANSMITQ, receiveq, transmitq};
pub use snapshot::ConsoleSnapshot;

use queues::{Role, role};
use virtio_spec::console::F;

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request, Token},
    num,
};

/// Size in bytes of the buffer on the stack through which data is copied.
const CHUNK: usize = 64;
const CHUNK_U32: u32 = 64;

/// Offset of the field `emerg_wr` in bytes.
const EMERG_WR: u32 = 8;

/// Converts feature flags of the console device to [`Features`].
fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

/// The console device, over `P` ports of type `T`.
///
/// ```
/// use virtside::models::{Console, ConsoleError, ConsolePort};
///
/// /// Sends each byte back to the driver.
/// #[derive(Default)]
/// struct Echo(Option<u8>);
///
/// impl ConsolePort for Echo {
///     fn has_input(&self) -> bool {
///         self.0.is_some()
///     }
///     fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
///         match (bytes, self.0.take()) {
///             ([first, ..], Some(byte)) => { *first = byte; Ok(1) }
///             _ => Err(ConsoleError::NotReady),
///         }
///     }
///     fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
///         match (bytes, self.0) {
///             ([first, ..], None) => { self.0 = Some(*first); Ok(1) }
///             _ => Err(ConsoleError::NotReady),
///         }
///     }
/// }
///
/// let console = Console::new(Echo::default()).with_size(80, 25);
/// # let _ = console;
/// // A device with several ports:
/// use virtside::models::console::Port;
/// let console = Console::with_ports([
///     Port::new(Echo::default()).console(),
///     Port::new(Echo::default()).with_name("org.example.echo"),
/// ]);
/// # let _ = console;
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Console<T, const P: usize = 1> {
    ports: [Port<T>; P],
    multiport: bool,
    limit: u32,
    negotiated: Option<Features>,
    /// The driver accepts control messages: it sent DEVICE_READY, or PORT_READY for a port.
    driver_ready: bool,
    ignored: u32,
}

impl<T> Console<T> {
    /// Creates a console device with one port and without MULTIPORT.
    pub const fn new(io: T) -> Self {
        Self {
            ports: [Port::new(io)],
            multiport: false,
            limit: 4096,
            negotiated: None,
            driver_ready: false,
            ignored: 0,
        }
    }

    /// Sets the size of the port in characters. The device then offers `VIRTIO_CONSOLE_F_SIZE`.
    #[must_use]
    pub fn with_size(mut self, cols: u16, rows: u16) -> Self {
        let [port] = &mut self.ports;
        port.size = Some(ConsoleSize { cols, rows });
        self
    }
}

impl<T, const P: usize> Console<T, P> {
    /// Creates a console device that has these ports and offers MULTIPORT. A driver without
    /// MULTIPORT uses port 0 only.
    ///
    /// Does not compile for `P` of 0 or above 32766.
    pub const fn with_ports(ports: [Port<T>; P]) -> Self {
        const {
            assert!(
                P > 0 && P < 32767,
                "a console has 1 to 32766 ports, because each port needs two queues"
            );
        }
        Self {
            ports,
            multiport: true,
            limit: 4096,
            negotiated: None,
            driver_ready: false,
            ignored: 0,
        }
    }

    /// Sets the largest number of bytes, at least 1, that the device writes into one buffer of a
    /// receiveq. The default is 4096.
    #[must_use]
    pub fn with_limit(self, bytes: u32) -> Self {
        Self {
            limit: bytes.max(1),
            ..self
        }
    }

    /// Returns the port with this number, if the device has it.
    pub fn port(&self, port: u16) -> Option<&Port<T>> {
        self.ports.get(usize::from(port))
    }

    /// Returns the port with this number for changes, if the device has it.
    ///
    /// The configuration space contains the size of port 0. Change that size only in
    /// [`update_config`](crate::Engine::update_config).
    pub fn port_mut(&mut self, port: u16) -> Option<&mut Port<T>> {
        self.ports.get_mut(usize::from(port))
    }

    /// Returns the number of control messages of the driver that the device ignored, modulo 2^32.
    /// The device ignores an unknown event or value, and a message for a port that does not exist.
    pub const fn ignored(&self) -> u32 {
        self.ignored
    }

    /// Returns whether the driver accepted MULTIPORT.
    fn has_multiport(&self) -> bool {
        self.negotiated
            .is_some_and(|features| features.contains(feature(F::MULTIPORT)))
    }

    /// Returns the size in the configuration space: the size of port 0.
    fn size(&self) -> Option<ConsoleSize> {
        self.ports.first().and_then(|port| port.size)
    }
}

impl<T: ConsolePort, const P: usize> Console<T, P> {
    /// Serves a buffer of the receiveq of port `at`.
    fn input<M: DriverMem>(&mut self, at: usize, request: &mut Request<'_, M>) -> Answer {
        let (multiport, limit) = (self.has_multiport(), self.limit);
        let Some(port) = self.ports.get_mut(at) else {
            return done(request);
        };
        port.input = None;
        port.reopened = false;
        let mut chunk = [0; CHUNK];
        loop {
            let written = request.writable.written();
            let room = limit.saturating_sub(written).min(CHUNK_U32);
            // Translates the memory first, because bytes read from the port cannot be put back.
            let view = match request.writable.view(room) {
                Ok(Some(view)) => view,
                Ok(None) => return done(request),
                Err(error) => {
                    request.report(error.into());
                    return done(request);
                }
            };
            let chunk = match chunk.get_mut(..view.len()) {
                Some(part) => part,
                None => &mut chunk,
            };
            let read = if port.delivers_input(multiport) {
                port.io.read(chunk)
            } else {
                Err(ConsoleError::NotReady)
            };
            match read {
                Ok(count) if count > 0 => {
                    let copied = view.copy_from(chunk.get(..count).unwrap_or(chunk));
                    request.writable.commit(num::clamp_u32(copied));
                }
                other => {
                    if other == Err(ConsoleError::Failed) {
                        request.report(HostFault::Backend);
                    }
                    if written == 0 {
                        port.input = Some(request.token);
                        return Answer::Pending;
                    }
                    return done(request);
                }
            }
        }
    }

    /// Serves a buffer of the transmitq of port `at`.
    fn output<M: DriverMem>(&mut self, at: usize, request: &mut Request<'_, M>) -> Answer {
        let Some(port) = self.ports.get_mut(at) else {
            return done(request);
        };
        let mut sent = match port.output.take() {
            Some((token, sent)) if token.is_none_or(|token| token == request.token) => sent,
            _ => 0,
        };
        request.readable.skip(sent);
        let mut chunk = [0; CHUNK];
        while port.accepts_output() {
            let view = match request.readable.view(CHUNK_U32) {
                Ok(Some(view)) => view,
                Ok(None) => break,
                Err(error) => {
                    request.report(error.into());
                    break;
                }
            };
            let count = view.copy_to(&mut chunk);
            match port.io.write(chunk.get(..count).unwrap_or(&chunk)) {
                Ok(taken) if taken > 0 => {
                    let taken = num::clamp_u32(taken.min(count));
                    request.readable.skip(taken);
                    sent = sent.saturating_add(taken);
                }
                Err(ConsoleError::Failed) => {
                    request.report(HostFault::Backend);
                    break;
                }
                _ => {
                    port.output = Some((Some(request.token), sent));
                    return Answer::Pending;
                }
            }
        }
        done(request)
    }
}

/// Answers a request with the number of bytes written.
fn done<M: DriverMem>(request: &Request<'_, M>) -> Answer {
    Answer::Done {
        written: request.writable.written(),
    }
}

impl<T: ConsolePort, const P: usize> DeviceConfig for Console<T, P> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::Console))
    }

    fn features(&self) -> Features {
        let mut flags = F::EMERG_WRITE;
        flags.set(F::SIZE, self.size().is_some());
        flags.set(F::MULTIPORT, self.multiport);
        feature(flags).union(Features::ALL_RINGS)
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        // Before the driver accepts features, it may read the size of every queue (console-08).
        let all = match self.negotiated {
            None => self.multiport,
            Some(_) => self.has_multiport(),
        };
        let exists = match role(queue) {
            Role::Input(port) | Role::Output(port) => port == 0 || (all && port < P),
            Role::ControlToDriver | Role::ControlFromDriver => all,
        };
        if exists { u16::MAX } else { 0 }
    }

    fn negotiate(&mut self, features: Features) -> bool {
        self.negotiated = Some(features);
        true
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let ConsoleSize { cols, rows } = self.size().unwrap_or_default();
        let ports = if self.multiport { num::clamp_u32(P) } else { 0 };
        let [a, b] = cols.to_le_bytes();
        let [c, d] = rows.to_le_bytes();
        let [e, f, g, h] = ports.to_le_bytes();
        let space = [a, b, c, d, e, f, g, h, 0, 0, 0, 0];
        let part = space
            .get(num::index(offset)..)
            .and_then(|rest| rest.get(..bytes.len()));
        match part {
            Some(part) => {
                bytes.copy_from_slice(part);
                true
            }
            None => false,
        }
    }

    /// Returns true for `emerg_wr`: an emergency write is allowed at any time (console-01,
    /// console-02), even if the driver did not accept EMERG_WRITE.
    fn is_always_writable(&self, offset: u32) -> bool {
        offset == EMERG_WR
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        // Every access width is accepted. The low byte is the character.
        match (offset, bytes, self.ports.first_mut()) {
            (EMERG_WR, [byte] | [byte, _] | [byte, _, _, _], Some(port)) => {
                port.io.emergency(*byte);
                true
            }
            _ => false,
        }
    }
}

impl<T: ConsolePort, const P: usize> DeviceModel for Console<T, P> {
    fn reset(&mut self) {
        self.negotiated = None;
        self.driver_ready = false;
        for port in &mut self.ports {
            port.reset();
        }
    }

    fn queue_stopped(&mut self, queue: u16) {
        match role(queue) {
            Role::Input(port) => {
                if let Some(port) = self.ports.get_mut(port) {
                    port.input = None;
                }
            }
            Role::Output(port) => {
                if let Some(port) = self.ports.get_mut(port) {
                    port.output = None;
                }
            }
            Role::ControlToDriver | Role::ControlFromDriver => {}
        }
    }

    /// Returns true for the receiveqs, because input or a control message may never come.
    fn may_sleep(&self, queue: u16) -> bool {
        matches!(role(queue), Role::Input(_) | Role::ControlToDriver)
    }

    fn can_serve(&self, queue: u16) -> bool {
        match role(queue) {
            Role::Input(port) => self.ports.get(port).is_some_and(|port| {
                port.input.is_none()
                    && port.delivers_input(self.has_multiport())
                    && port.io.has_input()
            }),
            Role::Output(port) => self
                .ports
                .get(port)
                .is_some_and(|port| !matches!(port.output, Some((Some(_), _)))),
            Role::ControlToDriver => self.has_control_message(),
            Role::ControlFromDriver => true,
        }
    }

    fn due(&self) -> Option<Token> {
        let multiport = self.has_multiport();
        self.ports.iter().find_map(|port| port.due(multiport))
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        match role(request.queue) {
            Role::Input(port) => Ok(self.input(port, request)),
            Role::Output(port) => Ok(self.output(port, request)),
            Role::ControlToDriver => self.send_control(request),
            Role::ControlFromDriver => self.receive_control(request),
        }
    }
}

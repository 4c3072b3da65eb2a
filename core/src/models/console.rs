//! The console device, over ports that are streams of bytes.
//!
//! One port, or with `VIRTIO_CONSOLE_F_MULTIPORT` up to `P`, with names, hot-plug and both ends'
//! opening and closing. `VIRTIO_CONSOLE_F_SIZE` is offered if port 0 has a size,
//! `VIRTIO_CONSOLE_F_EMERG_WRITE` always.
//!
//! * **Input** stays with the host until the driver has a buffer for it, and buffers stay with the
//!   driver until there is input: when some arrives, call `backend_ready` for the [`receiveq`]. A
//!   buffer is never given back empty, unless it is.
//! * **Output** that a port cannot take yet waits, and what it took is not written again: when there
//!   is room, call `backend_ready` for the [`transmitq`]. Later buffers of the port wait behind it.
//! * **Control messages** of the device are bits of each port, told when the driver has a buffer and
//!   in an order that holds: a port is removed before it is added again, and nothing is said of it
//!   before the driver is ready for it. Messages of the driver that make no sense (an event or value
//!   that is not known, a port that is not there) are counted as [ignored](Console::ignored): a
//!   message about a port that was unplugged meanwhile is no fault.
//! * **A driver may know its ports from before a reset.** It may say PORT_READY and PORT_OPEN of any
//!   port that is plugged in, whether or not the device announced the port. PORT_READY counts as
//!   DEVICE_READY, and the port is not announced any more. Linux after a hibernation sends nothing
//!   else.
//! * The driver is at fault, and its queue stops, for a control message shorter than its header and
//!   for a control buffer too short for a message; a name is cut instead. Readable parts of a
//!   receiveq and writable ones of a transmitq are left alone.
//!
//! With MULTIPORT, a port gets input while the driver has it open; a buffer that waits when it is
//! opened again needs no `backend_ready`. What the driver sends to a port
//! that is closed or not there is dropped, as its readers are gone.
//!
//! A buffer of a receiveq takes up to [`limit`](Console::with_limit) bytes, and a call to the port
//! for each 64 of them, or for each piece if they are shorter; one of a transmitq as many as it
//! holds, or as its port takes before it is not ready. A control buffer takes a search through the
//! `P` ports, and so does each call of [`DeviceModel::due`].
//!
//! IN_ORDER suits it: what waits is the oldest of its queue, since a port has queues of its own.
//!
//! Supply two chain slots for each port and one more: a port may hold one buffer of each of its
//! queues.
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

/// Bytes that go through the stack at once.
const PIECE: usize = 64;
const PIECE_U32: u32 = 64;

/// Offset of `emerg_wr`.
const EMERG_WR: u32 = 8;

fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

/// The console device over `P` ports `T`.
///
/// ```
/// use virtside::models::{Console, ConsoleError, ConsolePort};
///
/// /// Sends back what it is sent.
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
/// // Or several ports:
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
    /// The driver takes control messages: it said DEVICE_READY, or PORT_READY of a port.
    driver_ready: bool,
    ignored: u32,
}

impl<T> Console<T> {
    /// A device of one port, without MULTIPORT.
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

    /// Gives the port a size (`VIRTIO_CONSOLE_F_SIZE`).
    #[must_use]
    pub fn with_size(mut self, cols: u16, rows: u16) -> Self {
        let [port] = &mut self.ports;
        port.size = Some(ConsoleSize { cols, rows });
        self
    }
}

impl<T, const P: usize> Console<T, P> {
    /// A device of these ports. A driver without MULTIPORT has the first.
    pub const fn with_ports(ports: [Port<T>; P]) -> Self {
        const {
            assert!(
                P > 0 && P < 32767,
                "a port at least, and two queues for each"
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

    /// Puts at most this many bytes (at least one) into each buffer of a receiveq; 4096 by default.
    #[must_use]
    pub fn with_limit(self, bytes: u32) -> Self {
        Self {
            limit: bytes.max(1),
            ..self
        }
    }

    /// A port.
    pub fn port(&self, port: u16) -> Option<&Port<T>> {
        self.ports.get(usize::from(port))
    }

    /// A port, for what does not show in the configuration space; only the size of port 0 does.
    pub fn port_mut(&mut self, port: u16) -> Option<&mut Port<T>> {
        self.ports.get_mut(usize::from(port))
    }

    /// How many control messages of the driver made no sense (modulo 2^32).
    pub const fn ignored(&self) -> u32 {
        self.ignored
    }

    fn has_multiport(&self) -> bool {
        self.negotiated
            .is_some_and(|features| features.contains(feature(F::MULTIPORT)))
    }

    fn size(&self) -> Option<ConsoleSize> {
        self.ports.first().and_then(|port| port.size)
    }
}

impl<T: ConsolePort, const P: usize> Console<T, P> {
    fn input<M: DriverMem>(&mut self, at: usize, request: &mut Request<'_, M>) -> Answer {
        let (multiport, limit) = (self.has_multiport(), self.limit);
        let Some(port) = self.ports.get_mut(at) else {
            return done(request);
        };
        port.input = None;
        port.reopened = false;
        let mut piece = [0; PIECE];
        loop {
            let written = request.writable.written();
            let room = limit.saturating_sub(written).min(PIECE_U32);
            // Memory first: what was read from the port cannot be put back.
            let view = match request.writable.view(room) {
                Ok(Some(view)) => view,
                Ok(None) => return done(request),
                Err(error) => {
                    request.report(error.into());
                    return done(request);
                }
            };
            let piece = match piece.get_mut(..view.len()) {
                Some(part) => part,
                None => &mut piece,
            };
            let read = if port.listens(multiport) {
                port.io.read(piece)
            } else {
                Err(ConsoleError::NotReady)
            };
            match read {
                Ok(count) if count > 0 => {
                    let copied = view.copy_from(piece.get(..count).unwrap_or(piece));
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

    fn output<M: DriverMem>(&mut self, at: usize, request: &mut Request<'_, M>) -> Answer {
        let Some(port) = self.ports.get_mut(at) else {
            return done(request);
        };
        let mut sent = match port.output.take() {
            Some((token, sent)) if token.is_none_or(|token| token == request.token) => sent,
            _ => 0,
        };
        request.readable.skip(sent);
        let mut piece = [0; PIECE];
        while port.takes_output() {
            let view = match request.readable.view(PIECE_U32) {
                Ok(Some(view)) => view,
                Ok(None) => break,
                Err(error) => {
                    request.report(error.into());
                    break;
                }
            };
            let count = view.copy_to(&mut piece);
            match port.io.write(piece.get(..count).unwrap_or(&piece)) {
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
        // Before the driver chose, it may look at all (console-08).
        let all = match self.negotiated {
            None => self.multiport,
            Some(_) => self.has_multiport(),
        };
        let there = match role(queue) {
            Role::Input(port) | Role::Output(port) => port == 0 || (all && port < P),
            Role::ToDriver | Role::FromDriver => all,
        };
        if there { u16::MAX } else { 0 }
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

    /// An emergency write (console-01, console-02), negotiated or not, in any width that starts with
    /// the low byte.
    fn is_always_writable(&self, offset: u32) -> bool {
        offset == EMERG_WR
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
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
            Role::ToDriver | Role::FromDriver => {}
        }
    }

    /// Input may never come, and neither may news.
    fn may_sleep(&self, queue: u16) -> bool {
        matches!(role(queue), Role::Input(_) | Role::ToDriver)
    }

    fn can_serve(&self, queue: u16) -> bool {
        match role(queue) {
            Role::Input(port) => self.ports.get(port).is_some_and(|port| {
                port.input.is_none() && port.listens(self.has_multiport()) && port.io.has_input()
            }),
            Role::Output(port) => self
                .ports
                .get(port)
                .is_some_and(|port| !matches!(port.output, Some((Some(_), _)))),
            Role::ToDriver => self.has_news(),
            Role::FromDriver => true,
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
            Role::ToDriver => self.tell(request),
            Role::FromDriver => self.receive_control(request),
        }
    }
}

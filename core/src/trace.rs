//! Tracing of device events; free when unused.
//!
//! A device made with [`Engine::traced`](crate::Engine::traced) or
//! [`Device::with_trace`](crate::Device::with_trace) tells its [`Trace`] of these events:
//!
//! - each register access and its reply,
//! - each queue that is ready or stopped,
//! - each chain, each interrupt and each fault.
//!
//! With [`NoTrace`], the default, no event is created.
//!
//! Two kinds of events are not traced:
//!
//! - Register accesses, phases and ready queues of a device that is built from messages. Such a
//!   device has no registers and no phases, and the host configures its queues.
//! - Events of a taken queue. The owner of the queue must trace them itself. Only the fault that
//!   stopped the queue is traced, when the queue is put back.
//!
//! # Trace sinks
//!
//! - `DefmtTrace` (feature `defmt`) writes events through defmt.
//! - `LogTrace` (feature `log`, off by default) writes events through the crate `log`, for hosts
//!   without defmt. With `tracing`, use its bridge for `log` records.
//! - Any closure that takes an event.

use crate::{
    error::{DriverFault, HostFault, Refusal},
    message::QueueConfig,
    mmio::{Access, Register},
    model::Token,
    shared::InterruptStatus,
    transport::{Phase, Reply},
};

/// An event of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The driver accessed a register. [`Reply::Pending`] is followed by
    /// [`Completed`](Self::Completed).
    Access {
        /// The access.
        access: Access,
        /// The reply to the access.
        reply: Reply,
    },
    /// A pending access is complete.
    Completed {
        /// The reply to the access.
        reply: Reply,
    },
    /// The device changed its phase.
    Phase {
        /// The previous phase.
        from: Phase,
        /// The new phase.
        to: Phase,
    },
    /// A queue passed every check and is ready.
    QueueReady {
        /// Layout of the queue.
        config: QueueConfig,
    },
    /// The check at DRIVER_OK refused a queue, or the set of queues.
    QueueRefused {
        /// Queue number; `None` for the set of queues.
        queue: Option<u16>,
        /// Reason of the refusal.
        refusal: Refusal,
    },
    /// The driver stopped a queue.
    QueueStopped {
        /// Queue number.
        queue: u16,
    },
    /// A chain was taken from a queue and is served next.
    Popped {
        /// Queue number.
        queue: u16,
        /// Index of the head descriptor.
        head: u16,
        /// Number of device-readable bytes.
        readable: u64,
        /// Number of device-writable bytes.
        writable: u64,
        /// Position behind the chain, in the format of
        /// [`RingPosition::next_avail`](crate::message::RingPosition::next_avail).
        next_avail: u16,
    },
    /// A chain waits for its back end.
    Pending {
        /// Queue number.
        queue: u16,
        /// Token of the chain.
        token: Token,
    },
    /// A chain was given back to the driver.
    Used {
        /// Queue number.
        queue: u16,
        /// Index of the head descriptor.
        head: u16,
        /// Number of bytes written.
        written: u32,
    },
    /// The driver's interrupt was raised.
    ///
    /// Two interrupts are not traced: the interrupt of a refused DRIVER_OK, which shows only in the
    /// reply, and an interrupt that is raised again after an InterruptACK or FAILED.
    Interrupt {
        /// Bits of InterruptStatus that were set.
        status: InterruptStatus,
    },
    /// The driver broke the protocol. The queue is stopped, or the chain was given back
    /// ([`FaultPolicy::Reject`](crate::error::FaultPolicy::Reject)).
    DriverFault {
        /// Queue number.
        queue: u16,
        /// The protocol violation.
        fault: DriverFault,
    },
    /// The host failed.
    HostFault {
        /// The failure.
        fault: HostFault,
    },
}

impl Event {
    /// Returns the importance of the event.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::DriverFault { .. } | Self::HostFault { .. } | Self::QueueRefused { .. } => {
                Level::Fault
            }
            Self::Access { reply, .. } | Self::Completed { reply } => match reply {
                Reply::Refused(_) => Level::Fault,
                _ => Level::SetUp,
            },
            Self::Phase { .. } | Self::QueueReady { .. } | Self::QueueStopped { .. } => {
                Level::Milestone
            }
            Self::Popped { .. }
            | Self::Pending { .. }
            | Self::Used { .. }
            | Self::Interrupt { .. } => Level::Traffic,
        }
    }
}

/// Importance of an [`Event`], most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Level {
    /// A fault or a refusal: level *warn* in `DefmtTrace` and `LogTrace`.
    Fault,
    /// A step of the set-up: level *info*.
    Milestone,
    /// A register access: level *debug*.
    SetUp,
    /// A chain or an interrupt: level *trace*.
    Traffic,
}

/// A trace sink, which is told of every event of a device.
///
/// The device calls the sink from the context in which the device runs. If that is an interrupt
/// handler, the sink must not block.
///
/// ```
/// use virtside::{
///     ChainSlot, Engine, Shared, memory::Ram, mmio::Access, models::Entropy, trace::Event,
/// };
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let mut seen = std::vec::Vec::new();
/// let source = |bytes: &mut [u8]| Ok(bytes.len());
/// let mut engine: Engine<_, _, _, 1, 16, _, _, _> = Engine::traced(
///     Entropy::new(source), RAM.flat(0), (), [ChainSlot::new()], &SHARED,
///     |event: &Event| seen.push(std::format!("{event}")),
/// );
/// let _ = engine.access(Access::write(0x70, 1));
/// let _ = engine.access(Access::read(0x70));
/// drop(engine);
/// assert_eq!(seen, ["Status := 0x1", "phase: Reset -> Negotiating", "Status = 0x1"]);
/// ```
pub trait Trace {
    /// Called for each event.
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Trace for F {
    #[inline]
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// A trace sink that discards every event.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline(always)]
    fn event(&mut self, _: &Event) {}
}

/// A trace sink that writes events through defmt, each with the name of its device. [`Level`] lists
/// the defmt levels.
#[cfg(feature = "defmt")]
#[derive(Clone, Copy, Debug, defmt::Format)]
pub struct DefmtTrace(
    /// The device's name.
    pub &'static str,
);

#[cfg(feature = "defmt")]
impl Trace for DefmtTrace {
    fn event(&mut self, event: &Event) {
        match event.level() {
            Level::Fault => defmt::warn!("{=str}: {}", self.0, event),
            Level::Milestone => defmt::info!("{=str}: {}", self.0, event),
            Level::SetUp => defmt::debug!("{=str}: {}", self.0, event),
            Level::Traffic => defmt::trace!("{=str}: {}", self.0, event),
        }
    }
}

/// A trace sink that writes events through `log`, each with the name of its device. The target is
/// `virtside`. [`Level`] lists the log levels.
///
/// ```
/// use virtside::{HostFault, trace::{Event, LogTrace, Trace}};
/// LogTrace("disk0").event(&Event::HostFault { fault: HostFault::Backend });
/// ```
#[cfg(feature = "log")]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LogTrace(
    /// The device's name.
    pub &'static str,
);

#[cfg(feature = "log")]
impl Trace for LogTrace {
    fn event(&mut self, event: &Event) {
        let level = match event.level() {
            Level::Fault => log::Level::Warn,
            Level::Milestone => log::Level::Info,
            Level::SetUp => log::Level::Debug,
            Level::Traffic => log::Level::Trace,
        };
        log::log!(target: "virtside", level, "{}: {event}", self.0);
    }
}

/// Formats a reply as text.
struct ReplyText<'r>(&'r Reply);

impl core::fmt::Display for ReplyText<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Reply::Done(value) => write!(f, "{value:#x}"),
            Reply::Refused(refusal) => write!(f, "refused, {refusal}"),
            Reply::Pending(_) => f.write_str("not complete yet"),
            Reply::Busy => f.write_str("busy with an earlier access"),
        }
    }
}

/// Target of an access.
#[derive(Clone, Copy)]
enum Target {
    Register(Register),
    Config(u32),
    Unknown(u32),
}

impl Target {
    fn of(offset: u32) -> Self {
        match (offset.checked_sub(Register::CONFIG), Register::at(offset)) {
            (Some(offset), _) => Self::Config(offset),
            (None, Some(register)) => Self::Register(register),
            (None, None) => Self::Unknown(offset),
        }
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Register(register) => f.write_str(register.name()),
            Self::Config(offset) => write!(f, "Config+{offset}"),
            Self::Unknown(offset) => write!(f, "{offset:#05x}"),
        }
    }
}

/// Writes accesses as assignments: `QueueSel := 0x0` for a write, `QueueReady = 0x1` for a read.
impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Access { access, reply } => match (access, reply) {
                (Access::Read { offset, .. }, Reply::Done(value)) => {
                    write!(f, "{} = {value:#x}", Target::of(*offset))
                }
                (Access::Read { offset, .. }, reply) => {
                    write!(f, "{}: {}", Target::of(*offset), ReplyText(reply))
                }
                (Access::Write { offset, value, .. }, Reply::Done(_)) => {
                    write!(f, "{} := {value:#x}", Target::of(*offset))
                }
                (Access::Write { offset, value, .. }, reply) => {
                    write!(
                        f,
                        "{} := {value:#x}: {}",
                        Target::of(*offset),
                        ReplyText(reply)
                    )
                }
            },
            Self::Completed { reply } => write!(f, "completed: {}", ReplyText(reply)),
            Self::Phase { from, to } => write!(f, "phase: {from:?} -> {to:?}"),
            Self::QueueReady { config } => write!(
                f,
                "queue {} is ready: {} elements, descriptors at {:#x}, driver area at {:#x}, \
                 device area at {:#x}",
                config.queue, config.size, config.desc, config.driver, config.device
            ),
            Self::QueueRefused { refusal, .. } => write!(f, "refused at DRIVER_OK, {refusal}"),
            Self::QueueStopped { queue } => write!(f, "queue {queue} is stopped"),
            Self::Popped {
                queue,
                head,
                readable,
                writable,
                ..
            } => write!(
                f,
                "queue {queue}: took chain {head}, {readable} readable and {writable} writable bytes"
            ),
            Self::Pending { queue, token } => {
                write!(f, "queue {queue}: the chain in slot {} waits", token.slot())
            }
            Self::Used {
                queue,
                head,
                written,
            } => write!(f, "queue {queue}: gave chain {head} back, {written} bytes"),
            Self::Interrupt { status } => {
                f.write_str("interrupt: ")?;
                bitflags::parser::to_writer(status, f)
            }
            Self::DriverFault { queue, fault } => {
                write!(f, "queue {queue}: the driver is at fault: {fault}")
            }
            Self::HostFault { fault } => write!(f, "the host is at fault: {fault}"),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Target {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Register(register) => defmt::write!(f, "{}", register),
            Self::Config(offset) => defmt::write!(f, "Config+{=u32}", offset),
            Self::Unknown(offset) => defmt::write!(f, "{=u32:#05x}", offset),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Event {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Access { access, reply } => match (access, reply) {
                (Access::Read { offset, .. }, Reply::Done(value)) => {
                    defmt::write!(f, "{} = {=u64:#x}", Target::of(*offset), value);
                }
                (Access::Read { offset, .. }, reply) => {
                    defmt::write!(f, "{}: {}", Target::of(*offset), reply);
                }
                (Access::Write { offset, value, .. }, Reply::Done(_)) => {
                    defmt::write!(f, "{} := {=u64:#x}", Target::of(*offset), value);
                }
                (Access::Write { offset, value, .. }, reply) => {
                    defmt::write!(f, "{} := {=u64:#x}: {}", Target::of(*offset), value, reply);
                }
            },
            Self::Completed { reply } => defmt::write!(f, "completed: {}", reply),
            Self::Phase { from, to } => defmt::write!(f, "phase: {} -> {}", from, to),
            Self::QueueReady { config } => defmt::write!(
                f,
                "queue {=u16} is ready: {=u32} elements, descriptors at {=u64:#x}, \
                 driver area at {=u64:#x}, device area at {=u64:#x}",
                config.queue,
                config.size,
                config.desc,
                config.driver,
                config.device
            ),
            Self::QueueRefused { refusal, .. } => {
                defmt::write!(f, "refused at DRIVER_OK, {}", refusal);
            }
            Self::QueueStopped { queue } => defmt::write!(f, "queue {=u16} is stopped", queue),
            Self::Popped {
                queue,
                head,
                readable,
                writable,
                ..
            } => defmt::write!(
                f,
                "queue {=u16}: took chain {=u16}, {=u64} readable and {=u64} writable bytes",
                queue,
                head,
                readable,
                writable
            ),
            Self::Pending { queue, token } => {
                defmt::write!(f, "queue {=u16}: {} waits", queue, token);
            }
            Self::Used {
                queue,
                head,
                written,
            } => defmt::write!(
                f,
                "queue {=u16}: gave chain {=u16} back, {=u32} bytes",
                queue,
                head,
                written
            ),
            Self::Interrupt { status } => defmt::write!(f, "interrupt: {}", status),
            Self::DriverFault { queue, fault } => {
                defmt::write!(f, "queue {=u16}: the driver is at fault: {}", queue, fault);
            }
            Self::HostFault { fault } => defmt::write!(f, "the host is at fault: {}", fault),
        }
    }
}

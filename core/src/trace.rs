//! A look at what a device does, for a probe or a log; it costs nothing where nobody looks.
//!
//! A device made with [`Engine::traced`](crate::Engine::traced) or
//! [`Device::with_trace`](crate::Device::with_trace) tells its [`Trace`] each register access and
//! what became of it, the queues that were set up, each chain, each interrupt and every fault. With
//! [`NoTrace`], the default, no event is made. (A device that was built of messages has no registers
//! and no phases, and was told its queues by the host: of these it tells nothing but the stops.)
//!
//! Ready-made: `DefmtTrace` (feature `defmt`) and `LogTrace` (feature `log`; subscribers of
//! `tracing` hear it through their bridge for `log`). Any closure is one too. What happens on a
//! taken queue is its owner's to tell. `LogTrace` departs from the rule that nothing but defmt logs
//! in this crate, because hosts without defmt need the same trace; it is off by default.

use crate::{
    error::{DriverFault, HostFault},
    message::QueueConfig,
    mmio::{Access, Register},
    model::Token,
    shared::InterruptStatus,
    transport::{Phase, Reply},
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The driver accessed a register. [`Reply::Pending`] is followed by
    /// [`Completed`](Self::Completed).
    Access {
        /// Which, and how.
        access: Access,
        /// What it got.
        reply: Reply,
    },
    /// An access that had to wait is complete.
    Completed {
        /// What it got.
        reply: Reply,
    },
    /// The device is in another phase of its life.
    Phase {
        /// Before.
        from: Phase,
        /// Now.
        to: Phase,
    },
    /// A queue passed every check and is ready.
    QueueReady {
        /// How the driver laid it out.
        config: QueueConfig,
    },
    /// A queue was stopped by the driver.
    QueueStopped {
        /// Queue number.
        queue: u16,
    },
    /// A chain was taken, and is about to be served.
    Popped {
        /// Queue number.
        queue: u16,
        /// Index of its head descriptor.
        head: u16,
        /// Device-readable bytes.
        readable: u64,
        /// Device-writable bytes.
        writable: u64,
    },
    /// A chain waits for its back end.
    Pending {
        /// Queue number.
        queue: u16,
        /// Its name meanwhile.
        token: Token,
    },
    /// A chain was given back.
    Used {
        /// Queue number.
        queue: u16,
        /// Index of its head descriptor.
        head: u16,
        /// Bytes that were written.
        written: u32,
    },
    /// The driver's interrupt was raised for this. (That of a refused DRIVER_OK shows in the reply
    /// alone; one that is sent again for an InterruptACK or FAILED is not traced.)
    Interrupt {
        /// Which bits of InterruptStatus were set.
        status: InterruptStatus,
    },
    /// The driver broke the protocol; the queue is stopped.
    DriverFault {
        /// Queue number.
        queue: u16,
        /// What it did.
        fault: DriverFault,
    },
    /// Something of ours failed.
    HostFault {
        /// What.
        fault: HostFault,
    },
}

impl Event {
    /// How much it matters.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::DriverFault { .. } | Self::HostFault { .. } => Level::Fault,
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

/// How much an [`Event`] matters, most first.
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

/// Hears what a device does.
///
/// It is called from wherever the device is stepped, so it must not block if that is an interrupt
/// handler.
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
    /// This happened.
    fn event(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Trace for F {
    #[inline]
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// Nobody looks.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline(always)]
    fn event(&mut self, _: &Event) {}
}

/// Events through defmt, each with the name of its device. [`Level`] says at which level.
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

/// Events through `log`, with target `virtside` and the name of their device. [`Level`] says at
/// which level.
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

/// A reply in words.
struct Answered<'r>(&'r Reply);

impl core::fmt::Display for Answered<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Reply::Done(value) => write!(f, "{value:#x}"),
            Reply::Refused(refusal) => write!(f, "refused, {refusal}"),
            Reply::Pending(_) => f.write_str("not complete yet"),
            Reply::Busy => f.write_str("busy with an earlier access"),
        }
    }
}

/// Where an access goes.
#[derive(Clone, Copy)]
enum Place {
    Register(Register),
    Config(u32),
    Nowhere(u32),
}

impl Place {
    fn of(offset: u32) -> Self {
        match (offset.checked_sub(Register::CONFIG), Register::at(offset)) {
            (Some(offset), _) => Self::Config(offset),
            (None, Some(register)) => Self::Register(register),
            (None, None) => Self::Nowhere(offset),
        }
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Register(register) => f.write_str(register.name()),
            Self::Config(offset) => write!(f, "Config+{offset}"),
            Self::Nowhere(offset) => write!(f, "{offset:#05x}"),
        }
    }
}

/// As in a conversation: `QueueSel := 0x0`, `QueueReady = 0x1`.
impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Access { access, reply } => match (access, reply) {
                (Access::Read { offset, .. }, Reply::Done(value)) => {
                    write!(f, "{} = {value:#x}", Place::of(*offset))
                }
                (Access::Read { offset, .. }, reply) => {
                    write!(f, "{}: {}", Place::of(*offset), Answered(reply))
                }
                (Access::Write { offset, value, .. }, Reply::Done(_)) => {
                    write!(f, "{} := {value:#x}", Place::of(*offset))
                }
                (Access::Write { offset, value, .. }, reply) => {
                    write!(
                        f,
                        "{} := {value:#x}: {}",
                        Place::of(*offset),
                        Answered(reply)
                    )
                }
            },
            Self::Completed { reply } => write!(f, "completed: {}", Answered(reply)),
            Self::Phase { from, to } => write!(f, "phase: {from:?} -> {to:?}"),
            Self::QueueReady { config } => write!(
                f,
                "queue {} is ready: {} elements, descriptors at {:#x}, driver area at {:#x}, \
                 device area at {:#x}",
                config.queue, config.size, config.desc, config.driver, config.device
            ),
            Self::QueueStopped { queue } => write!(f, "queue {queue} is stopped"),
            Self::Popped {
                queue,
                head,
                readable,
                writable,
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
impl defmt::Format for Place {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Register(register) => defmt::write!(f, "{}", register),
            Self::Config(offset) => defmt::write!(f, "Config+{=u32}", offset),
            Self::Nowhere(offset) => defmt::write!(f, "{=u32:#05x}", offset),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Event {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Access { access, reply } => match (access, reply) {
                (Access::Read { offset, .. }, Reply::Done(value)) => {
                    defmt::write!(f, "{} = {=u64:#x}", Place::of(*offset), value);
                }
                (Access::Read { offset, .. }, reply) => {
                    defmt::write!(f, "{}: {}", Place::of(*offset), reply);
                }
                (Access::Write { offset, value, .. }, Reply::Done(_)) => {
                    defmt::write!(f, "{} := {=u64:#x}", Place::of(*offset), value);
                }
                (Access::Write { offset, value, .. }, reply) => {
                    defmt::write!(f, "{} := {=u64:#x}: {}", Place::of(*offset), value, reply);
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
            Self::QueueStopped { queue } => defmt::write!(f, "queue {=u16} is stopped", queue),
            Self::Popped {
                queue,
                head,
                readable,
                writable,
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

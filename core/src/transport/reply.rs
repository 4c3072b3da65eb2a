//! What a driver is answered.

use crate::error::Refusal;

/// An answer that the driver still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ticket(pub(super) u32);

/// The answer to a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Reply {
    /// Complete it; a load gives this value, a store 0.
    Done(u64),
    /// Complete it; a load gives 0. It was not allowed, and why.
    Refused(Refusal),
    /// Do not complete it yet: the driver may reuse memory that a taken queue still works on, or
    /// the device is not ready to start. `finish(ticket)` says when.
    Pending(Ticket),
    /// An earlier access is not complete. This one was not looked at: offer it again afterwards.
    Busy,
}

impl Reply {
    /// What the driver's load gives, or `None` if the access is not complete.
    #[must_use]
    pub const fn value(&self) -> Option<u64> {
        match self {
            Self::Done(value) => Some(*value),
            Self::Refused(_) => Some(0),
            Self::Pending(_) | Self::Busy => None,
        }
    }

    /// Why the access was refused, if it was.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(crate) const DONE: Reply = Reply::Done(0);

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
    /// The value to complete the access with on the bus: for a load what it gives, 0 if it was
    /// refused. `None` if the access is not complete.
    ///
    /// ```
    /// use virtside::{Refusal, mmio::Reply};
    /// let refused = Reply::Refused(Refusal::WriteOnly { offset: 0x50 });
    /// assert_eq!((refused.bus_value(), refused.value()), (Some(0), None));
    /// assert_eq!((Reply::Done(0).bus_value(), Reply::Done(0).value()), (Some(0), Some(0)));
    /// assert_eq!((Reply::Busy.bus_value(), Reply::Busy.value()), (None, None));
    /// ```
    #[must_use]
    pub const fn bus_value(&self) -> Option<u64> {
        match self {
            Self::Done(value) => Some(*value),
            Self::Refused(_) => Some(0),
            Self::Pending(_) | Self::Busy => None,
        }
    }

    /// The value of an access that was carried out: of a load what it gives, of a store 0. `None` if
    /// the access was refused or is not complete.
    #[must_use]
    pub const fn value(&self) -> Option<u64> {
        match self {
            Self::Done(value) => Some(*value),
            _ => None,
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

//! Replies to register accesses.

use crate::error::Refusal;

/// Identifies a register access that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ticket(pub(super) u32);

/// The reply to a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Reply {
    /// The access is complete. A load returns this value; the value of a store is 0.
    Done(u64),
    /// The access is complete and was refused for this reason. A load returns 0.
    Refused(Refusal),
    /// The access is not complete; do not answer the driver yet. To ask again, call
    /// [`finish`](crate::mmio::RegisterBlock::finish) with this ticket.
    ///
    /// A driver that continued now could reuse memory that a taken queue still accesses, or could
    /// use a device that has not started.
    Pending(Ticket),
    /// An earlier access is not complete, and this access was ignored. Repeat it after the earlier
    /// access is complete.
    Busy,
}

impl Reply {
    /// Returns the value with which the access completes on the bus, or `None` if the access is not
    /// complete.
    ///
    /// A refused load completes with 0.
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

    /// Returns the value of an access that was carried out: the loaded value, or 0 for a store.
    /// Returns `None` if the access was refused or is not complete.
    #[must_use]
    pub const fn value(&self) -> Option<u64> {
        match self {
            Self::Done(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns why the access was refused, if it was refused.
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

//! What a driver does to the register block, and what it is answered.

use crate::error::Refusal;

/// A driver's access to the register block.
///
/// Offsets are in bytes from the start of the block, widths in bytes; values are native, as the bus
/// carries them.
///
/// ```
/// use virtside::mmio::Access;
/// let kick = Access::Write { offset: 0x50, width: 4, value: 0 };
/// assert_eq!(kick, Access::write(0x50, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Access {
    /// A load.
    Read {
        /// Offset in bytes.
        offset: u32,
        /// 1, 2, 4 or 8.
        width: u8,
    },
    /// A store.
    Write {
        /// Offset in bytes.
        offset: u32,
        /// 1, 2, 4 or 8.
        width: u8,
        /// What is stored; bits beyond the width are ignored.
        value: u64,
    },
}

impl Access {
    /// A 32-bit load.
    #[must_use]
    pub const fn read(offset: u32) -> Self {
        Self::Read { offset, width: 4 }
    }

    /// A 32-bit store.
    #[must_use]
    pub fn write(offset: u32, value: u32) -> Self {
        Self::Write {
            offset,
            width: 4,
            value: value.into(),
        }
    }
}

/// An answer that the driver still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ticket(pub(super) u32);

/// The answer to an [`Access`].
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

pub(super) const DONE: Reply = Reply::Done(0);

/// Something that takes register accesses: an [`Engine`](crate::Engine), or what stands for one.
pub trait RegisterBlock {
    /// See [`Engine::access`](crate::Engine::access).
    fn access(&mut self, access: Access) -> Reply;
    /// See [`Engine::finish`](crate::Engine::finish).
    fn finish(&mut self, ticket: Ticket) -> Reply;
}

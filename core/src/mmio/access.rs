//! What a driver does to the register block, and what it is answered.

use crate::transport::{Reply, Ticket};

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

/// Something that takes register accesses: an [`Engine`](crate::Engine), or what stands for one.
pub trait RegisterBlock {
    /// See [`Engine::access`](crate::Engine::access).
    fn access(&mut self, access: Access) -> Reply;
    /// See [`Engine::finish`](crate::Engine::finish).
    fn finish(&mut self, ticket: Ticket) -> Reply;
}

//! Register accesses of a driver, and the trait of a register block.

use crate::transport::{Reply, Ticket};

/// An access of a driver to the register block.
///
/// Offsets are in bytes from the start of the block, and widths are in bytes. A value is a number,
/// not bytes: on every machine, its bits 0 to 7 are the byte at the lowest offset.
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
        /// Value to store. Bits beyond the width are ignored.
        value: u64,
    },
}

impl Access {
    /// Returns a 32-bit load.
    #[must_use]
    pub const fn read(offset: u32) -> Self {
        Self::Read { offset, width: 4 }
    }

    /// Returns a 32-bit store.
    #[must_use]
    pub fn write(offset: u32, value: u32) -> Self {
        Self::Write {
            offset,
            width: 4,
            value: value.into(),
        }
    }
}

/// The registers of a device, as an [`Engine`](crate::Engine) implements them. Implement the trait
/// for a wrapper of an engine, for several engines, or for a test.
pub trait RegisterBlock {
    /// Handles one register access. See [`Engine::access`](crate::Engine::access).
    fn access(&mut self, access: Access) -> Reply;
    /// Asks again whether a pending access is complete. See
    /// [`Engine::finish`](crate::Engine::finish).
    fn finish(&mut self, ticket: Ticket) -> Reply;
}

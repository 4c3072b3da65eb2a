//! What a chain is but for its segments, and what can be wrong with it.

use crate::{error::DriverFault, memory::Permission, num};

/// The serial number of a chain that is none: in no queue is one with it in flight.
const NO_CHAIN: u32 = u32::MAX - 1;

/// The driver did wrong: what, is in the chain.
///
/// Noted there at once, off the path on which all is well, an error weighs nothing on that path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blamed;

/// What a chain is but for its segments.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    /// How many segments there are, and how many of them the device may read.
    pub(super) count: u16,
    pub(super) readable: u16,
    pub(super) head: u16,
    pub(super) readable_len: u32,
    pub(super) writable_len: u32,
    /// Which chain it is, so that a clone of an earlier one with the same head is told apart; a
    /// queue has it again after 2^30 chains at the earliest.
    serial: u32,
    /// Why there is no chain, if `pop` found the driver at fault.
    pub(super) fault: Option<DriverFault>,
}

impl Outline {
    /// That of no chain.
    pub(super) const NONE: Self = Self {
        count: 0,
        readable: 0,
        // No head of any queue.
        head: u16::MAX,
        readable_len: 0,
        writable_len: 0,
        serial: NO_CHAIN,
        fault: None,
    };

    /// A chain is to come. What else is in the buffer stays until `end_readable` and `end`, or `blame`.
    #[inline(always)]
    pub(crate) fn begin(&mut self, head: u16) {
        self.head = head;
    }

    pub(crate) const fn serial(&self) -> u32 {
        self.serial
    }

    #[inline(always)]
    pub(crate) fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    /// Notes what the driver did wrong. What was in the buffer cannot be given back: its head may be
    /// that of a chain which the driver did nothing wrong with.
    #[cold]
    #[inline(never)]
    pub(crate) fn blame(&mut self, fault: DriverFault) -> Blamed {
        self.serial = NO_CHAIN;
        self.count = 0;
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
        self.fault = Some(fault);
        Blamed
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn unmapped(&mut self, addr: u64, len: u32, permission: Permission) -> Blamed {
        self.blame(DriverFault::BufferUnmapped {
            addr,
            len,
            writable: permission == Permission::Write,
        })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_next(&mut self, next: u16) -> Blamed {
        self.blame(DriverFault::NextOutOfRange { next })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn too_long(&mut self, head: u16) -> Blamed {
        self.blame(DriverFault::ChainTooLong { head })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_order(&mut self, head: u16) -> Blamed {
        self.blame(DriverFault::ReadableAfterWritable { head })
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self) -> Blamed {
        self.blame(DriverFault::LengthOverflow { head: self.head })
    }

    /// How many segments there are.
    #[cfg(feature = "packed")]
    #[inline(always)]
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// How many segments there are, and how many bytes; and whether the last is for writing.
    pub(crate) fn progress(&self) -> (u16, u64, bool) {
        let len = u64::from(self.readable_len).wrapping_add(self.writable_len.into());
        (self.count, len, self.count > self.readable)
    }

    /// The first `count` segments are what the device may read, `len` bytes.
    #[inline(always)]
    pub(crate) fn end_readable(&mut self, count: u16, len: u64) {
        self.readable = count;
        self.readable_len = num::low(len);
    }

    /// There are `count` segments with `len` bytes; the device may write what is behind the readable
    /// ones. This is the name that the chain has.
    #[inline(always)]
    pub(crate) fn end(&mut self, head: u16, count: u16, len: u64) -> Result<(), Blamed> {
        self.head = head;
        self.count = count;
        self.writable_len = num::low(len).wrapping_sub(self.readable_len);
        if num::high(len) == 0 {
            Ok(())
        } else {
            Err(self.overflow())
        }
    }
}

//! A chain of buffers, copied once out of the driver's memory.
//!
//! A chain's descriptors are fetched exactly once, when it is popped, and validated there. What
//! the device works with afterwards is this copy: the driver may rewrite its ring as it likes.
//!
//! Clauses: split-framing-01, split-desc-01, split-desc-02, driver-18.

use core::hint::cold_path;

use super::{
    serial::NO_CHAIN,
    snapshot::ChainSnapshot,
    stream::{ReadableChain, WritableChain},
};
use crate::{
    error::DriverFault,
    memory::{DriverMem, Permission},
    num,
};

/// The most bytes that a chain may have (The Virtqueue Descriptor Table).
const MAX_LEN: u64 = 1 << 32;

/// One buffer of a chain: a driver address and a length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Segment {
    /// Driver address of the first byte.
    pub addr: u64,
    /// Length in bytes; a driver may send 0.
    pub len: u32,
}

/// A popped chain of up to `N` buffers: the device-readable ones, then the device-writable ones.
///
/// `N` is at least the size of the queue,
/// which bounds a chain's length.
// The segments are first, so that both are at one address.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Chain<const N: usize> {
    segments: [Segment; N],
    pub(crate) header: ChainHeader,
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Chain<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Chain {{ head: {=u16}, readable: {=[?]}, writable: {=[?]}, fault: {} }}",
            self.header.head,
            self.readable_segments(),
            self.writable_segments(),
            self.header.fault
        );
    }
}

impl<const N: usize> Chain<N> {
    /// An empty buffer to pop into.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: [Segment { addr: 0, len: 0 }; N],
            header: ChainHeader::NONE,
        }
    }

    /// Index of the chain's head descriptor: its name in the rings.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.header.head
    }

    /// Device-readable bytes. With the writable ones, at most 2^32.
    #[must_use]
    pub const fn readable_len(&self) -> u64 {
        self.header.readable_len
    }

    /// Device-writable bytes. With the readable ones, at most 2^32.
    #[must_use]
    pub const fn writable_len(&self) -> u64 {
        self.header.writable_len
    }

    /// All segments, readable before writable.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        match self.segments.get(..usize::from(self.header.count)) {
            Some(segments) => segments,
            None => nothing(),
        }
    }

    /// The device-readable segments.
    #[must_use]
    pub fn readable_segments(&self) -> &[Segment] {
        self.segments()
            .get(..usize::from(self.header.readable))
            .unwrap_or(&[])
    }

    /// The device-writable segments.
    #[must_use]
    pub fn writable_segments(&self) -> &[Segment] {
        self.segments()
            .get(usize::from(self.header.readable)..)
            .unwrap_or(&[])
    }

    /// A reader over the device-readable bytes, from the first.
    pub fn readable<'a, M: DriverMem>(&'a self, mem: &'a M) -> ReadableChain<'a, M> {
        ReadableChain::new(self.readable_segments(), num::low(self.readable_len()), mem)
    }

    /// A writer over the device-writable bytes, from the first.
    pub fn writable<'a, M: DriverMem>(&'a self, mem: &'a M) -> WritableChain<'a, M> {
        WritableChain::new(self.writable_segments(), num::low(self.writable_len()), mem)
    }

    /// A chain that a snapshot has in hand, checked as one that is popped; false if it cannot be.
    pub(crate) fn restore<M: DriverMem>(&mut self, mem: &M, snapshot: &ChainSnapshot<N>) -> bool {
        let readable = snapshot.readable;
        if usize::from(readable) > snapshot.segments.len() {
            return false;
        }
        let (mut count, mut total) = (0_u16, 0_u64);
        self.header.end_readable(count, total);
        for &Segment { addr, len } in &snapshot.segments {
            let permission = if count < readable {
                Permission::Read
            } else {
                Permission::Write
            };
            if len != 0 && !mem.is_mapped(addr, len, permission) {
                return false;
            }
            total = total.wrapping_add(len.into());
            if !self.put(count, Segment { addr, len }) {
                return false;
            }
            count = count.wrapping_add(1);
            if count == readable {
                self.header.end_readable(count, total);
            }
        }
        self.header.end(snapshot.head, count, total).is_ok()
    }

    /// What a snapshot keeps of it.
    pub(crate) fn snapshot(
        &self,
        queue: u16,
        slots: u16,
        answered: Option<u32>,
    ) -> ChainSnapshot<N> {
        let mut segments = heapless::Vec::new();
        // There is room: both hold up to `N`.
        let _ = segments.extend_from_slice(self.segments());
        ChainSnapshot {
            queue,
            head: self.header.head,
            slots,
            answered,
            readable: self.header.readable,
            segments,
        }
    }

    /// What the driver did wrong, if `pop` said so.
    pub(crate) fn take_fault(&mut self) -> Option<DriverFault> {
        self.header.fault.take()
    }

    /// Puts a segment at `at`; false if there is no room.
    #[inline(always)]
    pub(crate) fn put(&mut self, at: u16, segment: Segment) -> bool {
        match self.segments.get_mut(usize::from(at)) {
            Some(place) => {
                *place = segment;
                true
            }
            None => false,
        }
    }

    /// Puts a segment at `at`, modulo `N`, for who sees to it that there is room.
    #[inline(always)]
    pub(crate) fn put_modulo(&mut self, at: u16, segment: Segment) {
        let mask = const {
            assert!(N.is_power_of_two());
            N.wrapping_sub(1)
        };
        if let Some(place) = self.segments.get_mut(usize::from(at) & mask) {
            *place = segment;
        }
    }
}

/// Never: a chain has at most `N` segments.
#[cold]
#[inline(never)]
fn nothing<'a>() -> &'a [Segment] {
    &[]
}

impl<const N: usize> Default for Chain<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The driver did wrong: what, is in the chain.
///
/// Noted there at once, off the path on which all is well, an error weighs nothing on that path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faulted;

/// What a chain is but for its segments.
#[derive(Clone, Debug)]
pub(crate) struct ChainHeader {
    /// How many segments there are, and how many of them the device may read.
    pub(super) count: u16,
    pub(super) readable: u16,
    pub(super) head: u16,
    /// Bytes, at most [`MAX_LEN`] together.
    pub(super) readable_len: u64,
    pub(super) writable_len: u64,
    /// Which chain it is, so that a clone of an earlier one with the same head is told apart; a
    /// queue has it again after 2^29 chains at the earliest.
    serial: u32,
    /// Why there is no chain, if `pop` found the driver at fault.
    pub(super) fault: Option<DriverFault>,
}

impl ChainHeader {
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
    pub(crate) fn blame(&mut self, fault: DriverFault) -> Faulted {
        self.serial = NO_CHAIN;
        self.count = 0;
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
        self.fault = Some(fault);
        Faulted
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn unmapped(&mut self, addr: u64, len: u32, permission: Permission) -> Faulted {
        self.blame(DriverFault::BufferUnmapped {
            addr,
            len,
            writable: permission == Permission::Write,
        })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_next(&mut self, next: u16) -> Faulted {
        self.blame(DriverFault::NextOutOfRange { next })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn too_long(&mut self, head: u16) -> Faulted {
        self.blame(DriverFault::ChainTooLong { head })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_order(&mut self, head: u16) -> Faulted {
        self.blame(DriverFault::ReadableAfterWritable { head })
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self) -> Faulted {
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
        let len = self.readable_len.wrapping_add(self.writable_len);
        (self.count, len, self.count > self.readable)
    }

    /// The first `count` segments are what the device may read, with `len` bytes.
    #[inline(always)]
    pub(crate) fn end_readable(&mut self, count: u16, len: u64) {
        self.readable = count;
        self.readable_len = len;
    }

    /// There are `count` segments with `len` bytes; the device may write what is behind the readable
    /// ones. This is the name that the chain has.
    #[inline(always)]
    pub(crate) fn end(&mut self, head: u16, count: u16, len: u64) -> Result<(), Faulted> {
        self.head = head;
        self.count = count;
        self.writable_len = len.wrapping_sub(self.readable_len);
        if num::high(len) != 0 {
            // A question of its own: a comparison with `MAX_LEN` alone takes an instruction more.
            cold_path();
            if len != MAX_LEN {
                return Err(self.overflow());
            }
        }
        Ok(())
    }
}

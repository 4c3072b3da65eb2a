//! A chain of buffers, copied once from the driver's memory.
//!
//! When a chain is popped, each of its descriptors is fetched exactly once and validated.
//! Afterwards the device works with this copy. A driver that rewrites its ring does not affect the
//! copy.
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

/// Maximum number of bytes in a chain (The Virtqueue Descriptor Table).
const MAX_LEN: u64 = 1 << 32;

/// One buffer of a chain: a driver address and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Segment {
    /// Driver address of the first byte.
    pub addr: u64,
    /// Length in bytes. A driver may send 0.
    pub len: u32,
}

/// A popped chain of up to `N` buffers: first the device-readable buffers, then the device-writable
/// buffers.
///
/// `N` is the capacity of the queue in elements. It bounds the number of buffers, even if the
/// driver chose a smaller queue.
///
/// A `Chain` is also the *chain buffer* into which a queue pops its next chain.
// `segments` comes first, so that the chain and its segments have the same address.
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
    /// Creates an empty chain buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: [Segment { addr: 0, len: 0 }; N],
            header: ChainHeader::NONE,
        }
    }

    /// Returns the index of the head descriptor, or in a packed ring the buffer id. A used element
    /// names the chain by this number.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.header.head
    }

    /// Returns the number of device-readable bytes. Readable and writable bytes together are at
    /// most 2^32.
    #[must_use]
    pub const fn readable_len(&self) -> u64 {
        self.header.readable_len
    }

    /// Returns the number of device-writable bytes. Readable and writable bytes together are at
    /// most 2^32.
    #[must_use]
    pub const fn writable_len(&self) -> u64 {
        self.header.writable_len
    }

    /// Returns all segments, the readable ones first.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        match self.segments.get(..usize::from(self.header.count)) {
            Some(segments) => segments,
            None => no_segments(),
        }
    }

    /// Returns the device-readable segments.
    #[must_use]
    pub fn readable_segments(&self) -> &[Segment] {
        self.segments()
            .get(..usize::from(self.header.readable))
            .unwrap_or(&[])
    }

    /// Returns the device-writable segments.
    #[must_use]
    pub fn writable_segments(&self) -> &[Segment] {
        self.segments()
            .get(usize::from(self.header.readable)..)
            .unwrap_or(&[])
    }

    /// Returns a reader of the device-readable bytes, positioned at the first byte.
    pub fn readable<'a, M: DriverMem>(&'a self, mem: &'a M) -> ReadableChain<'a, M> {
        ReadableChain::new(self.readable_segments(), num::low(self.readable_len()), mem)
    }

    /// Returns a writer of the device-writable bytes, positioned at the first byte.
    pub fn writable<'a, M: DriverMem>(&'a self, mem: &'a M) -> WritableChain<'a, M> {
        WritableChain::new(self.writable_segments(), num::low(self.writable_len()), mem)
    }

    /// Fills the chain buffer with a chain from a snapshot, after the same checks as for a popped
    /// chain. Returns false if the chain does not pass.
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

    /// Returns the chain as a value for a snapshot.
    pub(crate) fn snapshot(
        &self,
        queue: u16,
        slots: u16,
        answered: Option<u32>,
    ) -> ChainSnapshot<N> {
        let mut segments = heapless::Vec::new();
        // Both hold up to `N` segments, so this cannot fail.
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

    /// Takes the fault that `pop` found.
    pub(crate) fn take_fault(&mut self) -> Option<DriverFault> {
        self.header.fault.take()
    }

    /// Stores a segment at index `at`. Returns false if there is no room.
    #[inline(always)]
    pub(crate) fn put(&mut self, at: u16, segment: Segment) -> bool {
        match self.segments.get_mut(usize::from(at)) {
            Some(entry) => {
                *entry = segment;
                true
            }
            None => false,
        }
    }

    /// Stores a segment at index `at` modulo `N`. The caller ensures that there is room.
    #[inline(always)]
    pub(crate) fn put_modulo(&mut self, at: u16, segment: Segment) {
        let mask = const {
            assert!(N.is_power_of_two());
            N.wrapping_sub(1)
        };
        if let Some(entry) = self.segments.get_mut(usize::from(at) & mask) {
            *entry = segment;
        }
    }
}

/// Returns no segments. Never called: a chain has at most `N` segments.
#[cold]
#[inline(never)]
fn no_segments<'a>() -> &'a [Segment] {
    &[]
}

impl<const N: usize> Default for Chain<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Error of a function that stored a [`DriverFault`] in the chain.
///
/// The fault is stored where it is found, on a cold path. The error itself has size zero, so that a
/// `Result` costs the fast path nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faulted;

/// All of a chain except its segments.
#[derive(Clone, Debug)]
pub(crate) struct ChainHeader {
    /// Number of segments.
    pub(super) count: u16,
    /// Number of device-readable segments.
    pub(super) readable: u16,
    /// See [`Chain::head`].
    pub(super) head: u16,
    /// Device-readable bytes.
    pub(super) readable_len: u64,
    /// Device-writable bytes. With the readable bytes, at most [`MAX_LEN`].
    pub(super) writable_len: u64,
    /// Serial number of the chain, or [`NO_CHAIN`]. It distinguishes the chain from clones of
    /// earlier chains with the same head. Within one generation of a queue, at least 2^29 chains
    /// lie between two chains that the queue confuses. See the module `serial`.
    serial: u32,
    /// The fault that `pop` found.
    pub(super) fault: Option<DriverFault>,
}

impl ChainHeader {
    /// The header of an empty chain buffer.
    pub(super) const NONE: Self = Self {
        count: 0,
        readable: 0,
        // No queue has this head.
        head: u16::MAX,
        readable_len: 0,
        writable_len: 0,
        serial: NO_CHAIN,
        fault: None,
    };

    /// Starts a chain with this head. The other fields keep their values until `end_readable` and
    /// `end`, or `set_fault`.
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

    /// Stores a fault and makes the chain buffer empty.
    ///
    /// The serial number becomes [`NO_CHAIN`], so that the faulty chain cannot be marked as used:
    /// its head may also be the head of a valid chain in flight.
    #[cold]
    #[inline(never)]
    pub(crate) fn set_fault(&mut self, fault: DriverFault) -> Faulted {
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
        self.set_fault(DriverFault::BufferUnmapped {
            addr,
            len,
            writable: permission == Permission::Write,
        })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_next(&mut self, next: u16) -> Faulted {
        self.set_fault(DriverFault::NextOutOfRange { next })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn too_long(&mut self, head: u16) -> Faulted {
        self.set_fault(DriverFault::ChainTooLong { head })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_order(&mut self, head: u16) -> Faulted {
        self.set_fault(DriverFault::ReadableAfterWritable { head })
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self) -> Faulted {
        self.set_fault(DriverFault::LengthOverflow { head: self.head })
    }

    /// Returns the number of segments.
    #[cfg(feature = "packed")]
    #[inline(always)]
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Returns the number of segments, the number of bytes, and whether the last segment is
    /// device-writable.
    pub(crate) fn progress(&self) -> (u16, u64, bool) {
        let len = self.readable_len.wrapping_add(self.writable_len);
        (self.count, len, self.count > self.readable)
    }

    /// Ends the device-readable part of the chain: the first `count` segments, with `len` bytes.
    #[inline(always)]
    pub(crate) fn end_readable(&mut self, count: u16, len: u64) {
        self.readable = count;
        self.readable_len = len;
    }

    /// Ends the chain: it has this head and `count` segments with `len` bytes. The segments after
    /// the readable ones are device-writable.
    ///
    /// # Errors
    /// `len` is above [`MAX_LEN`].
    #[inline(always)]
    pub(crate) fn end(&mut self, head: u16, count: u16, len: u64) -> Result<(), Faulted> {
        self.head = head;
        self.count = count;
        self.writable_len = len.wrapping_sub(self.readable_len);
        if num::high(len) != 0 {
            // Two tests are cheaper on the fast path than one comparison with `MAX_LEN`, which
            // takes one more instruction.
            cold_path();
            if len != MAX_LEN {
                return Err(self.overflow());
            }
        }
        Ok(())
    }
}

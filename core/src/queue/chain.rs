//! A chain of buffers, copied once out of the driver's memory.
//!
//! A chain's descriptors are fetched exactly once, when it is popped, and validated there. What
//! the device works with afterwards is this copy: the driver may rewrite its ring as it likes.
//!
//! Clauses: split-framing-01, split-desc-01, split-desc-02, driver-18.

use super::{
    outline::Outline,
    stream::{ReadableChain, WritableChain},
};
use crate::{
    error::DriverFault,
    memory::{DriverMem, Permission},
    num,
    snapshot::ChainSnapshot,
};

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
    pub(crate) outline: Outline,
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Chain<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Chain {{ head: {=u16}, readable: {=[?]}, writable: {=[?]}, fault: {} }}",
            self.outline.head,
            self.readable_segments(),
            self.writable_segments(),
            self.outline.fault
        );
    }
}

impl<const N: usize> Chain<N> {
    /// An empty buffer to pop into.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: [Segment { addr: 0, len: 0 }; N],
            outline: Outline::NONE,
        }
    }

    /// Index of the chain's head descriptor: its name in the rings.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.outline.head
    }

    /// Device-readable bytes.
    #[must_use]
    pub const fn readable_len(&self) -> u32 {
        self.outline.readable_len
    }

    /// Device-writable bytes.
    #[must_use]
    pub const fn writable_len(&self) -> u32 {
        self.outline.writable_len
    }

    /// All segments, readable before writable.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        match self.segments.get(..usize::from(self.outline.count)) {
            Some(segments) => segments,
            None => nothing(),
        }
    }

    /// The device-readable segments.
    #[must_use]
    pub fn readable_segments(&self) -> &[Segment] {
        self.segments()
            .get(..usize::from(self.outline.readable))
            .unwrap_or(&[])
    }

    /// The device-writable segments.
    #[must_use]
    pub fn writable_segments(&self) -> &[Segment] {
        self.segments()
            .get(usize::from(self.outline.readable)..)
            .unwrap_or(&[])
    }

    /// A reader over the device-readable bytes, from the first.
    pub fn readable<'a, M: DriverMem>(&'a self, mem: &'a M) -> ReadableChain<'a, M> {
        ReadableChain::new(self.readable_segments(), self.readable_len(), mem)
    }

    /// A writer over the device-writable bytes, from the first.
    pub fn writable<'a, M: DriverMem>(&'a self, mem: &'a M) -> WritableChain<'a, M> {
        WritableChain::new(self.writable_segments(), self.writable_len(), mem)
    }

    /// A chain that a snapshot has in hand, checked as one that is popped; false if it cannot be.
    pub(crate) fn restore<M: DriverMem>(&mut self, mem: &M, snapshot: &ChainSnapshot<N>) -> bool {
        let readable = snapshot.readable;
        if usize::from(readable) > snapshot.segments.len() {
            return false;
        }
        let (mut lens, mut count) = ([0_u64; 2], 0_u16);
        for &Segment { addr, len } in &snapshot.segments {
            let [read, write] = &mut lens;
            let (permission, sum) = if count < readable {
                (Permission::Read, read)
            } else {
                (Permission::Write, write)
            };
            if len != 0 && !mem.is_mapped(addr, len, permission) {
                return false;
            }
            *sum = sum.wrapping_add(len.into());
            if !self.put(count, Segment { addr, len }) {
                return false;
            }
            count = count.wrapping_add(1);
        }
        let [read, write] = lens;
        self.outline.end_readable(readable, read);
        num::high(read) == 0
            && self
                .outline
                .end(snapshot.head, count, read.wrapping_add(write))
                .is_ok()
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
            head: self.outline.head,
            slots,
            answered,
            readable: self.outline.readable,
            segments,
        }
    }

    /// What the driver did wrong, if `pop` said so.
    pub(crate) fn take_fault(&mut self) -> Option<DriverFault> {
        self.outline.fault.take()
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

//! A chain of buffers, copied once out of the driver's memory, and the two ways through it.
//!
//! A chain's descriptors are fetched exactly once, when it is popped, and validated there. What
//! the device works with afterwards is this copy: the driver may rewrite its ring as it likes.
//! The buffers themselves are the driver's to change at any time; [`ReadableChain`] copies each
//! byte out once.
//!
//! Clauses: split-framing-01, split-desc-01, split-desc-02, driver-18.

use embedded_io::{ErrorKind, ErrorType, Read, ReadExactError, Write};

use crate::{
    error::DriverFault,
    memory::{DeviceRange, DriverMem, DriverRange, Permission},
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

/// The serial number of a chain that is none: in no queue is one with it in flight.
const NO_CHAIN: u32 = u32::MAX - 1;

/// The driver did wrong: what, is in the chain.
///
/// Noted there at once, off the path on which all is well, an error weighs nothing on that path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blamed;

/// A popped chain of up to `N` buffers: the device-readable ones, then the device-writable ones.
///
/// `N` is at least the size of the queue,
/// which bounds a chain's length.
// The segments are first, so that both are at one address.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Chain<const N: usize> {
    segments: [Segment; N],
    /// How many segments there are, and how many of them the device may read.
    count: u16,
    readable: u16,
    head: u16,
    readable_len: u32,
    writable_len: u32,
    /// Which chain it is, so that a clone of an earlier one with the same head is told apart; a
    /// queue has it again after 2^31 chains, with IN_ORDER after 2^30.
    serial: u32,
    /// Why there is no chain, if `pop` found the driver at fault.
    fault: Option<DriverFault>,
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Chain<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Chain {{ head: {=u16}, readable: {=[?]}, writable: {=[?]}, fault: {} }}",
            self.head,
            self.readable_segments(),
            self.writable_segments(),
            self.fault
        );
    }
}

impl<const N: usize> Chain<N> {
    /// An empty buffer to pop into.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: [Segment { addr: 0, len: 0 }; N],
            count: 0,
            readable: 0,
            // No head of any queue.
            head: u16::MAX,
            readable_len: 0,
            writable_len: 0,
            serial: NO_CHAIN,
            fault: None,
        }
    }

    /// Index of the chain's head descriptor: its name in the rings.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// Device-readable bytes.
    #[must_use]
    pub const fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Device-writable bytes.
    #[must_use]
    pub const fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// All segments, readable before writable.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        match self.segments.get(..usize::from(self.count)) {
            Some(segments) => segments,
            None => nothing(),
        }
    }

    /// The device-readable segments.
    #[must_use]
    pub fn readable_segments(&self) -> &[Segment] {
        self.segments()
            .get(..usize::from(self.readable))
            .unwrap_or(&[])
    }

    /// The device-writable segments.
    #[must_use]
    pub fn writable_segments(&self) -> &[Segment] {
        self.segments()
            .get(usize::from(self.readable)..)
            .unwrap_or(&[])
    }

    /// A reader over the device-readable bytes, from the first.
    pub fn readable<'a, M: DriverMem>(&'a self, mem: &'a M) -> ReadableChain<'a, M> {
        ReadableChain {
            cursor: Cursor::new(
                self.readable_segments(),
                self.readable_len,
                mem,
                Permission::Read,
            ),
        }
    }

    /// A writer over the device-writable bytes, from the first.
    pub fn writable<'a, M: DriverMem>(&'a self, mem: &'a M) -> WritableChain<'a, M> {
        WritableChain {
            cursor: Cursor::new(
                self.writable_segments(),
                self.writable_len,
                mem,
                Permission::Write,
            ),
            written: 0,
        }
    }

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
        self.begin(snapshot.head);
        self.end_readable(readable, read);
        num::high(read) == 0 && self.end(count, read.wrapping_add(write)).is_ok()
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
            head: self.head,
            slots,
            answered,
            readable: self.readable,
            segments,
        }
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
    pub(crate) fn too_long(&mut self) -> Blamed {
        self.blame(DriverFault::ChainTooLong { head: self.head })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn bad_order(&mut self) -> Blamed {
        self.blame(DriverFault::ReadableAfterWritable { head: self.head })
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self) -> Blamed {
        self.blame(DriverFault::LengthOverflow { head: self.head })
    }

    /// What the driver did wrong, if `pop` said so.
    pub(crate) fn take_fault(&mut self) -> Option<DriverFault> {
        self.fault.take()
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

    /// The first `count` segments are what the device may read, `len` bytes.
    #[inline(always)]
    pub(crate) fn end_readable(&mut self, count: u16, len: u64) {
        self.readable = count;
        self.readable_len = num::low(len);
    }

    /// There are `count` segments with `len` bytes; the device may write what is behind the readable
    /// ones.
    #[inline(always)]
    pub(crate) fn end(&mut self, count: u16, len: u64) -> Result<(), Blamed> {
        self.count = count;
        self.writable_len = num::low(len).wrapping_sub(self.readable_len);
        if num::high(len) == 0 {
            Ok(())
        } else {
            Err(self.overflow())
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

/// Why a chain could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ChainError {
    /// No device-writable byte is left.
    Full,
    /// Memory that was mapped when the chain was popped is gone.
    MemoryGone {
        /// Driver address.
        addr: u64,
    },
}

impl core::fmt::Display for ChainError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the chain has no room left"),
            Self::MemoryGone { addr } => write!(f, "the memory at {addr:#x} is gone"),
        }
    }
}

impl core::error::Error for ChainError {}

impl embedded_io::Error for ChainError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Full => ErrorKind::WriteZero,
            Self::MemoryGone { .. } => ErrorKind::Other,
        }
    }
}

/// A position in the segments of one direction.
#[derive(Debug)]
struct Cursor<'a, M> {
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind the position.
    offset: u32,
    remaining: u32,
    mem: &'a M,
    permission: Permission,
}

#[cfg(feature = "defmt")]
impl<M> defmt::Format for Cursor<'_, M> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Cursor {{ segments: {=[?]}, offset: {=u32}, remaining: {=u32} }}",
            self.segments,
            self.offset,
            self.remaining
        );
    }
}

impl<M> Clone for Cursor<'_, M> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, M: DriverMem> Cursor<'a, M> {
    fn new(segments: &'a [Segment], remaining: u32, mem: &'a M, permission: Permission) -> Self {
        let mut cursor = Self {
            segments,
            offset: 0,
            remaining,
            mem,
            permission,
        };
        // Past empty segments, so that the first one has a byte if there is one at all.
        cursor.advance(0);
        cursor
    }

    /// The next contiguous bytes, at most `max` of them, as driver addresses and as memory.
    fn view(&self, max: u32) -> Result<Option<(DriverRange, DeviceRange<'a>)>, ChainError> {
        let Some(segment) = self.segments.first() else {
            return Ok(None);
        };
        let addr = segment.addr.wrapping_add(u64::from(self.offset));
        let len = segment
            .len
            .wrapping_sub(self.offset)
            .min(max)
            .min(self.remaining);
        if len == 0 {
            return Ok(None);
        }
        let gone = ChainError::MemoryGone { addr };
        let range = DriverRange::new(addr, len).ok_or(gone)?;
        let view = self
            .mem
            .translate(range, self.permission)
            .map_err(|_| gone)?;
        let view = view.take(num::index(len));
        if view.is_empty() {
            return Err(gone);
        }
        let range = DriverRange::new(addr, num::clamp_u32(view.len())).ok_or(gone)?;
        Ok(Some((range, view)))
    }

    /// Moves on by `count` bytes, at most to the end.
    fn advance(&mut self, count: u32) {
        let mut left = count.min(self.remaining);
        self.remaining = self.remaining.wrapping_sub(left);
        while let Some((segment, rest)) = self.segments.split_first() {
            let here = segment.len.wrapping_sub(self.offset);
            if left < here {
                self.offset = self.offset.wrapping_add(left);
                return;
            }
            left = left.wrapping_sub(here);
            self.segments = rest;
            self.offset = 0;
        }
    }

    /// The last `count` bytes as a cursor of their own, which this one then ends before.
    fn split_end(&mut self, count: u32) -> Option<Self> {
        let keep = self.remaining.checked_sub(count)?;
        let mut end = self.clone();
        end.advance(keep);
        self.remaining = keep;
        Some(end)
    }
}

/// The device-readable bytes of a chain, as a stream.
///
/// ```
/// # use virtside::{testing::one_chain, Ram};
/// # static RAM: Ram<4096> = Ram::new();
/// use embedded_io::Read;
/// # one_chain(&RAM, b"header", 0, |mem, chain| {
/// let mut reader = chain.readable(mem);
/// let mut header = [0; 4];
/// reader.read_exact(&mut header).unwrap();
/// assert_eq!(&header, b"head");
/// assert_eq!(reader.remaining(), 2);
/// # });
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReadableChain<'a, M> {
    cursor: Cursor<'a, M>,
}

impl<'a, M: DriverMem> ReadableChain<'a, M> {
    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.cursor.remaining
    }

    /// The next contiguous bytes, at most `max`, without moving on; `None` at the end. For back
    /// ends that take memory rather than copies; [`skip`](Self::skip) what was used.
    ///
    /// # Errors
    /// [`ChainError::MemoryGone`] if the memory was unmapped since the chain was popped.
    pub fn view(&self, max: u32) -> Result<Option<DeviceRange<'a>>, ChainError> {
        let Some((range, view)) = self.cursor.view(max)? else {
            return Ok(None);
        };
        self.cursor.mem.before_read(range);
        Ok(Some(view))
    }

    /// Moves on by `count` bytes, at most to the end.
    pub fn skip(&mut self, count: u32) {
        self.cursor.advance(count);
    }
}

impl<M> ErrorType for ReadableChain<'_, M> {
    type Error = ChainError;
}

impl<M: DriverMem> Read for ReadableChain<'_, M> {
    /// Reads across segments until `bytes` is full or the chain ends; `Ok(0)` means the end.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ChainError> {
        let mut done: usize = 0;
        while let Some(room) = bytes.get_mut(done..).filter(|room| !room.is_empty()) {
            let Some(view) = self.view(num::clamp_u32(room.len()))? else {
                break;
            };
            let count = view.copy_to(room);
            self.skip(num::clamp_u32(count));
            done = done.wrapping_add(count);
        }
        Ok(done)
    }

    /// Overridden: the provided method could panic.
    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), ReadExactError<ChainError>> {
        if self.read(bytes)? == bytes.len() {
            Ok(())
        } else {
            Err(ReadExactError::UnexpectedEof)
        }
    }
}

/// The device-writable bytes of a chain, as a stream.
///
/// A full writer gives [`ChainError::Full`], never `Ok(0)`.
///
/// ```
/// # use virtside::{testing::one_chain, ChainError, Ram};
/// # static RAM: Ram<4096> = Ram::new();
/// use embedded_io::Write;
/// # one_chain(&RAM, b"", 4, |mem, chain| {
/// let mut writer = chain.writable(mem);
/// writer.write_all(b"abcd").unwrap();
/// assert_eq!(writer.write(b"e"), Err(ChainError::Full));
/// assert_eq!(writer.written(), 4);
/// # });
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WritableChain<'a, M> {
    cursor: Cursor<'a, M>,
    written: u32,
}

impl<'a, M: DriverMem> WritableChain<'a, M> {
    /// Bytes not written yet.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.cursor.remaining
    }

    /// Bytes written so far, all of them from the start on.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.written
    }

    /// The next contiguous bytes, at most `max`, without moving on; `None` at the end. For back
    /// ends that fill memory rather than copy; [`commit`](Self::commit) what was filled.
    ///
    /// # Errors
    /// [`ChainError::MemoryGone`] if the memory was unmapped since the chain was popped.
    pub fn view(&self, max: u32) -> Result<Option<DeviceRange<'a>>, ChainError> {
        Ok(self.cursor.view(max)?.map(|(_, view)| view))
    }

    /// Counts `count` bytes as written, at most to the end, tells the memory's hooks, and moves on.
    pub fn commit(&mut self, count: u32) {
        let mut left = count.min(self.cursor.remaining);
        while left != 0 {
            let Some(segment) = self.cursor.segments.first() else {
                return;
            };
            let addr = segment.addr.wrapping_add(u64::from(self.cursor.offset));
            let here = segment.len.wrapping_sub(self.cursor.offset).min(left);
            if let Some(range) = DriverRange::new(addr, here) {
                self.cursor.mem.after_write(range);
            }
            self.cursor.advance(here);
            self.written = self.written.wrapping_add(here);
            left = left.wrapping_sub(here);
        }
    }

    /// Takes the last `count` bytes off as a writer of their own: a status that ends a request,
    /// however the driver split it. `None`, and nothing is taken, if fewer remain.
    pub fn split_end(&mut self, count: u32) -> Option<Self> {
        Some(Self {
            cursor: self.cursor.split_end(count)?,
            written: 0,
        })
    }
}

impl<M> ErrorType for WritableChain<'_, M> {
    type Error = ChainError;
}

impl<M: DriverMem> Write for WritableChain<'_, M> {
    /// Writes across segments until `bytes` is used up or the chain is full; at least one byte.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ChainError> {
        let mut done: usize = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let Some(view) = self.view(num::clamp_u32(rest.len()))? else {
                break;
            };
            let count = view.copy_from(rest);
            if count == 0 {
                break;
            }
            self.commit(num::clamp_u32(count));
            done = done.wrapping_add(count);
        }
        if done == 0 && !bytes.is_empty() {
            return Err(ChainError::Full);
        }
        Ok(done)
    }

    fn flush(&mut self) -> Result<(), ChainError> {
        Ok(())
    }

    /// Overridden: the provided method panics on `Ok(0)`.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), ChainError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.write(rest)?;
            rest = rest.get(count..).unwrap_or(&[]);
        }
        Ok(())
    }
}

//! The two ways through a chain's bytes.
//!
//! The buffers are the driver's to change at any time; [`ReadableChain`] copies each byte out once.
//!
//! Clauses: split-framing-01, driver-18.

use embedded_io::{ErrorKind, ErrorType, Read, ReadExactError, Write};

use super::Segment;
use crate::{
    memory::{DeviceRange, DriverMem, DriverRange, Permission},
    num,
};

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
///
/// There are no segments exactly if no byte is left, and the first one has a byte.
#[derive(Debug)]
struct Cursor<'a, M> {
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind the position.
    offset: u32,
    /// Bytes, modulo 2^32: 0 is 2^32 where there are segments.
    remaining: u32,
    mem: &'a M,
    permission: Permission,
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
        // Past segments without bytes: of nothing but those, past all.
        cursor.advance(0);
        cursor
    }

    fn remaining(&self) -> u64 {
        match self.segments {
            [] => 0,
            _ => u64::from(self.all_but_one()).wrapping_add(1),
        }
    }

    /// The bytes that are left, less one; of no use if none is.
    #[inline(always)]
    fn all_but_one(&self) -> u32 {
        self.remaining.wrapping_sub(1)
    }

    /// The next contiguous bytes, at most `max` of them: where they are, and how many.
    #[inline(always)]
    fn next(&self, max: u32) -> Option<(u64, u32)> {
        let segment = self.segments.first()?;
        let here = segment.len.wrapping_sub(self.offset).wrapping_sub(1);
        let len = here.min(self.all_but_one()).wrapping_add(1).min(max);
        let addr = segment.addr.wrapping_add(self.offset.into());
        (len != 0).then_some((addr, len))
    }

    /// The next contiguous bytes, at most `max` of them, as driver addresses and as memory.
    fn view(&self, max: u32) -> Result<Option<(DriverRange, DeviceRange<'a>)>, ChainError> {
        let Some((addr, len)) = self.next(max) else {
            return Ok(None);
        };
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
        if count > self.all_but_one() {
            self.finish();
            return;
        }
        let mut left = count;
        while let Some((segment, rest)) = self.segments.split_first() {
            let here = segment.len.wrapping_sub(self.offset);
            if left < here {
                self.offset = self.offset.wrapping_add(left);
                self.remaining = self.remaining.wrapping_sub(count);
                return;
            }
            left = left.wrapping_sub(here);
            self.segments = rest;
            self.offset = 0;
        }
    }

    /// Moves on to the end.
    fn finish(&mut self) {
        self.segments = &[];
        self.remaining = 0;
    }

    /// The last `count` bytes as a cursor of their own, which this one then ends before.
    fn split_end(&mut self, count: u32) -> Option<Self> {
        let mut end = self.clone();
        if count == 0 {
            end.finish();
            return Some(end);
        }
        if self.segments.is_empty() || count.wrapping_sub(1) > self.all_but_one() {
            return None;
        }
        let keep = self.remaining.wrapping_sub(count);
        end.advance(keep);
        self.remaining = keep;
        if keep == 0 {
            self.finish();
        }
        Some(end)
    }
}

/// The device-readable bytes of a chain, as a stream.
///
/// ```
/// # use virtside::{memory::Ram, testing::one_chain};
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
pub struct ReadableChain<'a, M> {
    cursor: Cursor<'a, M>,
}

impl<'a, M: DriverMem> ReadableChain<'a, M> {
    pub(super) fn new(segments: &'a [Segment], len: u32, mem: &'a M) -> Self {
        Self {
            cursor: Cursor::new(segments, len, mem, Permission::Read),
        }
    }

    /// Bytes not read yet, at most 2^32.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
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
/// # use virtside::{memory::Ram, queue::ChainError, testing::one_chain};
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
pub struct WritableChain<'a, M> {
    cursor: Cursor<'a, M>,
    written: u32,
}

impl<'a, M: DriverMem> WritableChain<'a, M> {
    pub(super) fn new(segments: &'a [Segment], len: u32, mem: &'a M) -> Self {
        Self {
            cursor: Cursor::new(segments, len, mem, Permission::Write),
            written: 0,
        }
    }

    /// Bytes not written yet, at most 2^32.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// Bytes written so far, all of them from the start on, or [`u32::MAX`] if there are more: what
    /// a used length can say, which may be less than was written (split-used-03).
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
        let mut left = count;
        while let Some((addr, here)) = self.cursor.next(left) {
            if let Some(range) = DriverRange::new(addr, here) {
                self.cursor.mem.after_write(range);
            }
            self.cursor.advance(here);
            self.written = self.written.saturating_add(here);
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

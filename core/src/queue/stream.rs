//! Streams over the bytes of a chain: a reader and a writer.
//!
//! The driver may change the buffers at any time. [`ReadableChain`] copies each byte once.
//!
//! Clauses: split-framing-01, driver-18.

use embedded_io::{ErrorKind, ErrorType, Read, ReadExactError, Write};

use super::Segment;
use crate::{
    memory::{DeviceRange, DriverMem, DriverRange, Permission},
    num,
};

/// Error of reading or writing a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ChainError {
    /// No device-writable byte is left.
    Full,
    /// Memory that was mapped when the chain was popped is no longer mapped.
    MemoryGone {
        /// Driver address of the first byte that is no longer mapped.
        addr: u64,
    },
}

impl core::fmt::Display for ChainError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the chain has no room left"),
            Self::MemoryGone { addr } => write!(f, "the memory at {addr:#x} is no longer mapped"),
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
/// `segments` is empty exactly if no byte is left. The first segment has at least one byte left.
#[derive(Debug)]
struct Cursor<'a, M> {
    /// The segments from the position on.
    segments: &'a [Segment],
    /// Bytes of the first segment that lie before the position.
    offset: u32,
    /// Bytes left, modulo 2^32. With segments left, 0 means 2^32.
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
        // Skips leading segments of length 0.
        cursor.advance(0);
        cursor
    }

    fn remaining(&self) -> u64 {
        match self.segments {
            [] => 0,
            _ => u64::from(self.remaining_minus_one()).wrapping_add(1),
        }
    }

    /// Returns the number of bytes left minus 1. The result has no meaning if no byte is left.
    #[inline(always)]
    fn remaining_minus_one(&self) -> u32 {
        self.remaining.wrapping_sub(1)
    }

    /// Returns the driver address and the length of the next contiguous bytes, at most `max` bytes.
    /// Returns `None` if no byte is left or `max` is 0.
    #[inline(always)]
    fn next(&self, max: u32) -> Option<(u64, u32)> {
        let segment = self.segments.first()?;
        let here = segment.len.wrapping_sub(self.offset).wrapping_sub(1);
        let len = here
            .min(self.remaining_minus_one())
            .wrapping_add(1)
            .min(max);
        let addr = segment.addr.wrapping_add(self.offset.into());
        (len != 0).then_some((addr, len))
    }

    /// Returns the next contiguous bytes, at most `max` bytes, as a range of driver addresses and
    /// as memory.
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

    /// Advances by `count` bytes, at most to the end.
    fn advance(&mut self, count: u32) {
        if count > self.remaining_minus_one() {
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

    /// Advances to the end.
    fn finish(&mut self) {
        self.segments = &[];
        self.remaining = 0;
    }

    /// Splits off the last `count` bytes as a separate cursor. Returns `None` and changes nothing
    /// if fewer bytes are left.
    fn split_end(&mut self, count: u32) -> Option<Self> {
        let mut end = self.clone();
        if count == 0 {
            end.finish();
            return Some(end);
        }
        if self.segments.is_empty() || count.wrapping_sub(1) > self.remaining_minus_one() {
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

/// The bytes that are left of a chain, as memory: one range for each contiguous piece. An iterator
/// for vectored I/O.
///
/// The iterator ends after an error ([`ChainError::MemoryGone`]).
#[derive(Debug)]
pub struct Views<'a, M> {
    cursor: Cursor<'a, M>,
}

impl<'a, M: DriverMem> Iterator for Views<'a, M> {
    type Item = Result<DeviceRange<'a>, ChainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (range, view) = match self.cursor.view(u32::MAX) {
            Ok(Some(found)) => found,
            Ok(None) => return None,
            Err(error) => {
                self.cursor.finish();
                return Some(Err(error));
            }
        };
        if matches!(self.cursor.permission, Permission::Read) {
            self.cursor.mem.before_read(range);
        }
        self.cursor.advance(num::clamp_u32(view.len()));
        Some(Ok(view))
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

    /// Returns the number of bytes that are not read yet, at most 2^32.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// Returns the next contiguous bytes, at most `max` bytes, and does not advance. Returns `None`
    /// at the end.
    ///
    /// Use this method for a back end that reads memory directly, without a copy. Then call
    /// [`skip`](Self::skip) with the number of bytes that the back end read.
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

    /// Returns the bytes that are left as memory, and does not advance.
    ///
    /// ```
    /// # use virtside::{memory::Ram, testing::one_chain};
    /// # static RAM: Ram<4096> = Ram::new();
    /// # one_chain(&RAM, b"header", 0, |mem, chain| {
    /// let reader = chain.readable(mem);
    /// let mut lengths = reader.views().map(|piece| piece.unwrap().len());
    /// assert_eq!(lengths.next(), Some(6));
    /// assert_eq!(lengths.next(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn views(&self) -> Views<'a, M> {
        Views {
            cursor: self.cursor.clone(),
        }
    }

    /// Skips `count` bytes, at most to the end.
    pub fn skip(&mut self, count: u32) {
        self.cursor.advance(count);
    }
}

impl<M> ErrorType for ReadableChain<'_, M> {
    type Error = ChainError;
}

impl<M: DriverMem> Read for ReadableChain<'_, M> {
    /// Reads across segments until `bytes` is full or the chain ends. `Ok(0)` means the end, if
    /// `bytes` is not empty.
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

    /// Overridden, because the provided method could panic.
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
/// A write to a full chain returns [`ChainError::Full`], never `Ok(0)`.
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

    /// Returns the number of bytes that are not written yet, at most 2^32.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// Returns the number of bytes written so far, at most [`u32::MAX`]. The written bytes are
    /// contiguous from the start of the writer.
    ///
    /// The result is a valid used length even if more bytes were written: a used length may be less
    /// than the number of bytes written (split-used-03).
    #[must_use]
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Returns the next contiguous bytes, at most `max` bytes, and does not advance. Returns `None`
    /// at the end.
    ///
    /// Use this method for a back end that writes memory directly, without a copy. Then call
    /// [`commit`](Self::commit) with the number of bytes that the back end wrote.
    ///
    /// ```
    /// # use virtside::{memory::Ram, testing::one_chain};
    /// # static RAM: Ram<4096> = Ram::new();
    /// # one_chain(&RAM, b"", 4, |mem, chain| {
    /// let mut writer = chain.writable(mem);
    /// let view = writer.view(512).unwrap().unwrap();
    /// assert_eq!(view.len(), 4);
    /// assert_eq!(view.copy_from(b"ab"), 2); // the back end
    /// writer.commit(2);
    /// assert_eq!((writer.written(), writer.remaining()), (2, 2));
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`ChainError::MemoryGone`] if the memory was unmapped since the chain was popped.
    pub fn view(&self, max: u32) -> Result<Option<DeviceRange<'a>>, ChainError> {
        Ok(self.cursor.view(max)?.map(|(_, view)| view))
    }

    /// Returns the bytes that are left as memory, and does not advance. Then call
    /// [`commit`](Self::commit) with the number of bytes that the back end wrote.
    #[must_use]
    pub fn views(&self) -> Views<'a, M> {
        Views {
            cursor: self.cursor.clone(),
        }
    }

    /// Counts `count` bytes as written, at most to the end, and advances. Calls the `after_write`
    /// hook of the memory.
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

    /// Splits off the last `count` bytes as a separate writer, for example for the status at the
    /// end of a request. The driver may have split these bytes over several buffers.
    ///
    /// Returns `None` and changes nothing if fewer bytes remain.
    ///
    /// ```
    /// # use virtside::{memory::Ram, testing::one_chain};
    /// # static RAM: Ram<4096> = Ram::new();
    /// use embedded_io::Write;
    /// # one_chain(&RAM, b"", 5, |mem, chain| {
    /// let mut data = chain.writable(mem);
    /// let mut status = data.split_end(1).unwrap();
    /// data.write_all(b"data").unwrap();
    /// assert_eq!(data.remaining(), 0);
    /// status.write_all(&[0]).unwrap();
    /// # });
    /// ```
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
    /// Writes across segments until all of `bytes` is written or the chain is full. Writes at least
    /// one byte, if `bytes` is not empty.
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

    /// Overridden, because the provided method panics on `Ok(0)`.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), ChainError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.write(rest)?;
            rest = rest.get(count..).unwrap_or(&[]);
        }
        Ok(())
    }
}

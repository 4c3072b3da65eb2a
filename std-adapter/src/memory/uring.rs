//! Operations on a file through `io_uring`, with buffers of the ring's own.
//!
//! An operation never refers to guest memory, because guest memory may be unmapped while the
//! operation runs.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fs::File,
    io,
    os::fd::AsRawFd,
    ptr::NonNull,
};

use io_uring::{
    IoUring, opcode, register::Restriction, squeue::Entry, types::Fd, types::FsyncFlags,
};
use virtside::memory::DeviceRange;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Alignment of buffers, enough for O_DIRECT on any disk.
const ALIGN: usize = 4096;

/// An operation, with its offset in the file and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Fills a buffer.
    Read { offset: u64, len: u32 },
    /// Stores a buffer.
    Write { offset: u64, len: u32 },
    /// Makes completed writes durable (`fdatasync`).
    Flush,
    /// `fallocate` with this mode.
    Allocate { offset: u64, len: u64, mode: i32 },
}

impl Operation {
    /// Returns whether the result says that the whole operation was done.
    pub(crate) const fn is_whole(self, count: u32) -> bool {
        match self {
            Self::Read { len, .. } | Self::Write { len, .. } => count == len,
            Self::Flush | Self::Allocate { .. } => true,
        }
    }
}

/// The name of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Id of the request.
    pub(crate) id: u32,
    /// Slot of the request.
    pub(crate) slot: u16,
    /// Number of the call of the request.
    pub(crate) call: u16,
}

/// A buffer of an operation.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
    len: usize,
}

// SAFETY: the buffer owns its bytes.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Allocates a buffer of zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`]
    fn new(len: usize) -> io::Result<Self> {
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let layout = Layout::from_size_align(len.max(1), ALIGN).map_err(|_| out_of_memory())?;
        // SAFETY: the size of the layout is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
        Ok(Self { start, layout, len })
    }

    /// Returns the bytes from `offset` on, as many as `like` has.
    fn part(&mut self, offset: usize, like: &DeviceRange<'_>) -> &mut [u8] {
        // SAFETY: the buffer has at least `len` initialized bytes, and `self` is borrowed mutably.
        let all = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) };
        let rest = all.get_mut(offset..).unwrap_or_default();
        let len = like.len().min(rest.len());
        rest.get_mut(..len).unwrap_or_default()
    }

    /// Copies pieces of guest memory into the buffer.
    pub(crate) fn copy_from<'a>(&mut self, pieces: impl Iterator<Item = DeviceRange<'a>>) {
        let mut offset: usize = 0;
        for piece in pieces {
            offset = offset.saturating_add(piece.copy_to(self.part(offset, &piece)));
        }
    }

    /// Copies the buffer to pieces of guest memory.
    pub(crate) fn copy_to<'a>(&mut self, pieces: impl Iterator<Item = DeviceRange<'a>>) {
        let mut offset: usize = 0;
        for piece in pieces {
            offset = offset.saturating_add(piece.copy_from(self.part(offset, &piece)));
        }
    }
}

/// Buffers for further operations. A new buffer costs page faults.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: Vec<Buffer>,
    /// Bytes of all buffers.
    size: usize,
}

impl Pool {
    /// Most bytes that are kept.
    const MOST: usize = 16 << 20;

    /// Takes a buffer of `len` bytes, whose contents are unspecified, or allocates one.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`]
    pub(crate) fn take(&mut self, len: usize) -> io::Result<Buffer> {
        let place = self
            .buffers
            .iter()
            .rposition(|buffer| buffer.layout.size() >= len);
        let Some(place) = place else {
            return Buffer::new(len);
        };
        let mut buffer = self.buffers.swap_remove(place);
        self.size = self.size.saturating_sub(buffer.layout.size());
        buffer.len = len;
        Ok(buffer)
    }

    /// Keeps a buffer, if there is room.
    pub(crate) fn put(&mut self, buffer: Buffer) {
        let size = self.size.saturating_add(buffer.layout.size());
        if size <= Self::MOST {
            self.size = size;
            self.buffers.push(buffer);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the bytes were allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A running operation.
#[derive(Debug)]
struct Running {
    name: Name,
    /// Kept until the operation completes, because the kernel accesses it.
    buffer: Option<Buffer>,
}

/// A completed operation.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) name: Name,
    /// Number of bytes, or the error.
    pub(crate) result: io::Result<u32>,
    pub(crate) buffer: Option<Buffer>,
}

/// A ring, and the operations that it runs on one file.
pub(crate) struct Ring {
    ring: IoUring,
    event: EventFd,
    file: File,
    /// Operations by their place in this list, which is their `user_data`.
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    /// An operation is in the queue, and the kernel did not take it.
    unsubmitted: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("event", &self.event)
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Creates a ring for up to `operations` at once.
    ///
    /// # Errors
    /// The error of the operating system, such as [`io::ErrorKind::Unsupported`] if the kernel has no
    /// `io_uring`, or [`io::ErrorKind::PermissionDenied`] if it is disabled.
    pub(crate) fn new(file: File, operations: u16) -> io::Result<Self> {
        let entries = u32::from(operations.max(1)).next_power_of_two();
        let ring = IoUring::builder().setup_r_disabled().build(entries)?;
        let event = EventFd::new(EFD_NONBLOCK)?;
        let submitter = ring.submitter();
        submitter.register_eventfd(event.as_raw_fd())?;
        // A sandbox of system calls does not see the operations of a ring.
        let mut allowed = [
            opcode::Read::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ]
        .map(Restriction::sqe_op);
        submitter.register_restrictions(&mut allowed)?;
        submitter.register_enable_rings()?;
        let places = usize::from(operations.max(1));
        Ok(Self {
            ring,
            event,
            file,
            running: (0..places).map(|_| None).collect(),
            free: (0..places).rev().collect(),
            unsubmitted: false,
        })
    }

    /// Returns the eventfd that is written when an operation completes.
    pub(crate) const fn event(&self) -> &EventFd {
        &self.event
    }

    /// Returns the number of running operations.
    pub(crate) fn running(&self) -> usize {
        self.running.len().saturating_sub(self.free.len())
    }

    /// Returns whether no further operation can start.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Starts an operation.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if the ring is full. The operation did not start.
    pub(crate) fn start(
        &mut self,
        name: Name,
        operation: Operation,
        mut buffer: Option<Buffer>,
    ) -> io::Result<()> {
        let place = self.free.pop().ok_or(io::ErrorKind::ResourceBusy)?;
        let user_data = u64::try_from(place).unwrap_or(u64::MAX);
        let entry = entry(&self.file, operation, buffer.as_mut()).user_data(user_data);
        if let Some(running) = self.running.get_mut(place) {
            *running = Some(Running { name, buffer });
        }
        // SAFETY: the file is open as long as the ring, and the buffer is kept until the operation
        // completes: `Running` owns it, and dropping the ring waits for every operation.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            self.release(place);
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.submit();
        Ok(())
    }

    /// Gives the kernel what is in the queue. If the kernel takes nothing now, the device is woken,
    /// and tries again when it takes a result.
    fn submit(&mut self) {
        loop {
            match self.ring.submit() {
                Ok(_) => self.unsubmitted = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.unsubmitted = true;
                    // A full counter wakes as well.
                    let _ = self.event.write(1);
                }
            }
            return;
        }
    }

    fn release(&mut self, place: usize) -> Option<Running> {
        let running = self.running.get_mut(place)?.take()?;
        self.free.push(place);
        Some(running)
    }

    /// Takes a completed operation.
    pub(crate) fn take(&mut self) -> Option<Completed> {
        if self.unsubmitted {
            self.submit();
        }
        let entry = self.ring.completion().next()?;
        let result = u32::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(entry.result().wrapping_neg()));
        let place = usize::try_from(entry.user_data()).ok()?;
        let Running { name, buffer } = self.release(place)?;
        Some(Completed {
            name,
            result,
            buffer,
        })
    }

    /// Waits until an operation completes.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(crate) fn wait(&self) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.running() != 0 {
            if self.take().is_none() && self.wait().is_err() {
                // The kernel may still access these buffers.
                for running in self.running.drain(..).flatten() {
                    std::mem::forget(running);
                }
                return;
            }
        }
    }
}

fn entry(file: &File, operation: Operation, buffer: Option<&mut Buffer>) -> Entry {
    let fd = Fd(file.as_raw_fd());
    // A buffer shorter than its operation is never passed on.
    let start = |len: u32| match buffer {
        Some(buffer) if usize::try_from(len).is_ok_and(|len| len <= buffer.len) => {
            (buffer.start.as_ptr(), len)
        }
        _ => (std::ptr::null_mut(), 0),
    };
    match operation {
        Operation::Read { offset, len } => {
            let (start, len) = start(len);
            opcode::Read::new(fd, start, len).offset(offset).build()
        }
        Operation::Write { offset, len } => {
            let (start, len) = start(len);
            opcode::Write::new(fd, start, len).offset(offset).build()
        }
        Operation::Flush => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        Operation::Allocate { offset, len, mode } => opcode::Fallocate::new(fd, len)
            .offset(offset)
            .mode(mode)
            .build(),
    }
}

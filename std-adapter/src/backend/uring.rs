//! A block back end over a file that does not wait for the disk.

use std::{io, iter, thread, time::Duration};

use virtside::{
    memory::DeviceRange,
    model::Token,
    models::blk::{BlockBackend, BlockError, BlockFeatures},
};
use vmm_sys_util::eventfd::EventFd;

use super::file::{DiskError, DiskOperation, FileDisk};
use crate::memory::{
    self, Wait,
    uring::{Buffer, Name, Operation, Pool, Ring},
};

/// A disk image in a file, with requests that complete later and in any order (`io_uring`).
///
/// * A read or write that the page cache can serve is done at once, between the file and guest
///   memory (`RWF_NOWAIT`).
/// * Any other read or write of up to 1 MiB, a flush and a discard run in the ring, through a buffer
///   of the ring. So the device goes on with other requests while the disk works.
/// * A longer read or write waits for the disk. A driver can repeat one page in many descriptors, so
///   a buffer of that length could exhaust the host's memory.
///
/// Wake the device with [`wake`](Self::wake). The device then serves the waiting requests again.
///
/// ```no_run
/// use virtside::models::{Block, BlockOptions};
/// use virtside_std::{FileDisk, UringDisk, vhost_user::VhostUserDevice};
///
/// let disk = UringDisk::new(FileDisk::open("disk.img")?, 128)?;
/// let wake = disk.wake()?;
/// let model = Block::new(disk, BlockOptions::new(128));
/// let device: VhostUserDevice<_, 1, 128> = VhostUserDevice::new(model, 128).with_wake(wake);
/// # let _ = device;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UringDisk {
    disk: FileDisk,
    ring: Ring,
    pool: Pool,
    /// The requests by slot.
    requests: Vec<Option<Pending>>,
    /// The request that the next calls belong to.
    current: Option<Token>,
    /// The number of the next call of this request.
    next: u16,
    /// The id of the next request that waits.
    id: u32,
    /// Whether the page cache is asked first, for reads.
    reads_cached: bool,
    /// The same for writes, which some file systems cannot do without waiting.
    writes_cached: bool,
}

/// Longest operation with a buffer, in bytes.
const LONGEST: u32 = 1 << 20;

/// A request with calls that did not complete at once.
#[derive(Debug)]
struct Pending {
    token: Token,
    /// Distinguishes the request from earlier ones.
    id: u32,
    calls: Vec<Call>,
}

/// A call of a request.
#[derive(Debug)]
enum Call {
    /// The operation runs.
    Running,
    /// The kernel cancelled the operation, because the thread that started it has ended.
    Cancelled,
    /// The operation is complete. The buffer has the bytes of a read.
    Complete(io::Result<u32>, Option<Buffer>),
    /// The result was returned.
    Done,
}

impl UringDisk {
    /// Uses a disk, with up to `operations` at once. Further requests wait.
    ///
    /// # Errors
    /// The error of the operating system, for instance if the kernel has no `io_uring` or forbids
    /// it. Then use the [`FileDisk`] itself.
    pub fn new(disk: FileDisk, operations: u16) -> io::Result<Self> {
        let ring = Ring::new(disk.file().try_clone()?, operations)?;
        Ok(Self {
            disk,
            ring,
            pool: Pool::default(),
            requests: Vec::new(),
            current: None,
            next: 0,
            id: 0,
            reads_cached: true,
            writes_cached: true,
        })
    }

    /// Returns the same disk, which never asks the page cache first. Use it for a file that was
    /// opened with O_DIRECT.
    ///
    /// With O_DIRECT, a read or write of more than 1 MiB, and a write of zeros that the file system
    /// cannot do, need buffers of the driver that are aligned to the disk's blocks. Tell the driver
    /// of blocks longer than 512 bytes by
    /// [`BlockOptions::with_block_size`](virtside::models::BlockOptions).
    #[must_use]
    pub fn without_cache(self) -> Self {
        Self {
            reads_cached: false,
            writes_cached: false,
            ..self
        }
    }

    /// Returns the eventfd that is written when a request can be completed.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn wake(&self) -> io::Result<EventFd> {
        self.ring.event().try_clone()
    }

    /// Takes the most recent error of the file.
    pub fn take_error(&mut self) -> Option<DiskError> {
        self.disk.take_error()
    }

    /// Keeps the results of the operations that are complete.
    fn collect(&mut self) {
        while let Some(completed) = self.ring.take() {
            let name = completed.name;
            let request = self.requests.get_mut(usize::from(name.slot));
            let request = request.and_then(Option::as_mut);
            let request = request.filter(|request| request.id == name.id);
            let call = request.and_then(|request| request.calls.get_mut(usize::from(name.call)));
            if let Some(call) = call {
                *call = match completed.result {
                    Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Call::Cancelled,
                    result => Call::Complete(result, completed.buffer),
                };
            }
        }
    }

    /// Begins a call. Returns its number, and its state if the call was made before.
    fn call(&mut self) -> (u16, Option<&mut Call>) {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let request = self.current.and_then(|token| {
            let request = self.requests.get_mut(usize::from(token.slot()))?;
            request.as_mut().filter(|request| request.token == token)
        });
        let call = request.and_then(|request| request.calls.get_mut(usize::from(number)));
        (number, call)
    }

    /// Returns the place for the state of a call that is made for the first time, and its name. The
    /// calls before it have returned their results.
    fn place(&mut self, number: u16) -> Option<(Name, &mut Vec<Call>)> {
        let token = self.current?;
        let slot = usize::from(token.slot());
        if slot >= self.requests.len() {
            self.requests.resize_with(slot.checked_add(1)?, || None);
        }
        let request = self.requests.get_mut(slot)?;
        if request
            .as_ref()
            .is_none_or(|request| request.token != token)
        {
            self.id = self.id.wrapping_add(1);
            *request = Some(Pending {
                token,
                id: self.id,
                calls: Vec::new(),
            });
        }
        let Pending { id, calls, .. } = request.as_mut()?;
        if calls.len() < usize::from(number) {
            calls.resize_with(usize::from(number), || Call::Done);
        }
        let name = Name {
            id: *id,
            slot: token.slot(),
            call: number,
        };
        Some((name, calls))
    }

    /// Starts an operation, which completes later.
    fn start(
        &mut self,
        number: u16,
        operation: Operation,
        buffer: Option<Buffer>,
    ) -> Result<(), BlockError> {
        let name = self.place(number).map(|(name, _)| name);
        let name = name.ok_or(BlockError::Io)?;
        match self.ring.start(name, operation, buffer) {
            Ok(()) => {
                if let Some((_, calls)) = self.place(number) {
                    calls.truncate(usize::from(number));
                    calls.push(Call::Running);
                }
                Err(BlockError::NotReady)
            }
            Err(error) => self.record(operation, Err(error)),
        }
    }

    /// Runs an operation. `finish` gets the buffer of an operation that has completed as a whole.
    /// `otherwise` is called if it failed or was cut short.
    fn run(
        &mut self,
        operation: Operation,
        buffer: impl FnOnce(&mut Pool) -> io::Result<Option<Buffer>>,
        finish: impl FnOnce(&mut Buffer),
        otherwise: impl FnOnce(&mut FileDisk, io::Result<u32>) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        self.collect();
        let is_full = self.ring.is_full();
        match self.call() {
            // Another operation runs, and the request is served again when that one completes.
            (_, None | Some(Call::Cancelled)) if is_full => Err(BlockError::NotReady),
            (number, None | Some(Call::Cancelled)) => match buffer(&mut self.pool) {
                Ok(buffer) => self.start(number, operation, buffer),
                Err(error) => self.record(operation, Err(error)),
            },
            (_, Some(Call::Done)) => Ok(()),
            (_, Some(Call::Running)) => Err(BlockError::NotReady),
            (_, Some(call @ Call::Complete(..))) => {
                let Call::Complete(result, buffer) = std::mem::replace(call, Call::Done) else {
                    return Ok(());
                };
                let whole = result
                    .as_ref()
                    .is_ok_and(|&count| operation.is_whole(count));
                if let Some(mut buffer) = buffer {
                    if whole {
                        finish(&mut buffer);
                    }
                    self.pool.put(buffer);
                }
                if whole {
                    Ok(())
                } else {
                    otherwise(&mut self.disk, result)
                }
            }
        }
    }

    fn record(&mut self, operation: Operation, result: io::Result<()>) -> Result<(), BlockError> {
        let (operation, offset, len) = match operation {
            Operation::Read { offset, len } => (DiskOperation::Read, offset, len.into()),
            Operation::Write { offset, len } => (DiskOperation::Write, offset, len.into()),
            Operation::Allocate { offset, len, .. } => (DiskOperation::WriteZeroes, offset, len),
            Operation::Flush => (DiskOperation::Flush, 0, 0),
        };
        self.disk.record(operation, offset, len, result)
    }

    /// Returns whether the next call was made before.
    fn is_repeated(&self) -> bool {
        self.current.is_some_and(|token| {
            let request = self.requests.get(usize::from(token.slot()));
            let request = request.and_then(Option::as_ref);
            request.is_some_and(|request| {
                request.token == token && usize::from(self.next) < request.calls.len()
            })
        })
    }

    /// Counts a call that needs no operation.
    fn skip_call(&mut self) {
        self.next = self.next.wrapping_add(1);
    }
}

/// Asks the page cache, unless it is known not to answer. Returns whether it did all.
fn ask_cache(cached: &mut bool, attempt: impl FnOnce() -> io::Result<()>) -> bool {
    if !*cached {
        return false;
    }
    let result = attempt();
    let unsupported = |error: &io::Error| error.kind() == io::ErrorKind::Unsupported;
    *cached = !result.as_ref().is_err_and(unsupported);
    result.is_ok()
}

fn total(pieces: &[DeviceRange<'_>]) -> Result<u32, BlockError> {
    let len = pieces
        .iter()
        .map(DeviceRange::len)
        .try_fold(0, usize::checked_add);
    let len = len.and_then(|len| u32::try_from(len).ok());
    len.ok_or(BlockError::Io)
}

fn take(pool: &mut Pool, len: u32) -> io::Result<Buffer> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    pool.take(len)
}

impl BlockBackend for UringDisk {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn features(&self) -> BlockFeatures {
        self.disk.features()
    }

    fn begin(&mut self, request: Token) {
        self.current = Some(request);
        self.next = 0;
        // A token recurs after 2^32 requests, so an old request must not wait for that.
        if let Some(place) = self.requests.get_mut(usize::from(request.slot()))
            && place.as_ref().is_some_and(|old| old.token != request)
        {
            *place = None;
        }
    }

    /// Waits for every operation, however long the disk takes.
    fn settle(&mut self) {
        while self.ring.running() != 0 {
            if self.ring.wait().is_err() {
                // The kernel has no room or no memory now.
                thread::sleep(Duration::from_millis(1));
            }
            self.collect();
        }
    }

    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.read_vectored(offset, iter::once(*to))
    }

    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.write_vectored(offset, iter::once(*from))
    }

    fn read_vectored<'a>(
        &mut self,
        offset: u64,
        to: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError> {
        let to: Vec<_> = to.collect();
        let len = total(&to)?;
        let pieces = || to.iter().copied();
        if !self.is_repeated() {
            let Self {
                disk, reads_cached, ..
            } = self;
            let attempt = || memory::read_at(disk.file(), offset, pieces(), Wait::Refused);
            if len > LONGEST {
                self.skip_call();
                return self.disk.read_vectored(offset, pieces());
            }
            if ask_cache(reads_cached, attempt) {
                self.skip_call();
                return Ok(());
            }
        }
        self.run(
            Operation::Read { offset, len },
            |pool| take(pool, len).map(Some),
            |buffer| buffer.copy_to(pieces()),
            |disk, result| match result {
                Err(error) => disk.record(DiskOperation::Read, offset, len.into(), Err(error)),
                Ok(_) => disk.read_vectored(offset, pieces()),
            },
        )
    }

    fn write_vectored<'a>(
        &mut self,
        offset: u64,
        from: impl Iterator<Item = DeviceRange<'a>>,
    ) -> Result<(), BlockError> {
        self.disk.check_writable()?;
        let from: Vec<_> = from.collect();
        let len = total(&from)?;
        let pieces = || from.iter().copied();
        if !self.is_repeated() {
            let Self {
                disk,
                writes_cached,
                ..
            } = self;
            let attempt = || memory::write_at(disk.file(), offset, pieces(), Wait::Refused);
            if len > LONGEST {
                self.skip_call();
                return self.disk.write_vectored(offset, pieces());
            }
            if ask_cache(writes_cached, attempt) {
                self.skip_call();
                return Ok(());
            }
        }
        self.run(
            Operation::Write { offset, len },
            |pool| {
                let mut buffer = take(pool, len)?;
                buffer.copy_from(pieces());
                Ok(Some(buffer))
            },
            |_| {},
            |disk, result| match result {
                Err(error) => disk.record(DiskOperation::Write, offset, len.into(), Err(error)),
                Ok(_) => disk.write_vectored(offset, pieces()),
            },
        )
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.run(
            Operation::Flush,
            |_| Ok(None),
            |_| {},
            |disk, result| disk.record(DiskOperation::Flush, 0, 0, result.map(drop)),
        )
    }

    /// Punches a hole. A discard is a hint: if the file system cannot punch holes, nothing is done.
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.disk.check_writable()?;
        if len == 0 {
            self.skip_call();
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let operation = Operation::Allocate { offset, len, mode };
        self.run(operation, |_| Ok(None), |_| {}, |_, _| Ok(()))
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        self.disk.check_writable()?;
        if len == 0 {
            self.skip_call();
            return Ok(());
        }
        let way = if unmap {
            libc::FALLOC_FL_PUNCH_HOLE
        } else {
            libc::FALLOC_FL_ZERO_RANGE
        };
        let mode = way | libc::FALLOC_FL_KEEP_SIZE;
        let operation = Operation::Allocate { offset, len, mode };
        self.run(
            operation,
            |_| Ok(None),
            |_| {},
            |disk, _| disk.write_zeroes(offset, len, unmap),
        )
    }
}

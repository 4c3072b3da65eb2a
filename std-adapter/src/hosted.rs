//! A device with a thread of its own, which any vCPU thread may access.

mod options;
mod pace;
#[cfg(test)]
mod tests;
#[cfg(feature = "vm-device")]
mod vm_device;
mod worker;

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use virtside::{Refusal, mmio::Access};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::serve::Served;
pub use options::HostedOptions;
use options::OnRefused;
use worker::{Inner, Watched};

/// A device behind a lock, and a worker thread that serves its queues.
///
/// vCPU threads call [`access`](Self::access), [`read`](Self::read) or [`write`](Self::write). The
/// worker sleeps until the device has work. Clones are handles to one device. When the last handle
/// is dropped, the worker ends and the device is dropped.
///
/// * An access takes the lock for a short time. While the worker serves chains, an access waits for
///   the rest of at most [`BUDGET`](crate::BUDGET) chains, so a back end that blocks delays vCPUs.
/// * While an access is [`Reply::Pending`](virtside::mmio::Reply::Pending), its vCPU thread sleeps
///   without the lock, and the worker serves queues. Accesses of other vCPUs wait until it is
///   complete. A signal does not end the wait.
/// * The worker is woken after an access that may have given it work
///   ([`Served::may_have_work_after`]), by a [`kick`](Self::kick), by a descriptor of
///   [`wake_by`](Self::wake_by), and after [`with`](Self::with).
/// * If the worker panics, or a call panics while it has the lock, every access returns
///   [`AccessError::Gone`] from then on.
///
/// ```
/// use std::sync::Arc;
/// use virtside::{ChainSlot, Engine, Shared, models::Entropy};
/// use virtside_std::{HostedDevice, OsEntropy, VmMem};
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// # let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 65536)])?;
///
/// let engine: Engine<_, _, _, 1, 16, _, _> =
///     Engine::new(Entropy::new(OsEntropy), VmMem::new(&guest), (), [ChainSlot::new()], Arc::new(Shared::new()));
/// let device = HostedDevice::new(engine)?;
///
/// // In any vCPU thread, for an MMIO exit at the device's address plus 8:
/// let mut id = [0; 4];
/// device.read(8, &mut id);
/// assert_eq!(u32::from_le_bytes(id), 4);
///
/// let engine = device.stop()?;
/// assert_eq!(engine.counters().chains, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HostedDevice<T: Served + Send + 'static> {
    handle: Arc<Handle<T>>,
}

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// The device refused the access. On the bus, a load reads as 0.
    Refused(Refusal),
    /// The device had an outstanding access before it was hosted.
    Busy,
    /// The device was stopped, or its worker has failed.
    Gone,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Busy => f.write_str("an earlier access is not complete"),
            Self::Gone => f.write_str("the device is gone"),
        }
    }
}

impl std::error::Error for AccessError {}

/// What the clones of a [`HostedDevice`] share.
struct Handle<T: Served + Send + 'static> {
    inner: Arc<Inner<T>>,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
    kicks: Mutex<BTreeMap<u16, Arc<EventFd>>>,
    on_refused: Option<OnRefused>,
}

impl<T: Served + Send + 'static> Handle<T> {
    /// Ends the worker. Returns `None` if another call does so or has done so.
    fn end(&self) -> Option<thread::Result<io::Result<()>>> {
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take()?;
        self.inner.stop();
        // The worker drops the last handle if only a closure of its own has one.
        (thread.thread().id() != thread::current().id()).then(|| thread.join())
    }
}

impl<T: Served + Send + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Served + Send + 'static> Clone for HostedDevice<T> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<T: Served + Send + 'static> fmt::Debug for HostedDevice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedDevice").finish_non_exhaustive()
    }
}

impl<T: Served + Send + 'static> HostedDevice<T> {
    /// Starts a worker thread that serves `device`, with default options.
    ///
    /// # Errors
    /// The system has no more threads or descriptors. The device is dropped.
    pub fn new(device: T) -> io::Result<Self> {
        HostedOptions::new().start(device)
    }

    fn start(
        device: T,
        name: String,
        spin: Duration,
        on_refused: Option<OnRefused>,
    ) -> io::Result<Self> {
        let inner = Arc::new(Inner::new(device, spin)?);
        let worker = Arc::clone(&inner);
        let thread = thread::Builder::new().name(name);
        let thread = thread.spawn(move || worker.work())?;
        Ok(Self {
            handle: Arc::new(Handle {
                inner,
                thread: Mutex::new(Some(thread)),
                kicks: Mutex::default(),
                on_refused,
            }),
        })
    }

    /// Makes a register access, and returns the value of a load, or 0 for a store. Waits while the
    /// access is pending.
    ///
    /// # Errors
    /// [`AccessError`]. On the bus, a load then reads as 0 and a store has no effect.
    pub fn access(&self, access: Access) -> Result<u64, AccessError> {
        let result = self.handle.inner.access(access);
        if let Err(AccessError::Refused(refusal)) = result
            && let Some(on_refused) = &self.handle.on_refused
        {
            on_refused(access, refusal);
        }
        result
    }

    /// Loads `data.len()` bytes from `offset` of the register block, lowest byte first. If the
    /// access is not carried out, the bytes are 0.
    pub fn read(&self, offset: u32, data: &mut [u8]) {
        let width = width(data);
        let value = self.access(Access::Read { offset, width }).unwrap_or(0);
        let value = value.to_le_bytes().into_iter().chain(std::iter::repeat(0));
        for (byte, value) in data.iter_mut().zip(value) {
            *byte = value;
        }
    }

    /// Stores `data` at `offset` of the register block, lowest byte first. If the access is not
    /// carried out, nothing changes.
    pub fn write(&self, offset: u32, data: &[u8]) {
        let mut bytes = [0; 8];
        for (byte, value) in bytes.iter_mut().zip(data) {
            *byte = *value;
        }
        let _ = self.access(Access::Write {
            offset,
            width: width(data),
            value: u64::from_le_bytes(bytes),
        });
    }

    /// Returns an eventfd that kicks a queue, for an ioeventfd on QueueNotify. Every call for one
    /// queue returns the same eventfd.
    ///
    /// The worker does not read the eventfd, so its counter is not the number of kicks that are not
    /// served. A kick of a queue that is not ready has no effect. Do not offer NOTIFICATION_DATA: a
    /// kick then has a value that a datamatch does not know. A hosted [`Bus`](crate::Bus) has no
    /// queues of its own, so host each device by itself to use this method.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn kick(&self, queue: u16) -> io::Result<Arc<EventFd>> {
        let kicks = self.handle.kicks.lock();
        let mut kicks = kicks.unwrap_or_else(PoisonError::into_inner);
        if let Some(kick) = kicks.get(&queue) {
            return Ok(Arc::clone(kick));
        }
        let kick = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        self.handle.inner.watch_kick(&kick, queue)?;
        kicks.insert(queue, Arc::clone(&kick));
        Ok(kick)
    }

    /// Wakes the worker whenever `fd` becomes readable: all pending chains are then served again.
    ///
    /// The descriptor tells that a back end has an answer or data, like the eventfd of an io_uring,
    /// or a terminal. Only a change to readable counts, so the worker need not read the descriptor.
    /// The worker keeps it; an `Arc` of a descriptor can be passed, too.
    ///
    /// Without such a descriptor, the worker polls a device that is
    /// [`Step::Blocked`](virtside::Step::Blocked) every 1 to 16 ms. After this call, it does not:
    /// every answer that needs no kick must be announced by one of these descriptors, or by
    /// [`wake`](Self::wake).
    ///
    /// # Errors
    /// The system has no more descriptors, or `fd` cannot be watched, for instance because it is a
    /// regular file.
    pub fn wake_by(&self, fd: impl AsRawFd + Send + Sync + 'static) -> io::Result<()> {
        self.handle.inner.watch(Watched::BackEnd(Box::new(fd)))
    }

    /// Calls a closure in the worker, without the lock, whenever `fd` becomes readable. Each write to
    /// an eventfd counts. The closure must read any other descriptor until that would block.
    ///
    /// The closure must not make a register access of this device, because the worker would wait for
    /// itself. A closure that has a handle of this device keeps the worker from ending before
    /// [`stop`](Self::stop).
    ///
    /// # Errors
    /// As for [`wake_by`](Self::wake_by).
    pub fn call_on(
        &self,
        fd: impl AsRawFd + Send + Sync + 'static,
        call: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        let watched = Watched::Call(Box::new(fd), Mutex::new(Box::new(call)));
        self.handle.inner.watch(watched)
    }

    /// Makes the worker serve all pending chains again, and retry a pending access. Call it after
    /// an event that the device is not told of: a back end has an answer, or a
    /// [`ReadyResponder`](virtside::ReadyResponder) was used.
    pub fn wake(&self) {
        self.handle.inner.look_again();
    }

    /// Calls a closure with the device under the lock, for instance for `update_config` or
    /// `complete`. The worker polls afterwards.
    ///
    /// The closure must not use a handle of this device, and must not make a register access.
    ///
    /// # Errors
    /// [`AccessError::Gone`].
    pub fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> Result<R, AccessError> {
        self.handle.inner.with(call)
    }

    /// Returns how many accesses were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.handle.inner.refused()
    }

    /// Ends the worker and returns the device. Waits for the round of chains in work. Accesses through other handles, and an access that
    /// is pending, return [`AccessError::Gone`].
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if another handle has stopped the device. The error of the
    /// worker, if it failed. The device is then dropped.
    pub fn stop(self) -> io::Result<T> {
        if let Some(ended) = self.handle.end() {
            ended.map_err(|_| io::Error::other("the worker of the device panicked"))??;
        }
        self.handle.inner.take()
    }
}

fn width(data: &[u8]) -> u8 {
    u8::try_from(data.len()).unwrap_or(u8::MAX)
}

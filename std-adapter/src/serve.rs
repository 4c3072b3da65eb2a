//! The blocking loop: completes register accesses, and serves the queues between them.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use virtside::{
    ChainSlot, DeviceModel, DriverMem, DriverNotify, Engine, Step,
    error::DeviceError,
    mmio::{Access, Register, RegisterBlock, Reply},
    shared::SharedHandle,
    trace::Trace,
};

use crate::access::{AccessSource, Next};

/// Number of chains that the loop serves before it checks the source for an access again. The limit
/// keeps an endless queue from delaying a vCPU.
pub const BUDGET: u16 = 64;

/// Reason why [`serve`] or [`MmioDevice::run`](crate::MmioDevice::run) returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The driver reset a device that was set up by messages. The driver can set up the device
    /// again ([`MmioDevice::into_messages`](crate::MmioDevice::into_messages)).
    Reset,
    /// The stream of accesses has ended: [`Event::End`](crate::Event::End).
    Stream,
    /// [`Observer::stops`] returned true. The stream has not ended.
    Left,
}

/// A register block with queues, which [`serve`] or a [`HostedDevice`](crate::HostedDevice) can
/// run. [`Engine`] and [`Bus`](crate::Bus) implement it.
///
/// # Without a thread for each device
///
/// A VMM whose devices share one event loop, such as that of the crate `event-manager`, does not
/// host them. It keeps each [`Engine`](virtside::Engine) behind a lock, and watches an eventfd for
/// each queue and the descriptors of the back ends:
///
/// * For an event of a queue's eventfd, it calls `notify_queue`. For an event of a back end, it
///   calls `backend_ready`.
/// * Then, and after each register access, it calls `poll` until the result is not
///   [`Step::More`](virtside::Step::More). While the result is `Blocked`, and no descriptor
///   announces the back end's answers, it repeats `backend_ready` and `poll` after some time.
/// * While an access is pending, it repeats `poll` and `finish`, and takes no other access.
pub trait Served: RegisterBlock {
    /// Serves up to `budget` chains; see [`Engine::poll`].
    fn poll(&mut self, budget: u16) -> Step;

    /// Kicks a queue on behalf of the driver: the next [`poll`](Self::poll) looks into it. See
    /// [`Engine::notify_queue`].
    ///
    /// # Errors
    /// [`DeviceError::InvalidQueue`] if there is no such queue, or if it is not ready.
    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError>;

    /// Makes the next [`poll`](Self::poll) look into every queue, and serve every pending chain
    /// again. Call it when a back end has data or room. See [`Engine::backend_ready`].
    fn backend_ready(&mut self);

    /// Returns whether DEVICE_NEEDS_RESET is set.
    fn needs_reset(&self) -> bool;

    /// Returns the number of chains that were given back, modulo 2^32. A loop that polls without a
    /// kick learns from it whether polling is worthwhile. The default returns 0.
    fn chains(&self) -> u32 {
        0
    }

    /// Returns whether [`poll`](Self::poll) may have work after this access was done. A host then
    /// wakes the thread that polls. The default returns true for every store.
    fn may_have_work_after(&self, access: Access) -> bool {
        matches!(access, Access::Write { .. })
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Served for Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    fn poll(&mut self, budget: u16) -> Step {
        Engine::poll(self, budget)
    }

    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        Engine::notify_queue(self, queue)
    }

    fn backend_ready(&mut self) {
        for queue in (0..Q).filter_map(|queue| u16::try_from(queue).ok()) {
            Engine::backend_ready(self, queue);
        }
    }

    fn needs_reset(&self) -> bool {
        self.device().shared().needs_reset()
    }

    fn chains(&self) -> u32 {
        self.counters().chains
    }

    fn may_have_work_after(&self, access: Access) -> bool {
        let (offset, is_store) = match access {
            Access::Read { offset, .. } => (offset, false),
            Access::Write { offset, .. } => (offset, true),
        };
        match Register::at(offset) {
            Some(Register::QueueNotify | Register::Status) => is_store,
            // A load may end a queue reset, which frees slots for other queues.
            Some(Register::QueueReady | Register::QueueReset) => true,
            Some(_) => false,
            // A model may act on a store to its configuration space.
            None => is_store,
        }
    }
}

/// Callbacks of [`serve`] while it runs `E`. The observer `()` does nothing.
pub trait Observer<E: ?Sized> {
    /// Called after each access, before the driver receives the reply.
    fn accessed(&mut self, served: &E, access: Access, reply: Reply) {
        let _ = (served, access, reply);
    }

    /// Called before each [`Served::poll`], and therefore also after another thread has woken the
    /// source. Call `complete`, `backend_ready` and `memory_changed` of the engine here.
    fn before_poll(&mut self, served: &mut E) {
        let _ = served;
    }

    /// Returns whether to leave the loop before the stream ends, for instance to save the device.
    ///
    /// The loop asks between two accesses, and whenever the source is woken. After a result of
    /// true, the loop takes no access from the source. A thread that makes the result true must
    /// also wake the source, because the loop may be sleeping there.
    fn stops(&mut self) -> bool {
        false
    }
}

impl<E: ?Sized> Observer<E> for () {}

impl<E: ?Sized, O: Observer<E> + ?Sized> Observer<E> for &mut O {
    fn accessed(&mut self, served: &E, access: Access, reply: Reply) {
        (**self).accessed(served, access, reply);
    }
    fn before_poll(&mut self, served: &mut E) {
        (**self).before_poll(served);
    }
    fn stops(&mut self) -> bool {
        (**self).stops()
    }
}

/// An observer that leaves the loop once the flag is set. Wake the source after setting the flag.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a>(pub &'a AtomicBool);

impl<E: ?Sized> Observer<E> for Until<'_> {
    fn stops(&mut self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An observer that calls a closure with each access and its reply.
#[derive(Clone, Copy, Debug)]
pub struct OnAccess<F>(pub F);

impl<E: ?Sized, F: FnMut(Access, Reply)> Observer<E> for OnAccess<F> {
    fn accessed(&mut self, _: &E, access: Access, reply: Reply) {
        (self.0)(access, reply);
    }
}

/// Serves register accesses and queues until the stream of accesses ends.
///
/// * Accesses are completed in order.
/// * While an access is [`Reply::Pending`], queues are served, but no later access is taken and the
///   loop does not end. The access is completed as soon as the device can finish it.
/// * After each access, and whenever the source is woken, up to [`BUDGET`] chains are served. While
///   more chains are waiting, the loop only checks the source for an access and does not sleep.
///
/// After the loop has returned [`Ended::Stream`] or [`Ended::Left`], `served` can be used with
/// another source, or can be saved:
///
/// ```
/// # use std::{sync::{Arc, atomic::{AtomicBool, Ordering}}, thread};
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// use virtside::{
///     ChainSlot, Engine, Shared, models::{blk::BlockSnapshot, Block, BlockOptions},
///     snapshot::EngineSnapshot,
/// };
/// use virtside_std::{channel::channel, serve, CondvarNotify, Ended, FileDisk, Until, VmMem};
///
/// type Disk = Engine<Block<FileDisk>, VmMem, CondvarNotify, 1, 64, [ChainSlot<64>; 4], Arc<Shared<1>>>;
/// type State = EngineSnapshot<BlockSnapshot, 1, 64, 4>;
///
/// /// Creates a device in reset.
/// fn disk(file: FileDisk, memory: VmMem) -> Disk {
///     let model = Block::new(file, BlockOptions::new(64));
///     Engine::new(model, memory, CondvarNotify::new(), [const { ChainSlot::new() }; 4], Arc::default())
/// }
/// # let folder = vmm_sys_util::tempdir::TempDir::new()?;
/// # let (image, file) = (folder.as_path().join("disk"), folder.as_path().join("state"));
/// # std::fs::write(&image, [0; 4096])?;
/// # let mapped = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 65536)])?;
/// # let memory = || VmMem::new(&mapped);
/// # let (port, mut source) = channel();
/// # let waker = source.waker();
/// # static STOP: AtomicBool = AtomicBool::new(false);
///
/// // One process serves until another thread sets STOP and wakes the source.
/// # let driver = thread::spawn(move || {
/// #     port.write(0x70, 4, 3).unwrap();
/// #     STOP.store(true, Ordering::Release);
/// #     waker.wake();
/// #     // The second device answers this access.
/// #     port.read(0x70, 4).unwrap()
/// # });
/// let mut device = disk(FileDisk::open(&image)?, memory());
/// assert_eq!(serve(&mut device, &mut source, &mut Until(&STOP))?, Ended::Left);
/// let state: State = device.save()?;
/// std::fs::write(&file, postcard::to_stdvec(&state)?)?;
///
/// // Another process restores the state, over the same memory.
/// # STOP.store(false, Ordering::Release);
/// let state: State = postcard::from_bytes(&std::fs::read(&file)?)?;
/// let mut device = disk(FileDisk::open(&image)?, memory());
/// device.restore(&state)?;
/// serve(&mut device, &mut source, &mut ())?;
/// # assert_eq!(driver.join().unwrap(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The queues of a restored device are polled at once, even without a kick. With the feature
/// `serde` of `virtside`, a state can be written in any `serde` format; the example uses
/// `postcard`.
///
/// # Errors
/// The error of the source. [`io::ErrorKind::ResourceBusy`] if an access was outstanding when the
/// loop was entered.
pub fn serve<E, S, O>(served: &mut E, source: &mut S, observer: &mut O) -> io::Result<Ended>
where
    E: Served + ?Sized,
    S: AccessSource + ?Sized,
    O: Observer<E> + ?Sized,
{
    serve_until(served, source, observer, |_| false)
}

/// Runs [`serve`] until `is_over` returns true, which is asked before each access.
pub(crate) fn serve_until<E, S, O>(
    served: &mut E,
    source: &mut S,
    observer: &mut O,
    is_over: impl Fn(&E) -> bool,
) -> io::Result<Ended>
where
    E: Served + ?Sized,
    S: AccessSource + ?Sized,
    O: Observer<E> + ?Sized,
{
    let mut step = Step::More;
    loop {
        if is_over(served) {
            return Ok(Ended::Reset);
        }
        if observer.stops() {
            return Ok(Ended::Left);
        }
        let timeout = (step == Step::More).then_some(Duration::ZERO);
        match source.next(timeout)? {
            Next::End => return Ok(Ended::Stream),
            Next::Woken => {}
            Next::Access(access) => {
                let request = access.access();
                let mut reply = served.access(request);
                let mut pause = Pause::default();
                while let Reply::Pending(ticket) = reply {
                    pause.take();
                    observer.before_poll(served);
                    served.poll(BUDGET);
                    reply = served.finish(ticket);
                }
                if reply == Reply::Busy {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                observer.accessed(served, request, reply);
                access.complete(reply.bus_value().unwrap_or(0))?;
            }
        }
        observer.before_poll(served);
        step = served.poll(BUDGET);
    }
}

/// Back-off for polling a result that has no wake-up: yields first, then sleeps up to a
/// millisecond.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    taken: u32,
}

impl Pause {
    pub(crate) fn take(&mut self) {
        if self.taken < 10 {
            thread::yield_now();
        } else {
            let shift = self.taken.saturating_sub(10).min(7);
            thread::sleep(Duration::from_micros(8 << shift));
        }
        self.taken = self.taken.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;

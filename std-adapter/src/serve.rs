//! The blocking loop: accesses in, replies out, and the queues served in between.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use virtside::{
    ChainSlot, DeviceModel, DriverMem, DriverNotify, Engine, Step,
    mmio::{Access, RegisterBlock, Reply},
    shared::SharedHandle,
    trace::Trace,
};

use crate::access::{AccessSource, Next};

/// Chains served before the source is asked for an access again, so that no vCPU waits behind an
/// endless queue.
pub const BUDGET: u16 = 64;

/// Why [`serve`], or [`MmioDevice::run`](crate::MmioDevice::run), returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The driver reset a device that was set up by messages: the next conversation begins.
    Reset,
    /// There will be no more accesses.
    Stream,
    /// The observer left ([`Observer::stops`]): the source goes on.
    Left,
}

/// What [`serve`] runs: a register block with queues behind it. An [`Engine`] is one.
pub trait Served: RegisterBlock {
    /// See [`Engine::poll`].
    fn poll(&mut self, budget: u16) -> Step;
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
}

/// Looks on while [`serve`] runs `E`. `()` does not.
pub trait Observer<E: ?Sized> {
    /// An access got this reply, which the driver is about to see.
    fn accessed(&mut self, served: &E, access: Access, reply: Reply) {
        let _ = (served, access, reply);
    }

    /// Called before each round of the queues: the place for `complete`, `backend_ready` and
    /// `memory_changed`, after waking the source.
    fn before_poll(&mut self, served: &mut E) {
        let _ = served;
    }

    /// Whether to leave the loop although the source goes on, to save the device for instance. Asked
    /// between two accesses, the next of which stays in the source, and whenever the source is woken: do
    /// that after this has become true, as the loop may be asleep in the source.
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

/// Leaves the loop once this is set; then wake the source.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a>(pub &'a AtomicBool);

impl<E: ?Sized> Observer<E> for Until<'_> {
    fn stops(&mut self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A closure that sees each access and its reply.
#[derive(Clone, Copy, Debug)]
pub struct OnAccess<F>(pub F);

impl<E: ?Sized, F: FnMut(Access, Reply)> Observer<E> for OnAccess<F> {
    fn accessed(&mut self, _: &E, access: Access, reply: Reply) {
        (self.0)(access, reply);
    }
}

/// Serves register accesses and queues until the source ends.
///
/// Accesses are completed in their order. One that is [`Reply::Pending`] is completed as soon as it
/// can be; queues are served meanwhile, but no later access is decoded, and the loop is not left.
/// After each access, and whenever the source is woken, up to [`BUDGET`] chains are served; while
/// there are more, the source is only asked whether an access has come.
///
/// The end of the stream is a clean end, and so is an observer's ([`Observer::stops`]): what was served
/// can be used afterwards, e.g. with another source, or be saved:
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
/// /// A device in reset.
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
/// #     // Whenever that is: it is answered by the next one.
/// #     port.read(0x70, 4).unwrap()
/// # });
/// let mut device = disk(FileDisk::open(&image)?, memory());
/// assert_eq!(serve(&mut device, &mut source, &mut Until(&STOP))?, Ended::Left);
/// let state: State = device.save()?;
/// std::fs::write(&file, postcard::to_stdvec(&state)?)?;
///
/// // Another goes on where it was, over the same memory.
/// # STOP.store(false, Ordering::Release);
/// let state: State = postcard::from_bytes(&std::fs::read(&file)?)?;
/// let mut device = disk(FileDisk::open(&image)?, memory());
/// device.restore(&state)?;
/// serve(&mut device, &mut source, &mut ())?;
/// # assert_eq!(driver.join().unwrap(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A restored device is served from the start, kicked or not. (`postcard` is one format of many: with
/// `virtside`'s feature `serde` a state has any.)
///
/// # Errors
/// What the source says. [`io::ErrorKind::ResourceBusy`] if an access was outstanding already when
/// the loop was entered.
pub fn serve<E, S, O>(served: &mut E, source: &mut S, observer: &mut O) -> io::Result<Ended>
where
    E: Served + ?Sized,
    S: AccessSource + ?Sized,
    O: Observer<E> + ?Sized,
{
    serve_until(served, source, observer, |_| false)
}

/// [`serve`], until the device `is_over`: asked before each access.
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
                let asked = access.access();
                let mut reply = served.access(asked);
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
                observer.accessed(served, asked, reply);
                access.complete(reply.bus_value().unwrap_or(0))?;
            }
        }
        observer.before_poll(served);
        step = served.poll(BUDGET);
    }
}

/// Waits for something that tells nobody when it is done: briefly at first, up to a millisecond
/// later.
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

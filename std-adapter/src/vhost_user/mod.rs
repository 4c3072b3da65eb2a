//! A device behind a vhost-user socket.
//!
//! The front end, such as QEMU or User Mode Linux, has the driver and shares the driver's memory.
//! Its messages become the same calls as those of any other transport: a queue that it starts
//! passes every check of the set-up, and its driver is trusted no more than any other.
//!
//! | vhost-user | virtside |
//! |---|---|
//! | GET_FEATURES | [`DeviceConfig::offer`](virtside::DeviceConfig::offer), without RING_RESET, SUSPEND and NOTIFICATION_DATA, which vhost-user cannot carry |
//! | SET_FEATURES | [`negotiate`](virtside::DeviceConfig::negotiate); a device without queues goes live |
//! | SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG | [`memory_mut`](virtside::Device::memory_mut), [`memory_changed`](virtside::Device::memory_changed) |
//! | a queue with addresses, a kick and SET_VRING_ENABLE | [`enable_queue_at`](virtside::Device::enable_queue_at) the position of SET_VRING_BASE |
//! | SET_VRING_ENABLE 0 | [`quiesce`](virtside::Device::quiesce), later [`resume_queue`](virtside::Device::resume_queue) |
//! | GET_VRING_BASE | [`quiesce`](virtside::Device::quiesce), [`ring_position`](virtside::Device::ring_position), [`stop_queue`](virtside::Device::stop_queue) |
//! | SET_STATUS 0, RESET_DEVICE | the device is dropped; [`reset`](virtside::DeviceModel::reset) of the model |
//! | GET_STATUS | the status that was set; DEVICE_NEEDS_RESET from [`needs_reset`](virtside::Device::needs_reset) |
//! | SET_VRING_CALL | [`DriverNotify::used`](virtside::DriverNotify::used) of that queue |
//! | SET_LOG_BASE, SET_FEATURES with LOG_ALL | the pages that the device writes are marked in the log |
//! | SET_INFLIGHT_FD | queues give chains back [in order](virtside::message::RingPosition::in_order), and the positions of packed queues are recorded |
//! | GET_CONFIG, SET_CONFIG | [`read_config`](virtside::DeviceConfig::read_config), [`write_config`](virtside::DeviceConfig::write_config) |
//!
//! Limits:
//!
//! * A queue whose driver broke the protocol stops. The front end reads DEVICE_NEEDS_RESET by
//!   GET_STATUS, if it asks.
//! * A queue whose model keeps chains until an event, such as a gpio event queue, abandons these
//!   chains when it is stopped and started again. It does not give chains back in order, and neither
//!   it nor a packed queue with IN_ORDER is recorded for a reconnect.
//! * A queue that stops waits up to 5 s for its chains in hand, and then abandons them. Its back end
//!   may wait longer, if it cannot take its operations back
//!   ([`settle`](virtside::models::BlockBackend::settle)).
//! * [`DeviceModel::ready`] is called once, when the first queue starts.
//! * A front end that gives no kick descriptor, and wants its queue polled, is refused.
//! * A call descriptor that blocks, and is full, blocks the device.
//! * The front end may truncate a file that it shares. The process then gets SIGBUS at the next
//!   access to that memory, as every vhost-user back end does.

mod calls;
mod dirty;
mod inflight;
mod memory;
mod messages;
mod rings;
mod session;
mod spin;
mod watchdog;
mod wire;

use std::{
    fmt, io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use vhost::vhost_user::{BackendReqHandler, Error};
use virtside::{ChainSlot, DeviceModel, Features, features::Offer};
use vmm_sys_util::eventfd::EventFd;

use crate::Ended;
use session::{Session, Woken};
use watchdog::{LIMIT, Watchdog};

/// Features that no vhost-user message can carry.
const WITHOUT_MESSAGE: Features = Features::RING_RESET
    .union(Features::SUSPEND)
    .union(Features::NOTIFICATION_DATA);

/// A device for vhost-user front ends, with up to `Q` queues of up to `N` elements.
///
/// One thread serves the messages and all queues. The model's back end works inside
/// [`serve`](Self::serve), so a slow back end delays the messages, too. While a front end is
/// connected, the stack of this thread holds the queues: 135 kB with 16 queues of 1024 elements.
///
/// ```no_run
/// use std::os::unix::net::UnixListener;
/// use virtside::models::{Block, BlockOptions};
/// use virtside_std::{FileDisk, vhost_user::VhostUserDevice};
///
/// let model = Block::new(FileDisk::open("disk.img")?, BlockOptions::new(256));
/// let mut device: VhostUserDevice<_, 1, 256> = VhostUserDevice::new(model, 64);
/// let listener = UnixListener::bind("disk.sock")?;
/// loop {
///     let (front_end, _) = listener.accept()?;
///     match device.serve(front_end) {
///         Ok(ended) => println!("{ended:?}"),
///         Err(error) => eprintln!("{error}"),
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct VhostUserDevice<D, const Q: usize, const N: usize> {
    model: D,
    slots: Box<[ChainSlot<N>]>,
    offer: Offer,
    spin: Duration,
    stop: Option<EventFd>,
    wakes: Vec<Wake>,
}

/// A descriptor of a back end.
struct Wake(Box<dyn AsRawFd + Send>);

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wake").field(&self.0.as_raw_fd()).finish()
    }
}

/// Why the connection to a front end ended, other than that the front end has closed it.
#[derive(Debug)]
#[non_exhaustive]
pub enum VhostUserError {
    /// The operating system failed.
    Io(io::Error),
    /// The front end sent a message that is wrong, or that this device refuses.
    Message(Error),
}

impl fmt::Display for VhostUserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the vhost-user device cannot wait for its front end"),
            Self::Message(_) => f.write_str("a message of the vhost-user front end was refused"),
        }
    }
}

impl std::error::Error for VhostUserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Message(error) => Some(error),
        }
    }
}

impl From<io::Error> for VhostUserError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<D: DeviceModel, const Q: usize, const N: usize> VhostUserDevice<D, Q, N> {
    /// Creates a device. At most `slots` chains are in hand at once, and at least one.
    pub fn new(mut model: D, slots: usize) -> Self {
        let clamp = |count| u16::try_from(count).unwrap_or(u16::MAX);
        model.set_capacity(clamp(Q), clamp(N));
        Self {
            model,
            slots: vec![ChainSlot::new(); slots.max(1)].into(),
            offer: Offer::AS_IS.without(WITHOUT_MESSAGE),
            spin: Duration::ZERO,
            stop: None,
            wakes: Vec::new(),
        }
    }

    /// Returns the same device with a changed offer.
    #[must_use]
    pub fn with_offer(self, offer: Offer) -> Self {
        Self {
            offer: offer.without(WITHOUT_MESSAGE),
            ..self
        }
    }

    /// Returns the same device, which polls its queues for up to `spin` before it sleeps. A request
    /// within this time costs no wake-up, and the thread uses a whole core meanwhile.
    ///
    /// The time adapts: each time without a request halves it, and a request that comes within
    /// `spin` restores it. By default, and on a machine with one core, the device sleeps at once.
    #[must_use]
    pub fn with_spin(self, spin: Duration) -> Self {
        Self { spin, ..self }
    }

    /// Returns the same device, which stops serving once `stop` is readable. Keep a clone of `stop`,
    /// and write to it from another thread or from a signal handler.
    ///
    /// The event is not consumed, so every later [`serve`](Self::serve) ends at once, and one
    /// eventfd can stop several devices.
    #[must_use]
    pub fn with_stop(self, stop: EventFd) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }

    /// Returns the same device, which is woken whenever `wake` becomes readable. Use it for a back
    /// end that answers later: the completion eventfd of `io_uring`, or a terminal. The descriptor
    /// is only waited for, and each new event counts once; the back end reads it.
    ///
    /// Without any such descriptor, the device polls its model every 1 to 16 ms while chains are
    /// pending.
    #[must_use]
    pub fn with_wake(mut self, wake: impl AsRawFd + Send + 'static) -> Self {
        self.wakes.push(Wake(Box::new(wake)));
        self
    }

    /// Returns the model.
    pub const fn model(&self) -> &D {
        &self.model
    }

    /// Returns the model for changes. No front end is connected.
    pub const fn model_mut(&mut self) -> &mut D {
        &mut self.model
    }

    /// Returns the model, and drops the device.
    pub fn into_model(self) -> D {
        self.model
    }

    /// Serves one front end until it closes the connection ([`Ended::Stream`]), or until the device
    /// is told to stop ([`Ended::Left`], see [`with_stop`](Self::with_stop)).
    ///
    /// Before the return, each queue finishes the chains in hand, for up to 5 s. Afterwards the model
    /// is in reset, and the next front end can be served. A message that fails ends the connection,
    /// since most messages have no reply that could say so.
    ///
    /// # Errors
    /// [`VhostUserError`].
    pub fn serve(&mut self, front_end: UnixStream) -> Result<Ended, VhostUserError> {
        let watchdog = Watchdog::new(front_end.try_clone()?, LIMIT);
        let session = Session::new(self, &front_end)?;
        let session = Arc::new(Mutex::new(session));
        let ours = front_end.try_clone()?;
        let mut handler = BackendReqHandler::from_stream(front_end, Arc::clone(&session));
        let lock = || session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handle = || {
            if wire::handle(&ours, &mut lock())? {
                return Ok(());
            }
            handler.handle_request()
        };
        let result = loop {
            let woken = match lock().work() {
                Ok(woken) => woken,
                Err(error) => break Err(error.into()),
            };
            match woken {
                Woken::ByMessage => match watchdog.during(&mut handle) {
                    Ok(()) => {}
                    Err(Error::Disconnected) => break Ok(Ended::Stream),
                    Err(error) => break Err(VhostUserError::Message(error)),
                },
                Woken::ToStop => break Ok(Ended::Left),
                Woken::Otherwise => {}
            }
        };
        lock().leave();
        result
    }
}

//! An in-process source of register accesses: a channel between driver threads and a device thread.
//!
//! A VMM uses a channel when the device runs in its own thread: each MMIO exit of a vCPU becomes
//! one access. The driver's side blocks in [`DriverPort::read`] or [`DriverPort::write`] until the
//! device's side has completed the access. The channel carries one access at a time. Before a side
//! sleeps, it spins for some tens of microseconds.

use std::{
    fmt, hint, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use virtside::mmio::Access;

use crate::access::{AccessSource, Event};
#[cfg(feature = "guest")]
use crate::guest::UsedRing;

/// Iterations of spinning before a side sleeps: some tens of microseconds, about the time that
/// waking a thread takes.
const SPINS: u32 = 2000;

/// The device is gone: its [`ChannelSource`] was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device is gone")
    }
}

impl std::error::Error for Closed {}

/// Creates a channel. Returns the driver's side and the device's side.
///
/// ```
/// use std::thread;
/// use virtside::mmio::Access;
/// use virtside_std::{AccessSource, channel::{self, Closed}, Next};
///
/// let (port, mut source) = channel::channel();
/// let device = thread::spawn(move || {
///     while let Next::Access(access) = source.next(None)? {
///         let value = if access.access() == Access::read(4) { 2 } else { 0 };
///         access.complete(value)?;
///     }
///     std::io::Result::Ok(())
/// });
/// assert_eq!(port.read(4, 4)?, 2);
/// drop(port);
/// assert!(device.join().unwrap().is_ok());
/// # Ok::<(), Closed>(())
/// ```
#[must_use]
pub fn channel() -> (DriverPort, ChannelSource) {
    let link = Arc::new(Link {
        access_lock: Mutex::new(()),
        state: Mutex::new(LinkState {
            request: None,
            reply: None,
            woken: false,
            closed: false,
            drivers: 1,
            device_sleeps: false,
            driver_sleeps: false,
            #[cfg(feature = "guest")]
            rings: Vec::new(),
        }),
        to_device: Condvar::new(),
        to_driver: Condvar::new(),
        called: AtomicBool::new(false),
        answered: AtomicBool::new(false),
        spins: match thread::available_parallelism() {
            Ok(cores) if cores.get() > 1 => SPINS,
            _ => 0,
        },
    });
    let port = DriverPort {
        link: Arc::clone(&link),
        base: 0,
    };
    let source = ChannelSource {
        link,
        outstanding: false,
    };
    (port, source)
}

#[derive(Debug)]
struct Link {
    /// Held by a driver for the duration of one access.
    access_lock: Mutex<()>,
    state: Mutex<LinkState>,
    to_device: Condvar,
    to_driver: Condvar,
    /// Hint for the device: `state` has a request or a wake, or there are no more ports. Written
    /// with `state` locked.
    called: AtomicBool,
    /// Hint for the driver: there is a reply, or the source was dropped.
    answered: AtomicBool,
    spins: u32,
}

#[derive(Debug)]
struct LinkState {
    request: Option<Access>,
    reply: Option<u64>,
    woken: bool,
    /// The source was dropped.
    closed: bool,
    /// Number of ports.
    drivers: usize,
    device_sleeps: bool,
    driver_sleeps: bool,
    /// Used rings on which drivers wait without a register access.
    #[cfg(feature = "guest")]
    rings: Vec<UsedRing>,
}

impl LinkState {
    /// If the device is gone, ends the requests that wait on a used ring.
    fn end_requests(&mut self) {
        #[cfg(feature = "guest")]
        if self.closed {
            for ring in self.rings.drain(..) {
                ring.end();
            }
        }
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spin_until(&self, hint: &AtomicBool) {
        for _ in 0..self.spins {
            if hint.load(Ordering::Acquire) {
                return;
            }
            hint::spin_loop();
        }
    }

    fn call_device(&self, state: &LinkState) {
        self.called.store(true, Ordering::Release);
        // Notifying without a waiter costs a system call too.
        if state.device_sleeps {
            self.to_device.notify_one();
        }
    }

    fn answer_driver(&self, state: &LinkState) {
        self.answered.store(true, Ordering::Release);
        if state.driver_sleeps {
            self.to_driver.notify_one();
        }
    }
}

/// The driver's side of a channel. Give each vCPU its own clone.
///
/// When the last clone is dropped, the device's stream ends.
#[derive(Debug)]
pub struct DriverPort {
    link: Arc<Link>,
    /// Added to every offset.
    base: u32,
}

impl DriverPort {
    /// Returns another port of the same channel. Offset 0 of the new port is offset `base` of this
    /// port. Use the new port for the device at address `base` of a [`Bus`](crate::Bus).
    #[must_use]
    pub fn window(&self, base: u32) -> Self {
        let mut port = self.clone();
        port.base = port.base.wrapping_add(base);
        port
    }

    /// Returns the number of bytes that this port adds to every offset.
    #[cfg(feature = "guest")]
    pub(crate) const fn base(&self) -> u32 {
        self.base
    }

    /// Loads `width` bytes from `offset`. Blocks until the device has completed the load.
    ///
    /// # Errors
    /// [`Closed`]: the device is gone.
    pub fn read(&self, offset: u32, width: u8) -> Result<u64, Closed> {
        self.access(Access::Read { offset, width })
    }

    /// Stores `width` bytes at `offset`. Blocks until the device has completed the store.
    ///
    /// # Errors
    /// [`Closed`]: the device is gone.
    pub fn write(&self, offset: u32, width: u8, value: u64) -> Result<(), Closed> {
        let access = Access::Write {
            offset,
            width,
            value,
        };
        self.access(access).map(drop)
    }

    /// Returns whether the device is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.lock().closed
    }

    /// Changes the list of used rings whose requests end when the device goes away.
    ///
    /// If the device is gone already, the requests end during this call.
    #[cfg(feature = "guest")]
    pub(crate) fn with_rings(&self, change: impl FnOnce(&mut Vec<UsedRing>)) {
        let mut state = self.link.lock();
        change(&mut state.rings);
        state.end_requests();
    }

    /// Performs any access. Blocks until the device has completed it, and returns the value of a
    /// load.
    ///
    /// # Errors
    /// [`Closed`]: the device is gone.
    pub fn access(&self, mut access: Access) -> Result<u64, Closed> {
        let (Access::Read { offset, .. } | Access::Write { offset, .. }) = &mut access;
        *offset = offset.wrapping_add(self.base);
        let link = &*self.link;
        let _guard = link
            .access_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        {
            let mut state = link.lock();
            if state.closed {
                return Err(Closed);
            }
            state.request = Some(access);
            link.answered.store(false, Ordering::Relaxed);
            link.call_device(&state);
        }
        link.spin_until(&link.answered);
        let mut state = link.lock();
        loop {
            if let Some(value) = state.reply.take() {
                return Ok(value);
            }
            if state.closed {
                state.request = None;
                return Err(Closed);
            }
            state.driver_sleeps = true;
            let woken = link.to_driver.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            state.driver_sleeps = false;
        }
    }
}

impl Clone for DriverPort {
    fn clone(&self) -> Self {
        let link = Arc::clone(&self.link);
        let mut state = link.lock();
        state.drivers = state.drivers.saturating_add(1);
        drop(state);
        let base = self.base;
        Self { link, base }
    }
}

impl Drop for DriverPort {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.drivers = state.drivers.saturating_sub(1);
        if state.drivers == 0 {
            self.link.call_device(&state);
        }
    }
}

/// Wakes a [`ChannelSource`] from any thread, for instance after a back end has finished.
#[derive(Clone, Debug)]
pub struct Waker {
    link: Arc<Link>,
}

impl Waker {
    /// Ends the source's current or next wait with [`Event::Woken`]. Several wakes before that
    /// count as one.
    pub fn wake(&self) {
        let mut state = self.link.lock();
        state.woken = true;
        self.link.call_device(&state);
    }
}

/// The device's side of a channel.
///
/// When the source is dropped, the waiting driver and every later access get [`Closed`].
#[derive(Debug)]
pub struct ChannelSource {
    link: Arc<Link>,
    outstanding: bool,
}

impl ChannelSource {
    /// Returns a handle that wakes this source.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker {
            link: Arc::clone(&self.link),
        }
    }
}

impl AccessSource for ChannelSource {
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        let link = &*self.link;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            if !link.called.load(Ordering::Acquire) {
                return Ok(Event::Woken);
            }
        } else {
            link.spin_until(&link.called);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = link.lock();
        loop {
            let event = if let Some(access) = state.request.take() {
                self.outstanding = true;
                Some(Event::Access(access))
            } else if state.woken {
                state.woken = false;
                Some(Event::Woken)
            } else if state.drivers == 0 {
                Some(Event::End)
            } else {
                None
            };
            let more = state.request.is_some() || state.woken || state.drivers == 0;
            link.called.store(more, Ordering::Relaxed);
            if let Some(event) = event {
                return Ok(event);
            }
            state.device_sleeps = true;
            state = match deadline {
                None => link
                    .to_device
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.device_sleeps = false;
                        return Ok(Event::Woken);
                    }
                    let waited = link.to_device.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.device_sleeps = false;
        }
    }

    fn complete(&mut self, value: u64) -> io::Result<()> {
        if !self.outstanding {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.outstanding = false;
        let mut state = self.link.lock();
        state.reply = Some(value);
        self.link.answer_driver(&state);
        Ok(())
    }
}

impl Drop for ChannelSource {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.closed = true;
        state.end_requests();
        self.link.answer_driver(&state);
    }
}

#[cfg(test)]
mod tests;

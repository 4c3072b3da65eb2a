//! What the main thread waits for: signals, the ends of devices, and front ends.
//!
//! SIGINT, SIGTERM and SIGHUP end the service. The second one ends it at once.

use std::{
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    low_level::pipe,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::socket::Socket;

/// Wakes the main thread.
#[derive(Debug)]
pub(super) struct Waker(UnixStream);

impl Waker {
    pub(super) fn wake(&self) {
        // A full socket has woken it already.
        let _ = (&self.0).write(&[0]);
    }
}

/// Data of the events of the socket that wakes the main thread. The data of a listening socket is
/// the number of its device.
const WAKE: u64 = u64::MAX;

/// The signals, and a socket that becomes readable with each of them.
#[derive(Debug)]
pub(super) struct Signals {
    epoll: Epoll,
    wakes: UnixStream,
    waker: UnixStream,
    ends: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn new() -> io::Result<Self> {
        let (wakes, waker) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        let wanted = EpollEvent::new(EventSet::IN, WAKE);
        epoll.ctl(ControlOperation::Add, wakes.as_raw_fd(), wanted)?;
        let ends = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The order counts: only the second signal finds the flag set.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&ends))?;
            flag::register(signal, Arc::clone(&ends))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        // A write beyond the limit of file sizes is an error of that write.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self {
            epoll,
            wakes,
            waker,
            ends,
        })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(self.waker.try_clone()?))
    }

    /// Waits for front ends of this device, too.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn watch(&self, device: usize, socket: &Socket) -> io::Result<()> {
        let device = u64::try_from(device).unwrap_or(WAKE);
        // Each front end is one event, whether the device accepts it or not.
        let wanted = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, device);
        let listener = socket.listener().as_raw_fd();
        self.epoll.ctl(ControlOperation::Add, listener, wanted)
    }

    /// Waits until something happens, or until the time is over. Calls `connected` with the number
    /// of each device to which a front end has connected. Returns whether a signal wants the service
    /// to end.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut connected: impl FnMut(usize),
    ) -> io::Result<bool> {
        // A part of a millisecond is rounded up.
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(i32::MAX)
        });
        let mut events = [EpollEvent::default(); 16];
        let count = match self.epoll.wait(timeout, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
        };
        for event in events.iter().take(count) {
            match usize::try_from(event.data()) {
                Ok(device) if event.data() != WAKE => connected(device),
                _ => {
                    // Any number of wake-ups is one.
                    let _ = self.wakes.read(&mut [0; 64]);
                }
            }
        }
        Ok(self.ends.load(Ordering::Acquire))
    }
}

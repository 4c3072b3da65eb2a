//! A device in its thread: it serves front ends, one after the other.

use std::{
    error::Error,
    io,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtside_std::Ended;
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EventFd,
};

use super::{complaints::Complaints, hosted::Hosted, signals::Waker, socket::Socket};
use crate::failure::Result;

/// How long to wait after a front end that failed, so that one that fails again and again does not
/// fill the log.
const PAUSE: Duration = Duration::from_millis(100);

/// Data of the events.
const STOP: u64 = 0;
const FRONT_END: u64 = 1;

/// Bytes of stack. A device of 16 queues with 1024 elements has 135 kB, and is moved several times
/// when it is made.
const STACK: usize = 16 << 20;

/// The thread of a device.
pub(super) struct DeviceThread {
    name: String,
    listener: UnixListener,
    state: Arc<State>,
    thread: JoinHandle<bool>,
}

/// What the main thread sees of a device.
#[derive(Debug, Default)]
struct State {
    /// The device serves a front end.
    busy: AtomicBool,
    ended: AtomicBool,
}

/// Tells the main thread when the device thread ends, even by a panic.
struct AtEnd(Waker, Arc<State>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.1.ended.store(true, Ordering::Release);
        self.0.wake();
    }
}

/// What a device thread needs.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) socket: Socket,
    pub(super) hosted: Box<dyn Hosted>,
    /// Becomes readable when the device is to stop.
    pub(super) stop: EventFd,
}

impl DeviceThread {
    /// Starts a device. Its end wakes the main thread.
    ///
    /// # Errors
    /// There is no further thread.
    pub(super) fn start(mut service: Service, waker: Waker) -> Result<Self> {
        let name = service.name.clone();
        let listener = service.socket.listener().try_clone()?;
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        let thread = thread::Builder::new().name(name.clone()).stack_size(STACK);
        let thread = thread.spawn(move || {
            let _at_end = AtEnd(waker, Arc::clone(&theirs));
            service.run(&theirs.busy)
        })?;
        Ok(Self {
            name,
            listener,
            state,
            thread,
        })
    }

    /// Called when a front end has connected: says so if it has to wait.
    pub(super) fn connected(&self) {
        let mut accepts = [PollFd::new(&self.listener, PollFlags::IN)];
        let waits = poll(&mut accepts, Some(&Timespec::default())).is_ok_and(|count| count != 0);
        if waits && self.state.busy.load(Ordering::Acquire) {
            log::warn!(target: &self.name, "another front end waits until this one leaves");
        }
    }

    /// Returns whether the device has ended, or is about to.
    pub(super) fn has_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
    }

    /// Waits for the end of the device. Returns whether it ended well.
    pub(super) fn join(self) -> bool {
        self.thread.join().unwrap_or_else(|_| {
            log::error!(target: &self.name, "the device panicked");
            false
        })
    }
}

impl Service {
    /// Serves front ends until the device is to stop. Returns whether it ended well.
    fn run(&mut self, busy: &AtomicBool) -> bool {
        let served = self.serve_all(busy);
        if let Err(error) = &served {
            log::error!(target: &self.name, "cannot wait for a front end: {error}");
        }
        let finished = self.hosted.finish();
        if let Err(why) = &finished {
            log::error!(target: &self.name, "{why}");
        }
        let ended_well = served.is_ok() && finished.is_ok();
        if ended_well {
            log::info!(target: &self.name, "stopped");
        }
        ended_well
    }

    fn serve_all(&mut self, busy: &AtomicBool) -> io::Result<()> {
        let mut complaints = Complaints::new(&self.name);
        let epoll = Epoll::new()?;
        let sources = [
            (self.stop.as_raw_fd(), STOP),
            (self.socket.listener().as_raw_fd(), FRONT_END),
        ];
        for (descriptor, data) in sources {
            let wanted = EpollEvent::new(EventSet::IN, data);
            epoll.ctl(ControlOperation::Add, descriptor, wanted)?;
        }
        log::info!(target: &self.name, "listening on {}", self.socket);
        loop {
            let mut events = [EpollEvent::default(); 2];
            let count = match epoll.wait(-1, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if events.iter().take(count).any(|event| event.data() == STOP) {
                return Ok(());
            }
            match self.socket.accept() {
                Ok(None) => {}
                Ok(Some(front_end)) => {
                    complaints.tell_unsaid();
                    busy.store(true, Ordering::Release);
                    let served = self.serve(front_end);
                    busy.store(false, Ordering::Release);
                    if !served {
                        thread::sleep(PAUSE);
                    }
                }
                Err(error) => {
                    complaints.report(format_args!("cannot accept a front end: {error}"));
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Serves one front end. Returns false if it failed.
    fn serve(&mut self, front_end: UnixStream) -> bool {
        log::info!(target: &self.name, "a front end has connected");
        match self.hosted.serve(front_end) {
            Ok(Ended::Stream) => log::info!(target: &self.name, "the front end has left"),
            Ok(_) => {}
            Err(error) => {
                log::warn!(target: &self.name, "{}", sentence(&error));
                return false;
            }
        }
        true
    }
}

/// Returns an error with its sources.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

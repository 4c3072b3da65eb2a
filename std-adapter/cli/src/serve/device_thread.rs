//! A device in its thread: it serves front ends, one after the other.

use std::{
    error::Error,
    io,
    net::Shutdown,
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

use super::{hosted::Hosted, signals::Waker, socket::Socket};
use crate::failure::Result;

/// How long to wait after a front end could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes of stack. A device of 16 queues with 1024 elements has 135 kB, and is moved several times
/// when it is made.
const STACK: usize = 16 << 20;

/// The thread of a device.
pub(super) struct DeviceThread {
    stop: EventFd,
    current: Arc<Current>,
    thread: JoinHandle<bool>,
}

/// The connection to the front end.
#[derive(Default)]
struct Current(Mutex<(bool, Option<UnixStream>)>);

impl Current {
    fn lock(&self) -> MutexGuard<'_, (bool, Option<UnixStream>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the connection. Returns false if the device is to stop.
    fn set(&self, front_end: Option<UnixStream>) -> bool {
        let mut current = self.lock();
        current.1 = front_end;
        !current.0
    }

    fn stop(&self) {
        let mut current = self.lock();
        current.0 = true;
        if let Some(front_end) = &current.1 {
            let _ = front_end.shutdown(Shutdown::Both);
        }
    }
}

/// Wakes the main thread when the device thread ends, even by a panic.
struct AtEnd(Waker);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.wake();
    }
}

struct Service {
    name: String,
    socket: Socket,
    hosted: Box<dyn Hosted>,
    stop: EventFd,
    current: Arc<Current>,
}

impl DeviceThread {
    pub(super) fn start(
        name: String,
        socket: Socket,
        hosted: Box<dyn Hosted>,
        waker: Waker,
    ) -> Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let current = Arc::new(Current::default());
        let mut service = Service {
            name: name.clone(),
            socket,
            hosted,
            stop: stop.try_clone()?,
            current: Arc::clone(&current),
        };
        let thread = thread::Builder::new().name(name).stack_size(STACK);
        let thread = thread.spawn(move || {
            let _at_end = AtEnd(waker);
            service.run()
        })?;
        Ok(Self {
            stop,
            current,
            thread,
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks the device to end.
    pub(super) fn stop(&self) {
        let _ = self.stop.write(1);
        self.current.stop();
    }

    /// Waits for the end of the device. Returns whether it ended well.
    pub(super) fn join(self) -> bool {
        self.thread.join().unwrap_or(false)
    }
}

impl Service {
    /// Serves front ends until the device is to stop. Returns whether it ended well.
    fn run(&mut self) -> bool {
        let name = self.name.as_str();
        log::info!(target: name, "listening on {}", self.socket);
        let served = self.serve_all();
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

    fn serve_all(&mut self) -> io::Result<()> {
        let epoll = Epoll::new()?;
        for descriptor in [self.stop.as_raw_fd(), self.socket.listener().as_raw_fd()] {
            let wanted = EpollEvent::new(EventSet::IN, 0);
            epoll.ctl(ControlOperation::Add, descriptor, wanted)?;
        }
        loop {
            match epoll.wait(-1, &mut [EpollEvent::default()]) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if self.current.lock().0 {
                return Ok(());
            }
            match self.socket.accept() {
                Ok(None) => {}
                Ok(Some(front_end)) => self.serve(front_end)?,
                Err(error) => {
                    log::error!(target: &self.name, "cannot accept a front end: {error}");
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    fn serve(&mut self, front_end: UnixStream) -> io::Result<()> {
        log::info!(target: &self.name, "a front end has connected");
        let served = if self.current.set(Some(front_end.try_clone()?)) {
            self.hosted.serve(front_end)
        } else {
            Ok(())
        };
        self.current.set(None);
        match served {
            Ok(()) => log::info!(target: &self.name, "the front end has left"),
            Err(error) => log::warn!(target: &self.name, "{}", sentence(&error)),
        }
        Ok(())
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

//! SIGINT, SIGTERM and SIGHUP end the service. The second one ends it at once.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
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

/// Wakes the main thread.
#[derive(Debug)]
pub(super) struct Waker(UnixStream);

impl Waker {
    pub(super) fn wake(&self) {
        // A full socket has woken it already.
        let _ = (&self.0).write(&[0]);
    }
}

/// The signals, and a socket that becomes readable with each of them.
#[derive(Debug)]
pub(super) struct Signals {
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
        let ends = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The order counts: only the second signal finds the flag set.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&ends))?;
            flag::register(signal, Arc::clone(&ends))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        // A write beyond the limit of file sizes is an error of that write.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { wakes, waker, ends })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(self.waker.try_clone()?))
    }

    /// Waits until something happens, or until the time is over. Returns whether a signal wants the
    /// service to end.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        // A timeout of zero would be none.
        let timeout = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
        self.wakes.set_read_timeout(timeout)?;
        if let Err(error) = self.wakes.read(&mut [0; 64]) {
            match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                _ => return Err(error),
            }
        }
        Ok(self.ends.load(Ordering::Acquire))
    }
}

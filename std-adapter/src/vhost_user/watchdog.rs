//! Ends a connection whose front end stops in the middle of a message.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a message may take: longer than a queue waits for its chains in hand.
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// A thread that closes the connection if one message takes too long. Without it, the device would
/// wait for the rest of the message, and serve no queue.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    ends: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Number of the message.
    message: u64,
    /// The message is in work.
    busy: bool,
}

impl Watchdog {
    pub(super) fn new(front_end: UnixStream, limit: Duration) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            ends: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let thread = thread::spawn(move || watched.watch(&front_end, limit));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Handles one message under supervision.
    pub(super) fn during<T>(&self, handle: impl FnOnce() -> T) -> T {
        self.shared.set(true);
        let result = handle();
        self.shared.set(false);
        result
    }
}

impl Shared {
    fn set(&self, busy: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.message = state.message.wrapping_add(1);
        state.busy = busy;
        drop(state);
        self.changed.notify_one();
    }

    fn watch(&self, front_end: &UnixStream, limit: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.ends.load(Ordering::Acquire) {
            if !state.busy {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let message = *state;
            let (next, wait) = self
                .changed
                .wait_timeout_while(state, limit, |state| *state == message)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if wait.timed_out() {
                // It may be closed already.
                let _ = front_end.shutdown(Shutdown::Both);
                state.busy = false;
            }
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.set(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Instant};

    use super::*;

    #[test]
    fn a_message_that_never_ends_ends_the_connection() {
        let (mut device_end, _front_end) = UnixStream::pair().unwrap();
        let watchdog = Watchdog::new(device_end.try_clone().unwrap(), Duration::from_millis(50));
        let read = watchdog.during(|| device_end.read(&mut [0; 8]).unwrap());
        assert_eq!(read, 0, "the connection is closed");
    }

    #[test]
    fn a_connection_without_messages_lives_on() {
        let (device_end, mut front_end) = UnixStream::pair().unwrap();
        let watchdog = Watchdog::new(device_end.try_clone().unwrap(), Duration::from_millis(20));
        for _ in 0..3 {
            watchdog.during(|| {});
            thread::sleep(Duration::from_millis(40));
        }
        std::io::Write::write_all(&mut front_end, &[7]).unwrap();
        assert_eq!((&device_end).read(&mut [0; 8]).unwrap(), 1);
        let begun = Instant::now();
        drop(watchdog);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

//! Sources of register accesses, and how an access is completed.

use std::{fmt, io, time::Duration};

use virtside::mmio::Access;

/// The result of waiting for a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver waits for this access to be completed.
    Access(Access),
    /// No access: the timeout has passed, or another thread woke the source because there is other
    /// work. Spurious wakes are allowed.
    Woken,
    /// There will be no more accesses.
    End,
}

/// A blocking source of register accesses: a channel, a vCPU's exits, a socket.
///
/// Implement [`wait`](Self::wait) and [`complete`](Self::complete). Callers use
/// [`next`](Self::next): its [`RegisterAccess`] can be completed only once, and borrows the source
/// until then. `examples/unix_socket.rs` implements a source over a socket.
///
/// A source may be dropped while an access is outstanding. The source should then tell the driver
/// that its device is gone, if the transport can carry this.
pub trait AccessSource {
    /// Waits for the next access. Must not be called while an access is outstanding.
    ///
    /// | `timeout` | an access is waiting | the source was woken | the stream has ended | none of these |
    /// |---|---|---|---|---|
    /// | `Some(Duration::ZERO)` | `Access` | `Woken` | `End` | `Woken`, at once |
    /// | `Some(time)` | `Access` | `Woken` | `End` | waits; `Woken` when `time` has passed |
    /// | `None` | `Access` | `Woken` | `End` | waits |
    ///
    /// * If several columns apply, the leftmost one counts: a waiting access is returned before a
    ///   wake, and the wake is kept for the next call.
    /// * A call with a zero timeout never sleeps. The loop uses it between two rounds of its
    ///   queues.
    /// * A source that runs the driver in this thread, such as a vCPU, honours only a zero timeout.
    ///   Otherwise it returns at the driver's next access. [`serve`](crate::serve) passes no timeout
    ///   but zero and `None`.
    /// * A wake that arrives between two calls ends the next call. Several such wakes count as one.
    /// * [`Event::Woken`] promises nothing: the caller checks for work, and waits again.
    /// * [`Event::End`] is final: every later call returns it again.
    ///
    /// # Errors
    /// The source failed; there will be no more accesses.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event>;

    /// Completes the outstanding access. A load returns `value` to the driver. Must not be called
    /// while no access is outstanding.
    ///
    /// # Errors
    /// The source failed; there will be no more accesses.
    fn complete(&mut self, value: u64) -> io::Result<()>;

    /// Waits as [`wait`](Self::wait) does; returns the access as a value that must be completed.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    fn next(&mut self, timeout: Option<Duration>) -> io::Result<Next<'_, Self>> {
        Ok(match self.wait(timeout)? {
            Event::Access(access) => Next::Access(RegisterAccess {
                access,
                source: self,
            }),
            Event::Woken => Next::Woken,
            Event::End => Next::End,
        })
    }
}

impl<S: AccessSource + ?Sized> AccessSource for &mut S {
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        (**self).wait(timeout)
    }
    fn complete(&mut self, value: u64) -> io::Result<()> {
        (**self).complete(value)
    }
}

/// An [`Event`] whose access can be completed.
#[derive(Debug)]
#[must_use = "the driver waits for its access to be completed"]
pub enum Next<'s, S: ?Sized> {
    /// The driver waits for this access to be completed.
    Access(RegisterAccess<'s, S>),
    /// No access yet; see [`Event::Woken`].
    Woken,
    /// There will be no more accesses.
    End,
}

/// A register access that the driver waits for.
///
/// The value borrows its source, so no other access can be taken before this one is completed. If
/// the value is dropped, the driver waits until the source is dropped as well.
#[must_use = "the driver waits for its access to be completed"]
pub struct RegisterAccess<'s, S: ?Sized> {
    access: Access,
    source: &'s mut S,
}

impl<S: AccessSource + ?Sized> RegisterAccess<'_, S> {
    /// Returns the access: a load or a store.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Completes the access, so that the driver continues. A load returns `value` to the driver.
    ///
    /// # Errors
    /// The source failed, and the driver may not have been told.
    pub fn complete(self, value: u64) -> io::Result<()> {
        self.source.complete(value)
    }
}

impl<S: ?Sized> fmt::Debug for RegisterAccess<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegisterAccess").field(&self.access).finish()
    }
}

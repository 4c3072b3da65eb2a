//! Register accesses as a stream: where they come from, and how they are answered.

use std::{fmt, io, time::Duration};

use virtside::mmio::Access;

/// What a source of register accesses has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver waits for this access to be completed.
    Access(Access),
    /// No access yet: the time is up, or somebody woke the source because there is other work. It
    /// may also come for no reason.
    Woken,
    /// There will be no more accesses.
    End,
}

/// A blocking source of register accesses: a channel, a vCPU's exits, a socket.
///
/// Implement [`wait`](Self::wait) and [`complete`](Self::complete); users call
/// [`next`](Self::next), whose [`RegisterAccess`] sees to it that every access is answered once, and
/// before the next one is taken. A source that is dropped while an access is outstanding has to
/// tell the driver that its device is gone, if it can.
pub trait AccessSource {
    /// Waits for the next access. Not called while an access is outstanding.
    ///
    /// | `timeout` | there is an access | the source was woken | the stream has ended | none of them |
    /// |---|---|---|---|---|
    /// | `Some(Duration::ZERO)` | `Access` | `Woken` | `End` | `Woken`, at once |
    /// | `Some(time)` | `Access` | `Woken` | `End` | waits; `Woken` when `time` has passed |
    /// | `None` | `Access` | `Woken` | `End` | waits |
    ///
    /// * Where several columns apply, the leftmost does. An access that is there is never held up by
    ///   a wake, and a wake is still there for the next call.
    /// * A zero timeout never sleeps. The loop uses it between two rounds of its queues.
    /// * A wake that comes while nobody waits ends the next wait. Wakes that come before it are one.
    /// * [`Event::Woken`] promises nothing: the caller looks what there is to do, and waits again.
    /// * [`Event::End`] is final: every later call gives it again.
    ///
    /// # Errors
    /// The source failed; there will be no more accesses.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event>;

    /// Completes the outstanding access; a load gives `value`.
    ///
    /// # Errors
    /// The source failed; there will be no more accesses.
    fn complete(&mut self, value: u64) -> io::Result<()>;

    /// [`wait`](Self::wait), with the access as a value that wants an answer.
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
/// It borrows its source, so no other access can be taken before this one is completed. Dropping it
/// leaves the driver waiting until the source is dropped as well.
#[must_use = "the driver waits for its access to be completed"]
pub struct RegisterAccess<'s, S: ?Sized> {
    access: Access,
    source: &'s mut S,
}

impl<S: AccessSource + ?Sized> RegisterAccess<'_, S> {
    /// What the driver does.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Lets the driver go on; a load gives `value`.
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

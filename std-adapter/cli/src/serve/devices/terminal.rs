//! The host's end of a console: a pseudo terminal, a socket, or standard input and output.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use virtside::models::{ConsoleError, ConsolePort};

use crate::{
    failure::Result,
    serve::{complaints::Complaints, socket::Socket},
};

/// The host's end of a console. Output goes nowhere while nobody is connected.
///
/// The state is in a cell, because a question for input may find that somebody has connected.
#[derive(Debug)]
pub(super) struct Terminal(RefCell<State>);

#[derive(Debug)]
struct State {
    end: End,
    /// Becomes readable when the host's end may be read or written again.
    events: OwnedFd,
    complaints: Complaints,
}

#[derive(Debug)]
enum End {
    /// The master of a pseudo terminal. A terminal program opens the other side.
    Pty(OwnedFd),
    /// A socket, and who has connected to it.
    Socket(Socket, Option<UnixStream>),
    Stdio {
        /// Standard input is not at its end.
        open: bool,
    },
}

impl Terminal {
    /// Creates a pseudo terminal, and writes its path to the log.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn pty(name: &str) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?;
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).to_owned();
        // The first close of the other side is what makes it count as closed.
        let mut options = OpenOptions::new();
        let other = options.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let other = other.open(&path)?;
        let mut settings = tcgetattr(&other)?;
        settings.make_raw();
        tcsetattr(&other, OptionalActions::Now, &settings)?;
        drop(other);
        rustix::io::ioctl_fionbio(&master, true)?;
        let terminal = Self::new(name, End::Pty(master))?;
        log::info!(target: name, "terminal at {}", path.display());
        Ok(terminal)
    }

    /// Listens at this path. One terminal program at a time is connected.
    ///
    /// # Errors
    /// The path cannot be used.
    pub(super) fn socket(name: &str, path: &Path) -> Result<Self> {
        let socket = Socket::bind(path)?;
        log::info!(target: name, "terminal at {socket}");
        Self::new(name, End::Socket(socket, None))
    }

    /// Uses standard input and output.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn stdio(name: &str) -> Result<Self> {
        Self::new(name, End::Stdio { open: true })
    }

    fn new(name: &str, end: End) -> Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let state = State {
            end,
            events,
            complaints: Complaints::new(name),
        };
        state.watch_end()?;
        Ok(Self(RefCell::new(state)))
    }

    /// Returns a descriptor that becomes readable when there is something to do.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn wake(&self) -> io::Result<OwnedFd> {
        self.0.borrow().events.try_clone()
    }
}

impl State {
    /// Waits for events from now on.
    fn watch_end(&self) -> rustix::io::Result<()> {
        match &self.end {
            End::Pty(master) => self.watch(master),
            End::Socket(socket, _) => self.watch(socket.listener()),
            End::Stdio { .. } => {
                for result in [self.watch(io::stdin()), self.watch(io::stdout())] {
                    match result {
                        // A regular file is always ready, and cannot be waited for.
                        Err(Errno::PERM) | Ok(()) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    fn watch(&self, descriptor: impl AsFd) -> rustix::io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.events,
            descriptor,
            epoll::EventData::new_u64(0),
            flags,
        )
    }

    /// Takes note of the events, and of who has connected.
    fn update(&mut self) {
        let mut events = Vec::with_capacity(8);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        // The events only wake the device. What is ready is asked for at each access.
        let _ = epoll::wait(&self.events, buffer, Some(&NOW));
        let End::Socket(socket, client) = &mut self.end else {
            return;
        };
        // Who has left may have left input behind.
        let has_left = |client: &UnixStream| {
            ready(client.as_fd()).contains(PollFlags::HUP)
                && matches!(rustix::io::ioctl_fionread(client), Ok(0) | Err(_))
        };
        if client.as_ref().is_some_and(has_left) {
            *client = None;
        }
        if client.is_some() {
            return;
        }
        let accepted = match socket.accept() {
            Ok(None) => return,
            Ok(Some(accepted)) => accepted,
            Err(error) => {
                self.complaints
                    .report(format_args!("cannot accept a terminal: {error}"));
                return;
            }
        };
        *client = Some(accepted);
        let watched = match &self.end {
            End::Socket(_, Some(client)) => client
                .set_nonblocking(true)
                .and_then(|()| Ok(self.watch(client)?)),
            _ => Ok(()),
        };
        if let Err(error) = watched {
            self.complaints
                .report(format_args!("cannot use a terminal: {error}"));
            if let End::Socket(_, client) = &mut self.end {
                *client = None;
            }
        }
    }

    /// Disconnects the terminal, and connects the next one.
    fn disconnect(&mut self) {
        if let End::Socket(_, client) = &mut self.end {
            *client = None;
        }
        self.update();
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Pty(master) => Some(master.as_fd()),
            End::Socket(_, client) => client.as_ref().map(AsFd::as_fd),
            End::Stdio { open } => open.then_some(rustix::stdio::stdin()),
        }
    }

    fn output(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Stdio { .. } => Some(rustix::stdio::stdout()),
            _ => self.input(),
        }
    }

    /// Handles an error of a read or write. Returns `Ok` if the other side is closed.
    fn closes(&mut self, error: Errno) -> std::result::Result<(), ConsoleError> {
        match (&self.end, error) {
            (_, Errno::AGAIN | Errno::INTR) => Err(ConsoleError::NotReady),
            (End::Pty(_), Errno::IO) => Ok(()),
            (End::Socket(..), _) => {
                self.disconnect();
                Ok(())
            }
            _ => {
                self.complaints.report(error);
                Err(ConsoleError::Failed)
            }
        }
    }
}

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Returns what the descriptor is ready for.
fn ready(descriptor: BorrowedFd<'_>) -> PollFlags {
    let mut wanted = [PollFd::from_borrowed_fd(
        descriptor,
        PollFlags::IN | PollFlags::OUT,
    )];
    match poll(&mut wanted, Some(&NOW)) {
        Ok(_) => {
            let [ready] = wanted;
            ready.revents()
        }
        Err(_) => PollFlags::empty(),
    }
}

impl State {
    fn has_input(&mut self) -> bool {
        self.update();
        // A closed connection is seen by a read.
        let wanted = match self.end {
            End::Pty(_) => PollFlags::IN,
            _ => PollFlags::IN | PollFlags::HUP,
        };
        self.input()
            .is_some_and(|input| ready(input).intersects(wanted))
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::result::Result<usize, ConsoleError> {
        let input = self.input().ok_or(ConsoleError::NotReady)?;
        if !ready(input).intersects(PollFlags::IN | PollFlags::HUP) {
            return Err(ConsoleError::NotReady);
        }
        match rustix::io::read(input, bytes) {
            Ok(0) => {
                self.disconnect();
                if let End::Stdio { open } = &mut self.end {
                    *open = false;
                }
                Err(ConsoleError::NotReady)
            }
            Ok(count) => Ok(count),
            Err(error) => Err(match self.closes(error) {
                Ok(()) => ConsoleError::NotReady,
                Err(error) => error,
            }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, ConsoleError> {
        let Some(output) = self.output() else {
            return Ok(bytes.len());
        };
        let ready = ready(output);
        if ready.contains(PollFlags::HUP) && !matches!(self.end, End::Stdio { .. }) {
            return Ok(bytes.len());
        }
        if !ready.intersects(PollFlags::OUT | PollFlags::ERR) {
            return Err(ConsoleError::NotReady);
        }
        match rustix::io::write(output, bytes) {
            Ok(count) => Ok(count),
            // The output goes nowhere.
            Err(error) => self.closes(error).map(|()| bytes.len()),
        }
    }
}

impl ConsolePort for Terminal {
    fn has_input(&self) -> bool {
        self.0
            .try_borrow_mut()
            .is_ok_and(|mut state| state.has_input())
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::result::Result<usize, ConsoleError> {
        self.0.get_mut().read(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, ConsoleError> {
        let state = self.0.get_mut();
        state.update();
        state.write(bytes)
    }
}

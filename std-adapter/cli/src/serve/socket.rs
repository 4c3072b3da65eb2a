//! Listening sockets, and the files that name them.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use listenfd::ListenFd;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};

use crate::failure::{Failure, Result};

/// How long to wait for another process that creates a socket in the same folder.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes in the path of a socket.
const LONGEST: usize = 107;

/// A listening socket that does not block. When it is dropped, its file is removed, if it has made
/// the file.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    /// `None` for a socket of the service manager.
    file: Option<SocketFile>,
}

/// Where the sockets of the devices come from.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Those of the service manager, in their order, until a device takes them.
    inherited: VecDeque<UnixListener>,
    passed: usize,
}

/// The file that names a socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode, which tell it from a later file of the same name.
    identity: (u64, u64),
}

impl Sockets {
    /// Takes over the sockets that the service manager has passed (`LISTEN_FDS`, `LISTEN_PID`).
    /// Called before any file is opened, so that their numbers are not those of other files.
    ///
    /// # Errors
    /// [`Failure::Usage`] if one is no listening Unix stream socket.
    pub(super) fn from_env() -> Result<Self> {
        let mut passed = ListenFd::from_env();
        let count = passed.len();
        let take = |number| {
            let refused = |why: &dyn fmt::Display| {
                Failure::Usage(format!("socket {number} of the service manager: {why}"))
            };
            let listener = passed.take_unix_listener(number);
            let listener = listener.map_err(|error| refused(&error))?;
            let listener = listener.ok_or_else(|| refused(&"it is missing"))?;
            match sockopt::socket_acceptconn(&listener) {
                Ok(true) => Ok(listener),
                Ok(false) => Err(refused(&"it does not listen")),
                Err(error) => Err(refused(&error)),
            }
        };
        let inherited: VecDeque<_> = (0..count).map(take).collect::<Result<_>>()?;
        Ok(Self {
            passed: inherited.len(),
            inherited,
        })
    }

    /// Creates a socket at this path, or returns the next socket of the service manager.
    ///
    /// # Errors
    /// [`Failure::Usage`]: see [`Socket::bind`], or there is no further socket.
    pub(super) fn take(&mut self, path: Option<&Path>) -> Result<Socket> {
        if let Some(path) = path {
            return Socket::bind(path);
        }
        let Some(listener) = self.inherited.pop_front() else {
            let why = "a device needs --vhost-user, or a socket of the service manager";
            return Err(Failure::Usage(why.into()));
        };
        listener.set_nonblocking(true)?;
        Ok(Socket {
            listener,
            file: None,
        })
    }

    /// Called when each device has its socket.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the service manager has passed more.
    pub(super) fn end(self) -> Result<()> {
        if self.inherited.is_empty() {
            return Ok(());
        }
        let (passed, left) = (self.passed, self.inherited.len());
        Err(Failure::Usage(format!(
            "the service manager has passed {passed} sockets, and no device needs {left} of them"
        )))
    }
}

impl Socket {
    /// Creates a socket at this path. Replaces the file of a socket that nobody listens to.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a live process listens there, if the file is no socket, or if the
    /// operating system refuses the path.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let refused = |why: &dyn fmt::Display| {
            let path = path.display();
            Failure::Usage(format!("socket {path}: {why}"))
        };
        let path = std::path::absolute(path).map_err(|error| refused(&error))?;
        let len = path.as_os_str().len();
        if len > LONGEST {
            let why = format!("the path has {len} bytes, and a socket has room for {LONGEST}");
            return Err(refused(&why));
        }
        let _turn = path.parent().and_then(folder_lock);
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(&path).map_err(|why| refused(&why))?;
                UnixListener::bind(&path)
            }
            bound => bound,
        };
        let listener = listener.map_err(|error| refused(&error))?;
        let metadata = fs::symlink_metadata(&path).map_err(|error| refused(&error))?;
        let identity = (metadata.dev(), metadata.ino());
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            file: Some(SocketFile { path, identity }),
        })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Returns the next front end that has connected, if there is one.
    ///
    /// # Errors
    /// The error of the operating system, such as too many open files.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => file.path.display().fmt(f),
            None => f.write_str("a socket of the service manager"),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let metadata = fs::symlink_metadata(&self.path);
        let is_ours = |now: fs::Metadata| (now.dev(), now.ino()) == self.identity;
        if metadata.is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!(target: "virtside", "socket {}: {error}", self.path.display());
        }
    }
}

/// Locks a folder, so that two processes do not both find the same stale socket. Goes on without
/// the lock if the folder cannot be locked.
fn folder_lock(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    let end = Instant::now().checked_add(PATIENCE)?;
    while folder.try_lock().is_err() && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    Some(folder)
}

/// Removes the file of a socket that nobody listens to.
fn remove_stale(path: &Path) -> std::result::Result<(), String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !metadata.file_type().is_socket() {
        return Err("a file of this name exists, and is not a socket".into());
    }
    match connects(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(|error| error.to_string()),
        Ok(()) | Err(Errno::AGAIN) => Err("is in use: another process listens there".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Connects to a socket and closes the connection.
fn connects(path: &Path) -> rustix::io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&probe, &address)
}

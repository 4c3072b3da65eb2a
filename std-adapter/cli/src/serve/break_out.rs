//! Tries what the sandbox forbids, for its test.

use std::{fs, os::unix::net::UnixStream, path::PathBuf, process::Command, str::FromStr, thread};

use crate::failure::{Failure, Result};

/// Something that no running device does, with a path.
#[derive(Clone, Debug)]
pub(super) struct BreakOut {
    action: Action,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Open,
    Remove,
    Execute,
    Connect,
}

impl FromStr for BreakOut {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (action, path) = text.split_once(':').ok_or("expected ACTION:PATH")?;
        let action = match action {
            "open" => Action::Open,
            "remove" => Action::Remove,
            "execute" => Action::Execute,
            "connect" => Action::Connect,
            _ => return Err("unknown action"),
        };
        Ok(Self {
            action,
            path: path.into(),
        })
    }
}

impl BreakOut {
    /// Tries it in a thread of its own.
    ///
    /// # Errors
    /// Says whether it went well. Does not return if the sandbox ends the process.
    pub(super) fn run(self) -> Result<()> {
        let Self { action, path } = self;
        let thread = thread::Builder::new().spawn(move || match action {
            Action::Open => fs::File::open(path).map(|_| ()),
            Action::Remove => fs::remove_file(path),
            Action::Execute => Command::new(path).status().map(|_| ()),
            Action::Connect => UnixStream::connect(path).map(|_| ()),
        })?;
        Err(match thread.join() {
            Ok(Ok(())) => Failure::work("broke out of the sandbox"),
            Ok(Err(error)) => Failure::work(format_args!("the sandbox holds: {error}")),
            Err(_) => Failure::work("the attempt panicked"),
        })
    }
}

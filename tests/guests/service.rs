//! The `virtside serve` command.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    outcome::{Outcome, check, failure},
    process::Program,
};

/// How long the command may take to create its socket, and to end.
const LIMIT: Duration = Duration::from_secs(15);

/// A device that the command serves.
#[derive(Debug)]
pub struct Service {
    command: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    socket: PathBuf,
    starts: u32,
    program: Program,
}

impl Service {
    /// Serves a device. `arguments` are those of `virtside serve`, without the socket.
    pub fn start(command: &Path, folder: &Path, arguments: &[&str]) -> Outcome<Self> {
        let kind = *arguments.first().expect("the kind of the device");
        let socket = folder.join(format!("{kind}.sock"));
        let mut arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        arguments.extend(["--vhost-user".to_owned(), socket.display().to_string()]);
        let program = launch(command, &arguments, folder, 0)?;
        Ok(Self {
            command: command.to_owned(),
            arguments,
            folder: folder.to_owned(),
            socket,
            starts: 1,
            program,
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Kills the command. Its socket file stays.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts the killed command again.
    pub fn start_again(&mut self) -> Outcome<()> {
        let Self {
            command,
            arguments,
            folder,
            starts,
            ..
        } = self;
        self.program = launch(command, arguments, folder, *starts)?;
        self.starts += 1;
        Ok(())
    }

    /// Ends the command by SIGTERM, and checks that it ends well and removes its socket.
    pub fn stop(mut self) -> Outcome<()> {
        check(self.program.ended()?.is_none(), || {
            "the service has ended before its time".into()
        })?;
        self.program.terminate();
        self.program.succeed(LIMIT)?;
        check(!self.socket.exists(), || "the socket is left behind".into())
    }
}

fn launch(command: &Path, arguments: &[String], folder: &Path, starts: u32) -> Outcome<Program> {
    let mut serve = Command::new(command);
    serve.arg("serve").args(arguments);
    let kind = &arguments[0];
    let log = folder.join(format!("serve-{kind}-{starts}.log"));
    let mut program = Program::start(&format!("virtside serve {kind}"), &serve, &log)?;
    // A killed command leaves its socket file behind, so that the file alone says nothing.
    program
        .wait_for("listening on", LIMIT)
        .map_err(|error| failure(format!("{error}: {}", program.said())))?;
    Ok(program)
}

//! Starts a separate process for the device: this executable again, which runs one of its tests.

use std::{
    io::ErrorKind,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// Environment variable with the folder of the files that both processes use.
pub const FOLDER: &str = "VIRTSIDE_SNAPSHOT_FOLDER";
/// Environment variable with a command that runs this executable, where the machine cannot.
const RUNNER: &str = "VIRTSIDE_TEST_RUNNER";

/// Starts the ignored test of this name, and waits until it connects.
pub fn start(test: &str, folder: &Path, listener: &UnixListener) -> (Child, UnixStream) {
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let this = std::env::current_exe().expect("the path of this test");
    let this = this.to_str().expect("a plain path");
    let mut words = runner.split_whitespace().chain([this]);
    let mut child = Command::new(words.next().expect("a command"))
        .args(words)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("the child is started");
    listener.set_nonblocking(true).expect("a socket");
    loop {
        match listener.accept() {
            Ok((wire, _)) => {
                wire.set_nonblocking(false).expect("a socket");
                return (child, wire);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        let ended = child.try_wait().expect("the child's status is known");
        assert!(
            ended.is_none(),
            "{test} has ended before it called: {ended:?}"
        );
        sleep(Duration::from_millis(1));
    }
}

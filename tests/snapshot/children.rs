//! A process of its own for the device: this executable again, which runs one of its tests.

use std::{
    io::ErrorKind,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// Where the device finds what both processes have.
pub const FOLDER: &str = "VIRTSIDE_SNAPSHOT_FOLDER";
/// What runs this executable, with its arguments, where the machine cannot.
const RUNNER: &str = "VIRTSIDE_TEST_RUNNER";

/// Starts the test of this name, which is ignored else, and waits until it calls.
pub fn start(test: &str, folder: &Path, listener: &UnixListener) -> (Child, UnixStream) {
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let this = std::env::current_exe().expect("this test");
    let this = this.to_str().expect("a plain path");
    let mut words = runner.split_whitespace().chain([this]);
    let mut child = Command::new(words.next().expect("at least this test"))
        .args(words)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("it is started");
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
        let ended = child.try_wait().expect("it is ours");
        assert!(
            ended.is_none(),
            "{test} has ended before it called: {ended:?}"
        );
        sleep(Duration::from_millis(1));
    }
}

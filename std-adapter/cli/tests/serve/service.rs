//! A running service, and its folder.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub const COMMAND: &str = env!("CARGO_BIN_EXE_virtside");

/// Nothing in these tests takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done` returns a value.
#[track_caller]
pub fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: it never happens");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A folder for images and sockets.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Creates an image of this many bytes.
    pub fn image(&self, name: &str, len: u64) -> String {
        let file = fs::File::create(self.path(name)).unwrap();
        file.set_len(len).unwrap();
        self.text(name)
    }
}

/// Runs the command to its end. Asserts exit code 2, nothing on stdout and one line on stderr.
/// Returns that line.
#[track_caller]
pub fn refused(arguments: &[&str]) -> String {
    let output = Command::new(COMMAND).args(arguments).output().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(stdout.is_empty());
    let errors: Vec<_> = text.lines().collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(errors[0].starts_with("virtside: "), "{text}");
    text
}

/// A running `virtside serve`.
pub struct Service {
    child: Option<Child>,
    log: PathBuf,
    _folder: TempDir,
}

impl Service {
    /// Starts `virtside serve` with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(COMMAND);
        command.arg("serve").args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("stderr");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child: Some(child),
            log,
            _folder: folder,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has this text.
    #[track_caller]
    pub fn said(&mut self, text: &str) -> String {
        let log = self.log.clone();
        let child = self.child.as_mut().unwrap();
        wait(text, || {
            let said = fs::read_to_string(&log).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() || said.contains(text),
                "it ended with {ended:?} and never said {text:?}: {said}"
            );
            said.contains(text).then_some(said)
        })
    }

    /// Waits until the service listens at this path.
    #[track_caller]
    pub fn listens(mut self, path: &Path) -> Self {
        self.said(&format!("listening on {}", path.display()));
        self
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end. Returns the status and the log.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut child = self.child.take().unwrap();
        let status = wait("the end", || child.try_wait().unwrap());
        (status, self.log())
    }

    /// Ends the service by SIGTERM, which is no error. Returns the log.
    #[track_caller]
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (status, log) = self.end();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if thread::panicking() {
                let mut log = String::new();
                let file = fs::File::open(&self.log);
                let _ = file.and_then(|mut file| file.read_to_string(&mut log));
                eprintln!("the service said: {log}");
            }
        }
    }
}

//! The scripts and commands that the test runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::outcome::{Failure, Outcome, check, failure};

/// Folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a folder of the repository")
}

/// A script of `tests/tools`.
pub fn script(name: &str) -> PathBuf {
    root().join("tests/tools").join(name)
}

/// Runs a command to its end. Its complaints become the error.
pub fn quiet(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failure(format!("{name} cannot start: {error}")))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    check(output.status.success(), || {
        format!("{command:?}: {}: {complaints}", output.status)
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command to its end, with its messages shown. Returns what it printed to stdout.
pub fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failure(format!("{name} cannot start: {error}")))?;
    check(output.status.success(), || {
        format!("{name}: {}", output.status)
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds the `virtside` command, unless the variable VIRTSIDE names one. Returns its path.
pub fn virtside() -> Outcome<PathBuf> {
    if let Some(command) = env::var_os("VIRTSIDE") {
        return Ok(command.into());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "-p", "virtside-cli"]);
    output(cargo.current_dir(root()))?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    // Cargo runs a test in the folder of its package, and takes a relative path from the root.
    Ok(root().join(target).join("release/virtside"))
}

/// Returns the path of the User Mode Linux.
pub fn uml() -> Outcome<PathBuf> {
    output(&mut Command::new(script("uml"))).map(Into::into)
}

/// Returns the folder of the Debian system with QEMU.
pub fn debian() -> Outcome<PathBuf> {
    output(&mut Command::new(script("qemu-chroot"))).map(Into::into)
}

/// Makes an initrd with these programs and modules.
pub fn initrd(debian: &Path, path: &Path, content: &[&str]) -> Outcome<()> {
    let mut command = Command::new(script("initrd"));
    command
        .arg(debian)
        .arg(root().join("tests/guests/guest/init"));
    output(command.arg(path).args(content)).map(|_| ())
}

/// A program of the Debian system, which sees this folder.
pub fn in_debian(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(script("qemu-chroot"));
    command.arg("--run").arg(folder).arg(program);
    command
}

/// Returns the SHA-256 digest of a file in hexadecimal.
pub fn digest(path: &Path) -> Outcome<String> {
    let text = quiet(Command::new("sha256sum").arg(path))?;
    let digest = text.split_whitespace().next();
    digest
        .map(str::to_owned)
        .ok_or_else(|| failure("sha256sum printed nothing"))
}

/// The folders that exist.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder. Its path is short, because that of a socket has at most 107 bytes.
    pub fn new() -> Outcome<Self> {
        Self::like("/tmp/virtside-guests.XXXXXX")
    }

    /// Makes the folder in memory.
    pub fn in_memory() -> Outcome<Self> {
        Self::like("/dev/shm/virtside-bench.XXXXXX")
    }

    fn like(template: &str) -> Outcome<Self> {
        let path = PathBuf::from(quiet(Command::new("mktemp").args(["-d", template]))?);
        folders().push(path.clone());
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes an empty folder inside.
    pub fn inside(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(Failure::from)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        folders().retain(|path| *path != self.0);
    }
}

fn folders() -> MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every folder. For the end by a signal.
pub fn remove_folders() {
    for path in folders().drain(..) {
        let _ = fs::remove_dir_all(path);
    }
}

//! Linux as a process: User Mode Linux.

use std::{path::Path, process::Command};

use crate::{guest::Guest, outcome::Outcome, process::Program};

/// Boots a guest with one device, which runs these checks.
pub fn boot(
    linux: &Path,
    initrd: &Path,
    folder: &Path,
    socket: &Path,
    device: u32,
    checks: &str,
) -> Outcome<Guest> {
    let mut command = Command::new(linux);
    command
        .args(["mem=160M", "con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("initrd={}", initrd.display()))
        .arg(format!("uml_dir={}/", folder.display()))
        .arg(format!("virtio_uml.device={}:{device}", socket.display()))
        .arg(format!("checks={checks}"));
    let log = folder.join("uml.log");
    Ok(Guest {
        program: Program::start("User Mode Linux", &command, &log)?,
    })
}

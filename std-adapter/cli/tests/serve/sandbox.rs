//! The sandbox.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use crate::{Folder, service::COMMAND};

const SIGSYS: i32 = 31;

/// Starts a device that breaks out of the sandbox once it is up. Returns the signal that ended it,
/// and what it said.
fn break_out(folder: &Folder, action: &str, path: &str, more: &[&str]) -> (Option<i32>, String) {
    let socket = folder.text("rng.sock");
    let attempt = format!("--break-out={action}:{path}");
    let output = Command::new(COMMAND)
        .args(["serve", "rng", "--vhost-user", &socket, &attempt])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.signal(), text)
}

#[test]
fn a_file_cannot_be_opened() {
    let (signal, text) = break_out(&Folder::new(), "open", "/etc/passwd", &[]);
    assert_eq!(signal, None);
    assert!(
        text.contains("the sandbox holds: Permission denied"),
        "{text}"
    );
}

#[test]
fn a_program_cannot_be_executed() {
    let (signal, _) = break_out(&Folder::new(), "execute", "/bin/true", &[]);
    assert_eq!(signal, Some(SIGSYS));
}

#[test]
fn nothing_can_be_connected_to() {
    let folder = Folder::new();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path("other.sock")).unwrap();
    let other = folder.text("other.sock");
    let (signal, _) = break_out(&folder, "connect", &other, &[]);
    assert_eq!(signal, Some(SIGSYS));
}

#[test]
fn a_file_elsewhere_cannot_be_removed() {
    let (folder, other) = (Folder::new(), Folder::new());
    let victim = other.text("victim");
    fs::write(&victim, "").unwrap();
    let (_, text) = break_out(&folder, "remove", &victim, &[]);
    if text.contains("broke out") {
        // Without Landlock, the removal of a file is allowed.
        assert!(
            !fs::read_to_string("/sys/kernel/security/lsm")
                .is_ok_and(|all| all.contains("landlock"))
        );
        eprintln!("this kernel has no Landlock");
        return;
    }
    assert!(
        text.contains("the sandbox holds: Permission denied"),
        "{text}"
    );
    assert!(fs::exists(&victim).unwrap());
}

#[test]
fn without_the_sandbox_each_attempt_succeeds() {
    let folder = Folder::new();
    let victim = folder.text("victim");
    fs::write(&victim, "").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path("other.sock")).unwrap();
    for (action, path) in [
        ("open", "/etc/passwd"),
        ("execute", "/bin/true"),
        ("connect", &folder.text("other.sock")),
        ("remove", &victim),
    ] {
        let (_, text) = break_out(&folder, action, path, &["--no-sandbox"]);
        assert!(
            text.contains("broke out of the sandbox"),
            "{action}: {text}"
        );
    }
}

#[test]
fn the_region_of_requests_in_flight_is_made_in_the_sandbox() {
    let folder = Folder::new();
    let service = crate::blk::disk(&folder, &[]);
    assert!(crate::front_end::FrontEnd::in_flight_region(&folder.path("disk.sock")) > 0);
    assert_eq!(crate::blk::guest(&folder).read(0, 512), Ok(vec![0; 512]));
    service.stop();
}

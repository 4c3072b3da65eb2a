//! Disks that fail, and limits of the process. The guest gets an error, the log says why, and the
//! service lives.

use std::{
    fs::{self, OpenOptions},
    os::unix::net::UnixStream,
    process::Command,
};

use crate::{
    Folder, Service,
    blk::{disk, guest},
    guest::text,
    service::COMMAND,
};

const KIB: u64 = 1024;

#[test]
fn a_disk_that_is_full_fails_the_write_and_nothing_else() {
    let folder = Folder::new();
    let (image, socket) = (folder.image("disk.img", 1 << 20), folder.text("disk.sock"));
    // No file may be longer than 512 KiB.
    let script = "ulimit -f 1024; exec \"$0\" serve blk --disk \"$1\" --vhost-user \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, COMMAND, &image, &socket]);
    let mut service = Service::spawn(command).listens(&folder.path("disk.sock"));
    let mut guest = guest(&folder);
    assert_eq!(guest.write(0, &text(4096, 1)), 0);
    for _ in 0..100 {
        assert_ne!(guest.write(768 * KIB, &text(4096, 1)), 0);
    }
    service.said("write of 4096 bytes at offset 786432: File too large");
    assert_eq!(guest.write(4096, &text(4096, 2)), 0);
    assert!(guest.read(0, 4096) == Ok(text(4096, 1)));
    drop(guest);
    let log = service.stop();
    let lines = log.lines().filter(|line| line.contains("ERROR")).count();
    assert!(lines < 20, "errors do not flood the log: {log}");
    assert!(log.contains("more errors like the last one"), "{log}");
}

#[test]
fn an_image_that_is_cut_off_fails_reads_and_nothing_else() {
    let folder = Folder::new();
    let mut service = disk(&folder, &[]);
    let mut guest = guest(&folder);
    assert_eq!(guest.write(512 * KIB, &text(4096, 1)), 0);
    let image = OpenOptions::new().write(true).open(folder.path("disk.img"));
    image.unwrap().set_len(64 * KIB).unwrap();
    assert!(guest.read(512 * KIB, 4096).is_err());
    service.said("read of 4096 bytes at offset 524288: ");
    assert_eq!(guest.read(0, 512), Ok(vec![0; 512]));
    // A write makes the file longer again.
    assert_eq!(guest.write(512 * KIB, &text(4096, 2)), 0);
    assert!(guest.read(512 * KIB, 4096) == Ok(text(4096, 2)));
    drop(guest);
    service.stop();
}

/// Limits the number of open files of the service.
fn limit_files(service: &Service, count: usize) {
    let pid = service.pid().to_string();
    let limit = format!("--nofile={count}:1024");
    let set = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(set.unwrap().success());
}

#[test]
fn too_many_open_files_only_delay_a_front_end() {
    let folder = Folder::new();
    let mut service = disk(&folder, &[]);
    limit_files(&service, 3);
    let connected = UnixStream::connect(folder.path("disk.sock")).unwrap();
    service.said("cannot accept a front end: Too many open files");
    limit_files(&service, 1024);
    service.said("a front end has connected");
    drop(connected);
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
}

#[test]
fn a_message_whose_files_do_not_fit_ends_the_connection() {
    let folder = Folder::new();
    let mut service = disk(&folder, &[]);
    let open = fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap();
    // Room for the connection, and not for the descriptors of its queues.
    limit_files(&service, open.count() + 4);
    let socket = folder.path("disk.sock");
    let failed = std::thread::spawn(move || crate::Guest::connect(&socket)).join();
    assert!(failed.is_err(), "the front end was told");
    service.said("WARN");
    limit_files(&service, 1024);
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
}

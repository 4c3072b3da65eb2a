//! Socket files, and front ends that come and go.

use std::{
    fs,
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
};

use crate::{
    Folder,
    blk::{disk, guest},
    guest::text,
    refused,
};

#[test]
fn the_socket_of_a_live_service_is_not_replaced() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    let other = folder.image("other.img", 1 << 20);
    let socket = folder.text("disk.sock");
    let line = refused(&["serve", "blk", "--disk", &other, "--vhost-user", &socket]);
    assert!(line.contains("another process listens there"), "{line}");
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    service.signal("KILL");
    service.end();
    assert!(
        folder.path("disk.sock").exists(),
        "SIGKILL leaves it behind"
    );
    let service = disk(&folder, &[]);
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
    assert!(!folder.path("disk.sock").exists());
}

#[test]
fn a_file_that_is_no_socket_is_kept() {
    let folder = Folder::new();
    let image = folder.image("disk.img", 1 << 20);
    let file = folder.path("precious");
    fs::write(&file, "text").unwrap();
    let line = refused(&[
        "serve",
        "blk",
        "--disk",
        &image,
        "--vhost-user",
        &folder.text("precious"),
    ]);
    assert!(line.contains("is not a socket"), "{line}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn the_socket_of_a_successor_is_not_removed() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    let socket = folder.path("disk.sock");
    fs::remove_file(&socket).unwrap();
    let _successor = UnixListener::bind(&socket).unwrap();
    service.stop();
    assert!(socket.exists());
}

#[test]
fn a_folder_that_does_not_exist_is_refused() {
    let folder = Folder::new();
    let image = folder.image("disk.img", 1 << 20);
    let socket = folder.text("none/disk.sock");
    let line = refused(&["serve", "blk", "--disk", &image, "--vhost-user", &socket]);
    assert!(
        line.contains(&socket) && line.contains("No such file"),
        "{line}"
    );
}

#[test]
fn a_path_that_is_too_long_is_refused_with_its_length() {
    let folder = Folder::new();
    let name = "s".repeat(100);
    let socket = folder.text(&name);
    let line = refused(&["serve", "rng", "--vhost-user", &socket]);
    let why = format!("{} bytes, and a socket has room for 107", socket.len());
    assert!(line.contains(&why), "{line}");
}

#[test]
fn a_second_front_end_waits_until_the_first_one_leaves() {
    let folder = Folder::new();
    let mut service = disk(&folder, &[]);
    let mut first = guest(&folder);
    let path = folder.path("disk.sock");
    let second = std::thread::spawn(move || {
        let mut second = crate::Guest::connect(&path);
        second.write(0, &text(512, 2))
    });
    service.said("another front end waits until this one leaves");
    assert!(!second.is_finished());
    assert_eq!(first.write(0, &text(512, 1)), 0);
    drop(first);
    assert_eq!(second.join().unwrap(), 0);
    service.stop();
}

#[test]
fn a_front_end_that_sends_garbage_is_dropped() {
    let folder = Folder::new();
    let mut service = disk(&folder, &[]);
    let mut rude = UnixStream::connect(folder.path("disk.sock")).unwrap();
    rude.write_all(&[0xff; 64]).unwrap();
    service.said("a message of the vhost-user front end was refused");
    drop(rude);
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
}

#[test]
fn a_front_end_that_vanishes_in_a_message_is_dropped() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    for len in [1, 4, 11, 12, 15] {
        let mut gone = UnixStream::connect(folder.path("disk.sock")).unwrap();
        // The header of SET_VRING_NUM, and a part of its body.
        let message = [8_u32, 1, 8, 0, 0].map(u32::to_ne_bytes).concat();
        gone.write_all(&message[..len]).unwrap();
    }
    assert_eq!(guest(&folder).write(0, &text(512, 3)), 0);
    service.stop();
}

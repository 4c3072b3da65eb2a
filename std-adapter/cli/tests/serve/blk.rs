//! Disks.

use std::fs;

use virtio_driver::VirtioFeatureFlags;

use crate::{Folder, Guest, Service, guest::text, refused};

/// Starts a disk of 1 MiB with these further arguments.
pub fn disk(folder: &Folder, more: &[&str]) -> Service {
    let image = match fs::metadata(folder.path("disk.img")) {
        Ok(_) => folder.text("disk.img"),
        Err(_) => folder.image("disk.img", 1 << 20),
    };
    let socket = folder.text("disk.sock");
    let arguments = [&["blk", "--disk", &image, "--vhost-user", &socket], more].concat();
    Service::start(&arguments).listens(&folder.path("disk.sock"))
}

pub fn guest(folder: &Folder) -> Guest {
    Guest::connect(&folder.path("disk.sock"))
}

#[test]
fn a_guest_writes_and_the_file_has_the_bytes() {
    let split = VirtioFeatureFlags::VERSION_1;
    let packed = split | VirtioFeatureFlags::RING_PACKED;
    for (features, aio) in [
        (split, "auto"),
        (split, "sync"),
        (packed, "auto"),
        (packed, "sync"),
    ] {
        let folder = Folder::new();
        let service = disk(&folder, &["--aio", aio]);
        let mut guest = Guest::with_queues(&folder.path("disk.sock"), 1, features);
        assert_eq!({ guest.config().capacity }, 2048);
        let bytes = text(64 << 10, 7);
        assert_eq!(guest.write(4096, &bytes), 0);
        assert_eq!(guest.flush(), 0);
        assert!(guest.read(4096, bytes.len()) == Ok(bytes.clone()));
        drop(guest);
        service.stop();
        assert!(fs::read(folder.path("disk.img")).unwrap()[4096..][..bytes.len()] == bytes);
    }
}

#[test]
fn a_read_only_disk_is_never_written() {
    let folder = Folder::new();
    let _service = disk(&folder, &["--read-only"]);
    let mut guest = guest(&folder);
    assert_ne!(guest.write(0, &text(512, 1)), 0);
    assert_eq!(guest.read(0, 512), Ok(vec![0; 512]));
}

#[test]
fn readers_share_an_image_and_a_writer_has_it_alone() {
    let folder = Folder::new();
    let _first = disk(&folder, &["--read-only"]);
    let (image, socket) = (folder.text("disk.img"), folder.text("second.sock"));
    let arguments = ["blk", "--disk", &image, "--vhost-user", &socket];
    let line = refused(&[&["serve"], &arguments[..]].concat());
    assert!(line.contains("another process has locked it"), "{line}");
    let second = [&arguments[..], &["--read-only"]].concat();
    let second = crate::Service::start(&second).listens(&folder.path("second.sock"));
    let mut guest = Guest::connect(&folder.path("second.sock"));
    assert_eq!(guest.read(0, 512), Ok(vec![0; 512]));
    drop(guest);
    second.stop();
}

#[test]
fn each_of_several_queues_is_served() {
    let folder = Folder::new();
    let service = disk(&folder, &["--queues", "4", "--queue-size", "1024"]);
    let socket = folder.path("disk.sock");
    let mut guest = Guest::with_queues(&socket, 4, VirtioFeatureFlags::VERSION_1);
    assert_eq!({ guest.config().num_queues }, 4);
    for queue in 0..4 {
        guest.begin_write(
            queue,
            4096 * queue as u64,
            4096 * queue,
            &text(4096, queue as u8),
        );
    }
    for queue in 0..4 {
        assert_eq!(guest.wait(queue, 1), [(4096 * queue, 0)]);
    }
    drop(guest);
    service.stop();
    let bytes = fs::read(folder.path("disk.img")).unwrap();
    for queue in 0..4 {
        assert!(bytes[4096 * queue..][..4096] == text(4096, queue as u8));
    }
}

#[test]
fn a_write_through_disk_offers_no_flush() {
    const FLUSH: u64 = 1 << 9 | 1 << 11;
    for (mode, offered) in [("writethrough", 0), ("writeback", FLUSH)] {
        let folder = Folder::new();
        let service = disk(&folder, &["--cache", mode]);
        let mut guest = guest(&folder);
        assert_eq!(guest.features() & FLUSH, offered);
        assert_eq!(guest.write(0, &text(512, 1)), 0);
        drop(guest);
        service.stop();
    }
}

#[test]
fn a_guest_in_the_middle_of_writes_does_not_stop_the_end() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    let mut guest = guest(&folder);
    for round in 0..100 {
        for slot in 0..8 {
            guest.begin_write(0, 4096 * slot, 4096 * slot as usize, &text(4096, round));
        }
        guest.wait(0, 8);
    }
    for slot in 0..8 {
        guest.begin_write(0, 4096 * slot, 4096 * slot as usize, &text(4096, 100));
    }
    service.signal("TERM");
    let (status, log) = service.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let bytes = fs::read(folder.path("disk.img")).unwrap();
    for (at, result) in guest.completed(0) {
        assert_eq!(result, 0);
        assert!(
            bytes[at..][..4096] == text(4096, 100),
            "an answered write is in the file"
        );
    }
    assert!(!folder.path("disk.sock").exists());
}

#[test]
fn io_uring_is_used_where_the_kernel_has_it() {
    let folder = Folder::new();
    let (image, socket) = (folder.image("disk.img", 1 << 20), folder.text("disk.sock"));
    let arguments = [
        "blk",
        "--disk",
        &image,
        "--vhost-user",
        &socket,
        "--aio=io_uring",
    ];
    let service = crate::Service::start(&arguments);
    let ring = |service: &crate::Service| {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap();
        let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.any(|target| target.to_str() == Some("anon_inode:[io_uring]"))
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if disabled.is_ok_and(|text| text.trim() != "0") {
        let (status, log) = service.end();
        assert_eq!(status.code(), Some(2), "{log}");
    } else {
        let service = service.listens(&folder.path("disk.sock"));
        assert!(ring(&service));
        let mut guest = guest(&folder);
        // No page of the file is in the cache.
        for at in (0..1 << 20).step_by(4096) {
            guest.begin_read(0, at, 4096 * (at as usize / 4096 % 8), 4096);
            assert_eq!(guest.wait(0, 1)[0].1, 0);
        }
        drop(guest);
        service.stop();
    }
    let service = disk(&folder, &["--aio=sync"]);
    assert!(!ring(&service));
    service.stop();
}

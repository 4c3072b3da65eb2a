//! The command line.

use crate::{Folder, refused};

#[test]
fn wrong_options_are_refused_with_their_name() {
    let folder = Folder::new();
    let image = folder.image("disk.img", 1 << 20);
    let socket = folder.text("disk.sock");
    for (option, value) in [
        ("--queues", "0"),
        ("--queues", "17"),
        ("--queues", "many"),
        ("--queue-size", "100"),
        ("--queue-size", "2"),
        ("--queue-size", "2048"),
        ("--serial", "more than twenty characters"),
        ("--serial", "no\nline"),
        ("--cache", "unsafe"),
        ("--spin", "-1"),
    ] {
        let assignment = format!("{option}={value}");
        let line = refused(&[
            "serve",
            "blk",
            "--disk",
            &image,
            "--vhost-user",
            &socket,
            &assignment,
        ]);
        assert!(line.contains(option), "{line}");
    }
    assert!(!folder.path("disk.sock").exists());
}

#[test]
fn a_disk_that_cannot_be_used_is_refused_before_any_socket() {
    let folder = Folder::new();
    let socket = folder.text("disk.sock");
    let small = folder.image("small.img", 511);
    let locked = folder.image("locked.img", 1 << 20);
    let lock = std::fs::File::open(&locked).unwrap();
    lock.lock().unwrap();
    for (image, why) in [
        (folder.text("missing.img"), "No such file"),
        (folder.text("."), "is a directory"),
        (small, "at least one sector"),
        (locked, "another process has locked it"),
    ] {
        let line = refused(&["serve", "blk", "--disk", &image, "--vhost-user", &socket]);
        assert!(line.contains(&image) && line.contains(why), "{line}");
        assert!(!folder.path("disk.sock").exists());
    }
}

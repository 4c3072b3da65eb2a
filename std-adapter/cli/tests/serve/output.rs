//! Messages, traces and statistics.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Folder,
    blk::{disk, guest},
    guest::text,
    service::{COMMAND, wait},
};

#[test]
fn statistics_come_each_interval_and_at_the_end() {
    let folder = Folder::new();
    let mut service = disk(&folder, &["--stats=1"]);
    let mut guest = guest(&folder);
    for _ in 0..50 {
        assert_eq!(guest.write(0, &text(4096, 1)), 0);
    }
    assert!(guest.read(0, 4096).is_ok());
    assert_eq!(guest.flush(), 0);
    service.said("blk: last interval: ");
    drop(guest);
    let log = service.stop();
    let total = log.lines().find(|line| line.contains("total: ")).unwrap();
    assert!(total.contains("(1 read, 50 write, 1 flush)"), "{total}");
    for word in ["requests/s", "MB/s", "p50", "p99 ", "p99.9", " us"] {
        assert!(total.contains(word), "{word} is not in {total}");
    }
}

#[test]
fn messages_as_json_have_the_numbers_as_members() {
    let folder = Folder::new();
    let service = disk_json(&folder);
    let mut guest = guest(&folder);
    for _ in 0..3 {
        assert_eq!(guest.write(0, &text(4096, 1)), 0);
    }
    drop(guest);
    let log = service.stop();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = &lines[0];
    assert_eq!(first["device"], "blk");
    assert_eq!(first["level"], "info");
    assert!(
        first["message"]
            .as_str()
            .unwrap()
            .starts_with("listening on ")
    );
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
    let total = lines.iter().find(|line| line["period"] == "total").unwrap();
    assert_eq!(total["requests"], 3);
    assert_eq!(total["bytes"], 3 * 4096);
    assert!(total["latency_us_p99"].as_f64().unwrap() > 0.0);
}

fn disk_json(folder: &Folder) -> crate::Service {
    let (image, socket) = (folder.image("disk.img", 1 << 20), folder.text("disk.sock"));
    let arguments = [
        "blk",
        "--disk",
        &image,
        "--vhost-user",
        &socket,
        "--stats",
        "--log-format=json",
    ];
    crate::Service::start(&arguments).listens(&folder.path("disk.sock"))
}

#[test]
fn a_trace_has_each_request() {
    let folder = Folder::new();
    let service = disk(&folder, &["--trace"]);
    let mut guest = guest(&folder);
    assert_eq!(guest.write(0, &text(4096, 1)), 0);
    assert!(guest.read(0, 512).is_ok());
    drop(guest);
    let log = service.stop();
    for line in [
        "blk: the driver accepts ",
        "VERSION_1",
        "blk: queue 0: write of 4112 bytes with room for 1: 1 bytes written, ",
        "blk: queue 0: read of 16 bytes with room for 513: 513 bytes written, ",
        "blk: reset",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[test]
fn without_a_trace_there_are_only_messages() {
    let folder = Folder::new();
    let service = disk(&folder, &[]);
    let mut guest = guest(&folder);
    assert_eq!(guest.write(0, &text(4096, 1)), 0);
    drop(guest);
    let log = service.stop();
    let texts: Vec<_> = log
        .lines()
        .map(|line| line.split_once("blk: ").unwrap().1)
        .collect();
    let listening = format!("listening on {}", folder.text("disk.sock"));
    assert_eq!(texts[0], listening);
    let others = [
        "a front end has connected",
        "the front end has left",
        "stopped",
    ];
    assert_eq!(texts[1..], others);
}

#[test]
fn a_terminal_gets_a_live_line_below_the_messages() {
    let folder = Folder::new();
    let (image, socket) = (folder.image("disk.img", 1 << 20), folder.text("disk.sock"));
    let command = format!("{COMMAND} serve blk --disk {image} --vhost-user {socket} --stats");
    let mut terminal = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait("the socket", || {
        folder.path("disk.sock").exists().then_some(())
    });
    let mut guest = guest(&folder);
    let end = Instant::now() + Duration::from_millis(4000);
    while Instant::now() < end {
        assert_eq!(guest.write(0, &text(4096, 1)), 0);
    }
    drop(guest);
    // The terminal ends, and with it the command.
    terminal.kill().unwrap();
    let mut shown = String::new();
    let mut stdout = terminal.stdout.take().unwrap();
    stdout.read_to_string(&mut shown).unwrap();
    terminal.wait().unwrap();
    assert!(shown.contains("blk: listening on "), "{shown}");
    assert!(shown.contains("requests/s"), "{shown}");
    assert!(!shown.contains("last interval"), "{shown}");
    wait("the end", || {
        (!folder.path("disk.sock").exists()).then_some(())
    });
}

//! The end of the service.

use crate::{
    Folder, Service,
    blk::{disk, guest},
    front_end::FrontEnd,
    guest::text,
};

#[test]
fn each_signal_ends_the_service_and_removes_its_socket() {
    for signal in ["INT", "TERM", "HUP"] {
        let folder = Folder::new();
        let service = disk(&folder, &[]);
        let mut guest = guest(&folder);
        assert_eq!(guest.write(0, &text(512, 3)), 0);
        service.signal(signal);
        let (status, log) = service.end();
        assert_eq!(status.code(), Some(0), "SIG{signal}: {log}");
        assert!(log.trim_end().ends_with("blk: stopped"), "{log}");
        assert!(!folder.path("disk.sock").exists());
    }
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let folder = Folder::new();
    let source = folder.text("source");
    std::fs::write(&source, "").unwrap();
    let socket = folder.text("rng.sock");
    let mut service = Service::start(&["rng", "--source", &source, "--vhost-user", &socket])
        .listens(&folder.path("rng.sock"));
    let mut guest = FrontEnd::connect(&folder.path("rng.sock"), 1, 0);
    // The end waits some seconds for this request.
    guest.send(0, &[], 64);
    service.said("the source gives no bytes");
    service.signal("TERM");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let begun = std::time::Instant::now();
    service.signal("TERM");
    let (status, log) = service.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
}

//! The log of the pages that a device writes.

use std::{fs::File, os::unix::fs::FileExt};

use super::*;
use std::os::fd::AsRawFd;
use vhost::VhostUserDirtyLogRegion;

const LOG_ALL: u64 = 1 << 26;
const LOG: u64 = (BASE + LEN as u64) / 4096 / 8;

fn set_log(front_end: &FrontEnd, file: &File) {
    let region = VhostUserDirtyLogRegion {
        mmap_size: LOG,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    front_end.wire.set_log_base(0, Some(region)).expect("a log");
}

fn set_logging(front_end: &FrontEnd, on: bool) {
    let features = u64::try_from(Features::VERSION_1.bits()).expect("features of vhost-user");
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    let log = if on { LOG_ALL } else { 0 };
    front_end
        .wire
        .set_features(features | protocol | log)
        .expect("the same features");
}

/// The pages that are marked, counted from the start of the driver's memory. Clears the log.
fn marked(file: &File) -> Vec<u64> {
    let mut bytes = vec![0; LOG as usize];
    file.read_exact_at(&mut bytes, 0).expect("the log");
    file.write_all_at(&vec![0; LOG as usize], 0)
        .expect("cleared");
    let is_marked = |page: &u64| bytes[(page / 8) as usize] & 1 << (page % 8) != 0;
    let pages = (0..8 * LOG).filter(is_marked);
    pages.map(|page| page - BASE / 4096).collect()
}

#[test]
fn the_pages_of_rings_and_buffers_are_logged() {
    let mut front_end = started();
    let file = TempFile::new().expect("a temporary file").into_file();
    file.set_len(LOG).expect("the file is extended");
    set_log(&front_end, &file);
    front_end.ask();
    front_end.answers(1);
    assert_eq!(marked(&file), [0_u64; 0], "the log is off");
    set_logging(&front_end, true);
    // The front end says the addresses again.
    front_end.place_again();
    front_end.ask();
    front_end.answers(1);
    // The rings are in the first page, and the buffers are in the ninth.
    assert_eq!(marked(&file), [0, 8]);
    set_logging(&front_end, false);
    front_end.ask();
    front_end.answers(1);
    assert_eq!(marked(&file), [0_u64; 0]);
    assert!(front_end.close().is_ok());
}

#[test]
fn a_log_that_is_longer_than_its_file_ends_the_connection() {
    let front_end = sharing();
    let file = TempFile::new().expect("a temporary file").into_file();
    let region = VhostUserDirtyLogRegion {
        mmap_size: LOG,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    assert!(front_end.wire.set_log_base(0, Some(region)).is_err());
    assert!(front_end.close().is_err());
}

//! Requests that the device does not answer with OK.

use virtside::{
    DriverFault, Features, HostFault,
    device::QueueState,
    models::{BlockError, BlockFeatures, BlockOptions},
    testing::Buffer,
};
use virtside_tests::{SECTORS, SIZE, models::blk::*};

#[test]
fn an_unknown_type_is_unsupported() {
    // SECURE_ERASE, GET_LIFETIME and the zone requests exist, but the device never offers them.
    let zones = [15, 16, 17, 18, 20, 22, 24, 26];
    let others = [
        2,
        3,
        5,
        6,
        7,
        9,
        10,
        12,
        14,
        27,
        0x100,
        0x0100_0000,
        0x8000_0000,
        u32::MAX,
    ];
    for kind in zones.into_iter().chain(others) {
        let mut drive = Drive::new();
        assert_eq!(
            drive.ask(kind, 0, &[], 0),
            outcome(S_UNSUPP, 1),
            "type {kind}"
        );
        assert_eq!(drive.ask(kind, 0, &[0x55; 512], 0), outcome(S_UNSUPP, 1));
        assert_eq!(drive.ask(kind, 0, &[], 512), outcome(S_UNSUPP, 513));
        assert_eq!(drive.calls(), []);
        assert!(drive.is_pristine());
    }
}

#[test]
fn zone_requests_without_zoned_are_unsupported() {
    for kind in [15, 16, 18, 20, 22, 24, 26] {
        let mut drive = Drive::new();
        assert_eq!(drive.ask(kind, 0, &[], 128), outcome(S_UNSUPP, 129));
    }
}

#[test]
fn a_write_to_a_read_only_disk_fails_and_stores_nothing() {
    let features = BlockFeatures {
        read_only: true,
        ..Disk::new().features
    };
    // The driver accepts RO, or does not.
    for wanted in [Features::from_bits(u128::MAX), Features::VERSION_1] {
        let mut drive = Drive::with(Disk::with(features), BlockOptions::new(SIZE), wanted);
        assert_eq!(drive.ask(T_OUT, 1, &[0x55; 512], 0), outcome(S_IOERR, 1));
        assert_eq!(drive.ask(T_OUT, 1, &[], 0), outcome(S_IOERR, 1));
        assert_eq!(drive.calls(), []);
        assert!(drive.is_pristine());
        assert_eq!(drive.ask(T_IN, 1, &[], 512), outcome(S_OK, 513));
    }
}

#[test]
fn a_discard_or_write_zeroes_on_a_read_only_disk_fails() {
    let features = BlockFeatures {
        read_only: true,
        ..Disk::new().features
    };
    let mut drive = Drive::over(Disk::with(features));
    for kind in [T_DISCARD, T_WRITE_ZEROES] {
        assert_eq!(drive.ask(kind, 0, &range(1, 1, 0), 0), outcome(S_IOERR, 1));
    }
    assert_eq!(drive.calls(), []);
    assert!(drive.is_pristine());
}

#[test]
fn sectors_beyond_the_end_are_refused() {
    let end = SECTORS as u64;
    for (sector, sectors) in [
        (end, 1),
        (end - 1, 2),
        (end + 1, 0),
        (0, SECTORS as u32 + 1),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX - 1, 2),
        // Offsets in bytes that overflow 64 bits.
        (1 << 55, 1),
        ((1 << 55) + 1, 1),
        (u64::MAX >> 9, 1),
        ((u64::MAX >> 9) + 2, 1),
    ] {
        let mut drive = Drive::new();
        let len = 512 * sectors;
        // The device writes at most as many zeros as the longest read has bytes.
        let longest = 512 * SECTORS as u32;
        let used = if len > longest { longest } else { len + 1 };
        assert_eq!(
            drive.ask(T_IN, sector, &[], len),
            outcome(S_IOERR, used),
            "sector {sector:#x}"
        );
        let data = vec![0x55; len as usize];
        assert_eq!(drive.ask(T_OUT, sector, &data, 0), outcome(S_IOERR, 1));
        assert_eq!(drive.calls(), []);
        assert!(drive.is_pristine());
        assert_eq!(drive.host_fault(), None, "the driver is at fault");
    }
}

#[test]
fn data_that_is_no_whole_number_of_sectors_is_refused() {
    for len in [1, 511, 513, 1023] {
        let mut drive = Drive::new();
        assert_eq!(drive.ask(T_IN, 0, &[], len), outcome(S_IOERR, len + 1));
        assert_eq!(
            drive.ask(T_OUT, 0, &vec![0x55; len as usize], 0),
            outcome(S_IOERR, 1)
        );
        assert_eq!(drive.calls(), []);
        assert!(drive.is_pristine());
    }
}

#[test]
fn a_header_that_is_too_short_is_an_error() {
    for len in [0, 1, 8, 15] {
        let mut drive = Drive::new();
        drive.write_header(T_FLUSH, 0);
        let buffers = [Buffer::readable(HEADER, len), Buffer::writable(STATUS, 1)];
        assert_eq!(drive.send(&buffers), Some(outcome(S_IOERR, 1)));
        assert_eq!(drive.calls(), []);
    }
}

#[test]
fn a_request_without_a_readable_part_is_an_error() {
    let mut drive = Drive::new();
    drive.write_header(T_IN, 0);
    let buffers = [Buffer::writable(BODY, 512), Buffer::writable(STATUS, 1)];
    assert_eq!(drive.send(&buffers), Some(outcome(S_IOERR, 513)));
}

#[test]
fn a_request_without_room_for_the_status_breaks_the_queue() {
    for buffers in [
        vec![Buffer::readable(HEADER, 16)],
        vec![Buffer::readable(HEADER, 16), Buffer::readable(BODY, 512)],
        vec![Buffer::readable(HEADER, 16), Buffer::writable(STATUS, 0)],
    ] {
        let mut drive = Drive::new();
        drive.write_header(T_OUT, 0);
        assert_eq!(drive.send(&buffers), None);
        assert_eq!(
            drive.engine.driver_fault(0),
            Some(DriverFault::BadRequest { head: 0 })
        );
        assert_eq!(drive.engine.queue_state(0), QueueState::Failed);
        assert_eq!(drive.calls(), []);
        assert!(drive.is_pristine());
    }
}

#[test]
fn a_request_whose_only_room_is_the_status_can_be_answered() {
    let mut drive = Drive::new();
    assert_eq!(drive.ask(T_IN, 0, &[], 0), outcome(S_OK, 1));
}

#[test]
fn more_data_than_the_device_takes_at_once_is_refused() {
    let options = BlockOptions::new(SIZE).with_max_transfer(1024);
    let mut drive = Drive::with(Disk::new(), options, all());
    assert_eq!(drive.ask(T_IN, 0, &[], 1024), outcome(S_OK, 1025));
    assert_eq!(drive.ask(T_OUT, 0, &[0x11; 1024], 0), outcome(S_OK, 1));
    drive.calls();
    drive.driver.write(BODY, &[0x77; 1536]);
    assert_eq!(drive.ask(T_IN, 0, &[], 1536), outcome(S_IOERR, 1024));
    assert_eq!(drive.bytes(BODY, 1024), [0; 1024]);
    assert_eq!(drive.bytes(BODY + 1024, 512), [0x77; 512]);
    assert_eq!(drive.ask(T_OUT, 0, &[0x22; 1536], 0), outcome(S_IOERR, 1));
    assert_eq!(drive.calls(), []);
}

#[test]
fn an_error_of_the_back_end_fails_the_request_and_is_reported() {
    for kind in [T_IN, T_OUT, T_FLUSH, T_DISCARD, T_WRITE_ZEROES] {
        let mut drive = Drive::new();
        drive.disk().trouble = vec![Some(BlockError::Io)];
        let (data, room) = match kind {
            T_IN => (vec![], 512),
            T_OUT => (vec![0x55; 512], 0),
            T_FLUSH => (vec![], 0),
            _ => (range(0, 1, 0), 0),
        };
        let used = room + 1;
        assert_eq!(
            drive.ask(kind, 0, &data, room),
            outcome(S_IOERR, used),
            "type {kind}"
        );
        assert_eq!(drive.host_fault(), Some(HostFault::Backend));
        assert_eq!(drive.calls().len(), 1);
        assert!(drive.is_pristine());
        // The device continues to work.
        assert_eq!(drive.engine.driver_fault(0), None);
        assert_eq!(drive.ask(kind, 0, &data, room), outcome(S_OK, used));
        assert_eq!(drive.host_fault(), None);
    }
}

#[test]
fn what_the_back_end_cannot_do_is_unsupported() {
    for kind in [T_IN, T_OUT, T_FLUSH, T_DISCARD, T_WRITE_ZEROES] {
        let mut drive = Drive::new();
        drive.disk().trouble = vec![Some(BlockError::Unsupported)];
        let (data, room) = match kind {
            T_IN => (vec![], 512),
            T_OUT => (vec![0x55; 512], 0),
            T_FLUSH => (vec![], 0),
            _ => (range(0, 1, 0), 0),
        };
        let used = room + 1;
        assert_eq!(drive.ask(kind, 0, &data, room), outcome(S_UNSUPP, used));
        assert_eq!(drive.host_fault(), None);
    }
}

#[test]
fn a_read_that_fails_reads_as_zeros_and_counts_its_status() {
    // QEMU counts the whole request, whatever its result. Linux and Zephyr's block driver ignore
    // the length.
    for (sector, trouble) in [
        (1, BlockError::Io),
        (99, BlockError::Io),
        (1, BlockError::Unsupported),
    ] {
        let mut drive = Drive::new();
        drive.disk().trouble = vec![Some(trouble)];
        drive.driver.write(BODY, &[0x77; 1025]);
        let used = drive.ask(T_IN, sector, &[], 1024).used;
        assert_eq!(used, 1025);
        assert_eq!(drive.bytes(BODY, 1024), [0; 1024]);
        assert_eq!(drive.bytes(BODY + 1024, 1), [0x77]);
    }
}

#[test]
fn a_read_that_fails_half_way_keeps_what_was_read_before() {
    let mut drive = Drive::new();
    drive.driver.write(BODY + 0x800, &[0x77; 512]);
    drive.disk().trouble = vec![None, Some(BlockError::Io)];
    drive.write_header(T_IN, 4);
    let buffers = [
        Buffer::readable(HEADER, 16),
        Buffer::writable(BODY, 512),
        Buffer::writable(BODY + 0x800, 512),
        Buffer::writable(STATUS, 1),
    ];
    assert_eq!(drive.send(&buffers), Some(outcome(S_IOERR, 1025)));
    assert_eq!(drive.bytes(BODY, 512), [4; 512]);
    assert_eq!(drive.bytes(BODY + 0x800, 512), [0; 512]);
}

#[test]
fn a_write_with_extra_room_does_not_count_the_status_behind_it() {
    let mut drive = Drive::new();
    drive.driver.write(BODY + 0x2000, &[0x66; 8]);
    drive.write_header(T_OUT, 0);
    drive.driver.write(BODY, &[0x11; 512]);
    let buffers = [
        Buffer::readable(HEADER, 16),
        Buffer::readable(BODY, 512),
        Buffer::writable(BODY + 0x2000, 8),
        Buffer::writable(STATUS, 1),
    ];
    // The used length is a lower bound. The status was written, but at an address beyond that
    // bound.
    assert_eq!(drive.send(&buffers), Some(outcome(S_OK, 0)));
    assert_eq!(drive.bytes(BODY + 0x2000, 8), [0x66; 8]);
    assert_eq!(drive.sector(0), [0x11; 512]);
}

#[test]
fn flush_is_unsupported_where_there_is_nothing_to_flush() {
    let features = BlockFeatures {
        flush: false,
        ..Disk::new().features
    };
    let mut drive = Drive::over(Disk::with(features));
    assert_eq!(drive.ask(T_FLUSH, 0, &[], 0), outcome(S_UNSUPP, 1));
    assert_eq!(drive.calls(), []);
}

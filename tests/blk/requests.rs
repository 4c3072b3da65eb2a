//! Requests that the device answers with OK.

use proptest::{collection::vec, prelude::*};
use virtside::{models::BlockOptions, testing::Buffer};
use virtside_tests::{SECTORS, SIZE, cut, models::blk::*};

#[test]
fn a_read_gives_the_sectors_and_the_status() {
    let mut drive = Drive::new();
    assert_eq!(drive.ask(T_IN, 3, &[], 1024), outcome(S_OK, 1025));
    let expected = [[3; 512], [4; 512]].concat();
    assert_eq!(drive.bytes(BODY, 1024), expected);
    assert_eq!(drive.calls(), [Call::Read(3 * 512, 1024)]);
    assert!(drive.is_pristine());
}

#[test]
fn a_write_stores_the_sectors_and_only_them() {
    let mut drive = Drive::new();
    let data: Vec<u8> = (0..1024).map(|at| (at * 7) as u8).collect();
    assert_eq!(drive.ask(T_OUT, 5, &data, 0), outcome(S_OK, 1));
    assert_eq!([drive.sector(5), drive.sector(6)].concat(), data);
    for sector in (0..SECTORS).filter(|sector| !(5..7).contains(sector)) {
        assert_eq!(drive.sector(sector), [sector as u8; 512]);
    }
    // The driver reads back what it wrote.
    assert_eq!(drive.ask(T_IN, 5, &[], 1024), outcome(S_OK, 1025));
    assert_eq!(drive.bytes(BODY, 1024), data);
}

#[test]
fn the_first_and_the_last_sector_can_be_accessed() {
    let mut drive = Drive::new();
    for sector in [0, SECTORS as u64 - 1] {
        assert_eq!(drive.ask(T_IN, sector, &[], 512), outcome(S_OK, 513));
        assert_eq!(drive.bytes(BODY, 512), [sector as u8; 512]);
        assert_eq!(drive.ask(T_OUT, sector, &[0xcc; 512], 0), outcome(S_OK, 1));
        assert_eq!(drive.sector(sector as usize), [0xcc; 512]);
    }
    let all = 512 * SECTORS as u32;
    assert_eq!(drive.ask(T_IN, 0, &[], all), outcome(S_OK, all + 1));
}

#[test]
fn sectors_are_of_512_bytes_whatever_the_block_size() {
    for block_size in [512, 1024, 4096] {
        let options = BlockOptions::new(SIZE).with_block_size(block_size);
        let mut drive = Drive::with(
            Disk::new(),
            options,
            virtside::Features::from_bits(u128::MAX),
        );
        assert_eq!(drive.ask(T_IN, 9, &[], 512), outcome(S_OK, 513));
        assert_eq!(drive.bytes(BODY, 512), [9; 512]);
        assert_eq!(drive.ask(T_OUT, 9, &[1; 512], 0), outcome(S_OK, 1));
        assert_eq!(drive.sector(9), [1; 512]);
    }
}

#[test]
fn a_request_for_no_data_is_done_at_once() {
    let mut drive = Drive::new();
    for sector in [0, 5, SECTORS as u64] {
        assert_eq!(drive.ask(T_IN, sector, &[], 0), outcome(S_OK, 1));
        assert_eq!(drive.ask(T_OUT, sector, &[], 0), outcome(S_OK, 1));
    }
    assert!(drive.is_pristine());
}

#[test]
fn a_flush_reaches_the_disk() {
    let mut drive = Drive::new();
    assert_eq!(drive.ask(T_FLUSH, 0, &[], 0), outcome(S_OK, 1));
    assert_eq!(drive.calls(), [Call::Flush]);
}

#[test]
fn get_id_gives_20_bytes_padded_with_zeroes() {
    for (id, expected) in [
        ("virtside-disk", b"virtside-disk\0\0\0\0\0\0\0"),
        ("", &[0; 20]),
        // A serial of exactly 20 bytes has no terminator. A longer one is cut off.
        ("01234567890123456789", b"01234567890123456789"),
        ("01234567890123456789ABC", b"01234567890123456789"),
    ] {
        let options = BlockOptions::new(SIZE).with_id(id);
        let mut drive = Drive::with(Disk::new(), options, all());
        assert_eq!(drive.ask(T_GET_ID, 0, &[], 20), outcome(S_OK, 21));
        assert_eq!(drive.bytes(BODY, 20), expected);
    }
}

#[test]
fn get_id_fills_a_shorter_buffer() {
    for room in [1, 5, 19] {
        let mut drive = Drive::new();
        assert_eq!(drive.ask(T_GET_ID, 0, &[], room), outcome(S_OK, room + 1));
        let bytes = drive.bytes(BODY, 20);
        let room = room as usize;
        assert_eq!(bytes[..room], b"virtside-disk\0\0\0\0\0\0\0"[..room]);
        assert_eq!(bytes[room..], vec![0; 20 - room], "the rest is untouched");
    }
}

#[test]
fn get_id_leaves_room_beyond_20_bytes_alone() {
    let mut drive = Drive::new();
    drive.driver.write(BODY, &[0x77; 40]);
    // The status is not adjacent to the written bytes, so it cannot count.
    assert_eq!(drive.ask(T_GET_ID, 0, &[], 33), outcome(S_OK, 20));
    assert_eq!(drive.bytes(BODY, 20), b"virtside-disk\0\0\0\0\0\0\0");
    assert_eq!(drive.bytes(BODY + 20, 20), [0x77; 20]);
}

#[test]
fn the_sector_of_a_request_that_has_none_does_not_matter() {
    let mut drive = Drive::new();
    for sector in [1, SECTORS as u64 + 1, u64::MAX] {
        assert_eq!(drive.ask(T_FLUSH, sector, &[], 0), outcome(S_OK, 1));
        assert_eq!(drive.ask(T_GET_ID, sector, &[], 20), outcome(S_OK, 21));
        let zeroes = range(2, 1, 0);
        assert_eq!(
            drive.ask(T_WRITE_ZEROES, sector, &zeroes, 0),
            outcome(S_OK, 1)
        );
    }
}

#[test]
fn the_reserved_field_of_the_header_does_not_matter() {
    let mut drive = Drive::new();
    drive.write_header(T_IN, 2);
    drive.driver.write(HEADER + 4, &[0xff; 4]);
    let buffers = [
        Buffer::readable(HEADER, 16),
        Buffer::writable(BODY, 512),
        Buffer::writable(STATUS, 1),
    ];
    assert_eq!(drive.send(&buffers), Some(outcome(S_OK, 513)));
}

#[test]
fn requests_of_one_batch_are_all_carried_out_in_order() {
    let mut drive = Drive::new();
    for head in 0..5u64 {
        let at = 0x40 * head;
        let header = [[1, 0, 0, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 0]].concat();
        drive.driver.write(HEADER + at, &header);
        drive
            .driver
            .write(BODY + 512 * head, &[0x10 + head as u8; 512]);
        let buffers = [
            Buffer::readable(HEADER + at, 16),
            Buffer::readable(BODY + 512 * head, 512),
            Buffer::writable(STATUS + head, 1),
        ];
        drive.driver.write_chain(3 * head as u16, &buffers);
        drive.driver.offer(3 * head as u16);
    }
    drive.driver.publish();
    let _ = virtside::testing::Registers::kick(&mut drive.engine, 0);
    virtside_tests::rings::settle(&mut drive.engine);
    assert_eq!(drive.driver.used_idx(), 5);
    assert_eq!(drive.bytes(STATUS, 5), [S_OK; 5]);
    assert_eq!(drive.sector(7), [0x14; 512], "the last write remains");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Header, data and status may be cut at any byte, and may share descriptors.
    #[test]
    fn how_a_request_is_split_over_descriptors_does_not_matter(
        write: bool,
        sector in 0u64..60,
        sectors in 0u32..4,
        cuts in (vec(any::<u32>(), 0..6), vec(any::<u32>(), 0..6)),
    ) {
        let mut drive = Drive::new();
        let len = 512 * sectors;
        let data: Vec<u8> = (0..len).map(|at| (at * 31 + at / 512) as u8).collect();
        // The readable part and the writable part each have their own piece of memory.
        let (sent, room) = (HEADER, BODY);
        let kind = if write { T_OUT } else { T_IN };
        drive.write_header(kind, sector);
        drive.driver.write(sent + 16, if write { &data } else { &[] });
        drive.driver.write(room, &vec![UNTOUCHED; len as usize + 1]);
        let (readable, writable) = if write { (16 + len, 1) } else { (16, len + 1) };
        let mut buffers = cut(sent, readable, &cuts.0, false);
        buffers.extend(cut(room, writable, &cuts.1, true));
        drive.driver.send(0, &buffers);
        let _ = virtside::testing::Registers::kick(&mut drive.engine, 0);
        virtside_tests::rings::settle(&mut drive.engine);
        prop_assert_eq!(drive.driver.take_used(), Some((0, writable)));
        prop_assert_eq!(drive.bytes(room + u64::from(writable) - 1, 1), [S_OK]);
        let disk = drive.engine.model().backend().ram.bytes();
        let (start, end) = (sector as usize * 512, sector as usize * 512 + len as usize);
        if write {
            prop_assert_eq!(&disk[start..end], data);
        } else {
            prop_assert_eq!(&disk[start..end], drive.bytes(room, len as usize));
        }
    }
}

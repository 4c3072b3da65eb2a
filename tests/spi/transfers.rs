//! The three types of transfer: half-duplex write, half-duplex read, full duplex.

use virtside::testing::Shot;
use virtside_tests::{BASE, models::spi::*};

fn data(rig: &mut SpiRig<Recorder>) -> Vec<Data> {
    rig.calls().into_iter().map(|(_, data)| data).collect()
}

#[test]
fn a_half_duplex_write_sends_its_bytes() {
    let mut rig = SpiRig::new();
    assert_eq!(rig.ask(PLAIN, &[1, 2, 3], 0), outcome(OK));
    assert_eq!(data(&mut rig), [Data::Write(vec![1, 2, 3])]);
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn a_half_duplex_read_fills_its_buffer() {
    let mut rig = SpiRig::new();
    assert_eq!(rig.ask(PLAIN, &[], 5), got([1; 5]));
    assert_eq!(data(&mut rig), [Data::Read(5)]);
}

#[test]
fn a_full_duplex_transfer_does_both() {
    let mut rig = SpiRig::new();
    assert_eq!(rig.ask(PLAIN, &[10, 20, 30], 3), got([11, 21, 31]));
    assert_eq!(data(&mut rig), [Data::Exchange(vec![10, 20, 30])]);
}

#[test]
fn buffers_of_different_lengths_are_a_parameter_error() {
    for (sent, room) in [(1, 2), (2, 1), (3, 32), (32, 31), (33, 32)] {
        let mut rig = SpiRig::new();
        let outcome = rig.ask(PLAIN, &vec![0x55; sent], room);
        assert_eq!(outcome, refused(PARAM_ERR, room));
        assert_eq!(data(&mut rig), []);
        assert_eq!(rig.host_fault(), None);
    }
    let mut rig = SpiRig::new();
    assert_eq!(rig.ask(PLAIN, &[0x55; 32], 32), got([0x56; 32]));
}

#[test]
fn a_request_without_data_is_a_parameter_error() {
    let mut rig = SpiRig::new();
    assert_eq!(rig.ask(PLAIN, &[], 0), outcome(PARAM_ERR));
    assert_eq!(data(&mut rig), []);
}

#[test]
fn a_read_never_sends_data_of_another_request() {
    let mut rig = SpiRig::new();
    rig.ask(PLAIN, &[0x55; 32], 0);
    // This controller returns the bytes that it gets, plus 1.
    assert_eq!(rig.ask(PLAIN, &[], 32), got([1; 32]));
}

#[test]
fn as_many_bytes_as_the_device_has_room_for_can_be_moved() {
    let mut rig = SpiRig::new();
    let all: Vec<u8> = (0..BYTES as u8).collect();
    assert_eq!(rig.ask(PLAIN, &all, 0), outcome(OK));
    assert_eq!(rig.ask(PLAIN, &[], BYTES), got([1; BYTES]));
    assert_eq!(rig.ask(PLAIN, &all, BYTES), got(1..=BYTES as u8));
}

#[test]
fn the_device_changes_no_readable_byte() {
    let mut rig = SpiRig::new();
    for (tx, room) in [
        (&[1, 2, 3][..], 0),
        (&[], 3),
        (&[1, 2, 3], 3),
        (&[1], 3),
        (&[7; 40], 40),
    ] {
        for head in [
            PLAIN,
            Head {
                chip_select: 9,
                ..PLAIN
            },
        ] {
            let buffers = rig.put(&head, tx, room);
            rig.driver.write_chain(0, &buffers);
            rig.driver.offer(0);
            rig.driver.publish();
            let before = Shot::of(rig.ram, BASE);
            let _ = virtside::testing::Registers::kick(&mut rig.engine, 0);
            virtside_tests::rings::settle(&mut rig.engine);
            let layout = *rig.driver.layout();
            before.assert_only_changed(&[
                (RESULT, 1),
                (RX, room as u64),
                (layout.device, layout.end() - layout.device),
            ]);
            assert_ne!(rig.bytes(RESULT, 1), [UNTOUCHED]);
        }
    }
}

#[test]
fn several_requests_are_executed_in_order() {
    let mut rig = SpiRig::new();
    for at in 0..4u64 {
        let place = 0x1000 * (at + 1);
        rig.driver.write(HEAD + place, &PLAIN.bytes());
        rig.driver.write(TX + place, &[at as u8]);
        let buffers = [
            virtside::testing::Buffer::readable(HEAD + place, 32),
            virtside::testing::Buffer::readable(TX + place, 1),
            virtside::testing::Buffer::writable(RESULT + place, 1),
        ];
        rig.driver.write_chain(4 * at as u16, &buffers);
        rig.driver.offer(4 * at as u16);
    }
    rig.driver.publish();
    let _ = virtside::testing::Registers::kick(&mut rig.engine, 0);
    virtside_tests::rings::settle(&mut rig.engine);
    let sent: Vec<Data> = (0..4).map(|at| Data::Write(vec![at])).collect();
    assert_eq!(data(&mut rig), sent);
    for at in 0..4 {
        assert_eq!(rig.driver.take_used(), Some((4 * at, 1)));
    }
}

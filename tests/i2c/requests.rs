//! Single requests that succeed.

use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use virtside::models::{I2c, I2cAddress, TenBit};
use virtside_tests::models::i2c::*;
use virtside_tests::rings::{changes, shot};

/// Driver addresses of the bytes that differ.
fn touched(before: &[u8], after: &[u8]) -> Vec<u64> {
    let at = |offset: usize| virtside_tests::BASE + offset as u64;
    changes(before, after).into_iter().map(at).collect()
}

#[test]
fn a_write_sends_its_bytes_and_is_answered_with_ok() {
    let mut mock = Mock::new(&[
        Transaction::write(0x50, vec![0x10, 0xaa, 0xbb]),
        Transaction::write(0x21, vec![7]),
    ]);
    let mut rig = I2cRig::over(mock.clone());
    assert_eq!(rig.one(write(0x50, &[0x10, 0xaa, 0xbb])), done());
    assert_eq!(rig.one(write(0x21, &[7])), done());
    assert_eq!(rig.host_fault(), None);
    mock.done();
}

#[test]
fn a_read_fills_all_of_its_buffer_and_is_answered_with_ok() {
    let mut mock = Mock::new(&[
        Transaction::read(0x50, vec![9, 8, 7, 6]),
        Transaction::read(0x51, (1..=32).collect()),
    ]);
    let mut rig = I2cRig::over(mock.clone());
    assert_eq!(rig.one(read(0x50, 4)), got([9, 8, 7, 6]));
    assert_eq!(rig.one(read(0x51, 32)), got(1..=32));
    mock.done();
}

#[test]
fn a_request_without_data_sends_only_the_address() {
    let mut mock = Mock::new(&[
        Transaction::write(0x30, vec![]),
        Transaction::read(0x31, vec![]),
    ]);
    let mut rig = I2cRig::over(mock.clone());
    assert_eq!(rig.one(write(0x30, &[])), done());
    assert_eq!(rig.one(read(0x31, 0)), done());
    mock.done();
}

#[test]
fn the_status_is_the_last_byte_and_the_only_one_of_a_write() {
    let mut rig = I2cRig::new();
    rig.offer(0, &write(0x50, &[1, 2, 3]));
    rig.driver.publish();
    let before = shot(rig.ram);
    rig.run();
    let ring = rig.driver.layout().device..rig.driver.layout().end();
    let mut touched = touched(&before, &shot(rig.ram));
    touched.retain(|addr| !ring.contains(addr));
    assert_eq!(touched, [I2cRig::<Recorder>::place(0) + 0x200]);
    assert_eq!(rig.status(0), OK);
}

#[test]
fn the_device_changes_no_readable_byte() {
    let messages = [
        write(0x50, &[1, 2, 3]).and(),
        read(0x50, 5),
        read(0x7f, 32),
        write(0x50, &[0xff; 40]),
        Message {
            flags: 0xffff_ffff,
            ..write(0x50, &[4])
        },
    ];
    for combining in [false, true] {
        let mut rig = if combining {
            I2cRig::with_combining(2)
        } else {
            I2cRig::new()
        };
        for (index, message) in messages.iter().enumerate() {
            rig.offer(index, message);
        }
        rig.driver.publish();
        let before = shot(rig.ram);
        rig.run();
        let layout = *rig.driver.layout();
        let allowed = |addr: u64| {
            let place = (0..5)
                .map(I2cRig::<Recorder>::place)
                .find(|at| (*at..at + 0x400).contains(&addr));
            match place {
                // The status, and the buffers of the two reads.
                Some(at) if addr == at + 0x200 => true,
                Some(at) if at == I2cRig::<Recorder>::place(1) => {
                    (0x10..0x15).contains(&(addr - at))
                }
                Some(at) if at == I2cRig::<Recorder>::place(2) => {
                    (0x10..0x30).contains(&(addr - at))
                }
                Some(_) => false,
                None => (layout.device..layout.end()).contains(&addr),
            }
        };
        let touched = touched(&before, &shot(rig.ram));
        let bad: Vec<u64> = touched
            .iter()
            .copied()
            .filter(|addr| !allowed(*addr))
            .collect();
        assert_eq!(bad, Vec::<u64>::new());
        assert!(touched.len() > 5 + 5 + 32);
    }
}

#[test]
fn m_rd_alone_says_whether_it_is_a_read() {
    let mut rig = I2cRig::new();
    rig.ask(&[
        write(0x50, &[]),
        read(0x50, 0),
        write(0x50, &[1]),
        read(0x50, 1),
    ]);
    assert_eq!(
        rig.calls(),
        [
            Write(0x50, vec![]),
            Read(0x50, 0),
            Write(0x50, vec![1]),
            Read(0x50, 1)
        ]
    );
}

#[test]
fn a_7_bit_address_is_in_bits_7_to_1() {
    for chip in (0..0x80).filter(|chip| !(0x78..0x7c).contains(chip)) {
        let mut rig = I2cRig::new();
        rig.ask(&[write(chip, &[1]), read(chip, 1)]);
        let chip = u16::from(chip);
        assert_eq!(rig.calls(), [Write(chip, vec![1]), Read(chip, 1)]);
    }
}

#[test]
fn a_10_bit_address_is_taken_from_its_two_parts() {
    let mut rig = I2cRig::with(I2c::new(TenBit(Recorder::default())), 1);
    for address in 0..0x400u16 {
        // Bits 1111 0 A9 A8 0, and A7 to A0 above them.
        let addr = 0xf0 | (address >> 8) << 1 | (address & 0xff) << 8;
        let request = Message {
            addr,
            ..write(0, &[5])
        };
        assert_eq!(rig.one(request), done());
        assert_eq!(rig.calls(), [Write(0x1000 + address, vec![5])]);
        let request = Message { addr, ..read(0, 2) };
        assert_eq!(rig.one(request).status, OK);
        assert_eq!(rig.calls(), [Read(0x1000 + address, 2)]);
    }
}

#[test]
fn a_bus_with_10_bit_addresses_also_has_7_bit_ones() {
    let mut rig = I2cRig::with(I2c::new(TenBit(Recorder::default())).with_combining(), 2);
    rig.ask(&[write(0x50, &[1]).and(), read(0x50, 2)]);
    assert_eq!(rig.calls(), [WriteRead(0x50, vec![1], 2)]);
    let addr = 0x12f2;
    let write = Message {
        addr,
        ..write(0, &[3]).and()
    };
    let read = Message { addr, ..read(0, 4) };
    rig.ask(&[write, read]);
    assert_eq!(rig.calls(), [WriteRead(0x1112, vec![3], 4)]);
}

#[test]
fn every_addr_is_of_one_format_or_none() {
    let mut counts = [0; 3];
    for addr in 0..=u16::MAX {
        match I2cAddress::from_request(addr) {
            Some(I2cAddress::Seven(chip)) => {
                assert_eq!(u16::from(chip) << 1, addr);
                counts[0] += 1;
            }
            Some(I2cAddress::Ten(chip)) => {
                assert_eq!(0xf0 | (chip >> 8) << 1 | chip << 8, addr);
                counts[1] += 1;
            }
            None => counts[2] += 1,
        }
    }
    // Four of the 7-bit addresses are reserved for the 10-bit format.
    assert_eq!(counts, [124, 1024, 0x1_0000 - 124 - 1024]);
}

#[test]
fn the_padding_does_not_matter() {
    let mut rig = I2cRig::new();
    let message = read(0x50, 3);
    rig.offer(0, &message);
    rig.driver
        .write(I2cRig::<Recorder>::place(0) + 2, &[0xff; 2]);
    rig.run();
    let used = rig.take_used()[0].1;
    assert_eq!(rig.outcome(0, &message, used), got([1, 2, 3]));
}

#[test]
fn as_many_bytes_as_the_adapter_has_room_for_can_be_moved() {
    let mut rig = I2cRig::new();
    let data: Vec<u8> = (0..BYTES as u8).collect();
    assert_eq!(rig.one(write(0x50, &data)), done());
    assert_eq!(rig.one(read(0x50, BYTES as u32)), got(1..=BYTES as u8));
    assert_eq!(rig.calls(), [Write(0x50, data), Read(0x50, BYTES)]);
}

#[test]
fn a_read_never_shows_data_of_another_request() {
    /// A bus that reports a read without writing the buffer.
    struct Lazy;
    impl embedded_hal::i2c::ErrorType for Lazy {
        type Error = embedded_hal::i2c::ErrorKind;
    }
    impl embedded_hal::i2c::I2c for Lazy {
        fn transaction(
            &mut self,
            _: u8,
            _: &mut [embedded_hal::i2c::Operation<'_>],
        ) -> Result<(), Self::Error> {
            Ok(())
        }
    }
    let mut rig = I2cRig::over(Lazy);
    assert_eq!(rig.one(write(0x50, &[0x55; 16])), done());
    assert_eq!(rig.one(read(0x50, 16)), got([0; 16]));
    let mut rig = I2cRig::with(I2c::new(Lazy).with_combining(), 2);
    assert_eq!(rig.one(write(0x50, &[0x55; 16])), done());
    let outcomes = rig.ask(&[write(0x50, &[1]).and(), read(0x50, 15)]);
    assert_eq!(outcomes[1], got([0; 15]));
}

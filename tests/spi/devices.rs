//! Devices whose chip select is not ours.

use embedded_hal::spi::{ErrorKind, ErrorType, MODE_0, MODE_3, Operation, SpiDevice};
use embedded_hal_mock::eh1::spi::{Mock, Transaction};
use virtside::{
    HostFault,
    models::spi::{SpiChip, SpiDevices},
};

use super::support::*;

/// A device that always fails.
struct Broken;

impl ErrorType for Broken {
    type Error = ErrorKind;
}

impl SpiDevice for Broken {
    fn transaction(&mut self, _: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        Err(ErrorKind::ModeFault)
    }
}

fn mock(transactions: &[Transaction<u8>]) -> Mock<u8> {
    let around = |transaction: &Transaction<u8>| {
        [
            Transaction::transaction_start(),
            transaction.clone(),
            Transaction::transaction_end(),
        ]
    };
    Mock::new(&transactions.iter().flat_map(around).collect::<Vec<_>>())
}

#[test]
fn each_transfer_is_a_transaction_of_its_device() {
    let mut first = mock(&[
        Transaction::write_vec(vec![1, 2, 3]),
        Transaction::read_vec(vec![4, 5]),
        Transaction::transfer_in_place(vec![6, 7], vec![8, 9]),
    ]);
    let mut second = mock(&[Transaction::write_vec(vec![10])]);
    let chips = [
        SpiChip::new(first.clone(), MODE_0, 1_000_000),
        SpiChip::new(second.clone(), MODE_3, 2_000_000),
    ];
    let mut rig = Rig::over(SpiDevices::new(chips));
    assert_eq!(rig.ask(PLAIN, &[1, 2, 3], 0), outcome(OK));
    assert_eq!(rig.ask(PLAIN, &[], 2), got([4, 5]));
    let head = Head {
        chip_select: 1,
        mode: 3,
        freq: 2_000_000,
        ..PLAIN
    };
    assert_eq!(rig.ask(head, &[10], 0), outcome(OK));
    assert_eq!(rig.ask(PLAIN, &[6, 7], 2), got([8, 9]));
    drop(rig);
    first.done();
    second.done();
}

#[test]
fn it_says_what_all_of_its_chips_can_do_together() {
    let chip = |mode, hz| SpiChip::new(Broken, mode, hz);
    let shown = |chips| space(&mut Rig::over(SpiDevices::<_, 2>::new(chips)).guest);
    let mut expected = vec![0; 32];
    expected[..5].copy_from_slice(&[2, 0, 0, 0, 0x80]);
    expected[8] = 0b0101;
    expected[12..16].copy_from_slice(&2000u32.to_le_bytes());
    assert_eq!(shown([chip(MODE_0, 1000), chip(MODE_0, 2000)]), expected);
    expected[8] = 0b1111;
    assert_eq!(shown([chip(MODE_0, 2000), chip(MODE_3, 1000)]), expected);
    // A chip that takes any rate.
    expected[12..16].fill(0);
    assert_eq!(shown([chip(MODE_0, 0), chip(MODE_3, 1000)]), expected);
    assert_eq!(shown([chip(MODE_0, 1000), chip(MODE_3, 0)]), expected);
}

#[test]
fn what_a_chip_was_not_set_up_for_is_refused() {
    let mut devices = [Mock::new(&[]), Mock::new(&[])];
    let [first, second] = devices.clone();
    let chips = [
        SpiChip::new(first, MODE_0, 1_000_000),
        SpiChip::new(second, MODE_3, 2_000_000),
    ];
    let mut rig = Rig::over(SpiDevices::new(chips));
    for head in [
        Head { mode: 3, ..PLAIN },
        Head { mode: 1, ..PLAIN },
        Head {
            freq: 2_000_000,
            ..PLAIN
        },
        Head {
            freq: 999_999,
            ..PLAIN
        },
        Head {
            chip_select: 1,
            ..PLAIN
        },
        Head {
            chip_select: 1,
            freq: 2_000_000,
            ..PLAIN
        },
        Head {
            chip_select: 2,
            ..PLAIN
        },
        Head {
            cs_change: 1,
            ..PLAIN
        },
        Head {
            word_delay: 1,
            ..PLAIN
        },
        Head {
            cs_setup: 1,
            ..PLAIN
        },
        Head {
            cs_hold: 1,
            ..PLAIN
        },
        Head {
            cs_inactive: 1,
            ..PLAIN
        },
        Head {
            bits_per_word: 9,
            ..PLAIN
        },
    ] {
        assert_eq!(rig.ask(head, &[1], 0), outcome(PARAM_ERR));
        assert_eq!(rig.ask(head, &[], 2), refused(PARAM_ERR, 2));
        assert_eq!(rig.host_fault(), None);
    }
    drop(rig);
    devices.iter_mut().for_each(Mock::done);
}

#[test]
fn a_device_that_fails_is_a_transfer_error() {
    let mut rig = Rig::over(SpiDevices::new([SpiChip::new(Broken, MODE_0, 0)]));
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(rig.ask(PLAIN, &[1], 1), refused(TRANS_ERR, 1));
    assert_eq!(rig.ask(PLAIN, &[], 2), refused(TRANS_ERR, 2));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
}

//! SPI devices that drive their own chip select.

use embedded_hal::spi::{ErrorKind, ErrorType, MODE_0, MODE_3, Operation, SpiDevice};
use embedded_hal_mock::eh1::spi::{Mock, Transaction};
use virtside::{
    HostFault,
    models::spi::{SpiChip, SpiDevices},
};
use virtside_tests::models::spi::*;

/// A request that such a device supports: its chip is deselected afterwards.
const ALONE: Head = Head {
    cs_change: 1,
    ..PLAIN
};

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
    let mut rig = SpiRig::over(SpiDevices::new(chips));
    assert_eq!(rig.ask(ALONE, &[1, 2, 3], 0), outcome(OK));
    assert_eq!(rig.ask(ALONE, &[], 2), got([4, 5]));
    let head = Head {
        chip_select: 1,
        mode: 3,
        freq: 2_000_000,
        ..ALONE
    };
    assert_eq!(rig.ask(head, &[10], 0), outcome(OK));
    assert_eq!(rig.ask(ALONE, &[6, 7], 2), got([8, 9]));
    drop(rig);
    first.done();
    second.done();
}

#[test]
fn it_reports_what_all_of_its_chips_support() {
    let chip = |mode, hz| SpiChip::new(Broken, mode, hz);
    let shown = |chips| space(&mut SpiRig::over(SpiDevices::<_, 2>::new(chips)).engine);
    let mut expected = vec![0; 32];
    expected[..5].copy_from_slice(&[2, 1, 0, 0, 0x80]);
    expected[8] = 0b0101;
    expected[12..16].copy_from_slice(&2000u32.to_le_bytes());
    assert_eq!(shown([chip(MODE_0, 1000), chip(MODE_0, 2000)]), expected);
    expected[8] = 0b1111;
    assert_eq!(shown([chip(MODE_0, 2000), chip(MODE_3, 1000)]), expected);
    // A chip that accepts any rate.
    expected[12..16].fill(0);
    assert_eq!(shown([chip(MODE_0, 0), chip(MODE_3, 1000)]), expected);
    assert_eq!(shown([chip(MODE_0, 1000), chip(MODE_3, 0)]), expected);
}

#[test]
fn parameters_that_differ_from_the_chips_are_refused() {
    let mut devices = [Mock::new(&[]), Mock::new(&[])];
    let [first, second] = devices.clone();
    let chips = [
        SpiChip::new(first, MODE_0, 1_000_000),
        SpiChip::new(second, MODE_3, 2_000_000),
    ];
    let mut rig = SpiRig::over(SpiDevices::new(chips));
    for head in [
        Head { mode: 3, ..ALONE },
        Head { mode: 1, ..ALONE },
        Head {
            freq: 2_000_001,
            ..ALONE
        },
        Head {
            freq: 999_999,
            ..ALONE
        },
        Head {
            chip_select: 1,
            ..ALONE
        },
        Head {
            chip_select: 1,
            freq: 2_000_000,
            ..ALONE
        },
        Head {
            chip_select: 2,
            ..ALONE
        },
        Head {
            cs_change: 2,
            ..ALONE
        },
        Head {
            word_delay: 1,
            ..ALONE
        },
        Head {
            cs_setup: 1,
            ..ALONE
        },
        Head {
            cs_hold: 1,
            ..ALONE
        },
        Head {
            cs_inactive: 1,
            ..ALONE
        },
        Head {
            bits_per_word: 9,
            ..ALONE
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
    let mut rig = SpiRig::over(SpiDevices::new([SpiChip::new(Broken, MODE_0, 0)]));
    assert_eq!(rig.ask(ALONE, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(rig.ask(ALONE, &[1], 1), refused(TRANS_ERR, 1));
    assert_eq!(rig.ask(ALONE, &[], 2), refused(TRANS_ERR, 2));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
}

#[test]
fn a_chip_that_is_to_stay_selected_is_refused() {
    // Zephyr clears cs_change in all transfers of a message but the last; Linux also in the last.
    let mut device = mock(&[Transaction::write_vec(vec![1])]);
    let mut rig = SpiRig::over(SpiDevices::new([SpiChip::new(device.clone(), MODE_0, 0)]));
    assert_eq!(space(&mut rig.engine)[1], 1, "cs_change is supported");
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(PARAM_ERR));
    assert_eq!(rig.ask(PLAIN, &[], 2), refused(PARAM_ERR, 2));
    assert_eq!(rig.host_fault(), None);
    assert_eq!(rig.ask(ALONE, &[1], 0), outcome(OK));
    drop(rig);
    device.done();
}

#[test]
fn messages_are_split_where_the_host_wants_it() {
    let mut device = mock(&[
        Transaction::write_vec(vec![1]),
        Transaction::read_vec(vec![2, 3]),
        Transaction::write_vec(vec![4]),
    ]);
    let chips = [SpiChip::new(device.clone(), MODE_0, 0)];
    let mut rig = SpiRig::over(SpiDevices::new(chips).with_split_messages());
    assert_eq!(space(&mut rig.engine)[1], 1, "cs_change is supported");
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(OK));
    assert_eq!(rig.ask(PLAIN, &[], 2), got([2, 3]));
    assert_eq!(rig.ask(ALONE, &[4], 0), outcome(OK));
    drop(rig);
    device.done();
}

#[test]
fn a_chip_slower_than_the_request_runs_at_its_own_rate() {
    let mut first = mock(&[Transaction::write_vec(vec![1])]);
    let mut second = Mock::new(&[]);
    let chips = [
        SpiChip::new(first.clone(), MODE_0, 1_000_000),
        SpiChip::new(second.clone(), MODE_0, 2_000_000),
    ];
    let mut rig = SpiRig::over(SpiDevices::new(chips));
    let head = Head {
        freq: 2_000_000,
        ..ALONE
    };
    assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
    // A chip's higher rate is not used.
    let head = Head {
        chip_select: 1,
        freq: 1_000_000,
        ..ALONE
    };
    assert_eq!(rig.ask(head, &[1], 0), outcome(PARAM_ERR));
    drop(rig);
    first.done();
    second.done();
}

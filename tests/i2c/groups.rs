//! Several requests at a time, and groups in which one request fails.

use virtside::testing::Registers;
use virtside_tests::{config, driver, models::i2c::*, reg};

#[test]
fn requests_are_executed_and_answered_in_order() {
    let mut rig = I2cRig::new();
    let outcomes = rig.ask(&[
        write(0x10, &[1]),
        read(0x11, 2),
        write(0x12, &[]),
        read(0x13, 1),
        write(0x14, &[4, 5]),
    ]);
    assert_eq!(outcomes, [done(), got([1, 2]), done(), got([3]), done()]);
    assert_eq!(
        rig.calls(),
        [
            Write(0x10, vec![1]),
            Read(0x11, 2),
            Write(0x12, vec![]),
            Read(0x13, 1),
            Write(0x14, vec![4, 5]),
        ]
    );
    assert_eq!(rig.order, [0, 3, 6, 9, 12]);
}

#[test]
fn a_failed_request_fails_the_rest_of_its_group() {
    // Any request of the group may fail.
    for first in 0..4 {
        let mut rig = I2cRig::new();
        rig.trouble((0..5).map(|at| (at == first).then_some(NAK)));
        let outcomes = rig.ask(&[
            write(0x10, &[1]).and(),
            read(0x11, 2).and(),
            write(0x12, &[3]).and(),
            read(0x13, 4),
            write(0x14, &[5]),
        ]);
        let statuses: Vec<u8> = outcomes.iter().map(|outcome| outcome.status).collect();
        let expected: Vec<u8> = (0..5)
            .map(|at| u8::from((first..4).contains(&at)))
            .collect();
        assert_eq!(statuses, expected);
        // The rest of the group is not tried; the request after the group is.
        assert_eq!(rig.calls().len(), first + 2);
        assert_eq!(rig.host_fault(), None);
    }
}

#[test]
fn a_read_that_fails_with_its_group_reads_as_zeros() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(NAK)]);
    let outcomes = rig.ask(&[write(0x10, &[1]).and(), read(0x10, 6)]);
    assert_eq!(outcomes, [failed(), failed_read(6)]);
}

#[test]
fn a_failed_request_on_its_own_fails_no_other() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(NAK), None, Some(NAK), None]);
    let outcomes = rig.ask(&[
        write(0x10, &[1]),
        read(0x10, 1),
        read(0x10, 1),
        write(0x10, &[2]),
    ]);
    assert_eq!(outcomes, [failed(), got([1]), failed_read(1), done()]);
}

#[test]
fn a_group_that_succeeds_has_no_effect_on_the_next() {
    let mut rig = I2cRig::new();
    let outcomes = rig.ask(&[
        write(0x10, &[1]).and(),
        read(0x10, 1),
        write(0x10, &[2]).and(),
        read(0x10, 1),
    ]);
    assert!(outcomes.iter().all(|outcome| outcome.status == OK));
}

#[test]
fn a_failed_last_request_ends_its_group() {
    let mut rig = I2cRig::new();
    rig.trouble([None, Some(NAK)]);
    let outcomes = rig.ask(&[
        write(0x10, &[1]).and(),
        read(0x10, 1),
        write(0x10, &[2]).and(),
        read(0x10, 1),
    ]);
    assert_eq!(outcomes, [done(), failed_read(1), done(), got([1])]);
}

#[test]
fn a_malformed_request_fails_its_group() {
    let nonsense = [
        // A reserved flag, an address of neither format, an address that this bus does not support,
        // and more data than there is room for.
        Message {
            flags: 4,
            ..write(0x10, &[1])
        },
        Message {
            addr: 0x21,
            ..write(0x10, &[1])
        },
        Message {
            addr: 0x12f2,
            ..write(0x10, &[1])
        },
        write(0x10, &[1; BYTES + 1]),
    ];
    for bad in nonsense {
        let mut rig = I2cRig::new();
        let group = [
            bad.clone().and(),
            write(0x10, &[2]).and(),
            read(0x10, 3),
            read(0x10, 1),
        ];
        let outcomes = rig.ask(&group);
        assert_eq!(outcomes, [failed(), failed(), failed_read(3), got([1])]);
        // The same request without a group fails only itself.
        assert_eq!(rig.ask(&[bad, read(0x10, 1)]), [failed(), got([2])]);
        assert_eq!(rig.calls(), [Read(0x10, 1), Read(0x10, 1)]);
    }
}

#[test]
fn a_group_may_come_in_several_kicks() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(NAK)]);
    assert_eq!(rig.one(write(0x10, &[1]).and()), failed());
    assert_eq!(rig.one(write(0x10, &[2]).and()), failed());
    assert_eq!(rig.one(read(0x10, 1)), failed_read(1));
    assert_eq!(rig.one(read(0x10, 1)), got([1]));
    assert_eq!(rig.calls().len(), 2);
}

#[test]
fn a_reset_ends_a_group_that_failed() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(NAK)]);
    assert_eq!(rig.one(write(0x10, &[1]).and()), failed());
    assert!(rig.engine.bring_up(features(), &[config(0)]));
    rig.driver = driver(rig.ram, 0);
    assert_eq!(rig.one(read(0x10, 1)), got([1]));
}

#[test]
fn a_stopped_queue_ends_a_group_that_failed() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(NAK)]);
    assert_eq!(rig.one(write(0x10, &[1]).and()), failed());
    let _ = rig.engine.store(reg::QUEUE_SEL, 0);
    let _ = rig.engine.store(reg::QUEUE_READY, 0);
    assert_eq!(rig.engine.load(reg::QUEUE_READY), 0);
    // A stopped queue needs a reset.
    assert!(rig.engine.bring_up(features(), &[config(0)]));
    rig.driver = driver(rig.ram, 0);
    assert_eq!(rig.one(read(0x10, 1)), got([1]));
}

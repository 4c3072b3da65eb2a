//! Indirect tables that are rejected.

use super::*;

#[test]
fn indirect_without_the_feature_is_rejected() {
    for flags in [INDIRECT, INDIRECT | WRITE, INDIRECT | NEXT] {
        let fault = fault_after(Features::empty(), |rig| {
            rig.driver
                .write_indirect(0, TABLE, &[Buffer::writable(DATA, 1)]);
            rig.driver.write_desc(0, (TABLE, 16), flags, 0);
        });
        assert_eq!(fault, DriverFault::IndirectNotNegotiated { head: 0 });
    }
}

#[test]
fn indirect_together_with_next_is_rejected() {
    for flags in [INDIRECT | NEXT, INDIRECT | NEXT | WRITE] {
        let fault = fault_after(Features::INDIRECT_DESC, |rig| {
            rig.driver
                .write_indirect(0, TABLE, &[Buffer::writable(DATA, 1)]);
            rig.driver.write_desc(0, (TABLE, 16), flags, 1);
        });
        assert_eq!(fault, DriverFault::IndirectWithNext { head: 0 });
    }
}

#[test]
fn a_table_in_a_table_is_rejected() {
    for direct in [0, 1u16] {
        for before in [0, 2u16] {
            let fault = fault_after(Features::INDIRECT_DESC, |rig| {
                rig.driver.write_desc(0, (DATA, 1), NEXT, 1);
                for at in 0..before {
                    let place = TABLE + 16 * u64::from(at);
                    rig.driver.write_desc_at(place, (DATA, 1), NEXT, at + 1);
                }
                let inner = TABLE + 16 * u64::from(before);
                rig.driver
                    .write_desc_at(inner, (TABLE + 0x100, 16), INDIRECT, 0);
                rig.driver.write_desc_at(TABLE + 0x100, (DATA, 1), WRITE, 0);
                let len = 16 * u32::from(before + 1);
                rig.driver.write_desc(direct, (TABLE, len), INDIRECT, 0);
            });
            assert_eq!(fault, DriverFault::IndirectNested { head: 0 });
        }
    }
}

#[test]
fn a_table_of_an_odd_length_is_rejected() {
    for len in [1, 8, 15, 17, 24, 255, 0xffff_ffff, 0xffff_fff8] {
        let fault = fault_after(Features::INDIRECT_DESC, |rig| {
            rig.driver
                .write_indirect(0, TABLE, &[Buffer::writable(DATA, 1)]);
            rig.driver.write_desc(0, (TABLE, len), INDIRECT, 0);
        });
        assert_eq!(fault, DriverFault::IndirectLength { len });
    }
}

#[test]
fn an_empty_table_is_rejected() {
    let fault = fault_after(Features::INDIRECT_DESC, |rig| {
        rig.driver.write_desc(0, (TABLE, 0), INDIRECT, 0);
    });
    assert_eq!(fault, DriverFault::IndirectLength { len: 0 });
}

/// The device's capacity is the limit, not the queue's size: see
/// `indirect::a_small_queue_may_have_large_tables`.
#[test]
fn a_table_that_makes_the_chain_too_long_is_rejected() {
    for size in [2, 16] {
        for direct in [0, 1, 5, 15u16] {
            if direct >= size {
                continue;
            }
            let count = SIZE - direct + 1;
            let mut rig = RecordingRig::sized(Features::INDIRECT_DESC, size);
            for at in 0..direct {
                rig.driver.write_desc(at, (DATA, 1), NEXT, at + 1);
            }
            let rest = vec![Buffer::writable(DATA, 1); usize::from(count)];
            rig.driver.write_indirect(direct, TABLE, &rest);
            rig.driver.offer(0);
            rig.driver.publish();
            let len = 16 * u32::from(count);
            assert_eq!(fault_at_kick(&mut rig), DriverFault::IndirectLength { len });
        }
    }
}

#[test]
fn a_huge_table_is_rejected_without_being_read() {
    let fault = fault_after(Features::INDIRECT_DESC, |rig| {
        rig.driver.write_desc(0, (BASE, 0xffff_fff0), INDIRECT, 0);
    });
    assert_eq!(fault, DriverFault::IndirectLength { len: 0xffff_fff0 });
}

#[test]
fn a_table_that_is_not_all_mapped_is_rejected() {
    for addr in [0, END - 31, END - 16, END, u64::MAX - 15, u64::MAX - 30] {
        let fault = fault_after(Features::INDIRECT_DESC, |rig| {
            rig.driver
                .write_indirect(0, addr, &[Buffer::writable(DATA, 1); 2]);
        });
        assert_eq!(
            fault,
            DriverFault::BufferUnmapped {
                addr,
                len: 32,
                writable: false
            }
        );
    }
}

#[test]
fn a_table_may_end_with_the_last_byte_of_memory() {
    let mut rig = RecordingRig::new(Features::INDIRECT_DESC);
    rig.driver
        .write_indirect(0, END - 32, &[Buffer::writable(DATA, 1); 2]);
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((0, 2)));
}

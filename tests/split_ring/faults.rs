//! Protocol violations in split rings: which fault the device reports, and what happens to the
//! queue.

use virtio_spec::DeviceStatus;
use virtside::{
    DriverFault, DriverMem, Features, Step,
    device::QueueState,
    memory::{Permission, RegionMem},
    mmio::{Phase, Reply},
    shared::InterruptStatus,
    testing::{Buffer, INDIRECT, Layout, NEXT, Registers, WRITE},
};
use virtside_tests::{
    BASE, BYTES, DATA, Q, SIZE, config, driver, ram,
    rings::{EchoMem, Plan, RecordingModel, RecordingRig, region, settle, shot},
    test_engine,
};

mod afterwards;
mod buffers;
mod indirect;

const TABLE: u64 = DATA + 0x8000;
const END: u64 = BASE + BYTES as u64;

/// The fault of a device with these features that is offered head 0 after `build`.
fn fault_after(features: Features, build: impl FnOnce(&mut RecordingRig)) -> DriverFault {
    let mut rig = RecordingRig::new(features);
    build(&mut rig);
    rig.driver.offer(0);
    rig.driver.publish();
    fault_at_kick(&mut rig)
}

/// The fault that the device finds after the next kick.
fn fault_at_kick<M: DriverMem>(rig: &mut RecordingRig<M>) -> DriverFault {
    assert_eq!(rig.fault(), None);
    assert_eq!(rig.kick(), Step::Idle);
    assert!(
        rig.engine.model().seen.is_empty(),
        "no part of a malformed chain is served"
    );
    assert_eq!(
        rig.driver.used_idx(),
        0,
        "a malformed chain is not given back"
    );
    rig.fault().expect("the device finds a fault")
}

/// The fault of one chain.
fn fault_of(buffers: &[Buffer]) -> DriverFault {
    fault_after(Features::empty(), |rig| rig.driver.write_chain(0, buffers))
}

/// The fault of one chain in a table.
fn fault_in_table(buffers: &[Buffer]) -> DriverFault {
    fault_after(Features::INDIRECT_DESC, |rig| {
        rig.driver.write_indirect(0, TABLE, buffers)
    })
}

mod available_ring {
    use super::*;

    #[test]
    fn an_available_index_that_jumps_ahead_is_rejected() {
        for size in [1, 4, 16u16] {
            for idx in [size + 1, size + 2, 0x7fff, 0x8000, 0xffff] {
                let mut rig = RecordingRig::sized(Features::empty(), size);
                rig.driver.set_avail_idx(idx);
                assert_eq!(
                    fault_at_kick(&mut rig),
                    DriverFault::AvailIndexJump { idx, next: 0 }
                );
            }
        }
    }

    #[test]
    fn an_available_index_that_goes_back_is_rejected() {
        let mut rig = RecordingRig::new(Features::empty());
        for _ in 0..3 {
            rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
            rig.kick();
        }
        rig.driver.set_avail_idx(2);
        rig.kick();
        assert_eq!(
            rig.fault(),
            Some(DriverFault::AvailIndexJump { idx: 2, next: 3 })
        );
    }

    #[test]
    fn an_available_index_a_whole_queue_ahead_is_not_rejected() {
        for size in [1, 2, 16] {
            let mut rig = RecordingRig::sized(Features::empty(), size);
            for head in 0..size {
                rig.driver.write_chain(head, &[Buffer::writable(DATA, 1)]);
                rig.driver.offer(head);
            }
            rig.driver.publish();
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(rig.driver.used_idx(), size);
        }
    }

    #[test]
    fn a_head_outside_the_table_is_rejected() {
        for size in [1, 4, 16u16] {
            for head in [size, size + 1, 15, 16, 17, 0x8000, 0xffff] {
                if head < size {
                    continue;
                }
                let mut rig = RecordingRig::sized(Features::empty(), size);
                rig.driver.offer(head);
                rig.driver.publish();
                assert_eq!(
                    fault_at_kick(&mut rig),
                    DriverFault::HeadOutOfRange { head }
                );
            }
        }
    }

    #[test]
    fn a_chain_offered_again_while_it_is_in_flight_is_rejected() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.engine.model_mut().plan = Plan::Wait;
        rig.driver.send(9, &[Buffer::writable(DATA, 1)]);
        assert_eq!(rig.kick(), Step::Blocked);
        rig.driver.offer(9);
        rig.driver.publish();
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.fault(), Some(DriverFault::HeadInFlight { head: 9 }));
        assert_eq!(rig.driver.used_idx(), 0);
    }

    #[test]
    fn one_head_twice_in_one_batch_is_rejected() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.engine.model_mut().plan = Plan::Wait;
        rig.driver.write_chain(2, &[Buffer::writable(DATA, 1)]);
        rig.driver.offer(2);
        rig.driver.offer(2);
        rig.driver.publish();
        rig.kick();
        assert_eq!(rig.fault(), Some(DriverFault::HeadInFlight { head: 2 }));
        assert_eq!(rig.engine.model().heads(), [2]);
    }

    #[test]
    fn a_chain_that_was_given_back_may_be_offered_again() {
        let mut rig = RecordingRig::new(Features::empty());
        for turn in 1..40 {
            rig.driver.send(9, &[Buffer::writable(DATA, 1)]);
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!((rig.fault(), rig.driver.used_idx()), (None, turn));
        }
    }
}

mod table {
    use super::*;

    #[test]
    fn a_next_outside_the_table_is_rejected() {
        for next in [16, 17, 0x8000, 0xffff] {
            let fault = fault_after(Features::empty(), |rig| {
                rig.driver.write_desc(0, (DATA, 1), NEXT, 3);
                rig.driver.write_desc(3, (DATA, 1), NEXT, next);
            });
            assert_eq!(fault, DriverFault::NextOutOfRange { next });
        }
    }

    #[test]
    fn a_next_inside_the_capacity_but_outside_the_queue_is_rejected() {
        for next in [4, 5, 15] {
            let mut rig = RecordingRig::sized(Features::empty(), 4);
            rig.driver.write_desc(0, (DATA, 1), NEXT | WRITE, next);
            rig.driver.offer(0);
            rig.driver.publish();
            assert_eq!(
                fault_at_kick(&mut rig),
                DriverFault::NextOutOfRange { next }
            );
        }
    }

    #[test]
    fn a_next_outside_an_indirect_table_is_rejected() {
        for next in [3, 4, 16, 0xffff] {
            let fault = fault_after(Features::INDIRECT_DESC, |rig| {
                rig.driver.write_desc_at(TABLE, (DATA, 1), NEXT, 2);
                rig.driver.write_desc_at(TABLE + 32, (DATA, 1), NEXT, next);
                rig.driver.write_desc(0, (TABLE, 48), INDIRECT, 0);
            });
            assert_eq!(fault, DriverFault::NextOutOfRange { next });
        }
    }

    #[test]
    fn a_chain_that_loops_is_rejected() {
        for (size, length) in [(1, 1), (2, 1), (2, 2), (4, 3), (16, 1), (16, 7), (16, 16)] {
            for flags in [NEXT, NEXT | WRITE] {
                let mut rig = RecordingRig::sized(Features::empty(), size);
                for at in 0..length {
                    rig.driver
                        .write_desc(at, (DATA, 4), flags, (at + 1) % length);
                }
                rig.driver.offer(length - 1);
                rig.driver.publish();
                assert_eq!(
                    fault_at_kick(&mut rig),
                    DriverFault::ChainTooLong { head: length - 1 }
                );
            }
        }
    }

    #[test]
    fn a_chain_that_loops_behind_its_start_is_rejected() {
        let fault = fault_after(Features::empty(), |rig| {
            rig.driver.write_desc(0, (DATA, 4), NEXT, 1);
            rig.driver.write_desc(1, (DATA, 4), NEXT | WRITE, 2);
            rig.driver.write_desc(2, (DATA, 4), NEXT | WRITE, 1);
        });
        assert_eq!(fault, DriverFault::ChainTooLong { head: 0 });
    }

    #[test]
    fn a_loop_of_empty_descriptors_is_rejected() {
        let fault = fault_after(Features::empty(), |rig| {
            rig.driver.write_desc(0, (0, 0), NEXT, 0);
        });
        assert_eq!(fault, DriverFault::ChainTooLong { head: 0 });
    }

    #[test]
    fn an_indirect_table_that_loops_is_rejected() {
        for (length, back) in [(1, 0), (2, 0), (2, 1), (16, 0), (16, 15)] {
            let fault = fault_after(Features::INDIRECT_DESC, |rig| {
                for at in 0..length {
                    let next = if at + 1 < length { at + 1 } else { back };
                    let place = TABLE + 16 * u64::from(at);
                    rig.driver
                        .write_desc_at(place, (DATA, 4), NEXT | WRITE, next);
                }
                let len = 16 * u32::from(length);
                rig.driver.write_desc(0, (TABLE, len), INDIRECT, 0);
            });
            assert_eq!(fault, DriverFault::ChainTooLong { head: 0 });
        }
    }

    #[test]
    fn a_readable_descriptor_behind_a_writable_one_is_rejected() {
        let (readable, writable) = (Buffer::readable(DATA, 1), Buffer::writable(DATA, 1));
        let wrong = DriverFault::ReadableAfterWritable { head: 0 };
        for buffers in [
            vec![writable, readable],
            vec![readable, writable, readable],
            vec![readable, writable, writable, readable, writable],
            vec![Buffer::writable(DATA, 0), readable],
            vec![writable, Buffer::readable(DATA, 0)],
        ] {
            assert_eq!(fault_of(&buffers), wrong);
            assert_eq!(fault_in_table(&buffers), wrong);
        }
    }

    #[test]
    fn a_readable_table_entry_behind_writable_buffers_is_rejected() {
        for len in [0, 5] {
            let fault = fault_after(Features::INDIRECT_DESC, |rig| {
                rig.driver.write_desc(0, (DATA, len), NEXT | WRITE, 1);
                rig.driver
                    .write_indirect(1, TABLE, &[Buffer::readable(DATA, 1)]);
            });
            assert_eq!(fault, DriverFault::ReadableAfterWritable { head: 0 });
        }
    }
}

//! A write and the read that follows it, combined in one transaction.

use embedded_hal::i2c::ErrorKind;
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use proptest::{collection::vec, prelude::*};
use virtside::{DriverFault, HostFault, Step, models::I2c, testing::Registers};
use virtside_tests::{BUDGET, config, driver, models::i2c::*, reg};

#[test]
fn a_write_and_the_read_behind_it_have_no_stop_between_them() {
    let mut mock = Mock::new(&[
        Transaction::write_read(0x50, vec![0x10], vec![7, 8]),
        Transaction::write(0x50, vec![0x20]),
        Transaction::read(0x50, vec![9]),
    ]);
    let mut rig = I2cRig::with(I2c::new(mock.clone()).with_combining(), 2);
    let outcomes = rig.ask(&[write(0x50, &[0x10]).and(), read(0x50, 2)]);
    assert_eq!(outcomes, [done(), got([7, 8])]);
    // Requests of two groups are not combined.
    let outcomes = rig.ask(&[write(0x50, &[0x20]), read(0x50, 1)]);
    assert_eq!(outcomes, [done(), got([9])]);
    mock.done();
}

#[test]
fn a_write_that_waits_for_its_read_allows_a_suspension() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[0x10]).and());
    rig.offer(1, &read(0x50, 2));
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(1), Step::More);
    assert_eq!(rig.calls(), [], "the write waits for its read");
    // The read stays in the ring, so the write is sent alone.
    let _ = rig.engine.store(reg::STATUS, 0x1f);
    assert_eq!(rig.engine.load(reg::STATUS), 0x0f);
    rig.poll();
    assert_eq!(rig.engine.load(reg::STATUS), 0x1b);
    assert_eq!(rig.calls(), [Write(0x50, vec![0x10])]);
    assert_eq!(rig.take_used(), [(0, 1)]);
    let _ = rig.engine.store(reg::STATUS, 0x1f);
    rig.poll();
    assert_eq!(rig.calls(), [Read(0x50, 2)]);
    assert_eq!(rig.take_used().len(), 1);
}

#[test]
fn an_adapter_combines_nothing_unless_asked() {
    let mut rig = I2cRig::new();
    let outcomes = rig.ask(&[write(0x50, &[0x10]).and(), read(0x50, 2)]);
    assert_eq!(outcomes, [done(), got([1, 2])]);
    assert_eq!(rig.calls(), [Write(0x50, vec![0x10]), Read(0x50, 2)]);
    // No request waits, either.
    rig.offer(0, &write(0x50, &[1]).and());
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
    assert_eq!(rig.take_used(), [(0, 1)]);
}

#[test]
fn each_pair_of_a_group_is_one_transaction() {
    let mut rig = I2cRig::with_combining(2);
    let outcomes = rig.ask(&[
        write(0x50, &[1]).and(),
        read(0x50, 1).and(),
        write(0x50, &[2]).and(),
        read(0x50, 2),
    ]);
    assert_eq!(outcomes, [done(), got([1]), done(), got([2, 3])]);
    assert_eq!(
        rig.calls(),
        [WriteRead(0x50, vec![1], 1), WriteRead(0x50, vec![2], 2)]
    );
}

#[test]
fn segments_that_embedded_hal_cannot_combine_are_sent_alone() {
    for (group, expected) in [
        // Two segments of the same direction would run together.
        (
            vec![write(0x50, &[1]).and(), write(0x50, &[2]), read(0x50, 1)],
            vec![Write(0x50, vec![1]), Write(0x50, vec![2]), Read(0x50, 1)],
        ),
        (
            vec![read(0x50, 1).and(), read(0x50, 2)],
            vec![Read(0x50, 1), Read(0x50, 2)],
        ),
        // Two chips.
        (
            vec![write(0x50, &[1]).and(), read(0x51, 2)],
            vec![Write(0x50, vec![1]), Read(0x51, 2)],
        ),
        // A read before a write.
        (
            vec![read(0x50, 1).and(), write(0x50, &[2])],
            vec![Read(0x50, 1), Write(0x50, vec![2])],
        ),
        // The read belongs to the second write.
        (
            vec![
                write(0x30, &[1]).and(),
                write(0x50, &[2]).and(),
                read(0x50, 3),
            ],
            vec![Write(0x30, vec![1]), WriteRead(0x50, vec![2], 3)],
        ),
        (
            vec![
                write(0x50, &[1]).and(),
                write(0x50, &[2]).and(),
                write(0x50, &[3]).and(),
                read(0x50, 4).and(),
                read(0x50, 5),
            ],
            vec![
                Write(0x50, vec![1]),
                Write(0x50, vec![2]),
                WriteRead(0x50, vec![3], 4),
                Read(0x50, 5),
            ],
        ),
    ] {
        for slots in [2, 3, 4] {
            let mut rig = I2cRig::with_combining(slots);
            let outcomes = rig.ask(&group);
            assert!(outcomes.iter().all(|outcome| outcome.status == OK));
            assert_eq!(rig.calls(), expected);
        }
    }
}

#[test]
fn a_pair_that_is_together_too_long_is_not_combined() {
    let most = BYTES as u32;
    for (sent, len, together) in [(1, most - 1, true), (1, most, false), (BYTES, 1, false)] {
        let mut rig = I2cRig::with_combining(2);
        let data = vec![0xab; sent];
        let outcomes = rig.ask(&[write(0x50, &data).and(), read(0x50, len)]);
        assert_eq!(outcomes, [done(), got(1..=len as u8)]);
        let expected = if together {
            vec![WriteRead(0x50, data, len as usize)]
        } else {
            vec![Write(0x50, data), Read(0x50, len as usize)]
        };
        assert_eq!(rig.calls(), expected);
    }
}

#[test]
fn segments_of_nothing_are_combined_like_others() {
    let mut rig = I2cRig::with_combining(2);
    rig.ask(&[write(0x50, &[]).and(), read(0x50, 1)]);
    rig.ask(&[write(0x50, &[1]).and(), read(0x50, 0)]);
    assert_eq!(
        rig.calls(),
        [WriteRead(0x50, vec![], 1), WriteRead(0x50, vec![1], 0)]
    );
}

#[test]
fn a_write_without_its_read_is_executed_alone() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]).and());
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
    assert_eq!(rig.calls(), [Write(0x50, vec![1])]);
    assert_eq!(rig.take_used(), [(0, 1)]);
    assert_eq!(rig.status(0), OK);
    // The read comes too late to be combined and is executed alone.
    assert_eq!(rig.one(read(0x50, 1)), got([1]));
    assert_eq!(rig.calls(), [Read(0x50, 1)]);
}

#[test]
fn a_read_that_comes_before_the_flush_is_combined() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]).and());
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(1), Step::More);
    rig.offer(1, &read(0x50, 2));
    assert_eq!(rig.run(), Step::Idle);
    assert_eq!(rig.calls(), [WriteRead(0x50, vec![1], 2)]);
    let mut used = rig.take_used();
    used.sort_unstable();
    assert_eq!(used, [(0, 1), (3, 3)]);
}

#[test]
fn a_host_can_hurry_a_kept_write() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]).and());
    rig.offer(1, &read(0x50, 2));
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(1), Step::More);
    rig.engine.backend_ready(0);
    assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
    assert_eq!(rig.calls(), [Write(0x50, vec![1]), Read(0x50, 2)]);
    assert_eq!(rig.take_used(), [(0, 1), (3, 3)]);
}

#[test]
fn the_last_write_of_a_group_does_not_wait() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]));
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
    assert_eq!(rig.calls(), [Write(0x50, vec![1])]);
}

#[test]
fn a_write_is_sent_as_it_was_when_it_was_taken() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1, 2]).and());
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(1), Step::More);
    let at = I2cRig::<Recorder>::place(0);
    rig.driver.write(at, &[0xff; 0x20]);
    rig.poll();
    assert_eq!(rig.calls(), [Write(0x50, vec![1, 2])]);
}

#[test]
fn with_one_slot_nothing_is_combined_and_everything_is_answered() {
    let mut rig = I2cRig::with_combining(1);
    let outcomes = rig.ask(&[write(0x50, &[1]).and(), read(0x50, 2), read(0x50, 1)]);
    assert_eq!(outcomes, [done(), got([1, 2]), got([3])]);
    assert_eq!(
        rig.calls(),
        [Write(0x50, vec![1]), Read(0x50, 2), Read(0x50, 1)]
    );
}

#[test]
fn nothing_else_is_taken_before_the_write_is_answered() {
    let mut rig = I2cRig::with_combining(4);
    for (index, message) in [write(0x50, &[1]).and(), read(0x50, 2), write(0x50, &[3])]
        .iter()
        .enumerate()
    {
        rig.offer(index, message);
    }
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(2), Step::More);
    assert_eq!(rig.calls(), [WriteRead(0x50, vec![1], 2)]);
    assert_eq!(rig.take_used(), [(3, 3)]);
    assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
    assert_eq!(rig.calls(), [Write(0x50, vec![3])]);
    assert_eq!(rig.take_used(), [(0, 1), (6, 1)]);
}

#[test]
fn a_budget_of_one_chain_at_a_time_makes_no_difference() {
    let mut rig = I2cRig::with_combining(2);
    for (index, message) in [
        write(0x50, &[1]).and(),
        write(0x50, &[2]).and(),
        read(0x50, 2),
    ]
    .iter()
    .enumerate()
    {
        rig.offer(index, message);
    }
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    for _ in 0..20 {
        let _ = rig.engine.poll(1);
    }
    assert_eq!(rig.engine.poll(1), Step::Idle);
    assert_eq!(
        rig.calls(),
        [Write(0x50, vec![1]), WriteRead(0x50, vec![2], 2)]
    );
    assert_eq!(rig.take_used().len(), 3);
}

#[test]
fn a_failed_combined_transaction_fails_the_rest_of_its_group() {
    let mut rig = I2cRig::with_combining(2);
    rig.trouble([Some(NAK)]);
    let outcomes = rig.ask(&[
        write(0x50, &[1]).and(),
        read(0x50, 2).and(),
        write(0x50, &[3]).and(),
        read(0x50, 4),
        read(0x50, 1),
    ]);
    assert_eq!(
        outcomes,
        [failed(), failed_read(2), failed(), failed_read(4), got([1])]
    );
    assert_eq!(rig.calls(), [WriteRead(0x50, vec![1], 2), Read(0x50, 1)]);
    assert_eq!(rig.host_fault(), None);
    rig.trouble([Some(ErrorKind::Bus)]);
    let outcomes = rig.ask(&[write(0x50, &[1]).and(), read(0x50, 2)]);
    assert_eq!(outcomes, [failed(), failed_read(2)]);
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
}

#[test]
fn a_kept_write_that_fails_fails_the_rest_of_its_group() {
    let mut rig = I2cRig::with_combining(2);
    rig.trouble([Some(ErrorKind::ArbitrationLoss)]);
    let outcomes = rig.ask(&[
        write(0x50, &[1]).and(),
        write(0x50, &[2]).and(),
        read(0x50, 3),
        read(0x50, 1),
    ]);
    assert_eq!(outcomes, [failed(), failed(), failed_read(3), got([1])]);
    assert_eq!(rig.calls(), [Write(0x50, vec![1]), Read(0x50, 1)]);
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    // The rest of the group fails in the same way if it arrives later.
    rig.trouble([Some(NAK)]);
    assert_eq!(rig.one(write(0x50, &[1]).and()), failed());
    assert_eq!(rig.one(read(0x50, 2)), failed_read(2));
    assert_eq!(rig.one(read(0x50, 1)), got([2]));
}

#[test]
fn a_kept_write_is_executed_before_a_malformed_request_fails() {
    for bad in [
        Message {
            flags: 0x10,
            ..write(0x50, &[2])
        },
        Message {
            addr: 1,
            ..write(0x50, &[2])
        },
        write(0x50, &[2; BYTES + 1]),
    ] {
        let mut rig = I2cRig::with_combining(2);
        let group = [
            write(0x50, &[1]).and(),
            bad.and(),
            read(0x50, 3),
            read(0x50, 1),
        ];
        assert_eq!(
            rig.ask(&group),
            [done(), failed(), failed_read(3), got([1])]
        );
        assert_eq!(rig.calls(), [Write(0x50, vec![1]), Read(0x50, 1)]);
    }
}

#[test]
fn a_read_that_is_too_long_fails_alone_behind_a_kept_write() {
    let mut rig = I2cRig::with_combining(2);
    let len = BYTES as u32 + 1;
    let outcomes = rig.ask(&[write(0x50, &[1]).and(), read(0x50, len), read(0x50, 1)]);
    assert_eq!(outcomes, [done(), failed_read(BYTES + 1), got([1])]);
    assert_eq!(rig.calls(), [Write(0x50, vec![1]), Read(0x50, 1)]);
}

#[test]
fn a_reset_discards_a_kept_write() {
    for stop in [false, true] {
        let mut rig = I2cRig::with_combining(2);
        rig.offer(0, &write(0x50, &[1]).and());
        rig.driver.publish();
        let _ = rig.engine.kick(0);
        assert_eq!(rig.engine.poll(1), Step::More);
        if stop {
            let _ = rig.engine.store(reg::QUEUE_SEL, 0);
            let _ = rig.engine.store(reg::QUEUE_READY, 0);
            assert_eq!(rig.engine.poll(BUDGET), Step::Idle);
            assert_eq!(rig.calls(), []);
        }
        assert!(rig.engine.bring_up(features(), &[config(0)]));
        rig.driver = driver(rig.ram, 0);
        assert_eq!(rig.one(read(0x50, 1)), got([1]));
        assert_eq!(rig.calls(), [Read(0x50, 1)]);
    }
}

#[test]
fn a_reset_discards_an_answer_that_waits() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]).and());
    rig.offer(1, &read(0x50, 1));
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    assert_eq!(rig.engine.poll(2), Step::More);
    assert!(rig.engine.bring_up(features(), &[config(0)]));
    rig.driver = driver(rig.ram, 0);
    let outcomes = rig.ask(&[write(0x50, &[2]).and(), read(0x50, 1)]);
    assert_eq!(outcomes, [done(), got([2])]);
    assert_eq!(
        rig.calls(),
        [WriteRead(0x50, vec![1], 1), WriteRead(0x50, vec![2], 1)]
    );
}

#[test]
fn a_broken_request_behind_a_kept_write_stops_both() {
    let mut rig = I2cRig::with_combining(2);
    rig.offer(0, &write(0x50, &[1]).and());
    let mut buffers = rig.put(1, &read(0x50, 0));
    buffers.pop();
    rig.driver.write_chain(3, &buffers);
    rig.driver.offer(3);
    rig.run();
    assert_eq!(
        rig.engine.driver_fault(0),
        Some(DriverFault::BadRequest { head: 3 })
    );
    assert_eq!(rig.calls(), []);
    assert_eq!(rig.take_used(), []);
}

/// The bytes on the bus, without the positions of STOPs and without failed calls.
fn flat(calls: Vec<Call>, hole: u16) -> Vec<Call> {
    let split = |call| match call {
        WriteRead(chip, sent, len) => vec![Write(chip, sent), Read(chip, len)],
        call => vec![call],
    };
    let there = |call: &Call| !matches!(call, Read(chip, _) | Write(chip, _) if *chip == hole);
    calls.into_iter().flat_map(split).filter(there).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Combining changes only the STOPs.
    #[test]
    fn combining_changes_no_byte_and_no_answer(
        requests in vec((any::<bool>(), 0u8..3, 0u32..=20, any::<bool>(), 0u8..40), 1..40),
        slots in 1usize..5,
        batch in 1usize..6,
    ) {
        let (hole, mut value) = (0x42, 0u8);
        let messages: Vec<Message> = requests
            .iter()
            .map(|&(is_read, chip, len, more, odd)| {
                value = value.wrapping_add(1);
                let chip = 0x40 + chip;
                let message = if is_read {
                    read(chip, len)
                } else {
                    write(chip, &vec![value; len as usize])
                };
                let flags = message.flags | if odd == 0 { 0x80 } else { 0 };
                let message = Message { flags, ..message };
                if more { message.and() } else { message }
            })
            .collect();
        let mut plain = I2cRig::new();
        let mut combining = I2cRig::with_combining(slots);
        for rig in [&mut plain, &mut combining] {
            rig.engine.model_mut().bus_mut().hole = Some(hole);
        }
        for messages in messages.chunks(batch) {
            prop_assert_eq!(plain.ask(messages), combining.ask(messages));
        }
        prop_assert_eq!(flat(plain.calls(), hole), flat(combining.calls(), hole));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// With any step size and any order of host calls, each request is answered once, and the bytes
    /// are on the bus in the order of the requests.
    #[test]
    fn any_step_size_answers_each_request_once(
        requests in vec((any::<bool>(), 0u8..2, 0u32..=20, any::<bool>()), 1..6),
        slots in 1usize..5,
        steps in vec((1u16..3, any::<bool>()), 60),
    ) {
        let mut rig = I2cRig::with_combining(slots);
        let mut expected = Vec::new();
        for (index, &(is_read, chip, len, more)) in requests.iter().take(5).enumerate() {
            let chip = 0x40 + chip;
            let message = if is_read {
                expected.push(Read(chip.into(), len as usize));
                read(chip, len)
            } else {
                let data = vec![index as u8; len as usize];
                expected.push(Write(chip.into(), data.clone()));
                write(chip, &data)
            };
            rig.offer(index, &if more { message.and() } else { message });
        }
        rig.driver.publish();
        let _ = rig.engine.kick(0);
        let mut end = Step::More;
        for (budget, hurry) in steps {
            if hurry {
                rig.engine.backend_ready(0);
            }
            end = rig.engine.poll(budget);
        }
        prop_assert_eq!(end, Step::Idle);
        let mut heads: Vec<u16> = rig.take_used().iter().map(|used| used.0).collect();
        heads.sort_unstable();
        let all: Vec<u16> = (0..expected.len() as u16).map(|index| 3 * index).collect();
        prop_assert_eq!(heads, all);
        prop_assert_eq!(flat(rig.calls(), 0xffff), expected);
    }
}

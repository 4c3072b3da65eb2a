//! Which buffers share a used entry, what the entry contains, and its position.

use virtside::{Features, Step, testing::Buffer};
use virtside_tests::{
    DATA, SIZE,
    in_order::{FORMATS, Format, Given, HolderRig},
};

/// Full chains of these numbers, the last of which has the entry.
fn full(numbers: std::ops::Range<usize>, len: u32) -> Vec<Given> {
    let last = numbers.end - 1;
    let given = |number| Given {
        number,
        len,
        skipped: number != last,
    };
    numbers.map(given).collect()
}

#[test]
fn buffers_that_are_full_go_back_with_one_entry_for_all() {
    for &format in FORMATS {
        for count in 1..=16 {
            let mut rig = HolderRig::new(format, Features::empty());
            rig.fill();
            assert_eq!(rig.send(&vec![4; count]), Step::Idle);
            assert_eq!(rig.take(), full(0..count, 4), "{format:?}");
        }
    }
}

#[test]
fn buffers_that_are_only_read_are_full() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.fill();
        for _ in 0..5 {
            rig.driver().send(&[Buffer::readable(DATA, 4)]);
        }
        rig.kick(0);
        assert_eq!(rig.take(), full(0..5, 0), "{format:?}");
    }
}

#[test]
fn a_buffer_with_room_left_has_the_entry_that_ends_its_batch() {
    for &format in FORMATS {
        // One bit for each of six chains: whether the device fills it.
        for bits in 0u32..64 {
            let mut rig = HolderRig::new(format, Features::empty());
            let is_full = move |number: usize| bits & (1 << number) != 0;
            rig.choose(move |asked| Some(if is_full(asked.number) { 4 } else { 3 }));
            assert_eq!(rig.send(&[4; 6]), Step::Idle);
            let expected = (0..6).map(|number| match is_full(number) {
                true if number != 5 => Given::skipped(number, 4),
                true => Given::entry(number, 4),
                false => Given::entry(number, 3),
            });
            assert_eq!(
                rig.take(),
                expected.collect::<Vec<_>>(),
                "{format:?} {bits:b}"
            );
        }
    }
}

#[test]
fn a_length_beyond_the_buffer_is_no_full_buffer() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.choose(|asked| Some(if asked.number == 1 { 5 } else { 4 }));
        rig.send(&[4; 3]);
        let expected = [Given::skipped(0, 4), Given::entry(1, 0), Given::entry(2, 4)];
        assert_eq!(rig.take(), expected, "{format:?}");
    }
}

#[test]
fn answers_that_waited_for_their_turn_share_an_entry() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.send(&[4; 5]);
        for number in [3, 1, 2] {
            rig.answer(number, 4);
        }
        assert_eq!(rig.take(), []);
        rig.answer(0, 4);
        assert_eq!(rig.take(), full(0..4, 4), "{format:?}");
        rig.answer(4, 4);
        assert_eq!(rig.take(), full(4..5, 4));
    }
}

#[test]
fn a_split_batch_has_its_entry_at_the_place_of_the_first() {
    let mut rig = HolderRig::new(Format::Split, Features::empty());
    rig.choose(|asked| Some(if asked.number == 4 { 1 } else { 4 }));
    rig.send(&[4; 8]);
    let driver = rig.driver().split();
    assert_eq!(driver.used_idx(), 8);
    assert_eq!(
        driver.used_entry(0),
        (4, 1),
        "0 to 3 are full, and 4 is not"
    );
    assert_eq!(driver.used_entry(5), (7, 4), "5 to 7");
    for untouched in [1, 2, 3, 4, 6, 7, 8] {
        assert_eq!(driver.used_entry(untouched), (0, 0));
    }
}

#[test]
#[cfg(feature = "packed")]
fn a_packed_batch_has_its_descriptor_in_the_first_slot() {
    let mut rig = HolderRig::new(Format::Packed, Features::empty());
    rig.fill();
    for slots in [1, 3, 2] {
        rig.driver().send(&vec![Buffer::writable(DATA, 4); slots]);
    }
    let slot = |rig: &mut HolderRig, slot: u64| {
        let mut bytes = [0; 16];
        rig.driver()
            .packed()
            .read(virtside_tests::BASE + 16 * slot, &mut bytes);
        bytes
    };
    let before: Vec<_> = (0..16).map(|at| slot(&mut rig, at)).collect();
    rig.kick(0);
    // The address is the driver's. The device writes the length, the id of the last chain, and
    // WRITE, AVAIL and USED.
    let mut expected = before[0];
    expected[8..12].copy_from_slice(&8u32.to_le_bytes());
    expected[12..14].copy_from_slice(&2u16.wrapping_mul(0x9e37).to_le_bytes());
    expected[14..].copy_from_slice(&0x8082u16.to_le_bytes());
    assert_eq!(slot(&mut rig, 0), expected);
    for at in 1..16 {
        assert_eq!(slot(&mut rig, at), before[at as usize], "slot {at}");
    }
    // The next entry follows all slots of the batch.
    rig.driver().room(4);
    rig.kick(0);
    assert_eq!(slot(&mut rig, 6)[14..], 0x8082u16.to_le_bytes());
}

#[test]
fn batches_wrap_at_the_end_of_the_ring() {
    for &format in FORMATS {
        // A packed ring may have any size.
        let sizes: &[u16] = match format {
            Format::Split => &[1, 2, 4, 8, 16],
            #[cfg(feature = "packed")]
            Format::Packed => &[1, 2, 3, 5, 7, 11, 16],
        };
        for &size in sizes {
            for slots in 1..=size.min(3) {
                let mut rig = HolderRig::sized(format, Features::empty(), size);
                rig.fill();
                let mut number = 0;
                // Batches of every length at every position, several rounds.
                for round in 0..40 * size {
                    let chains = 1 + round % (size / slots);
                    for _ in 0..chains {
                        let buffers = vec![Buffer::writable(DATA, 2); usize::from(slots)];
                        rig.driver().send(&buffers);
                    }
                    assert_eq!(rig.kick(0), Step::Idle, "{:?}", rig.engine.driver_fault(0));
                    rig.engine.model_mut().asked.clear();
                    let end = number + usize::from(chains);
                    let expected = full(number..end, 2 * u32::from(slots));
                    assert_eq!(rig.take(), expected, "{format:?} of {size}");
                    number = end;
                }
            }
        }
    }
}

#[test]
fn batches_wrap_at_the_end_of_the_16_bit_index() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.choose(|asked| Some(if asked.number % 5 == 3 { 1 } else { 2 }));
        let mut number = 0;
        while number < 140_000 {
            let chains = 1 + number % 16;
            assert_eq!(rig.send(&vec![2; chains]), Step::Idle);
            rig.engine.model_mut().asked.clear();
            let end = number + chains;
            let expected = (number..end).map(|it| match it % 5 {
                3 => Given::entry(it, 1),
                _ if it + 1 == end => Given::entry(it, 2),
                _ => Given::skipped(it, 2),
            });
            assert_eq!(rig.take(), expected.collect::<Vec<_>>(), "{format:?}");
            number = end;
        }
    }
}

#[test]
fn answers_that_wait_wrap_at_the_end_of_the_16_bit_index() {
    for &format in FORMATS {
        let mut rig = HolderRig::sized(format, Features::EVENT_IDX, SIZE);
        for round in 0..9_000 {
            let first = 8 * round;
            // The oldest chain is kept, and seven wait behind it.
            rig.choose(move |asked| (asked.number != first).then_some(2));
            assert_eq!(rig.send(&[2; 8]), Step::Blocked);
            assert_eq!(rig.take(), []);
            rig.answer(first, 1);
            rig.engine.model_mut().asked.clear();
            rig.engine.model_mut().answers.clear();
            let mut expected = full(first + 1..first + 8, 2);
            expected.insert(0, Given::entry(first, 1));
            assert_eq!(rig.take(), expected, "{format:?}");
        }
    }
}

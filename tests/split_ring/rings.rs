//! Available and used ring: published chains are taken in order, across the end of both rings.

use virtside::{
    Features, Refusal, Step,
    testing::{Buffer, Layout, Registers},
};
use virtside_tests::{
    BASE, BYTES, DATA, SIZE, drain,
    rings::{Plan, RecordingModel, RecordingRig},
    test_engine,
};

#[test]
fn many_chains_may_be_published_in_one_step_with_one_kick() {
    let mut rig = RecordingRig::new(Features::empty());
    let heads = [3, 0, 15, 7, 1, 9, 14, 2, 4, 5, 6, 8, 10, 11, 12, 13];
    for head in heads {
        rig.driver
            .write_chain(head, &[Buffer::writable(DATA, u32::from(head) + 1)]);
        rig.driver.offer(head);
    }
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.engine.model().heads(), heads);
    for head in heads {
        assert_eq!(
            rig.driver.take_used(),
            Some((head.into(), u32::from(head) + 1))
        );
    }
    assert_eq!(rig.driver.take_used(), None);
}

#[test]
fn chains_offered_but_not_published_are_not_taken() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write_chain(0, &[Buffer::writable(DATA, 1)]);
    rig.driver.offer(0);
    assert_eq!(rig.kick(), Step::Idle);
    assert!(rig.engine.model().seen.is_empty());
    rig.driver.publish();
    rig.kick();
    assert_eq!(rig.engine.model().heads(), [0]);
}

#[test]
fn published_chains_are_taken_without_a_kick() {
    let mut rig = RecordingRig::new(Features::empty());
    let _ = rig.engine.kick(0);
    rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
    assert_eq!(rig.engine.poll(1), Step::More);
    // No kick for this chain: the device has not asked for one.
    rig.driver.send(1, &[Buffer::writable(DATA, 2)]);
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(rig.engine.model().heads(), [0, 1]);
}

#[test]
fn chains_published_before_driver_ok_are_taken_without_a_kick() {
    let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(1)), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    let mut driver = virtside_tests::driver(ram, 0);
    assert_eq!(engine.configure(&driver.config(0)).refusal(), None);
    driver.send(5, &[Buffer::writable(DATA, 3)]);
    assert_eq!(engine.poll(9), Step::Idle);
    assert!(
        engine.model().seen.is_empty(),
        "nothing is taken before DRIVER_OK"
    );
    assert_eq!(engine.go_live().value(), Some(0));
    assert_eq!(drain(&mut engine), Step::Idle);
    assert_eq!(driver.take_used(), Some((5, 3)));
}

#[test]
fn both_rings_continue_from_their_start_after_their_end() {
    for size in [1, 2, 16] {
        let mut rig = RecordingRig::sized(Features::empty(), size);
        for turn in 0..50u16 {
            let head = turn.wrapping_mul(3) % size;
            rig.driver
                .send(head, &[Buffer::writable(DATA, turn.into())]);
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(rig.driver.used_idx(), turn + 1);
            assert_eq!(rig.driver.used_entry(turn), (head.into(), turn.into()));
            assert_eq!(rig.driver.take_used(), Some((head.into(), turn.into())));
        }
    }
}

#[test]
fn both_indices_wrap_after_65536_chains() {
    let mut rig = RecordingRig::new(Features::empty());
    for head in 0..SIZE {
        rig.driver.write_chain(head, &[Buffer::writable(DATA, 1)]);
    }
    for batch in 0..4097u32 {
        for head in 0..SIZE {
            rig.driver.offer((head + batch as u16) % SIZE);
        }
        rig.driver.publish();
        assert_eq!(rig.kick(), Step::Idle);
        for head in 0..SIZE {
            let expected = (u32::from(head) + batch) % u32::from(SIZE);
            assert_eq!(rig.driver.take_used(), Some((expected, 1)));
        }
        rig.engine.model_mut().seen.clear();
    }
    assert_eq!((rig.driver.next_avail(), rig.driver.used_idx()), (16, 16));
    assert_eq!(rig.engine.counters().chains, 65536 + 16);
}

#[test]
fn rings_are_little_endian_at_the_offsets_of_the_specification() {
    let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(0x5a)), 1);
    let (desc, avail, used) = (0x1000, 0x2002, 0x3004);
    let layout = Layout {
        size: 4,
        desc: BASE + desc as u64,
        driver: BASE + avail as u64,
        device: BASE + used as u64,
    };
    assert!(engine.bring_up(Features::VERSION_1, &[layout.config(0)]));
    ram.write(0x1_0000, b"xyz");
    // Descriptor 2 has 3 readable bytes, then descriptor 3 has 0x0102 writable ones.
    ram.write(
        desc + 32,
        &[0, 0, 1, 0x80, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 3, 0],
    );
    ram.write(
        desc + 48,
        &[0, 0, 2, 0x80, 0, 0, 0, 0, 2, 1, 0, 0, 2, 0, 0, 0],
    );
    ram.write(avail + 4, &[2, 0]);
    ram.write(avail + 2, &[1, 0]);
    let _ = engine.kick(0);
    drain(&mut engine);
    assert_eq!(engine.model().seen[0].sent, b"xyz");
    let mut bytes = [0; 20];
    ram.read(used, &mut bytes);
    assert_eq!(
        bytes,
        [0, 0, 1, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn each_part_takes_exactly_the_bytes_that_its_size_says() {
    let end = BASE + BYTES as u64;
    let roomy = Layout::packed_at(BASE, 4);
    // 16N, 6 + 2N and 6 + 8N bytes up to the last byte of memory; the next aligned address is too
    // high.
    let fits = [
        Layout {
            desc: end - 64,
            ..roomy
        },
        Layout {
            driver: end - 14,
            ..roomy
        },
        Layout {
            device: end - 40,
            ..roomy
        },
    ];
    let too_far = [
        Layout {
            desc: end - 48,
            ..roomy
        },
        Layout {
            driver: end - 12,
            ..roomy
        },
        Layout {
            device: end - 36,
            ..roomy
        },
    ];
    for (fits, too_far) in fits.into_iter().zip(too_far) {
        let (mut engine, _) = test_engine(RecordingModel::new(Plan::Fill(0)), 1);
        assert!(engine.negotiate(Features::VERSION_1));
        let refusal = engine.configure(&too_far.config(0)).refusal();
        assert!(
            matches!(refusal, Some(Refusal::Unmapped { queue: 0, .. })),
            "{refusal:?}"
        );
        assert_eq!(engine.configure(&fits.config(0)).refusal(), None);
    }
}

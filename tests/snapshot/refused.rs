//! What is not saved, and what is not restored: each by its name.

use virtside::{
    ChainSnapshot, Features, QueueState, Refusal, RingSnapshot, Segment, SnapshotError, Stage,
    Start, Step, Suspension,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, BYTES, Guest, TestRam, config,
    probe::{Event, Probe, reset_queue},
    reg,
};

use crate::support::{
    Client, State, assert_in_reset, assert_refused, carry, fresh, live, model, rings, save,
};

const PLAIN: Features = Features::RING;

/// A live device with two chains in hand, as a value; and its memory.
fn in_hand(features: Features) -> (State, virtside_tests::TestRam) {
    let (mut guest, mut client, ram) = live(features);
    client.assert_works(&mut guest);
    guest.model_mut().holds = true;
    assert!(client.send(false) && client.send(false));
    let _ = guest.kick(0);
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    (save(&mut guest), ram)
}

/// For each kind of ring: it is refused for this when it was changed so, and taken as it was.
#[track_caller]
fn refused(why: SnapshotError, change: impl Fn(&mut State)) {
    for features in rings() {
        refused_with(features, why, &change);
    }
}

#[track_caller]
fn refused_with(features: Features, why: SnapshotError, change: impl Fn(&mut State)) {
    let (mut state, ram) = in_hand(features);
    fresh(ram, model(features))
        .restore(&state)
        .expect("it is whole");
    let before = state.clone();
    change(&mut state);
    assert_ne!(state, before, "it was changed");
    assert_refused(ram, model(features), &state, why);
}

const QUEUE: SnapshotError = SnapshotError::Positions { queue: 0 };
const FIRST: SnapshotError = SnapshotError::Chain { at: 0 };
const SECOND: SnapshotError = SnapshotError::Chain { at: 1 };

fn ring(state: &mut State) -> &mut RingSnapshot {
    let queue = state.device.queues.first_mut().expect("a queue");
    queue.ring.as_mut().expect("it is live")
}

#[test]
fn a_device_whose_queue_is_out_is_not_saved() {
    let (mut guest, mut client, _) = live(PLAIN);
    let taken = guest.take_queue(0).expect("it is live");
    let why = Refusal::QueueTaken { queue: 0 };
    assert_eq!(guest.save::<8>(), Err(why));
    assert!(guest.put_back(taken).is_ok());
    assert!(guest.save::<8>().is_ok());
    client.assert_works(&mut guest);
}

#[test]
fn a_device_that_owes_an_answer_to_an_access_is_not_saved() {
    let (mut guest, _, _) = live(PLAIN);
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    guest.model_mut().start = Start::Later;
    assert!(guest.negotiate(PLAIN));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    let Reply::Pending(ticket) = guest.go_live() else {
        panic!("it waits");
    };
    assert_eq!(guest.save::<8>(), Err(Refusal::WrongPhase));
    let state = save(&mut fresh(virtside_tests::ram(), model(PLAIN)));
    assert_eq!(guest.restore(&state), Err(SnapshotError::NotInReset));
    guest.responder().expect("it is asked for").accept();
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    assert!(guest.save::<8>().is_ok());
}

#[test]
fn more_chains_than_there_is_room_for_are_not_saved() {
    let (mut guest, mut client, _) = live(PLAIN);
    guest.model_mut().holds = true;
    assert!(client.send(false) && client.send(false) && client.send(false));
    let _ = guest.poll(BUDGET);
    let why = Refusal::QueueBusy { queue: 0 };
    assert_eq!(guest.save::<2>(), Err(why));
    assert_eq!(guest.save::<0>().err(), Some(why));
    assert_eq!(
        guest
            .save::<3>()
            .expect("there is room")
            .device
            .chains
            .len(),
        3
    );
    // It has not changed for that.
    guest.model_mut().holds = false;
    guest.backend_ready(0);
    let _ = virtside_tests::drain(&mut guest);
    assert_eq!(client.reap(), 3);
}

#[test]
fn a_device_that_is_not_in_reset_takes_no_state_and_goes_on() {
    let (state, _) = in_hand(PLAIN);
    let (mut guest, mut client, _) = live(PLAIN);
    let before = virtside_tests::probe::seen(&guest);
    assert_eq!(guest.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(virtside_tests::probe::seen(&guest), before);
    client.assert_works(&mut guest);
    assert_eq!(guest.model().count(Event::Reset), 1, "at its bring-up");
    // Nor one that has come no farther than to know its driver.
    let mut guest = fresh(virtside_tests::ram(), model(PLAIN));
    let _ = guest.store(reg::STATUS, 1);
    assert_eq!(guest.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(guest.load(reg::STATUS), 1);
}

#[test]
fn a_queue_ready_before_any_status_write_is_in_the_way() {
    let (state, _) = in_hand(PLAIN);
    let mut guest = fresh(virtside_tests::ram(), model(PLAIN));
    assert_eq!(guest.configure(&config(1)), Reply::Done(0));
    assert_eq!(guest.phase(), Phase::Reset);
    assert_eq!(guest.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(guest.queue_config(1), Some(&config(1)));
    assert_eq!(guest.queue_state(1), QueueState::Ready);
    assert_eq!(guest.load(reg::QUEUE_READY), 1);
}

#[test]
fn a_device_that_was_reset_takes_a_state() {
    let (state, ram) = in_hand(PLAIN);
    let mut guest = fresh(ram, model(PLAIN));
    for _ in 0..3 {
        guest.restore(&state).expect("it is whole");
        assert_eq!(guest.restore(&state), Err(SnapshotError::NotInReset));
        let _ = guest.poll(BUDGET);
        assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    }
}

#[test]
fn a_refused_state_leaves_a_device_that_takes_the_right_one() {
    let (state, ram) = in_hand(PLAIN);
    let mut guest = fresh(ram, model(PLAIN));
    let mut wrong = state.clone();
    wrong.device.chains[1].head = 16;
    assert_eq!(guest.restore(&wrong), Err(SECOND));
    assert!(
        guest.model().count(Event::Reset) >= 1,
        "the model hears of it"
    );
    assert!(!guest.model().negotiated);
    assert_in_reset(&mut guest);
    guest.restore(&state).expect("it is whole");
    assert_eq!(virtside_tests::drain(&mut guest), Step::Idle);
    assert_eq!(guest.counters().chains, 2);
}

#[test]
fn another_version() {
    for version in [0, 2, u16::MAX] {
        let why = SnapshotError::Version { version };
        refused(why, |state| state.device.version = version);
        // What the rest means is not known then.
        refused(why, |state| {
            state.device.version = version;
            state.registers.status = 0xff;
            state.device.queues.clear();
        });
    }
}

#[test]
fn features_that_were_not_offered() {
    for more in [
        Features::RING_PACKED,
        Features::NOTIFICATION_DATA,
        Features::from_bits(1 << 90),
    ] {
        let add = |state: &mut State| {
            let features = Features::from_bits(
                u128::from(state.registers.driver_features[0])
                    | u128::from(state.registers.driver_features[1]) << 64,
            ) | more;
            let halves = [features.bits() as u64, (features.bits() >> 64) as u64];
            state.registers.driver_features = halves;
            state.device.features = halves;
        };
        refused_with(PLAIN, SnapshotError::Features, add);
    }
}

#[test]
fn features_without_version_1_or_from_beyond() {
    refused(SnapshotError::Features, |state| {
        state.registers.driver_features[0] &= !(1 << 32);
        state.device.features[0] &= !(1 << 32);
    });
    refused(SnapshotError::Features, |state| {
        state.registers.beyond = true
    });
}

#[test]
fn features_of_which_registers_and_device_say_different_things() {
    refused(SnapshotError::Features, |state| {
        state.device.features[0] ^= 1 << 29
    });
    refused(SnapshotError::Features, |state| {
        state.device.features = [0; 2]
    });
}

#[test]
fn features_of_a_device_that_is_not_live() {
    let ram = virtside_tests::ram();
    let mut guest = fresh(ram, model(PLAIN));
    assert!(guest.negotiate(PLAIN));
    let mut state = save(&mut guest);
    state.device.features = [1 << 40, 0];
    assert_refused(ram, model(PLAIN), &state, SnapshotError::Features);
}

#[test]
fn a_model_that_does_not_want_the_features_or_to_start() {
    let (state, ram) = in_hand(PLAIN);
    let mut unwilling = model(PLAIN);
    unwilling.agrees = false;
    assert_refused(ram, unwilling, &state, SnapshotError::Features);
    let mut unwilling = model(PLAIN);
    unwilling.start = Start::Refuse;
    assert_refused(ram, unwilling, &state, SnapshotError::Features);
    let mut unfit = model(PLAIN);
    unfit.excludes = Features::EVENT_IDX;
    assert_refused(ram, unfit, &state, SnapshotError::Features);
    let mut other = model(PLAIN);
    other.wishes = PLAIN.difference(Features::EVENT_IDX);
    assert_refused(ram, other, &state, SnapshotError::Features);
}

#[test]
fn status_bits_that_do_not_go_together() {
    // Live, by its device.
    for status in [
        0,
        1,
        3,
        4,
        8,
        11,
        16,
        15 | 16,
        15 | 32,
        15 | 64,
        15 | 128,
        0xff,
    ] {
        refused(SnapshotError::Status, |state| {
            state.registers.status = status
        });
    }
    refused(SnapshotError::Status, |state| state.registers.status = 7);
    refused(SnapshotError::Status, |state| state.device.live = false);
    refused(SnapshotError::Status, |state| {
        state.device.live = false;
        state.device.chains.clear();
    });
}

#[test]
fn a_device_that_waits_for_a_reset_after_driver_ok_needs_one() {
    let ram = virtside_tests::ram();
    let mut guest = fresh(ram, model(PLAIN));
    guest.model_mut().start = Start::Refuse;
    assert!(!guest.bring_up(PLAIN, &[config(0)]));
    let mut state = save(&mut guest);
    state.device.needs_reset = false;
    assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
}

#[test]
fn a_rest_that_status_does_not_say() {
    for rest in [Suspension::Suspending, Suspension::Suspended] {
        let ram = virtside_tests::ram();
        let mut guest = fresh(ram, model(PLAIN));
        assert!(guest.negotiate(PLAIN));
        let mut state = save(&mut guest);
        state.device.suspension = rest;
        assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
    }
    refused(SnapshotError::Status, |state| {
        state.device.suspension = Suspension::Suspended
    });
    refused(SnapshotError::Status, |state| {
        state.registers.status = 11 | 16
    });
    // Suspended, but that was not negotiated.
    let without = PLAIN.difference(Features::SUSPEND);
    for (rest, status) in [
        (Suspension::Suspended, 11 | 16),
        (Suspension::Suspending, 15),
    ] {
        refused_with(without, SnapshotError::Status, |state| {
            state.device.suspension = rest;
            state.registers.status = status;
        });
    }
}

#[test]
fn interrupts_that_there_are_not() {
    for bit in 2..32 {
        refused_with(PLAIN, SnapshotError::Status, |state| {
            state.device.interrupt |= 1 << bit;
        });
    }
}

#[test]
fn interrupts_before_driver_ok() {
    for status in [0, 3, 11, 11 | 128] {
        for bits in 1..4 {
            let ram = virtside_tests::ram();
            let mut guest = fresh(ram, model(PLAIN));
            if status & 8 != 0 {
                assert!(guest.negotiate(PLAIN));
            }
            if status != 0 {
                let _ = guest.store(reg::STATUS, status);
            }
            let mut state = save(&mut guest);
            assert_eq!(u32::from(state.registers.status), status);
            state.device.interrupt = bits;
            assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
        }
    }
}

#[test]
fn a_held_back_change_of_a_device_that_holds_nothing_back() {
    refused(SnapshotError::Status, |state| {
        state.device.config_changed = true
    });
}

#[test]
fn positions_that_are_too_far_apart() {
    refused(QUEUE, |state| ring(state).next_avail ^= 0x4000);
    refused(QUEUE, |state| ring(state).next_used ^= 0x4000);
    refused_with(PLAIN, QUEUE, |state| ring(state).lost = 1);
    refused(QUEUE, |state| ring(state).lost = u16::MAX);
    refused(QUEUE, |state| ring(state).unsignalled = 17);
    for features in rings() {
        // The second chain's slots are not among those that were taken.
        let packed = features.contains(Features::RING_PACKED);
        let why = if packed { SECOND } else { QUEUE };
        refused_with(features, why, |state| ring(state).next_avail -= 1);
        refused_with(features, why, |state| ring(state).next_used += 1);
    }
    // More were taken than are in hand or lost.
    refused(QUEUE, |state| {
        state.device.chains.remove(0);
    });
}

#[cfg(feature = "packed")]
#[test]
fn positions_outside_a_packed_ring() {
    let packed = PLAIN | Features::RING_PACKED;
    for wrap in [0, 1 << 15] {
        refused_with(packed, QUEUE, |state| ring(state).next_avail = 13 | wrap);
        refused_with(packed, QUEUE, |state| ring(state).next_used = 13 | wrap);
    }
    // In different rounds, but farther apart than the ring is long.
    refused_with(packed, QUEUE, |state| {
        let next = ring(state).next_avail;
        ring(state).next_used = (next + 1) ^ (1 << 15);
    });
}

#[cfg(feature = "packed")]
#[test]
fn slots_that_do_not_lie_between_the_positions() {
    let packed = PLAIN | Features::RING_PACKED;
    for slots in [0, 3, 5, u16::MAX] {
        let (mut state, ram) = in_hand(packed);
        state.device.chains[1].slots = slots;
        let mut guest = fresh(ram, model(packed));
        assert_eq!(guest.restore(&state), Err(SECOND));
        assert_in_reset(&mut guest);
    }
    refused_with(packed, QUEUE, |state| state.device.chains[1].slots = 1);
    // As many together, but one more than it has buffers.
    refused_with(packed, SECOND, |state| {
        state.device.chains[0].slots = 1;
        state.device.chains[1].slots = 3;
    });
}

#[test]
fn slots_of_a_chain_of_a_split_ring() {
    for slots in [0, 2, u16::MAX] {
        refused_with(PLAIN, FIRST, |state| state.device.chains[0].slots = slots);
    }
}

#[test]
fn heads_beyond_the_queue() {
    for head in [16, 17, 0x8000, u16::MAX] {
        refused_with(PLAIN, FIRST, |state| state.device.chains[0].head = head);
        let in_order = PLAIN | Features::IN_ORDER;
        refused_with(in_order, FIRST, |state| state.device.chains[0].head = head);
    }
}

#[test]
fn a_head_twice() {
    refused(SECOND, |state| {
        state.device.chains[1].head = state.device.chains[0].head;
    });
}

#[test]
fn a_chain_twice() {
    let twice = |state: &mut State| {
        let chain = state.device.chains[0].clone();
        state.device.chains.push(chain).expect("there is room");
    };
    refused_with(PLAIN, QUEUE, twice);
    refused_with(PLAIN, SnapshotError::Chain { at: 2 }, |state| {
        twice(state);
        ring(state).next_avail += 1;
    });
}

#[test]
fn a_chain_of_a_queue_that_there_is_not() {
    for queue in [1, 4, u16::MAX] {
        // The queue that it is taken from is short of one.
        let (mut state, ram) = in_hand(PLAIN);
        state.device.chains[1].queue = queue;
        let mut guest = fresh(ram, model(PLAIN));
        assert_eq!(guest.restore(&state), Err(QUEUE));
        ring(&mut state).lost = 1;
        assert_eq!(guest.restore(&state), Err(SECOND));
        assert_in_reset(&mut guest);
    }
}

fn segment(state: &mut State, at: usize) -> &mut Segment {
    &mut state.device.chains[0].segments[at]
}

#[test]
fn buffers_outside_the_memory() {
    let end = BASE + BYTES as u64;
    for (addr, len) in [
        (0, 1),
        (BASE - 1, 2),
        (end - 1, 2),
        (end, 1),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 3, 8),
        (BASE, u32::MAX),
    ] {
        for at in 0..2 {
            refused(FIRST, |state| *segment(state, at) = Segment { addr, len });
        }
    }
}

#[test]
fn buffers_of_the_wrong_access() {
    use virtside::{Permission, RegionMem};
    use virtside_tests::rings::region;
    let ram = virtside_tests::ram();
    let mut mem = RegionMem::<2>::new();
    let half = BYTES / 2;
    mem.add(region(BASE, ram, 0, half, Permission::Write))
        .expect("room");
    mem.add(region(
        BASE + half as u64,
        ram,
        half,
        half,
        Permission::Read,
    ))
    .expect("room");
    let mem: &'static RegionMem<2> = Box::leak(Box::new(mem));
    let make = || virtside_tests::guest_over(model(PLAIN), mem, 4);
    let mut guest = make();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(guest.bring_up(PLAIN, &[client.config()]));
    guest.model_mut().holds = true;
    assert!(client.send(false));
    let _ = guest.poll(BUDGET);
    let state = guest.save::<8>().expect("it is saved");
    let read_only = BASE + half as u64;
    let mut wrong = state.clone();
    wrong.device.chains[0].segments[0].addr = read_only;
    make().restore(&wrong).expect("that one is only read");
    wrong.device.chains[0].segments[1].addr = read_only;
    assert_eq!(make().restore(&wrong), Err(FIRST));
    // The same by a change of what is read and what is written.
    let mut wrong = state.clone();
    wrong.device.chains[0].segments[0].addr = read_only;
    wrong.device.chains[0].readable = 0;
    assert_eq!(make().restore(&wrong), Err(FIRST));
}

#[test]
fn lengths_that_overflow_together() {
    use virtside_tests::rings::EchoMem;
    let ram = virtside_tests::ram();
    let make = || virtside_tests::guest_over(model(PLAIN), EchoMem(ram.flat(BASE)), 4);
    let mut guest = make();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(guest.bring_up(PLAIN, &[client.config()]));
    guest.model_mut().holds = true;
    assert!(client.send(false));
    let _ = guest.poll(BUDGET);
    let state = guest.save::<8>().expect("it is saved");
    for (lens, whole) in [
        ([u32::MAX, 0], true),
        ([u32::MAX - 1, 1], true),
        ([u32::MAX, 1], true),
        ([1 << 31, 1 << 31], true),
        ([1 << 31, (1 << 31) + 1], false),
        ([u32::MAX, 2], false),
        ([u32::MAX, u32::MAX], false),
    ] {
        for readable in 0..3 {
            let mut state = state.clone();
            let chain = &mut state.device.chains[0];
            chain.readable = readable;
            for (segment, len) in chain.segments.iter_mut().zip(lens) {
                segment.len = len;
            }
            let expected = if whole { Ok(()) } else { Err(FIRST) };
            assert_eq!(make().restore(&state), expected, "{lens:x?} {readable}");
        }
    }
}

#[test]
fn more_readable_buffers_than_buffers() {
    for readable in [3, 16, u16::MAX] {
        refused(FIRST, |state| state.device.chains[0].readable = readable);
    }
}

#[test]
fn a_chain_without_buffers() {
    refused(FIRST, |state| {
        let ChainSnapshot {
            segments, readable, ..
        } = &mut state.device.chains[0];
        segments.clear();
        *readable = 0;
    });
}

#[test]
fn an_answer_where_chains_do_not_wait_for_their_turn() {
    refused_with(PLAIN, SECOND, |state| {
        state.device.chains[1].answered = Some(0)
    });
}

#[test]
fn an_answer_that_does_not_fit() {
    let in_order = PLAIN | Features::IN_ORDER;
    let room = in_hand(in_order).0.device.chains[1].segments[1].len;
    for written in [room + 1, u32::MAX] {
        refused_with(in_order, SECOND, |state| {
            state.device.chains[1].answered = Some(written);
        });
    }
}

#[test]
fn an_answer_whose_turn_it_is() {
    // It would have been given back, and nobody asks for it again.
    for features in rings() {
        if features.contains(Features::IN_ORDER) {
            refused_with(features, FIRST, |state| {
                state.device.chains[0].answered = Some(0);
            });
        }
    }
}

#[test]
fn a_queue_that_overlaps_another() {
    let ram = virtside_tests::ram();
    let mut guest = fresh(ram, model(PLAIN));
    assert!(guest.bring_up(PLAIN, &[config(0), config(1)]));
    let state = save(&mut guest);
    for (offset, moved) in [(0, config(0).desc), (0x80, config(0).device & !15)] {
        let mut state = state.clone();
        state.device.queues[1].config.desc = moved;
        state.registers.queues[1].desc = moved;
        let mut guest = fresh(ram, model(PLAIN));
        let why = guest.restore(&state);
        let overlap = matches!(
            why,
            Err(SnapshotError::Queue {
                queue: 1,
                why: Refusal::Overlap { with: 0, .. }
            })
        );
        assert!(overlap, "{offset}: {why:?}");
        assert_in_reset(&mut guest);
    }
}

#[test]
fn a_queue_that_a_driver_could_not_have_set_up() {
    type Change = fn(&mut virtside::QueueConfig, &mut virtside::QueueRegisters);
    let changes: [Change; 7] = [
        |config, latch| (config.size, latch.size) = (3, 3),
        |config, latch| (config.size, latch.size) = (0, 0),
        |config, latch| (config.size, latch.size) = (32, 32),
        |config, latch| (config.size, latch.size) = (0x1_0010, 0x1_0010),
        |config, latch| (config.desc, latch.desc) = (config.desc + 8, latch.desc + 8),
        |config, latch| (config.driver, latch.driver) = (u64::MAX - 1, u64::MAX - 1),
        |config, latch| (config.device, latch.device) = (0, 0),
    ];
    for change in changes {
        let (mut state, ram) = in_hand(PLAIN);
        change(
            &mut state.device.queues[0].config,
            &mut state.registers.queues[0],
        );
        let mut guest = fresh(ram, model(PLAIN));
        let why = guest.restore(&state);
        assert!(
            matches!(why, Err(SnapshotError::Queue { queue: 0, .. })),
            "{why:?}"
        );
        assert_in_reset(&mut guest);
    }
}

#[test]
fn a_queue_that_the_model_has_not() {
    let (state, ram) = in_hand(PLAIN);
    let mut other = model(PLAIN);
    other.sizes = [8, 16, 8, 0];
    let mut guest = fresh(ram, other.clone());
    let why = guest.restore(&state);
    assert!(
        matches!(why, Err(SnapshotError::Queue { queue: 0, .. })),
        "{why:?}"
    );
    other.sizes = [0, 16, 8, 0];
    let why = Refusal::NoSuchQueue { queue: 0 };
    assert_refused(
        ram,
        other.clone(),
        &state,
        SnapshotError::Queue { queue: 0, why },
    );
    other.sizes = model(PLAIN).sizes;
    other.check.unwanted = vec![0];
    let why = fresh(ram, other).restore(&state);
    assert!(
        matches!(why, Err(SnapshotError::Queue { queue: 0, .. })),
        "{why:?}"
    );
}

#[test]
fn a_queue_twice() {
    refused(
        SnapshotError::Queue {
            queue: 0,
            why: Refusal::QueueExists { queue: 0 },
        },
        |state| {
            let queue = state.device.queues[0];
            state.device.queues.push(queue).expect("there is room");
        },
    );
}

#[test]
fn a_queue_that_only_its_registers_have() {
    refused(QUEUE, |state| {
        state.device.queues.clear();
        state.device.chains.clear();
    });
    refused(SnapshotError::Positions { queue: 1 }, |state| {
        state.registers.queues[1].stage = Stage::Ready;
    });
}

#[test]
fn a_queue_that_its_registers_do_not_have_or_have_otherwise() {
    for stage in [Stage::Off, Stage::WasReset] {
        refused(QUEUE, |state| state.registers.queues[0].stage = stage);
    }
    refused(QUEUE, |state| state.registers.queues.clear());
    refused(QUEUE, |state| state.registers.queues[0].size ^= 1);
    refused(QUEUE, |state| state.registers.queues[0].desc ^= 1 << 63);
    refused(QUEUE, |state| state.registers.queues[0].driver ^= 2);
    refused(QUEUE, |state| state.registers.queues[0].device ^= 4);
}

#[test]
fn queue_resets_that_were_not_negotiated() {
    let without = PLAIN.difference(Features::RING_RESET);
    refused_with(without, QUEUE, |state| {
        state.registers.queues[0].stage = Stage::Resetting;
    });
    refused_with(without, SnapshotError::Positions { queue: 1 }, |state| {
        state.registers.queues[1].stage = Stage::WasReset;
    });
}

#[test]
fn a_queue_that_is_ready_and_was_refused() {
    refused(QUEUE, |state| state.registers.queues[0].refused = true);
}

#[test]
fn a_queue_reset_that_takes_its_time_before_driver_ok() {
    let ram = virtside_tests::ram();
    let mut guest = fresh(ram, model(PLAIN));
    assert!(guest.negotiate(PLAIN));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    let mut state = save(&mut guest);
    state.registers.queues[0].stage = Stage::Resetting;
    assert_refused(ram, model(PLAIN), &state, QUEUE);
}

#[test]
fn positions_before_driver_ok() {
    let ram = virtside_tests::ram();
    let mut guest = fresh(ram, model(PLAIN));
    assert!(guest.negotiate(PLAIN));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    let state = save(&mut guest);
    for change in [
        (|ring| ring.next_avail = 1) as fn(&mut RingSnapshot),
        |ring| ring.next_used = 1,
        |ring| ring.unsignalled = 1,
        |ring| ring.lost = 1,
        |ring| ring.kicks_off = true,
    ] {
        let mut state = state.clone();
        change(ring(&mut state));
        assert_refused(ram, model(PLAIN), &state, QUEUE);
    }
    // Stopped for good, of which the driver would never hear.
    let mut silent = state.clone();
    silent.device.queues[0].ring = None;
    assert_refused(ram, model(PLAIN), &silent, QUEUE);
}

#[test]
fn fewer_slots_than_chains_in_hand() {
    let (state, ram) = in_hand(PLAIN);
    let mut guest = virtside_tests::guest_over(model(PLAIN), ram.flat(BASE), 1);
    assert_eq!(guest.restore(&state), Err(SnapshotError::NoRoom));
    assert_in_reset(&mut guest);
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(guest.bring_up(PLAIN, &[client.config()]));
    client.assert_works(&mut guest);
}

#[test]
fn the_model_is_reset_once_after_a_refusal() {
    let (mut state, ram) = in_hand(PLAIN);
    for breaks in ["registers", "device"] {
        let whole = state.clone();
        match breaks {
            "registers" => state.registers.status = 0x80,
            _ => state.device.interrupt = 0x80,
        }
        let mut guest = fresh(ram, model(PLAIN));
        assert_eq!(guest.restore(&state), Err(SnapshotError::Status));
        assert_eq!(guest.model().count(Event::Reset), 1, "{breaks}");
        state = whole;
    }
}

/// A device whose queue 1 is wanted only beside queue 0, and a driver that is live with both.
fn live_with_companion(ram: TestRam) -> (Guest<Probe>, Probe) {
    let mut choosy = model(PLAIN);
    choosy.check.beside = vec![(1, 0)];
    let mut guest = fresh(ram, choosy.clone());
    assert!(guest.bring_up(PLAIN, &[config(0), config(1)]));
    (guest, choosy)
}

#[test]
fn a_queue_whose_companion_was_stopped_is_refused_as_documented() {
    let (mut guest, choosy) = live_with_companion(virtside_tests::ram());
    let ram = virtside_tests::ram();
    let both = save(&mut guest);
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let state = save(&mut guest);
    let why = Refusal::Policy { queue: 1 };
    assert_refused(
        ram,
        choosy.clone(),
        &state,
        SnapshotError::Queue { queue: 1, why },
    );
    assert_eq!(fresh(ram, choosy).restore(&both), Ok(()));
}

#[test]
fn a_queue_whose_companion_was_set_up_again_is_restored() {
    let ram = virtside_tests::ram();
    let (mut guest, _) = live_with_companion(ram);
    assert_eq!(reset_queue(&mut guest, 0), Reply::Done(0));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    carry(guest, ram);
}

#[test]
fn before_driver_ok_a_queue_may_be_without_its_companion() {
    let ram = virtside_tests::ram();
    let (mut guest, _) = live_with_companion(ram);
    assert!(guest.negotiate(PLAIN));
    for queue in [0, 1] {
        assert_eq!(guest.configure(&config(queue)), Reply::Done(0));
    }
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let mut guest = carry(guest, ram);
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    assert_eq!(guest.go_live(), Reply::Done(0));
}

#[test]
fn features_of_a_set_up_do_not_pass_for_a_queue_at_work() {
    refused(SnapshotError::Features, |state| {
        state.device.queues[0].checked = state.device.features;
    });
}

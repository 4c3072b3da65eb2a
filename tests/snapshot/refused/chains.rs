//! Impossible ring positions and chains in hand.

use super::*;

#[test]
fn positions_that_are_too_far_apart() {
    refused(QUEUE, |state| ring(state).next_avail ^= 0x4000);
    refused(QUEUE, |state| ring(state).next_used ^= 0x4000);
    refused_with(PLAIN, QUEUE, |state| ring(state).abandoned = 1);
    refused(QUEUE, |state| ring(state).abandoned = u16::MAX);
    refused(QUEUE, |state| ring(state).unsignalled = 17);
    for features in rings() {
        // The second chain's slots are not among those that were taken.
        let packed = features.contains(Features::RING_PACKED);
        let why = if packed { SECOND } else { QUEUE };
        refused_with(features, why, |state| ring(state).next_avail -= 1);
        refused_with(features, why, |state| ring(state).next_used += 1);
    }
    // More chains were taken than are in hand or abandoned.
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
    // The positions are in different rounds, but farther apart than the ring's length.
    refused_with(packed, QUEUE, |state| {
        let next = ring(state).next_avail;
        ring(state).next_used = (next + 1) ^ (1 << 15);
    });
}

#[cfg(feature = "packed")]
#[test]
fn slots_outside_the_ring_positions() {
    let packed = PLAIN | Features::RING_PACKED;
    for slots in [0, 3, 5, u16::MAX] {
        let (mut state, ram) = in_hand(packed);
        state.device.chains[1].slots = slots;
        let mut engine = fresh(ram, model(packed));
        assert_eq!(engine.restore(&state), Err(SECOND));
        assert_in_reset(&mut engine);
    }
    refused_with(packed, QUEUE, |state| state.device.chains[1].slots = 1);
    // The same sum, but one slot more than the chain has buffers.
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
fn a_chain_of_an_unknown_queue() {
    for queue in [1, 4, u16::MAX] {
        // The other queue misses the chain.
        let (mut state, ram) = in_hand(PLAIN);
        state.device.chains[1].queue = queue;
        let mut engine = fresh(ram, model(PLAIN));
        assert_eq!(engine.restore(&state), Err(QUEUE));
        ring(&mut state).abandoned = 1;
        assert_eq!(engine.restore(&state), Err(SECOND));
        assert_in_reset(&mut engine);
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
    use virtside::memory::{Permission, RegionMem};
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
    let make = || virtside_tests::engine_over(model(PLAIN), mem, 4);
    let mut engine = make();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(engine.bring_up(PLAIN, &[client.config()]));
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    let state = engine.save::<8>().expect("the device can be saved");
    let read_only = BASE + half as u64;
    let mut wrong = state.clone();
    wrong.device.chains[0].segments[0].addr = read_only;
    make().restore(&wrong).expect("the buffer is only read");
    wrong.device.chains[0].segments[1].addr = read_only;
    assert_eq!(make().restore(&wrong), Err(FIRST));
    // The same fault by another number of readable buffers.
    let mut wrong = state.clone();
    wrong.device.chains[0].segments[0].addr = read_only;
    wrong.device.chains[0].readable = 0;
    assert_eq!(make().restore(&wrong), Err(FIRST));
}

#[test]
fn lengths_that_overflow_together() {
    use virtside_tests::rings::EchoMem;
    let ram = virtside_tests::ram();
    let make = || virtside_tests::engine_over(model(PLAIN), EchoMem(ram.flat(BASE)), 4);
    let mut engine = make();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(engine.bring_up(PLAIN, &[client.config()]));
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    let state = engine.save::<8>().expect("the device can be saved");
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
    // The chain would have been given back already, and nothing would give it back later.
    for features in rings() {
        if features.contains(Features::IN_ORDER) {
            refused_with(features, FIRST, |state| {
                state.device.chains[0].answered = Some(0);
            });
        }
    }
}

//! Snapshots as bytes and as text.

use virtside_tests::{BUDGET, Q};

use crate::support::{P, State, live, rings, save};

#[test]
fn a_state_is_the_same_after_bytes_and_after_text() {
    for features in rings() {
        let (mut engine, mut client, _) = live(features);
        engine.model_mut().holds = true;
        assert!(client.send(false) && client.send(true) && client.send(false));
        let _ = engine.poll(BUDGET);
        let held = engine.model().held.clone();
        engine.complete(held[1]).expect("the chain is pending");
        let state = save(&mut engine);
        assert!(state.device.chains.len() >= 2);
        let bytes = postcard::to_stdvec(&state).expect("bytes");
        assert_eq!(postcard::from_bytes::<State>(&bytes), Ok(state.clone()));
        let text = serde_json::to_string(&state).expect("text");
        let again: State = serde_json::from_str(&text).expect("a state");
        assert_eq!(again, state);
    }
}

#[test]
fn a_list_longer_than_its_capacity_is_no_state() {
    let (mut engine, mut client, _) = live(rings()[0]);
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    let valid = serde_json::to_value(save(&mut engine)).expect("text");
    for (place, room) in [
        ("/device/chains", P),
        ("/device/queues", Q),
        ("/registers/queues", Q),
        ("/device/chains/0/segments", virtside_tests::N),
    ] {
        for count in [room, room + 1] {
            let mut changed = valid.clone();
            let list = changed.pointer_mut(place).and_then(|it| it.as_array_mut());
            let list = list.expect("a list");
            let one = list[0].clone();
            list.resize(count, one);
            let state = serde_json::from_value::<State>(changed);
            assert_eq!(state.is_ok(), count == room, "{place}: {count}");
        }
    }
    // A missing field is an error and gets no default.
    let mut changed = valid;
    let device = changed
        .pointer_mut("/device")
        .and_then(|it| it.as_object_mut());
    device.expect("the field exists").remove("needs_reset");
    assert!(serde_json::from_value::<State>(changed).is_err());
}

/// Size of a snapshot on this machine, in bytes.
const fn bytes<const Q: usize, const N: usize, const P: usize>() -> usize {
    size_of::<virtside::snapshot::EngineSnapshot<(), Q, N, P>>()
}

#[test]
fn a_state_is_as_large_as_documented() {
    let most = |q: usize, n: usize, p: usize| 96 + 96 * q + p * (16 * n + 24);
    for (found, expected, limit) in [
        (bytes::<1, 16, 1>(), 472, most(1, 16, 1)),
        (bytes::<6, 16, 5>(), 2072, most(6, 16, 5)),
        (bytes::<1, 128, 16>(), 33_344, most(1, 128, 16)),
        (bytes::<8, 256, 64>(), 264_544, most(8, 256, 64)),
    ] {
        assert!(found <= expected && expected == limit, "{found}");
    }
}

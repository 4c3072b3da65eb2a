//! What cannot be saved and what cannot be restored, each with its error.

mod chains;
mod queues;

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    message::RingPosition,
    mmio::{Phase, Reply},
    model::Start,
    queue::Segment,
    snapshot::{ChainSnapshot, SnapshotError, Stage, Suspension},
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, BYTES, TestEngine, TestRam, config,
    probe::{Event, Probe, reset_queue},
    reg,
};

use crate::support::{
    Client, State, assert_in_reset, assert_refused, fresh, live, model, move_device, rings, save,
};

const PLAIN: Features = Features::RING;

/// A snapshot of a live device with two chains in hand, and the device's memory.
fn in_hand(features: Features) -> (State, virtside_tests::TestRam) {
    let (mut engine, mut client, ram) = live(features);
    client.assert_works(&mut engine);
    engine.model_mut().holds = true;
    assert!(client.send(false) && client.send(false));
    let _ = engine.kick(0);
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    (save(&mut engine), ram)
}

/// For each kind of ring: asserts that the changed snapshot is refused with this error, and the
/// unchanged one restored.
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
        .expect("the snapshot is valid");
    let before = state.clone();
    change(&mut state);
    assert_ne!(state, before, "the snapshot was changed");
    assert_refused(ram, model(features), &state, why);
}

const QUEUE: SnapshotError = SnapshotError::Positions { queue: 0 };
const FIRST: SnapshotError = SnapshotError::Chain { at: 0 };
const SECOND: SnapshotError = SnapshotError::Chain { at: 1 };

fn ring(state: &mut State) -> &mut RingPosition {
    let queue = state.device.queues.first_mut().expect("a queue");
    queue.ring.as_mut().expect("the queue is live")
}

#[test]
fn a_device_with_a_taken_queue_is_not_saved() {
    let (mut engine, mut client, _) = live(PLAIN);
    let taken = engine.take_queue(0).expect("the queue is live");
    let why = Refusal::QueueTaken { queue: 0 };
    assert_eq!(engine.save::<8>(), Err(why));
    assert!(engine.put_back(taken).is_ok());
    assert!(engine.save::<8>().is_ok());
    client.assert_works(&mut engine);
}

#[test]
fn a_device_that_owes_an_answer_to_an_access_is_not_saved() {
    let (mut engine, _, _) = live(PLAIN);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    engine.model_mut().start = Start::Later;
    assert!(engine.negotiate(PLAIN));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    let Reply::Pending(ticket) = engine.go_live() else {
        panic!("DRIVER_OK waits for its answer");
    };
    assert_eq!(engine.save::<8>(), Err(Refusal::WrongPhase));
    let state = save(&mut fresh(virtside_tests::ram(), model(PLAIN)));
    assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
    engine.responder().expect("the answer is due").accept();
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert!(engine.save::<8>().is_ok());
}

#[test]
fn more_chains_than_the_snapshot_has_room_for() {
    let (mut engine, mut client, _) = live(PLAIN);
    engine.model_mut().holds = true;
    assert!(client.send(false) && client.send(false) && client.send(false));
    let _ = engine.poll(BUDGET);
    let why = Refusal::QueueBusy { queue: 0 };
    assert_eq!(engine.save::<2>(), Err(why));
    assert_eq!(engine.save::<0>().err(), Some(why));
    assert_eq!(
        engine
            .save::<3>()
            .expect("there is room")
            .device
            .chains
            .len(),
        3
    );
    // The failed save did not change the device.
    engine.model_mut().holds = false;
    engine.backend_ready(0);
    let _ = virtside_tests::drain(&mut engine);
    assert_eq!(client.reap(), 3);
}

#[test]
fn a_device_not_in_reset_refuses_a_state_and_continues() {
    let (state, _) = in_hand(PLAIN);
    let (mut engine, mut client, _) = live(PLAIN);
    let before = virtside_tests::probe::seen(&engine);
    assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(virtside_tests::probe::seen(&engine), before);
    client.assert_works(&mut engine);
    assert_eq!(
        engine.model().count(Event::Reset),
        1,
        "the reset of the bring-up"
    );
    // A device whose driver has only set ACKNOWLEDGE and DRIVER refuses it, too.
    let mut engine = fresh(virtside_tests::ram(), model(PLAIN));
    let _ = engine.store(reg::STATUS, 1);
    assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(engine.load(reg::STATUS), 1);
}

#[test]
fn a_queue_ready_before_any_status_write_prevents_a_restore() {
    let (state, _) = in_hand(PLAIN);
    let mut engine = fresh(virtside_tests::ram(), model(PLAIN));
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    assert_eq!(engine.phase(), Phase::Reset);
    assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
    assert_eq!(engine.queue_config(1), Some(&config(1)));
    assert_eq!(engine.queue_state(1), QueueState::Ready);
    assert_eq!(engine.load(reg::QUEUE_READY), 1);
}

#[test]
fn a_device_that_was_reset_takes_a_state() {
    let (state, ram) = in_hand(PLAIN);
    let mut engine = fresh(ram, model(PLAIN));
    for _ in 0..3 {
        engine.restore(&state).expect("the snapshot is valid");
        assert_eq!(engine.restore(&state), Err(SnapshotError::NotInReset));
        let _ = engine.poll(BUDGET);
        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    }
}

#[test]
fn a_refused_state_leaves_a_device_that_takes_the_right_one() {
    let (state, ram) = in_hand(PLAIN);
    let mut engine = fresh(ram, model(PLAIN));
    let mut wrong = state.clone();
    wrong.device.chains[1].head = 16;
    assert_eq!(engine.restore(&wrong), Err(SECOND));
    assert!(
        engine.model().count(Event::Reset) >= 1,
        "the model is reset"
    );
    assert!(!engine.model().negotiated);
    assert_in_reset(&mut engine);
    engine.restore(&state).expect("the snapshot is valid");
    assert_eq!(virtside_tests::drain(&mut engine), Step::Idle);
    assert_eq!(engine.counters().chains, 2);
}

#[test]
fn another_version() {
    for version in [0, 2, u16::MAX] {
        let why = SnapshotError::Version { version };
        refused(why, |state| state.device.version = version);
        // With another version, the other fields have no known meaning.
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
fn features_that_differ_between_registers_and_device() {
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
    let mut engine = fresh(ram, model(PLAIN));
    assert!(engine.negotiate(PLAIN));
    let mut state = save(&mut engine);
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
    // The device's own state is live.
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
    let mut engine = fresh(ram, model(PLAIN));
    engine.model_mut().start = Start::Refuse;
    assert!(!engine.bring_up(PLAIN, &[config(0)]));
    let mut state = save(&mut engine);
    state.device.needs_reset = false;
    assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
}

#[test]
fn a_suspension_that_status_does_not_show() {
    for rest in [Suspension::Suspending, Suspension::Suspended] {
        let ram = virtside_tests::ram();
        let mut engine = fresh(ram, model(PLAIN));
        assert!(engine.negotiate(PLAIN));
        let mut state = save(&mut engine);
        state.device.suspension = rest;
        assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
    }
    refused(SnapshotError::Status, |state| {
        state.device.suspension = Suspension::Suspended
    });
    refused(SnapshotError::Status, |state| {
        state.registers.status = 11 | 16
    });
    // Suspended without a negotiated SUSPEND.
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
fn unknown_interrupt_bits() {
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
            let mut engine = fresh(ram, model(PLAIN));
            if status & 8 != 0 {
                assert!(engine.negotiate(PLAIN));
            }
            if status != 0 {
                let _ = engine.store(reg::STATUS, status);
            }
            let mut state = save(&mut engine);
            assert_eq!(u32::from(state.registers.status), status);
            state.device.interrupt = bits;
            assert_refused(ram, model(PLAIN), &state, SnapshotError::Status);
        }
    }
}

#[test]
fn a_held_back_change_of_a_device_that_is_not_suspended() {
    refused(SnapshotError::Status, |state| {
        state.device.config_changed = true
    });
}

#[test]
fn fewer_slots_than_chains_in_hand() {
    let (state, ram) = in_hand(PLAIN);
    let mut engine = virtside_tests::engine_over(model(PLAIN), ram.flat(BASE), 1);
    assert_eq!(engine.restore(&state), Err(SnapshotError::NoRoom));
    assert_in_reset(&mut engine);
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(engine.bring_up(PLAIN, &[client.config()]));
    client.assert_works(&mut engine);
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
        let mut engine = fresh(ram, model(PLAIN));
        assert_eq!(engine.restore(&state), Err(SnapshotError::Status));
        assert_eq!(engine.model().count(Event::Reset), 1, "{breaks}");
        state = whole;
    }
}

//! An adapter saved and restored in the middle of a group: no segment is sent twice, and the rest
//! of a failed group fails.

use proptest::{collection::vec, prelude::*};
use virtside::{
    model::SaveModel,
    models::{I2c, i2c::I2cSnapshot},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{BASE, N, Q, engine_over, models::i2c::*, reg};

type State = EngineSnapshot<I2cSnapshot, Q, N, 8>;

/// Moves the adapter to another process with the same bus; the driver does not notice.
#[track_caller]
fn move_adapter(rig: &mut I2cRig<Recorder>, combining: bool) {
    let state: State = rig.engine.save().expect("the device can be saved");
    let bus = std::mem::take(rig.engine.model_mut().bus_mut());
    let model = I2c::new(bus);
    let model = if combining {
        model.with_combining()
    } else {
        model
    };
    let mut engine = engine_over(model, rig.ram.flat(BASE), 2);
    engine.restore(&state).expect("the snapshot is valid");
    let mut again: State = engine.save().expect("the device can be saved");
    again.registers.generation = state.registers.generation;
    assert_eq!(again, state);
    rig.engine = engine;
}

fn offer(rig: &mut I2cRig<Recorder>, messages: &[Message]) {
    for (index, message) in messages.iter().enumerate() {
        rig.offer(index, message);
    }
    rig.driver.publish();
    let _ = rig.engine.kick(0);
}

#[test]
fn a_write_that_waits_for_its_read_is_combined_with_it() {
    let mut rig = I2cRig::with_combining(2);
    let messages = [write(0x50, &[0x10]).and(), read(0x50, 2)];
    offer(&mut rig, &messages);
    let _ = rig.engine.poll(1);
    assert_eq!(rig.calls(), [], "the write waits for its read");
    move_adapter(&mut rig, true);
    rig.poll();
    assert_eq!(rig.calls(), [WriteRead(0x50, vec![0x10], 2)]);
    let mut used = rig.take_used();
    used.sort_unstable();
    assert_eq!(used, [(0, 1), (3, 3)]);
    assert_eq!(rig.status(0), OK);
}

#[test]
fn a_write_that_was_sent_and_not_answered_is_not_sent_again() {
    for (trouble, status) in [(None, OK), (Some(NAK), ERR)] {
        let mut rig = I2cRig::with_combining(2);
        rig.trouble([trouble]);
        // The read is for another chip: the write is sent alone, and is answered by the next poll.
        offer(&mut rig, &[write(0x50, &[0x10]).and(), read(0x51, 1)]);
        let _ = rig.engine.poll(2);
        assert_eq!(rig.calls()[0], Write(0x50, vec![0x10]));
        assert_eq!(rig.status(0), UNTOUCHED);
        move_adapter(&mut rig, true);
        rig.poll();
        assert_eq!(rig.calls(), []);
        let mut used = rig.take_used();
        used.sort_unstable();
        assert_eq!(used, [(0, 1), (3, 2)]);
        assert_eq!((rig.status(0), rig.status(1)), (status, status));
    }
}

#[test]
fn the_rest_of_a_group_that_failed_fails() {
    for combining in [false, true] {
        let model = I2c::new(Recorder::default());
        let model = if combining {
            model.with_combining()
        } else {
            model
        };
        let mut rig = I2cRig::with(model, 2);
        rig.trouble([Some(NAK)]);
        assert_eq!(rig.one(read(0x50, 1).and()).status, ERR);
        rig.calls();
        move_adapter(&mut rig, combining);
        assert_eq!(rig.one(read(0x50, 1)), failed_read(1));
        assert_eq!(rig.calls(), [], "the request is not tried");
        assert_eq!(rig.one(read(0x50, 1)).status, OK);
    }
}

#[test]
fn a_reset_and_a_stopped_queue_discard_restored_groups() {
    for offset in [reg::STATUS, reg::QUEUE_READY] {
        let mut rig = I2cRig::new();
        rig.trouble([Some(NAK)]);
        assert_eq!(rig.one(read(0x50, 1).and()).status, ERR);
        move_adapter(&mut rig, false);
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        let _ = rig.engine.store(offset, 0);
        assert!(!rig.engine.model().save().failing);
    }
}

#[test]
fn an_impossible_state_is_refused() {
    let mut rig = I2cRig::new();
    let valid: State = rig.engine.save().expect("the device can be saved");
    let mut engine = engine_over(
        I2c::<_, BYTES>::new(Recorder::default()),
        rig.ram.flat(BASE),
        2,
    );
    // An adapter that combines nothing never keeps a write.
    let mut state = valid.clone();
    state.model.settled = Some(true);
    let refused = Err(SnapshotError::Model { at: 0 });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(engine.load(reg::STATUS), 0);
    engine.restore(&valid).expect("the snapshot is valid");
    // The model is in use.
    let mut state = valid.model;
    state.failing = true;
    engine
        .model_mut()
        .restore(&state, virtside::model::SavedWith { started: true })
        .expect("nothing was served yet");
    let refused = Err(SnapshotError::NotInReset);
    assert_eq!(
        engine
            .model_mut()
            .restore(&state, virtside::model::SavedWith { started: true }),
        refused
    );
}

#[test]
fn a_state_from_before_the_driver_is_idle() {
    let rig = I2cRig::new();
    let there = || {
        let model = I2c::<_, BYTES>::new(Recorder::default()).with_combining();
        engine_over(model, rig.ram.flat(BASE), 2)
    };
    let valid: State = there().save().expect("the device can be saved");
    let (mut failing, mut settled) = (valid.clone(), valid);
    failing.model.failing = true;
    settled.model.settled = Some(true);
    for state in [failing, settled] {
        let refused = Err(SnapshotError::Model { at: 0 });
        assert_eq!(there().restore(&state), refused);
    }
}

#[test]
fn an_answer_without_its_request_does_not_stop_the_queue() {
    let mut rig = I2cRig::with_combining(2);
    let mut state: State = rig.engine.save().expect("the device can be saved");
    state.model.settled = Some(false);
    let model = I2c::new(Recorder::default()).with_combining();
    let mut engine = engine_over(model, rig.ram.flat(BASE), 2);
    engine.restore(&state).expect("the snapshot is valid");
    rig.engine = engine;
    assert_eq!(rig.one(read(0x50, 1)).status, ERR);
    assert_eq!(rig.one(read(0x50, 1)).status, OK);
}

fn message() -> impl Strategy<Value = Message> {
    let write = (0x50..0x52u8, 1..4usize).prop_map(|(chip, len)| write(chip, &vec![chip; len]));
    let read = (0x50..0x52u8, 1..4u32).prop_map(|(chip, len)| read(chip, len));
    (prop_oneof![write, read], any::<bool>())
        .prop_map(|(message, more)| if more { message.and() } else { message })
}

proptest! {
    #[test]
    fn a_driver_does_not_notice_where_its_adapter_is(
        groups in vec((vec(message(), 1..5), vec(prop::option::weighted(0.2, Just(NAK)), 8)), 1..6),
        polls in vec((1..4u16, any::<bool>()), 1..40),
    ) {
        let mut seen = Vec::new();
        for moves in [false, true] {
            let mut rig = I2cRig::with_combining(2);
            let mut polls = polls.iter().cycle();
            let mut outcomes = Vec::new();
            for (messages, trouble) in &groups {
                rig.trouble(trouble.iter().copied());
                offer(&mut rig, messages);
                // Both adapters are polled in the same way.
                for _ in 0..60 {
                    let Some((budget, carried)) = polls.next() else { break };
                    if moves && *carried {
                        move_adapter(&mut rig, true);
                    }
                    let _ = rig.engine.poll(*budget);
                }
                rig.poll();
                let mut used = rig.take_used();
                used.sort_unstable();
                prop_assert_eq!(used.len(), messages.len(), "each request is answered once");
                for (index, message) in messages.iter().enumerate() {
                    outcomes.push(rig.outcome(index, message, used[index].1));
                }
                outcomes.push(failed());
            }
            seen.push((outcomes, rig.calls()));
        }
        let [stays, moved] = &seen[..] else { unreachable!("both") };
        prop_assert_eq!(&moved.0, &stays.0);
        prop_assert_eq!(&moved.1, &stays.1);
    }
}

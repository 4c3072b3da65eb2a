//! Saved and restored in the middle of a group: no segment is sent twice, and the rest of a group that
//! failed fails.

use proptest::{collection::vec, prelude::*};
use virtside::{
    model::SaveModel,
    models::{I2c, i2c::I2cSnapshot},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{BASE, N, Q, engine_over, models::i2c::*, reg};

type State = EngineSnapshot<I2cSnapshot, Q, N, 8>;

/// The same adapter in another process, of the same bus; its driver does not notice.
#[track_caller]
fn carry(rig: &mut I2cRig<Recorder>, combining: bool) {
    let state: State = rig.engine.save().expect("nothing is in the way");
    let bus = std::mem::take(rig.engine.model_mut().bus_mut());
    let model = I2c::new(bus);
    let model = if combining {
        model.with_combining()
    } else {
        model
    };
    let mut engine = engine_over(model, rig.ram.flat(BASE), 2);
    engine.restore(&state).expect("what was saved is whole");
    let mut again: State = engine.save().expect("nothing is in the way");
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
    assert_eq!(rig.calls(), [], "it waits");
    carry(&mut rig, true);
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
        // The read of another chip: the write goes alone, and has its answer with the next poll.
        offer(&mut rig, &[write(0x50, &[0x10]).and(), read(0x51, 1)]);
        let _ = rig.engine.poll(2);
        assert_eq!(rig.calls()[0], Write(0x50, vec![0x10]));
        assert_eq!(rig.status(0), UNTOUCHED);
        carry(&mut rig, true);
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
        carry(&mut rig, combining);
        assert_eq!(rig.one(read(0x50, 1)), failed_read(1));
        assert_eq!(rig.calls(), [], "without a try");
        assert_eq!(rig.one(read(0x50, 1)).status, OK);
    }
}

#[test]
fn a_reset_and_a_stopped_queue_forget_what_was_carried_over() {
    for offset in [reg::STATUS, reg::QUEUE_READY] {
        let mut rig = I2cRig::new();
        rig.trouble([Some(NAK)]);
        assert_eq!(rig.one(read(0x50, 1).and()).status, ERR);
        carry(&mut rig, false);
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        let _ = rig.engine.store(offset, 0);
        assert!(!rig.engine.model().save().failing);
    }
}

#[test]
fn what_no_driver_can_have_made_of_it_is_refused() {
    let mut rig = I2cRig::new();
    let whole: State = rig.engine.save().expect("nothing is in the way");
    let mut engine = engine_over(
        I2c::<_, BYTES>::new(Recorder::default()),
        rig.ram.flat(BASE),
        2,
    );
    // An adapter that combines nothing never keeps a write.
    let mut state = whole.clone();
    state.model.settled = Some(true);
    let refused = Err(SnapshotError::Model { at: 0 });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(engine.load(reg::STATUS), 0);
    engine.restore(&whole).expect("what was saved is whole");
    // At work.
    let mut state = whole.model;
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
fn nothing_was_served_before_a_driver_was_there() {
    let rig = I2cRig::new();
    let there = || {
        let model = I2c::<_, BYTES>::new(Recorder::default()).with_combining();
        engine_over(model, rig.ram.flat(BASE), 2)
    };
    let whole: State = there().save().expect("nothing is in the way");
    let (mut failing, mut settled) = (whole.clone(), whole);
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
    let mut state: State = rig.engine.save().expect("nothing is in the way");
    state.model.settled = Some(false);
    let model = I2c::new(Recorder::default()).with_combining();
    let mut engine = engine_over(model, rig.ram.flat(BASE), 2);
    engine.restore(&state).expect("that may be");
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
                // Both are polled in the same way.
                for _ in 0..60 {
                    let Some((budget, carried)) = polls.next() else { break };
                    if moves && *carried {
                        carry(&mut rig, true);
                    }
                    let _ = rig.engine.poll(*budget);
                }
                rig.poll();
                let mut used = rig.take_used();
                used.sort_unstable();
                prop_assert_eq!(used.len(), messages.len(), "each is answered once");
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

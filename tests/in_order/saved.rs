//! A device that is saved and restored while answers wait for an older chain.

use virtside::{
    Features, Step,
    snapshot::{EngineSnapshot, SnapshotError},
};
use virtside_tests::{
    N, Q, SIZE,
    in_order::{FORMATS, Format, Given, HolderRig},
    rings::settle,
};

type Saved = EngineSnapshot<(), Q, N, 8>;

/// The oldest and the last of four chains are kept, the other two are answered; returns the rig and
/// its snapshot.
fn waiting(format: Format) -> (HolderRig, Saved) {
    let mut rig = HolderRig::with(format, Features::IN_ORDER, 1, SIZE, 8);
    // Starts at some position in the ring.
    rig.fill();
    assert_eq!(rig.send(&[4; 13]), Step::Idle);
    assert_eq!(rig.take().len(), 13);
    rig.choose(|asked| (13 < asked.number && asked.number < 16).then_some(asked.room - 1));
    assert_eq!(rig.send(&[4; 4]), Step::Blocked);
    let saved = rig.engine.save().expect("no queue is taken");
    assert_eq!(saved.device.chains.len(), 4);
    (rig, saved)
}

#[test]
fn answers_that_wait_still_wait_after_a_restore() {
    for &format in FORMATS {
        let (mut rig, saved) = waiting(format);
        rig.renew(8);
        assert_eq!(rig.engine.restore(&saved), Ok(()));
        // The model is asked about both kept chains again; it keeps the older one again.
        rig.choose(|asked| (asked.number == 1).then_some(4));
        assert_eq!(settle(&mut rig.engine), Step::Blocked);
        assert_eq!(rig.engine.model().asked.len(), 2, "{format:?}");
        assert_eq!(rig.take(), []);
        rig.answer(0, 4);
        let expected = [
            Given::skipped(13, 4),
            Given::entry(14, 3),
            Given::entry(15, 3),
            Given::entry(16, 4),
        ];
        assert_eq!(rig.take(), expected, "{format:?}");
        rig.fill();
        assert_eq!(rig.send(&[4; 3]), Step::Idle);
        assert_eq!(rig.driver().numbers(), [17, 18, 19]);
    }
}

#[test]
fn an_answer_that_nothing_would_give_back_is_refused() {
    for &format in FORMATS {
        let (mut rig, mut saved) = waiting(format);
        saved.device.chains[0].answered = Some(4);
        rig.renew(8);
        let refused = Err(SnapshotError::Chain { at: 0 });
        assert_eq!(rig.engine.restore(&saved), refused, "{format:?}");
    }
}

#[test]
fn a_queue_with_an_abandoned_chain_is_refused() {
    for &format in FORMATS {
        let (mut rig, mut saved) = waiting(format);
        // The oldest chain, which takes one slot.
        saved.device.chains.remove(0);
        let ring = saved.device.queues[0].ring.as_mut();
        ring.expect("the queue is live").abandoned = 1;
        rig.renew(8);
        let refused = Err(SnapshotError::Positions { queue: 0 });
        assert_eq!(rig.engine.restore(&saved), refused, "{format:?}");
    }
}

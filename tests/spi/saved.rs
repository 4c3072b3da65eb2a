//! A controller saved and restored between two transfers of one message: the chip is selected
//! again.

use embedded_hal::spi::MODE_0;
use virtside::{
    model::SaveModel,
    models::{
        Spi,
        spi::{FixedClock, SpiController, SpiLines, SpiSnapshot},
    },
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{
    BASE, N, Q, TestEngine, engine_over,
    models::spi::{Event::*, *},
    reg,
};

type State = EngineSnapshot<SpiSnapshot, Q, N, 1>;
type Lines = SpiLines<Wire, Pin, Timer, FixedClock, 2>;

fn lines() -> (Lines, Log) {
    let log = Log::default();
    let pins = [0, 1].map(|at| Pin(at, log.clone()));
    let clock = FixedClock::new(MODE_0, 1_000_000);
    let lines = SpiLines::new(Wire(log.clone()), pins, Timer(log.clone()), clock);
    (lines.with_delays(100), log)
}

fn other_lines<C: SpiController>(
    rig: &SpiRig<impl SpiController>,
    lines: C,
) -> TestEngine<Spi<C, BYTES>> {
    engine_over(Spi::new(lines), rig.ram.flat(BASE), 1)
}

/// A head in which every field has another value.
const FIRST: Head = Head {
    chip_select: 1,
    word_delay: 5,
    cs_setup: 10,
    cs_hold: 30,
    cs_inactive: 40,
    ..PLAIN
};

const LAST: Head = Head {
    cs_change: 1,
    ..FIRST
};

/// A device that has answered one transfer, and its snapshot.
fn saved(head: Head) -> (SpiRig<Lines>, State) {
    let mut rig = SpiRig::over(lines().0);
    assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
    let state = rig.engine.save().expect("the device can be saved");
    (rig, state)
}

/// That snapshot, restored in another device with its own lines.
fn restored_elsewhere(head: Head) -> (SpiRig<Lines>, State, Log) {
    let (mut rig, state) = saved(head);
    let (here, log) = lines();
    rig.engine = other_lines(&rig, here);
    let restored = rig.engine.restore(&state);
    restored.expect("the snapshot is valid");
    (rig, state, log)
}

#[test]
fn a_chip_that_stays_selected_is_selected_again() {
    let (mut rig, state, log) = restored_elsewhere(FIRST);
    assert_eq!(log.take(), [Low(1), Pause(10)]);
    assert_eq!(rig.engine.model().save(), state.model);
    // The message continues and ends as usual.
    assert_eq!(rig.ask(LAST, &[2], 0), outcome(OK));
    let ends = [Write(vec![2]), Flush, Flush, Pause(30), High(1), Pause(40)];
    assert_eq!(log.take(), ends);
}

#[test]
fn a_chip_that_is_not_selected_is_not_touched() {
    let (_, state, log) = restored_elsewhere(LAST);
    assert_eq!(state.model.selected, None);
    assert_eq!(log.take(), []);
}

#[test]
fn lines_that_split_messages_keep_no_chip_selected() {
    let (lines_here, log) = lines();
    let mut rig = SpiRig::over(lines_here.with_split_messages());
    // The pin fails, so the chip is not deselected; the restored device does not select it.
    log.fail([High(1)]);
    assert_eq!(rig.ask(FIRST, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.engine.model().save().selected, None);
    // A chip that was left selected cannot be restored.
    let (rig, state) = saved(FIRST);
    let (here, log) = lines();
    let mut engine = other_lines(&rig, here.with_split_messages());
    let refused = Err(SnapshotError::Backend { at: 0 });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(log.take(), []);
}

#[test]
fn a_reset_deselects_the_restored_chip() {
    let (mut rig, _, log) = restored_elsewhere(FIRST);
    log.take();
    let _ = rig.engine.store(reg::STATUS, 0);
    assert_eq!(log.take(), [Pause(30), High(1), Pause(40)]);
}

#[test]
fn a_pin_that_fails_leaves_nothing_selected() {
    let (rig, state) = saved(FIRST);
    let (here, log) = lines();
    log.fail([Low(1)]);
    let mut engine = other_lines(&rig, here);
    let refused = Err(SnapshotError::Backend { at: 0 });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(engine.load(reg::STATUS), 0);
    assert_eq!(engine.model().save().selected, None);
    assert_eq!(
        log.take().last(),
        Some(&Pause(40)),
        "the chip was deselected"
    );
    assert_eq!(engine.restore(&state), Ok(()));
}

#[test]
fn an_unsupported_state_is_refused() {
    let (rig, valid) = saved(FIRST);
    let (here, log) = lines();
    let mut engine = other_lines(&rig, here);
    let heads = [
        Head {
            chip_select: 2,
            ..FIRST
        },
        Head {
            bits_per_word: 9,
            ..FIRST
        },
        Head { mode: 3, ..FIRST },
        Head {
            freq: 2_000_000,
            ..FIRST
        },
        Head {
            cs_hold: 101,
            ..FIRST
        },
        Head {
            tx_nbits: 4,
            ..FIRST
        },
        // This transfer deselects its chip.
        Head {
            cs_change: 1,
            ..FIRST
        },
    ];
    for head in heads {
        let mut state = valid.clone();
        state.model.selected = head.bytes().try_into().ok();
        assert!(state.model.selected.is_some());
        let refused = Err(SnapshotError::Model { at: 0 });
        assert_eq!(engine.restore(&state), refused, "{head:?}");
        assert_eq!(engine.load(reg::STATUS), 0);
    }
    assert_eq!(log.take(), []);
    // The controller is in use.
    engine.restore(&valid).expect("the snapshot is valid");
    let refused = Err(SnapshotError::NotInReset);
    assert_eq!(
        engine
            .model_mut()
            .restore(&valid.model, virtside::model::SavedWith { started: true }),
        refused
    );
    // A controller that never keeps a chip selected.
    let mut engine = other_lines(&rig, Recorder::new(everything()));
    let refused = Err(SnapshotError::Backend { at: 0 });
    assert_eq!(engine.restore(&valid), refused);
}

#[test]
fn no_chip_is_selected_before_a_driver_used_one() {
    let (rig, valid) = saved(FIRST);
    let (there, _) = lines();
    let mut fresh = other_lines(&rig, there);
    let mut state: State = fresh.save().expect("the device can be saved");
    state.model.selected = valid.model.selected;
    let (here, log) = lines();
    let mut engine = other_lines(&rig, here);
    let refused = Err(SnapshotError::Model { at: 0 });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(log.take(), [], "no pin was touched");
}

//! The table in `virtside::mmio`, cell by cell: which queue registers can be written for each
//! phase, QueueReady and RING_RESET.

use virtside::{
    Features, QueueConfig, Refusal,
    device::QueueState,
    error::Frozen,
    mmio::{Phase, Reply},
    testing::{Layout, Registers},
};
use virtside_tests::{
    BASE, TestEngine, config, driver,
    probe::{Event, Probe, assert_works, pending, probe, publish, ready, reset_queue, seen},
    reg,
};

/// The state of RING_RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    /// RING_RESET was not negotiated.
    Without,
    /// RING_RESET was negotiated.
    With,
    /// RING_RESET was negotiated, and queue 0 was reset.
    WasReset,
}
use Ring::{WasReset, With, Without};

/// Another layout for queue 0, in which every register differs.
fn other_layout() -> QueueConfig {
    Layout::packed_at(BASE + 0x5010, 8).config(0)
}

/// A device in this phase, with queue 0 laid out as `config(0)`, ready or not.
fn at(phase: Phase, queue_ready: u32, ring: Ring) -> TestEngine<Probe> {
    let (mut engine, ram) = probe();
    let mut features = Features::VERSION_1;
    if ring != Without {
        features = features | Features::RING_RESET;
    }
    let suspends = matches!(phase, Phase::Suspending | Phase::Suspended);
    if suspends {
        features = features | Features::SUSPEND;
    }
    match phase {
        Phase::Reset => {}
        Phase::Negotiating => assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0)),
        _ => assert!(engine.negotiate(features)),
    }
    if suspends {
        assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    }
    engine.lay_out(&config(0));
    if queue_ready == 1 || ring == WasReset {
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    }
    if suspends || phase == Phase::Live {
        assert_eq!(engine.go_live(), Reply::Done(0));
    }
    if ring == WasReset {
        assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        assert_eq!(engine.load(reg::QUEUE_RESET), 0);
        engine.lay_out(&config(0));
    }
    if phase == Phase::Suspending {
        // A chain of the other queue is in hand.
        engine.model_mut().holds = true;
        publish(&mut driver(ram, 1), 1, b"in hand");
        engine.poll(4);
        assert_eq!(engine.model().held.len(), 1);
    }
    match phase {
        Phase::Suspending | Phase::Suspended => {
            assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
        }
        Phase::Failed => assert_eq!(engine.store(reg::STATUS, 11 | 128), Reply::Done(0)),
        _ => {}
    }
    assert_eq!(
        (engine.phase(), engine.load(reg::QUEUE_READY)),
        (phase, queue_ready)
    );
    if ring == Without {
        // Without RING_RESET, QueueReset is refused and does not open the registers.
        let before = seen(&engine);
        let reply = engine.store(reg::QUEUE_RESET, 1);
        assert_eq!(reply, Reply::Refused(Refusal::NotNegotiated));
        assert_eq!(engine.load(reg::QUEUE_RESET), 0);
        assert_eq!(seen(&engine), before);
    }
    engine
}

/// How often the model was told that queue 0 stopped.
fn stops(engine: &TestEngine<Probe>) -> usize {
    engine.model().count(Event::Stopped(0))
}

/// Why the queue is frozen in this cell.
fn frozen(phase: Phase, queue_ready: u32) -> Frozen {
    match (phase, queue_ready) {
        (Phase::Failed, _) => Frozen::Failed,
        (_, 1) => Frozen::QueueReady,
        (Phase::Suspending | Phase::Suspended, _) => Frozen::Suspended,
        _ => Frozen::Live,
    }
}

/// The value written to each parameter register for this layout.
fn parameters(config: &QueueConfig) -> [(u32, u32); 7] {
    [
        (reg::QUEUE_SIZE, config.size),
        (reg::QUEUE_DESC_LOW, config.desc as u32),
        (reg::QUEUE_DESC_HIGH, (config.desc >> 32) as u32),
        (reg::QUEUE_DRIVER_LOW, config.driver as u32),
        (reg::QUEUE_DRIVER_HIGH, (config.driver >> 32) as u32),
        (reg::QUEUE_DEVICE_LOW, config.device as u32),
        (reg::QUEUE_DEVICE_HIGH, (config.device >> 32) as u32),
    ]
}

/// Parameters are written: the next QueueReady = 1 uses them.
fn parameters_are_written(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let before = seen(&engine);
    for (offset, value) in parameters(&other_layout()) {
        assert_eq!(engine.store(offset, value), Reply::Done(0), "{offset:#x}");
    }
    assert_eq!(
        seen(&engine),
        before,
        "nothing is checked before QueueReady"
    );
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(engine.queue_config(0), Some(&other_layout()));
}

/// Parameters are refused for any value, and the earlier values stay.
fn parameters_are_refused(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let why = frozen(phase, queue_ready);
    let before = seen(&engine);
    for (offset, value) in parameters(&other_layout()) {
        for value in [value, 0, u32::MAX] {
            let refusal = Refusal::QueueFrozen { queue: 0, why };
            assert_eq!(engine.store(offset, value), Reply::Refused(refusal));
            assert_eq!(seen(&engine), before, "{offset:#x}");
        }
    }
    assert_eq!(engine.load(reg::QUEUE_READY), queue_ready);
    if matches!(phase, Phase::Reset | Phase::Negotiating | Phase::SettingUp) {
        // The parameters show at the next check.
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
        assert_eq!(engine.queue_config(0), Some(&config(0)));
    }
}

/// QueueReady = 1 checks the queue: a good queue becomes ready, a bad one does not.
fn one_is_checked(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    assert_eq!(engine.store(reg::QUEUE_SIZE, 3), Reply::Done(0));
    let before = seen(&engine);
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.store(reg::QUEUE_SIZE, 16), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 1);
    assert_eq!(engine.queue_state(0), QueueState::Ready);
    assert_eq!(engine.queue_config(0), Some(&config(0)));
}

/// QueueReady = 1 is refused.
fn one_is_refused(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let why = frozen(phase, queue_ready);
    let before = seen(&engine);
    let refusal = Refusal::QueueFrozen { queue: 0, why };
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Refused(refusal));
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.queue_state(0), QueueState::Off);
}

/// The register has the value already: the write is accepted and changes nothing.
fn nothing_to_do(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let (before, stopped) = (seen(&engine), stops(&engine));
    assert_eq!(engine.store(reg::QUEUE_READY, queue_ready), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), queue_ready);
    assert_eq!(seen(&engine), before);
    assert_eq!(stops(&engine), stopped);
}

/// QueueReady = 0 stops the queue.
fn zero_stops(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(engine.phase(), phase);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(engine.queue_config(0), None);
    assert_eq!(stops(&engine), 1);
    let _ = engine.kick(0);
    engine.poll(1);
    assert_eq!(engine.model().count(Event::Served(0)), 0);
}

/// QueueReady = 1 checks the queue: a good queue becomes live, a bad one sets DEVICE_NEEDS_RESET.
fn one_is_checked_and_live(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 1);
    assert_eq!(engine.queue_state(0), QueueState::Live);
    assert_eq!(engine.queue_config(0), Some(&config(0)));

    let mut engine = at(phase, queue_ready, ring);
    assert_eq!(engine.store(reg::QUEUE_SIZE, 3), Reply::Done(0));
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(
        (engine.load(reg::STATUS), pending(&mut engine)),
        (15 | 64, 2)
    );
}

/// QueueReset = 1 resets the queue: it is disabled, and its parameters are 0.
fn reset_takes_it_down(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let stops_before = stops(&engine);
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_RESET), 0);
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_eq!(engine.phase(), phase);
    // The model is told only of a queue that was ready.
    assert_eq!(stops(&engine), stops_before + queue_ready as usize);
    let size = Refusal::QueueSize {
        queue: 0,
        size: 0,
        max: 16,
    };
    let reply = engine.store(reg::QUEUE_READY, 1);
    match phase {
        Phase::SettingUp | Phase::Live => assert_eq!(reply, Reply::Refused(size)),
        _ => assert_eq!(
            reply.refusal(),
            Some(Refusal::QueueFrozen {
                queue: 0,
                why: Frozen::Suspended
            })
        ),
    }
}

/// QueueReset = 1 is refused, and so is every write that it would have allowed.
fn reset_is_refused(phase: Phase, queue_ready: u32, ring: Ring) {
    let mut engine = at(phase, queue_ready, ring);
    let before = seen(&engine);
    let reply = engine.store(reg::QUEUE_RESET, 1);
    assert_eq!(reply, Reply::Refused(Refusal::WrongPhase));
    assert_eq!(engine.load(reg::QUEUE_RESET), 0);
    assert_eq!(engine.load(reg::QUEUE_READY), queue_ready);
    assert_eq!(seen(&engine), before);
}

/// One test for each cell.
macro_rules! cells {
    ($($phase:ident $module:ident {$($ready:literal $ring:ident $name:ident $check:ident)*})*) => {$(
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                $check(Phase::$phase, $ready, $ring);
            })*
        }
    )*};
}

cells! {
    Reset in_reset {
        0 Without the_parameters_of_a_queue_are_written parameters_are_written
        0 Without one_makes_a_queue_ready_if_it_passes one_is_checked
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
    Negotiating in_negotiation {
        0 Without the_parameters_of_a_queue_are_written parameters_are_written
        0 Without one_makes_a_queue_ready_if_it_passes one_is_checked
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
    SettingUp in_setting_up {
        0 Without the_parameters_of_a_queue_are_written parameters_are_written
        0 Without one_makes_a_queue_ready_if_it_passes one_is_checked
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
    Live while_live {
        0 Without the_parameters_of_a_queue_are_refused parameters_are_refused
        0 Without one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
    Failed after_failed {
        0 Without the_parameters_of_a_queue_are_refused parameters_are_refused
        0 Without one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
}

cells! {
    SettingUp in_setting_up_with_ring_reset {
        0 With the_parameters_of_a_queue_are_written parameters_are_written
        0 With one_makes_a_queue_ready_if_it_passes one_is_checked
        0 With zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 With the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 With one_leaves_a_ready_queue nothing_to_do
        1 With zero_stops_a_ready_queue zero_stops
        0 With a_queue_that_is_not_ready_is_reset_at_once reset_takes_it_down
        1 With a_ready_queue_is_reset reset_takes_it_down
        0 WasReset a_queue_may_be_reset_again reset_takes_it_down
        0 WasReset the_parameters_of_a_queue_that_was_reset_are_written parameters_are_written
        0 WasReset one_makes_a_queue_that_was_reset_ready_if_it_passes one_is_checked
        0 WasReset zero_leaves_a_queue_that_was_reset nothing_to_do
    }
    Live while_live_with_ring_reset {
        0 With the_parameters_of_a_queue_are_refused parameters_are_refused
        0 With one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 With zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 With the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 With one_leaves_a_ready_queue nothing_to_do
        1 With zero_stops_a_ready_queue zero_stops
        0 With a_queue_that_is_not_ready_is_reset_at_once reset_takes_it_down
        1 With a_ready_queue_is_reset reset_takes_it_down
        0 WasReset a_queue_may_be_reset_again reset_takes_it_down
        0 WasReset the_parameters_of_a_queue_that_was_reset_are_written parameters_are_written
        0 WasReset one_makes_a_queue_that_was_reset_live_if_it_passes one_is_checked_and_live
        0 WasReset zero_leaves_a_queue_that_was_reset nothing_to_do
    }
    Suspending while_suspending_with_ring_reset {
        0 With the_parameters_of_a_queue_are_refused parameters_are_refused
        0 With one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 With zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 With the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 With one_leaves_a_ready_queue nothing_to_do
        1 With zero_stops_a_ready_queue zero_stops
        0 With a_queue_that_is_not_ready_is_reset_at_once reset_takes_it_down
        1 With a_ready_queue_is_reset reset_takes_it_down
        0 WasReset a_queue_may_be_reset_again reset_takes_it_down
        0 WasReset the_parameters_of_a_queue_that_was_reset_are_refused parameters_are_refused
        0 WasReset one_is_refused_to_a_queue_that_was_reset one_is_refused
        0 WasReset zero_leaves_a_queue_that_was_reset nothing_to_do
    }
    Suspended while_suspended_with_ring_reset {
        0 With the_parameters_of_a_queue_are_refused parameters_are_refused
        0 With one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 With zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 With the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 With one_leaves_a_ready_queue nothing_to_do
        1 With zero_stops_a_ready_queue zero_stops
        0 With a_queue_that_is_not_ready_is_reset_at_once reset_takes_it_down
        1 With a_ready_queue_is_reset reset_takes_it_down
        0 WasReset a_queue_may_be_reset_again reset_takes_it_down
        0 WasReset the_parameters_of_a_queue_that_was_reset_are_refused parameters_are_refused
        0 WasReset one_is_refused_to_a_queue_that_was_reset one_is_refused
        0 WasReset zero_leaves_a_queue_that_was_reset nothing_to_do
    }
    Failed after_failed_with_ring_reset {
        0 With the_parameters_of_a_queue_are_refused parameters_are_refused
        0 With one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 With zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 With the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 With one_leaves_a_ready_queue nothing_to_do
        1 With zero_stops_a_ready_queue zero_stops
        0 With a_reset_of_a_queue_that_is_not_ready_is_refused reset_is_refused
        1 With a_reset_of_a_ready_queue_is_refused reset_is_refused
        0 WasReset a_second_reset_is_refused reset_is_refused
        0 WasReset the_parameters_of_a_queue_that_was_reset_are_refused parameters_are_refused
        0 WasReset one_is_refused_to_a_queue_that_was_reset one_is_refused
        0 WasReset zero_leaves_a_queue_that_was_reset nothing_to_do
    }
    Suspending while_suspending {
        0 Without the_parameters_of_a_queue_are_refused parameters_are_refused
        0 Without one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
    Suspended while_suspended {
        0 Without the_parameters_of_a_queue_are_refused parameters_are_refused
        0 Without one_is_refused_to_a_queue_that_is_not_ready one_is_refused
        0 Without zero_leaves_a_queue_that_is_not_ready nothing_to_do
        1 Without the_parameters_of_a_ready_queue_are_refused parameters_are_refused
        1 Without one_leaves_a_ready_queue nothing_to_do
        1 Without zero_stops_a_ready_queue zero_stops
    }
}

#[test]
fn a_value_that_is_neither_zero_nor_one_is_refused() {
    for queue_ready in [0, 1] {
        let mut engine = at(Phase::SettingUp, queue_ready, Without);
        let before = seen(&engine);
        for value in [2, 3, 0x100, 0x1_0001, u32::MAX] {
            let refusal = Refusal::BadValue {
                offset: reg::QUEUE_READY,
                value,
            };
            assert_eq!(
                engine.store(reg::QUEUE_READY, value),
                Reply::Refused(refusal)
            );
            assert_eq!(engine.load(reg::QUEUE_READY), queue_ready);
            assert_eq!(seen(&engine), before);
        }
    }
}

#[test]
fn a_queue_may_be_enabled_and_stopped_before_driver_ok() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    for layout in [config(0), other_layout(), other_layout(), config(0)] {
        assert_eq!(engine.configure(&layout), Reply::Done(0));
        assert_eq!(engine.queue_config(0), Some(&layout));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        assert_eq!(engine.queue_state(0), QueueState::Off);
    }
    let mut driver = driver(ram, 0);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_queue_stopped_while_live_comes_back_only_with_a_reset() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let before = seen(&engine);
    for (offset, value) in parameters(&other_layout()) {
        assert!(engine.store(offset, value).refusal().is_some());
    }
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_eq!(ready(&mut engine, 0), 0);
    assert_eq!(seen(&engine), before);
    driver = virtside_tests::driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn ring_reset_counts_only_once_features_ok_is_set() {
    let (mut engine, _) = probe();
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    for (word, bits) in [(0, 0), (1, Features::RING_RESET.word(1) | 1)] {
        assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, word), Reply::Done(0));
        assert_eq!(engine.store(reg::DRIVER_FEATURES, bits), Reply::Done(0));
    }
    let refused = Reply::Refused(Refusal::NotNegotiated);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(reset_queue(&mut engine, 0), refused);
    assert_eq!(ready(&mut engine, 0), 1);
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(ready(&mut engine, 0), 0);
}

#[test]
fn registers_rewritten_while_live_do_not_move_a_queue() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_works(&mut engine, &mut driver, 0);
    let mut marked = [0x77; 0x400];
    ram.write(0x5000, &marked);
    for queue in [1, 0] {
        assert_eq!(engine.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        for (offset, value) in parameters(&other_layout()) {
            assert!(engine.store(offset, value).refusal().is_some());
        }
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    }
    for _ in 0..40 {
        assert_works(&mut engine, &mut driver, 0);
    }
    assert_eq!(engine.queue_config(0), Some(&config(0)));
    ram.read(0x5000, &mut marked);
    assert_eq!(marked, [0x77; 0x400]);
}

//! Impossible queues.

use super::*;

#[test]
fn a_queue_that_overlaps_another() {
    let ram = virtside_tests::ram();
    let mut engine = fresh(ram, model(PLAIN));
    assert!(engine.bring_up(PLAIN, &[config(0), config(1)]));
    let state = save(&mut engine);
    for (offset, moved) in [(0, config(0).desc), (0x80, config(0).device & !15)] {
        let mut state = state.clone();
        state.device.queues[1].config.desc = moved;
        state.registers.queues[1].desc = moved;
        let mut engine = fresh(ram, model(PLAIN));
        let why = engine.restore(&state);
        let overlap = matches!(
            why,
            Err(SnapshotError::Queue {
                queue: 1,
                why: Refusal::Overlap { with: 0, .. }
            })
        );
        assert!(overlap, "{offset}: {why:?}");
        assert_in_reset(&mut engine);
    }
}

#[test]
fn a_queue_that_a_driver_could_not_have_set_up() {
    type Change = fn(&mut virtside::QueueConfig, &mut virtside::snapshot::QueueRegisters);
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
        let mut engine = fresh(ram, model(PLAIN));
        let why = engine.restore(&state);
        assert!(
            matches!(why, Err(SnapshotError::Queue { queue: 0, .. })),
            "{why:?}"
        );
        assert_in_reset(&mut engine);
    }
}

#[test]
fn a_queue_that_the_model_does_not_have() {
    let (state, ram) = in_hand(PLAIN);
    let mut other = model(PLAIN);
    other.sizes = [8, 16, 8, 0];
    let mut engine = fresh(ram, other.clone());
    let why = engine.restore(&state);
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
fn a_queue_that_only_the_registers_have() {
    refused(QUEUE, |state| {
        state.device.queues.clear();
        state.device.chains.clear();
    });
    refused(SnapshotError::Positions { queue: 1 }, |state| {
        state.registers.queues[1].stage = Stage::Ready;
    });
}

#[test]
fn a_queue_that_its_registers_contradict() {
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
fn an_unfinished_queue_reset_before_driver_ok() {
    let ram = virtside_tests::ram();
    let mut engine = fresh(ram, model(PLAIN));
    assert!(engine.negotiate(PLAIN));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    let mut state = save(&mut engine);
    state.registers.queues[0].stage = Stage::Resetting;
    assert_refused(ram, model(PLAIN), &state, QUEUE);
}

#[test]
fn positions_before_driver_ok() {
    let ram = virtside_tests::ram();
    let mut engine = fresh(ram, model(PLAIN));
    assert!(engine.negotiate(PLAIN));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    let state = save(&mut engine);
    for change in [
        (|ring| ring.next_avail = 1) as fn(&mut RingPosition),
        |ring| ring.next_used = 1,
        |ring| ring.unsignalled = 1,
        |ring| ring.abandoned = 1,
        |ring| ring.kicks_off = true,
    ] {
        let mut state = state.clone();
        change(ring(&mut state));
        assert_refused(ram, model(PLAIN), &state, QUEUE);
    }
    // The queue would be stopped for good without any notice to the driver.
    let mut silent = state.clone();
    silent.device.queues[0].ring = None;
    assert_refused(ram, model(PLAIN), &silent, QUEUE);
}

/// A device whose queue 1 needs queue 0, and a driver that is live with both.
fn live_with_companion(ram: TestRam) -> (TestEngine<Probe>, Probe) {
    let mut choosy = model(PLAIN);
    choosy.check.beside = vec![(1, 0)];
    let mut engine = fresh(ram, choosy.clone());
    assert!(engine.bring_up(PLAIN, &[config(0), config(1)]));
    (engine, choosy)
}

#[test]
fn a_queue_whose_companion_was_stopped_is_refused_as_documented() {
    let (mut engine, choosy) = live_with_companion(virtside_tests::ram());
    let ram = virtside_tests::ram();
    let both = save(&mut engine);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let state = save(&mut engine);
    let why = Refusal::QueueCheck { queue: 1 };
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
    let (mut engine, _) = live_with_companion(ram);
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    move_device(engine, ram);
}

#[test]
fn before_driver_ok_a_queue_may_be_without_its_companion() {
    let ram = virtside_tests::ram();
    let (mut engine, _) = live_with_companion(ram);
    assert!(engine.negotiate(PLAIN));
    for queue in [0, 1] {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
    }
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
}

#[test]
fn features_before_features_ok_do_not_admit_a_live_queue() {
    refused(SnapshotError::Features, |state| {
        state.device.queues[0].checked = state.device.features;
    });
}

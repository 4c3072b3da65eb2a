//! Saved and restored queues that were stopped or reset.

use super::*;

/// A live device with one failed queue and one that works.
fn half_broken() -> (TestEngine<Probe>, Client, TestRam) {
    let (mut engine, ram) = device();
    let broken = Client::new(ram, 0, PLAIN);
    let client = Client::new(ram, 1, PLAIN);
    assert!(engine.bring_up(PLAIN, &[broken.config(), client.config()]));
    broken.split().set_avail_idx(1000);
    let _ = engine.poll(BUDGET);
    assert!(engine.driver_fault(0).is_some());
    (engine, client, ram)
}

#[test]
fn a_queue_that_was_stopped_by_a_fault_stays_stopped() {
    let (engine, mut client, ram) = half_broken();
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut engine), 2);
    assert_eq!(engine.queue_state(0), virtside::device::QueueState::Failed);
    client.assert_works(&mut engine);
    assert_eq!(engine.kick(0), Reply::Done(0));
    let rings = virtside_tests::rings::shot(ram);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(virtside_tests::rings::shot(ram) == rings);
    // QueueReady = 0 and a queue reset work as before.
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    assert_eq!(ready(&mut engine, 0), 0);
    let mut engine = move_device(engine, ram);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_stopped_queue_that_cannot_be_served_leaves_the_device_idle() {
    // A failed queue is no reason to poll again for a model that is not ready for it.
    use virtside_tests::rings::{Plan, RecordingModel};
    let ram = virtside_tests::ram();
    let make =
        || virtside_tests::engine_over(RecordingModel::new(Plan::Fill(1)), ram.flat(BASE), 4);
    let mut engine = make();
    let driver = FakeDriver::new(ram.flat(BASE), virtside_tests::layout(0));
    assert!(engine.bring_up(PLAIN, &[config(0)]));
    driver.set_avail_idx(1000);
    let _ = engine.poll(BUDGET);
    engine.model_mut().busy = vec![0];
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    let state = engine.save::<4>().expect("the device can be saved");
    let mut next = make();
    next.model_mut().busy = vec![0];
    next.restore(&state).expect("the snapshot is valid");
    assert_eq!(next.poll(BUDGET), Step::Idle);
}

#[test]
fn a_queue_whose_ring_is_gone_stays_stopped() {
    use virtside_tests::rings::GuardedMem;
    let ram = virtside_tests::ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let make = || virtside_tests::engine_over(model(PLAIN), mem.clone(), 4);
    for live in [false, true] {
        mem.allow_all();
        let mut engine = make();
        let mut driver = virtside_tests::driver(ram, 1);
        assert!(engine.negotiate(PLAIN));
        assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        assert_eq!(engine.configure(&config(1)), Reply::Done(0));
        if live {
            assert_eq!(engine.go_live(), Reply::Done(0));
        }
        mem.deny(config(0).driver, 4);
        assert!(engine.memory_changed().is_done());
        let state = engine.save::<4>().expect("the device can be saved");
        let mut next = make();
        next.restore(&state).expect("the snapshot is valid");
        assert_eq!(next.load(reg::STATUS), if live { 15 | 64 } else { 11 | 64 });
        assert_eq!((ready(&mut next, 0), ready(&mut next, 1)), (1, 1));
        assert_eq!(next.queue_state(0), virtside::device::QueueState::Failed);
        if live {
            virtside_tests::probe::assert_works(&mut next, &mut driver, 1);
        } else {
            assert!(next.go_live().refusal().is_some());
        }
    }
}

#[test]
fn a_queue_that_was_reset_and_is_set_up_anew() {
    let (mut engine, mut client, ram) = live(PLAIN);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    assert_eq!(ready(&mut engine, 0), 0);
    let mut client = Client::new(ram, 0, PLAIN);
    engine.lay_out(&client.config());
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    client.assert_works(&mut engine);
    let mut engine = move_device(engine, ram);
    client.assert_works(&mut engine);
}

#[test]
fn a_queue_stopped_by_queue_ready_0_may_not_be_made_ready() {
    let (mut engine, mut client, ram) = live(PLAIN);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_queue_reset_that_waited_for_a_taken_queue() {
    let (mut engine, mut client, ram) = live(PLAIN);
    let taken = engine.take_queue(0).expect("the queue is live");
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_RESET), 1);
    assert!(engine.put_back(taken).is_ok());
    // The queue serves nothing more.
    assert!(client.send(false));
    let state = crate::support::save(&mut engine);
    let mut next = fresh(ram, crate::support::replacement(&engine));
    next.restore(&state).expect("the snapshot is valid");
    assert_eq!(next.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    let _ = next.store(reg::QUEUE_SEL, 0);
    assert_eq!(
        next.load(reg::QUEUE_RESET),
        0,
        "the queue reset is complete"
    );
    assert_eq!(next.load(reg::QUEUE_READY), 0);
    let mut client = Client::new(ram, 0, PLAIN);
    assert_eq!(next.configure(&client.config()), Reply::Done(0));
    client.assert_works(&mut next);
}

#[test]
fn a_queue_whose_owner_dropped_it_stays_stopped() {
    let (mut engine, _, ram) = live(PLAIN);
    drop(engine.take_queue(0).expect("the queue is live"));
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.queue_state(0), virtside::device::QueueState::Failed);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_reset_cures(&mut engine, ram);
}

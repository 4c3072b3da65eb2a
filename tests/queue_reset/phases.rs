//! In which phases a queue may be reset, and what QueueReset reads.

use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BUDGET, config, driver,
    probe::{Event, assert_works, probe, ready, reset_queue, seen},
    reg,
};

use crate::{FEATURES, enable, live, reset_at_once, resetting};

#[test]
fn it_reads_zero_after_a_device_reset_whatever_was_reset_before() {
    let (mut engine, _, ram) = live();
    for queue in 0..5 {
        assert_eq!(resetting(&mut engine, queue), 0);
    }
    let taken = engine.take_queue(0).expect("a live queue");
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(resetting(&mut engine, 0), 1);
    let Reply::Pending(ticket) = engine.store(reg::STATUS, 0) else {
        panic!("the queue is still resetting");
    };
    drop(taken);
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    for queue in 0..5 {
        assert_eq!(resetting(&mut engine, queue), 0);
        assert_eq!(engine.load(reg::QUEUE_READY), 0);
    }
    // The device reset also ended the queue reset, so kicks count again.
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(FEATURES, &[config(0)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn it_reads_0_of_an_enabled_queue_before_and_after_a_reset() {
    let (mut engine, _, ram) = live();
    assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 1));
    reset_at_once(&mut engine);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 1));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn zero_starts_no_reset_and_other_values_are_refused() {
    let (mut engine, [mut driver, _], _) = live();
    assert_eq!(ready(&mut engine, 0), 1);
    let before = seen(&engine);
    assert_eq!(engine.store(reg::QUEUE_RESET, 0), Reply::Done(0));
    for value in [2, 3, 0x100, 0x1_0001, u32::MAX] {
        let offset = reg::QUEUE_RESET;
        let refusal = Refusal::BadValue { offset, value };
        assert_eq!(engine.store(offset, value), Reply::Refused(refusal));
    }
    assert_eq!(seen(&engine), before);
    assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 1));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_queue_that_does_not_exist_cannot_be_reset() {
    let (mut engine, _, _) = live();
    let before = seen(&engine);
    for queue in [3, 4, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        assert_eq!(engine.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        let refusal = Refusal::NoSuchQueue { queue };
        assert_eq!(
            engine.store(reg::QUEUE_RESET, 1),
            Reply::Refused(refusal),
            "{queue:#x}"
        );
        assert_eq!(engine.load(reg::QUEUE_RESET), 0);
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn the_selected_queue_is_reset_and_no_other() {
    let (mut engine, [_, mut other], _) = live();
    reset_at_once(&mut engine);
    assert_eq!(engine.model().count(Event::Stopped(0)), 1);
    assert_eq!(engine.model().count(Event::Stopped(1)), 0);
    assert_eq!((resetting(&mut engine, 1), ready(&mut engine, 1)), (0, 1));
    for _ in 0..20 {
        assert_works(&mut engine, &mut other, 1);
    }
    assert_eq!(engine.phase(), Phase::Live);
    assert_eq!(engine.load(reg::STATUS), 15);
}

#[test]
fn a_queue_that_was_never_ready_is_reset_at_once() {
    let (mut engine, _, ram) = live();
    assert_eq!(ready(&mut engine, 2), 0);
    let mut layout = virtside_tests::layout(2);
    layout.size = 8;
    assert!(engine.configure(&layout.config(2)).refusal().is_some());
    assert_eq!(engine.load(reg::STATUS), 15, "the queue is not checked");
    assert_eq!(reset_queue(&mut engine, 2), Reply::Done(0));
    assert_eq!(resetting(&mut engine, 2), 0);
    assert_eq!(engine.model().count(Event::Stopped(2)), 0);
    let mut driver = virtside::testing::FakeDriver::new(ram.flat(virtside_tests::BASE), layout);
    assert_eq!(engine.configure(&layout.config(2)), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 2);
}

#[test]
fn a_queue_that_was_stopped_by_queue_ready_is_reset_at_once() {
    let (mut engine, _, ram) = live();
    assert_eq!(ready(&mut engine, 0), 1);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let layout = virtside_tests::layout(0);
    assert!(engine.configure(&layout.config(0)).refusal().is_some());
    reset_at_once(&mut engine);
    assert_eq!(
        engine.model().count(Event::Stopped(0)),
        1,
        "the model was told once"
    );
    let mut driver = enable(&mut engine, ram, layout);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn before_driver_ok_a_reset_is_that_of_a_ready_queue() {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(FEATURES));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    reset_at_once(&mut engine);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    // A queue that was refused and then reset does not prevent DRIVER_OK.
    let mut odd = config(0);
    odd.size = 3;
    assert!(engine.configure(&odd).refusal().is_some());
    reset_at_once(&mut engine);
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15);
    assert_works(&mut engine, &mut driver(ram, 1), 1);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn while_suspended_a_queue_may_be_reset_but_not_enabled() {
    let (mut engine, ram) = probe();
    let features = FEATURES | Features::SUSPEND;
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0x1b);
    reset_at_once(&mut engine);
    assert!(engine.configure(&config(0)).refusal().is_some());
    assert_eq!(engine.load(reg::STATUS), 0x1b);
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0x0f);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    let mut driver = enable(&mut engine, ram, virtside_tests::layout(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn after_failed_nothing_is_reset() {
    let (mut engine, _, _) = live();
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    let before = seen(&engine);
    for queue in 0..3 {
        assert_eq!(
            reset_queue(&mut engine, queue),
            Reply::Refused(Refusal::WrongPhase)
        );
    }
    assert_eq!(seen(&engine), before);
}

#[test]
fn a_reset_that_was_begun_before_failed_still_ends() {
    let (mut engine, _, _) = live();
    let queue = engine.take_queue(0).expect("a live queue");
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    assert_eq!(resetting(&mut engine, 0), 1);
    drop(queue);
    assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 0));
    assert!(engine.configure(&config(0)).refusal().is_some());
}

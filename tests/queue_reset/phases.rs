//! When a queue may be reset, and what QueueReset reads.

use virtside::{
    Features, QueueState, Refusal, Step,
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
    let (mut guest, _, ram) = live();
    for queue in 0..5 {
        assert_eq!(resetting(&mut guest, queue), 0);
    }
    let taken = guest.take_queue(0).expect("a live queue");
    assert_eq!(reset_queue(&mut guest, 0), Reply::Done(0));
    assert_eq!(resetting(&mut guest, 0), 1);
    let Reply::Pending(ticket) = guest.store(reg::STATUS, 0) else {
        panic!("the queue is out");
    };
    drop(taken);
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    for queue in 0..5 {
        assert_eq!(resetting(&mut guest, queue), 0);
        assert_eq!(guest.load(reg::QUEUE_READY), 0);
    }
    // The reset that was under way is over, too: kicks count again.
    let mut driver = driver(ram, 0);
    assert!(guest.bring_up(FEATURES, &[config(0)]));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn it_reads_0_of_an_enabled_queue_before_and_after_a_reset() {
    let (mut guest, _, ram) = live();
    assert_eq!((resetting(&mut guest, 0), ready(&mut guest, 0)), (0, 1));
    reset_at_once(&mut guest);
    let mut driver = enable(&mut guest, ram, virtside_tests::layout(0));
    assert_eq!((resetting(&mut guest, 0), ready(&mut guest, 0)), (0, 1));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn zero_starts_no_reset_and_other_values_are_refused() {
    let (mut guest, [mut driver, _], _) = live();
    assert_eq!(ready(&mut guest, 0), 1);
    let before = seen(&guest);
    assert_eq!(guest.store(reg::QUEUE_RESET, 0), Reply::Done(0));
    for value in [2, 3, 0x100, 0x1_0001, u32::MAX] {
        let offset = reg::QUEUE_RESET;
        let refusal = Refusal::BadValue { offset, value };
        assert_eq!(guest.store(offset, value), Reply::Refused(refusal));
    }
    assert_eq!(seen(&guest), before);
    assert_eq!((resetting(&mut guest, 0), ready(&mut guest, 0)), (0, 1));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn a_queue_that_does_not_exist_cannot_be_reset() {
    let (mut guest, _, _) = live();
    let before = seen(&guest);
    for queue in [3, 4, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        assert_eq!(guest.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        let refusal = Refusal::NoSuchQueue { queue };
        assert_eq!(
            guest.store(reg::QUEUE_RESET, 1),
            Reply::Refused(refusal),
            "{queue:#x}"
        );
        assert_eq!(guest.load(reg::QUEUE_RESET), 0);
    }
    assert_eq!(seen(&guest), before);
}

#[test]
fn the_selected_queue_is_reset_and_no_other() {
    let (mut guest, [_, mut other], _) = live();
    reset_at_once(&mut guest);
    assert_eq!(guest.model().count(Event::Stopped(0)), 1);
    assert_eq!(guest.model().count(Event::Stopped(1)), 0);
    assert_eq!((resetting(&mut guest, 1), ready(&mut guest, 1)), (0, 1));
    for _ in 0..20 {
        assert_works(&mut guest, &mut other, 1);
    }
    assert_eq!(guest.phase(), Phase::Live);
    assert_eq!(guest.load(reg::STATUS), 15);
}

#[test]
fn a_queue_that_was_never_ready_is_reset_at_once() {
    let (mut guest, _, ram) = live();
    assert_eq!(ready(&mut guest, 2), 0);
    let mut layout = virtside_tests::layout(2);
    layout.size = 8;
    assert!(guest.configure(&layout.config(2)).refusal().is_some());
    assert_eq!(guest.load(reg::STATUS), 15, "not checked, and so no fault");
    assert_eq!(reset_queue(&mut guest, 2), Reply::Done(0));
    assert_eq!(resetting(&mut guest, 2), 0);
    assert_eq!(guest.model().count(Event::Stopped(2)), 0);
    let mut driver = virtside::testing::FakeDriver::new(ram.flat(virtside_tests::BASE), layout);
    assert_eq!(guest.configure(&layout.config(2)), Reply::Done(0));
    assert_works(&mut guest, &mut driver, 2);
}

#[test]
fn a_queue_that_was_stopped_by_queue_ready_is_reset_at_once() {
    let (mut guest, _, ram) = live();
    assert_eq!(ready(&mut guest, 0), 1);
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let layout = virtside_tests::layout(0);
    assert!(guest.configure(&layout.config(0)).refusal().is_some());
    reset_at_once(&mut guest);
    assert_eq!(
        guest.model().count(Event::Stopped(0)),
        1,
        "it was told once"
    );
    let mut driver = enable(&mut guest, ram, layout);
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn before_driver_ok_a_reset_is_that_of_a_ready_queue() {
    let (mut guest, ram) = probe();
    assert!(guest.negotiate(FEATURES));
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    reset_at_once(&mut guest);
    assert_eq!(guest.queue_state(0), QueueState::Off);
    // A queue that was refused and reset does not keep the device from starting.
    let mut odd = config(0);
    odd.size = 3;
    assert!(guest.configure(&odd).refusal().is_some());
    reset_at_once(&mut guest);
    assert_eq!(guest.configure(&config(1)), Reply::Done(0));
    assert_eq!(guest.go_live(), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 15);
    assert_works(&mut guest, &mut driver(ram, 1), 1);
    let mut driver = enable(&mut guest, ram, virtside_tests::layout(0));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn while_suspended_a_queue_may_be_reset_but_not_enabled() {
    let (mut guest, ram) = probe();
    let features = FEATURES | Features::SUSPEND;
    assert!(guest.bring_up(features, &[config(0), config(1)]));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 0x1b);
    reset_at_once(&mut guest);
    assert!(guest.configure(&config(0)).refusal().is_some());
    assert_eq!(guest.load(reg::STATUS), 0x1b);
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 0x0f);
    assert_eq!(guest.queue_state(0), QueueState::Off);
    let mut driver = enable(&mut guest, ram, virtside_tests::layout(0));
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn after_failed_nothing_is_reset() {
    let (mut guest, _, _) = live();
    assert_eq!(guest.store(reg::STATUS, 15 | 128), Reply::Done(0));
    let before = seen(&guest);
    for queue in 0..3 {
        assert_eq!(
            reset_queue(&mut guest, queue),
            Reply::Refused(Refusal::WrongPhase)
        );
    }
    assert_eq!(seen(&guest), before);
}

#[test]
fn a_reset_that_was_begun_before_failed_still_ends() {
    let (mut guest, _, _) = live();
    let queue = guest.take_queue(0).expect("a live queue");
    assert_eq!(reset_queue(&mut guest, 0), Reply::Done(0));
    assert_eq!(guest.store(reg::STATUS, 15 | 128), Reply::Done(0));
    assert_eq!(resetting(&mut guest, 0), 1);
    drop(queue);
    assert_eq!((resetting(&mut guest, 0), ready(&mut guest, 0)), (0, 0));
    assert!(guest.configure(&config(0)).refusal().is_some());
}

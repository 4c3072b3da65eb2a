//! A device that is suspending takes no new chain, answers chains in hand, and interrupts for them.

use virtside::{Features, Refusal, Step, mmio::Reply, testing::Registers};
use virtside_tests::{
    BUDGET, config, driver,
    probe::{Event, answer, assert_works, pending, probe, publish},
    reg,
    status::{LIVE, SUSPENDED},
};

use crate::{FEATURES, begin, holding, live, resume, suspend};

#[test]
fn chains_that_are_not_taken_yet_stay_with_the_driver() {
    let (mut engine, [mut driver, mut other], _) = holding();
    engine.model_mut().holds = false;
    publish(&mut driver, 0, b"kicked");
    publish(&mut other, 1, b"kicked, too");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.kick(1), Reply::Done(0));
    begin(&mut engine);
    for _ in 0..3 {
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        assert_eq!(engine.load(reg::STATUS), LIVE);
    }
    assert_eq!((driver.used_idx(), other.used_idx()), (0, 0));
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!((driver.used_idx(), other.used_idx()), (1, 0));
    assert_eq!(engine.model().count(Event::Served(1)), 0);
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    for text in [&b"held"[..], b"kicked"] {
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
    }
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"kicked, too"[..]));
}

#[test]
fn chains_in_hand_are_answered_before_suspend_shows() {
    let (mut engine, [mut driver, _], _) = holding();
    publish(&mut driver, 0, b"second");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    begin(&mut engine);
    for (left, token) in [(1, engine.model().held[0]), (0, engine.model().held[1])] {
        assert_eq!(engine.load(reg::STATUS), LIVE);
        assert_eq!(engine.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
        assert_eq!(engine.complete(token), Ok(()));
        assert_eq!(
            pending(&mut engine),
            1,
            "the interrupt is sent at once; {left} left"
        );
    }
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!(driver.used_idx(), 2);
    let raised = engine.device().notify().asserted();
    resume(&mut engine);
    engine.poll(BUDGET);
    assert_eq!(engine.device().notify().asserted(), raised);
}

#[test]
fn a_chain_whose_back_end_is_ready_is_served_on_the_way() {
    let (mut engine, [mut driver, _], _) = holding();
    begin(&mut engine);
    engine.backend_ready(0);
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert_eq!(pending(&mut engine), 1);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
}

#[test]
fn a_budget_of_zero_reports_that_work_is_left() {
    let (mut engine, _, _) = holding();
    begin(&mut engine);
    engine.backend_ready(0);
    assert_eq!(engine.poll(0), Step::More);
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_eq!(engine.poll(1), Step::Idle);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
}

#[test]
fn a_batch_cut_short_by_its_budget_continues_after_resume() {
    for features in [FEATURES, FEATURES | Features::RING] {
        let (mut engine, ram) = probe();
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(features, &[config(0)]));
        for text in [b"a", b"b", b"c"] {
            publish(&mut driver, 0, text);
        }
        assert_eq!(engine.kick(0), Reply::Done(0));
        assert_eq!(engine.poll(1), Step::More);
        suspend(&mut engine);
        assert_eq!(driver.used_idx(), 1);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), 1);
        resume(&mut engine);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), 3);
        assert_eq!(driver.used_flags(), 0, "kicks are wanted again");
    }
}

#[test]
fn chains_that_may_wait_do_not_delay_suspension() {
    let (mut engine, [mut driver, mut other], _) = holding();
    engine.model_mut().sleepers = vec![0];
    publish(&mut other, 1, b"is answered");
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    begin(&mut engine);
    let held = engine.model().held.clone();
    assert_eq!(engine.complete(held[1]), Ok(()));
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!((driver.used_idx(), other.used_idx()), (0, 1));
    // The back end answers now; the interrupt is sent at the resume.
    assert_eq!(engine.complete(held[0]), Ok(()));
    let served = engine.model().count(Event::Served(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.model().count(Event::Served(0)), served);
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert_eq!(engine.complete(held[0]), Err(Refusal::StaleToken));
}

#[test]
fn a_chain_kept_through_suspension_is_pending_after_resume() {
    let (mut engine, [mut driver, _], _) = holding();
    engine.model_mut().sleepers = vec![0];
    for _ in 0..3 {
        suspend(&mut engine);
        resume(&mut engine);
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
    }
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    engine.model_mut().holds = false;
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn stopping_the_queue_with_a_chain_in_hand_suspends() {
    let (mut engine, [driver, _], _) = holding();
    begin(&mut engine);
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!(driver.used_idx(), 0);
}

#[test]
fn while_suspending_no_queue_can_be_taken_and_kicks_are_refused() {
    let (mut engine, _, _) = holding();
    begin(&mut engine);
    assert_eq!(engine.take_queue(1).err(), Some(Refusal::WrongPhase));
    assert_eq!(engine.kick(1), Reply::Refused(Refusal::WrongPhase));
}

#[test]
fn a_device_with_nothing_to_do_is_suspended_by_the_write_itself() {
    let (mut engine, _, _) = live();
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.phase(), virtside::mmio::Phase::Suspended);
}

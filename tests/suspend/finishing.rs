//! On the way into a suspension: nothing new is taken, what is in hand is answered and announced.

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
    let (mut guest, [mut driver, mut other], _) = holding();
    guest.model_mut().holds = false;
    publish(&mut driver, 0, b"kicked");
    publish(&mut other, 1, b"kicked, too");
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.kick(1), Reply::Done(0));
    begin(&mut guest);
    for _ in 0..3 {
        assert_eq!(guest.poll(BUDGET), Step::Blocked);
        assert_eq!(guest.load(reg::STATUS), LIVE);
    }
    assert_eq!((driver.used_idx(), other.used_idx()), (0, 0));
    let token = guest.model().held[0];
    assert_eq!(guest.complete(token), Ok(()));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    assert_eq!((driver.used_idx(), other.used_idx()), (1, 0));
    assert_eq!(guest.model().count(Event::Served(1)), 0);
    resume(&mut guest);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    for text in [&b"held"[..], b"kicked"] {
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
    }
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"kicked, too"[..]));
}

#[test]
fn chains_in_hand_are_answered_before_suspend_shows() {
    let (mut guest, [mut driver, _], _) = holding();
    publish(&mut driver, 0, b"second");
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    begin(&mut guest);
    for (left, token) in [(1, guest.model().held[0]), (0, guest.model().held[1])] {
        assert_eq!(guest.load(reg::STATUS), LIVE);
        assert_eq!(guest.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
        assert_eq!(guest.complete(token), Ok(()));
        assert_eq!(pending(&mut guest), 1, "announced at once; {left} left");
    }
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    assert_eq!(driver.used_idx(), 2);
    let raised = guest.device().notify().asserted();
    resume(&mut guest);
    guest.poll(BUDGET);
    assert_eq!(guest.device().notify().asserted(), raised);
}

#[test]
fn a_chain_whose_back_end_is_ready_is_served_on_the_way() {
    let (mut guest, [mut driver, _], _) = holding();
    begin(&mut guest);
    guest.backend_ready(0);
    assert_eq!(guest.load(reg::STATUS), LIVE);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert_eq!(pending(&mut guest), 1);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
}

#[test]
fn a_budget_of_zero_keeps_the_device_busy_and_says_so() {
    let (mut guest, _, _) = holding();
    begin(&mut guest);
    guest.backend_ready(0);
    assert_eq!(guest.poll(0), Step::More);
    assert_eq!(guest.load(reg::STATUS), LIVE);
    assert_eq!(guest.poll(1), Step::Idle);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
}

#[test]
fn a_batch_cut_short_by_its_budget_goes_on_after_the_resume() {
    for features in [FEATURES, FEATURES | Features::RING] {
        let (mut guest, ram) = probe();
        let mut driver = driver(ram, 0);
        assert!(guest.bring_up(features, &[config(0)]));
        for text in [b"a", b"b", b"c"] {
            publish(&mut driver, 0, text);
        }
        assert_eq!(guest.kick(0), Reply::Done(0));
        assert_eq!(guest.poll(1), Step::More);
        suspend(&mut guest);
        assert_eq!(driver.used_idx(), 1);
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), 1);
        resume(&mut guest);
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        assert_eq!(driver.used_idx(), 3);
        assert_eq!(driver.used_flags(), 0, "kicks are wanted again");
    }
}

#[test]
fn chains_that_may_sleep_do_not_keep_the_device_awake() {
    let (mut guest, [mut driver, mut other], _) = holding();
    guest.model_mut().sleepers = vec![0];
    publish(&mut other, 1, b"has to end");
    assert_eq!(guest.kick(1), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    begin(&mut guest);
    let held = guest.model().held.clone();
    assert_eq!(guest.complete(held[1]), Ok(()));
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    assert_eq!((driver.used_idx(), other.used_idx()), (0, 1));
    // What it waited for comes now; the driver hears of it when it resumes.
    assert_eq!(guest.complete(held[0]), Ok(()));
    let served = guest.model().count(Event::Served(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.model().count(Event::Served(0)), served);
    resume(&mut guest);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    assert_eq!(guest.complete(held[0]), Err(Refusal::StaleToken));
}

#[test]
fn a_chain_that_sleeps_on_is_still_pending_after_the_resume() {
    let (mut guest, [mut driver, _], _) = holding();
    guest.model_mut().sleepers = vec![0];
    for _ in 0..3 {
        suspend(&mut guest);
        resume(&mut guest);
        assert_eq!(guest.poll(BUDGET), Step::Blocked);
    }
    let token = guest.model().held[0];
    assert_eq!(guest.complete(token), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
    guest.model_mut().holds = false;
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn stopping_the_queue_that_keeps_the_device_awake_lets_it_rest() {
    let (mut guest, [driver, _], _) = holding();
    begin(&mut guest);
    assert_eq!(guest.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    assert_eq!(driver.used_idx(), 0);
}

#[test]
fn while_suspending_no_queue_can_be_taken_and_kicks_are_refused() {
    let (mut guest, _, _) = holding();
    begin(&mut guest);
    assert_eq!(guest.take_queue(1).err(), Some(Refusal::WrongPhase));
    assert_eq!(guest.kick(1), Reply::Refused(Refusal::WrongPhase));
}

#[test]
fn a_device_with_nothing_to_do_is_suspended_by_the_write_itself() {
    let (mut guest, _, _) = live();
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(guest.phase(), virtside::mmio::Phase::Suspended);
}

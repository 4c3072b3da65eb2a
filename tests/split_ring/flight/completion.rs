//! Chains that are answered later, by token or because the back end is ready.

use super::*;
use virtside_tests::reg;

#[test]
fn a_chain_that_waits_is_not_given_back() {
    let mut rig = waiting(0..3);
    assert_eq!(rig.driver.used_idx(), 0);
    assert_eq!(rig.poll(), Step::Blocked);
    assert_eq!(
        rig.engine.model().heads(),
        [0, 1, 2],
        "the model is not asked again"
    );
}

#[test]
fn chains_may_be_completed_in_any_order() {
    let mut rig = waiting(0..4);
    rig.engine.model_mut().plan = Plan::Fill(9);
    for head in [2, 0, 3, 1] {
        let token = token(&rig, head);
        assert_eq!(rig.engine.complete(token), Ok(()));
        assert_eq!(
            rig.driver.take_used(),
            Some((head.into(), u32::from(head) + 1))
        );
    }
    assert_eq!(rig.poll(), Step::Idle);
}

#[test]
fn a_chain_is_answered_with_a_length_without_the_model() {
    let mut rig = waiting(0..4);
    let heads = rig.engine.model().heads();
    let before = rig.interrupts();
    for (head, written) in [(2, 3), (0, 0), (3, 1)] {
        let token = token(&rig, head);
        assert_eq!(rig.engine.complete_with(token, written), Ok(()));
        assert_eq!(rig.driver.take_used(), Some((head.into(), written)));
        let again = rig.engine.complete_with(token, written);
        assert_eq!(again, Err(Refusal::StaleToken));
        assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!(rig.interrupts(), before + 3);
    assert_eq!(rig.engine.model().heads(), heads, "the model was not asked");
    assert_eq!(rig.poll(), Step::Blocked, "1 still waits");
}

#[test]
fn a_length_beyond_the_room_counts_as_0() {
    let mut rig = waiting(2..3);
    let token = token(&rig, 2);
    assert_eq!(rig.engine.complete_with(token, 4), Ok(()));
    assert_eq!(rig.driver.take_used(), Some((2, 0)));
    let (written, writable) = (4, 3);
    let fault = HostFault::WrittenTooMuch { written, writable };
    assert_eq!(rig.engine.take_host_fault(), Some(fault));
}

#[test]
fn a_completed_request_is_served_again_from_its_start() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.engine.model_mut().plan = Plan::Wait;
    rig.driver.write(DATA, b"again");
    rig.driver.send(
        3,
        &[Buffer::readable(DATA, 5), Buffer::writable(DATA + 64, 4)],
    );
    rig.kick();
    let first = rig.last().clone();
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.engine.complete(first.token), Ok(()));
    assert_eq!(*rig.last(), first);
    assert_eq!(first.sent, b"again");
}

#[test]
fn a_request_may_keep_waiting_under_the_same_token() {
    let mut rig = waiting(5..6);
    let token = token(&rig, 5);
    for _ in 0..3 {
        assert_eq!(rig.engine.complete(token), Ok(()));
        assert_eq!(rig.last().token, token);
    }
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.engine.complete(token), Ok(()));
    assert_eq!(rig.driver.take_used(), Some((5, 6)));
}

#[test]
fn a_pending_chain_is_the_copy_that_was_taken() {
    let mut rig = waiting(0..1);
    let token = token(&rig, 0);
    // A driver must not do this. The device ignores the change.
    rig.driver.write_desc(0, (0, u32::MAX), 0xffff, 99);
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.engine.complete(token), Ok(()));
    assert_eq!(rig.driver.take_used(), Some((0, 1)));
    assert_eq!(rig.fault(), None);
}

#[test]
fn a_token_works_once() {
    let mut rig = waiting(0..1);
    let token = token(&rig, 0);
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.engine.complete(token), Ok(()));
    assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
    // The token does not work for the slot's next chain either.
    rig.engine.model_mut().plan = Plan::Wait;
    rig.driver.send(0, &room(1));
    rig.kick();
    assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
    assert_eq!(rig.driver.used_idx(), 1);
}

#[test]
fn a_token_of_a_chain_that_was_answered_at_once_is_stale() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.send(0, &room(1));
    rig.kick();
    let token = token(&rig, 0);
    assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
    assert_eq!(rig.driver.used_idx(), 1);
}

#[test]
fn a_token_from_before_a_reset_is_stale() {
    let mut rig = waiting(0..2);
    let (old, before) = (token(&rig, 0), rig.interrupts());
    let resets = rig.engine.model().resets;
    assert_eq!(rig.engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(rig.engine.model().resets, resets + 1);
    let shot = rig.shot();
    assert_eq!(rig.engine.complete(old), Err(Refusal::StaleToken));
    assert_eq!(
        (changes(&shot, &rig.shot()), rig.interrupts()),
        (vec![], before)
    );
    // Heads and slots are free again.
    rig.restart(Features::empty());
    for head in 0..4 {
        rig.driver.send(head, &room(1));
    }
    assert_eq!(rig.kick(), Step::Blocked);
    assert_eq!(rig.engine.complete(old), Err(Refusal::StaleToken));
    assert_eq!(rig.engine.model().heads(), [0, 1, 0, 1, 2, 3]);
}

#[test]
fn a_token_of_a_stopped_queue_is_stale() {
    let mut rig = waiting(0..2);
    let old = token(&rig, 1);
    let _ = rig.engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(rig.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(rig.engine.load(reg::QUEUE_READY), 0);
    assert_eq!(rig.engine.model().stopped, [0]);
    let shot = rig.shot();
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.engine.complete(old), Err(Refusal::StaleToken));
    rig.engine.backend_ready(0);
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(changes(&shot, &rig.shot()), []);
}

#[test]
fn when_the_back_end_is_ready_requests_are_asked_for_again() {
    let mut rig = waiting(0..3);
    rig.engine.backend_ready(0);
    assert_eq!(rig.poll(), Step::Blocked);
    assert_eq!(rig.engine.model().heads(), [0, 1, 2, 0, 1, 2]);
    rig.engine.model_mut().plan = Plan::Fill(9);
    rig.engine.backend_ready(1);
    assert_eq!(
        rig.poll(),
        Step::Blocked,
        "the other queue's back end is ready"
    );
    rig.engine.backend_ready(0);
    assert_eq!(rig.poll(), Step::Idle);
    for head in 0..3 {
        assert_eq!(rig.driver.take_used(), Some((head, head + 1)));
    }
}

#[test]
fn requests_that_waited_come_before_new_ones() {
    let mut rig = waiting(0..2);
    rig.driver.send(7, &room(1));
    let _ = rig.engine.kick(0);
    rig.engine.backend_ready(0);
    rig.engine.model_mut().plan = Plan::Fill(9);
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(rig.engine.model().heads(), [0, 1, 0, 1, 7]);
}

#[test]
fn a_fault_found_while_completing_stops_the_queue() {
    let mut rig = waiting(0..2);
    let fault = virtside::DriverFault::BadRequest { head: 0 };
    rig.engine.model_mut().plan = Plan::Blame(fault);
    let (first, second) = (token(&rig, 0), token(&rig, 1));
    assert_eq!(rig.engine.complete(first), Ok(()));
    assert_eq!(rig.fault(), Some(fault));
    assert_eq!(rig.engine.complete(second), Err(Refusal::StaleToken));
    assert_eq!(rig.driver.used_idx(), 0);
}

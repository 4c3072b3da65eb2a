//! A chain in the device's hand is never answered after a reset of its queue.

use virtside::{
    Refusal, Step,
    device::QueueState,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET,
    probe::{Event, answer, pending, publish},
    rings::shot,
};

use crate::{enable, live, other_layout, reset_at_once};

#[test]
fn a_token_from_before_is_stale_and_memory_stays_as_it_is() {
    let (mut engine, [mut driver, mut other], ram) = live();
    engine.model_mut().holds = true;
    publish(&mut driver, 0, b"one");
    publish(&mut driver, 0, b"two");
    publish(&mut other, 1, b"other");
    for queue in [0, 1] {
        assert_eq!(engine.kick(queue), Reply::Done(0));
    }
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let held = engine.model().held.clone();
    assert_eq!(held.len(), 3);
    reset_at_once(&mut engine);
    assert_eq!(engine.model().count(Event::Stopped(0)), 1);
    let before = shot(ram);
    let served = engine.model().count(Event::Served(0));
    let mut stale = 0;
    for &token in &held {
        stale += u32::from(engine.complete(token) == Err(Refusal::StaleToken));
    }
    assert_eq!(stale, 2);
    engine.backend_ready(0);
    engine.poll(BUDGET);
    assert_eq!(engine.model().count(Event::Served(0)), served);
    // The other queue's chain was answered, and nothing else changed.
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"other"[..]));
    assert_eq!(driver.used_idx(), 0);
    assert_eq!(
        shot(ram)[..0x1000],
        before[..0x1000],
        "the rings of the reset queue"
    );
}

#[test]
fn a_token_from_before_is_stale_for_the_new_queue_as_well() {
    let (mut engine, [mut driver, _], ram) = live();
    engine.model_mut().holds = true;
    let head = publish(&mut driver, 0, b"old");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let old = engine.model().held[0];
    reset_at_once(&mut engine);
    let mut driver = enable(&mut engine, ram, other_layout());
    // The new chain has the same slot and the same head.
    assert_eq!(publish(&mut driver, 0, b"new"), head);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(engine.complete(old), Err(Refusal::StaleToken));
    assert_eq!(driver.used_idx(), 0);
    let new = *engine.model().held.last().expect("the chain is held");
    assert_ne!(old, new);
    assert_eq!(engine.complete(new), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"new"[..]));
}

#[test]
fn chains_in_the_ring_are_neither_taken_nor_interrupt() {
    let (mut engine, [mut driver, _], ram) = live();
    publish(&mut driver, 0, b"one");
    publish(&mut driver, 0, b"two");
    assert_eq!(engine.kick(0), Reply::Done(0));
    // One chain is served with an interrupt, then the queue is reset.
    assert_eq!(engine.poll(1), Step::More);
    assert_eq!(driver.used_idx(), 1);
    let raised = engine.device().notify().asserted();
    reset_at_once(&mut engine);
    let before = shot(ram);
    let counted = engine.counters();
    assert_eq!(
        engine.kick(0),
        Reply::Refused(Refusal::QueueNotReady { queue: 0 })
    );
    engine.device().shared().doorbell().ring(0);
    engine.backend_ready(0);
    assert!(engine.notify_queue(0).is_err());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.counters(), counted);
    assert_eq!(engine.device().notify().asserted(), raised);
    assert!(shot(ram) == before, "memory changed");
    assert_eq!(pending(&mut engine), 1, "what was pending before stays");
}

#[test]
fn slots_that_a_reset_queue_held_are_free_for_others() {
    let (mut engine, [mut driver, mut other], _) = live();
    engine.model_mut().holds = true;
    for text in [b"a", b"b", b"c", b"d"] {
        publish(&mut driver, 0, text);
    }
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(engine.model().held.len(), 3, "one slot is for queue 1");
    reset_at_once(&mut engine);
    for text in [b"a", b"b", b"c", b"d"] {
        publish(&mut other, 1, text);
    }
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(engine.model().count(Event::Served(1)), 3);
}

#[test]
fn a_chain_that_asks_to_be_served_again_is_not() {
    let (mut engine, [mut driver, _], ram) = live();
    engine.model_mut().holds = true;
    publish(&mut driver, 0, b"text");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    engine.backend_ready(0);
    reset_at_once(&mut engine);
    let served = engine.model().count(Event::Served(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.queue_state(0), QueueState::Off);
    let driver = FakeDriver::new(ram.flat(BASE), other_layout());
    assert_eq!(engine.configure(&driver.config(0)), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.model().count(Event::Served(0)), served);
}

//! What the device has in hand of a queue that is reset is never answered.

use virtside::{
    QueueState, Refusal, Step,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET,
    probe::{Event, answer, pending, publish},
    rings::shot,
};

use crate::{elsewhere, enable, live, reset_at_once};

#[test]
fn a_token_from_before_is_stale_and_memory_stays_as_it_is() {
    let (mut guest, [mut driver, mut other], ram) = live();
    guest.model_mut().holds = true;
    publish(&mut driver, 0, b"one");
    publish(&mut driver, 0, b"two");
    publish(&mut other, 1, b"other");
    for queue in [0, 1] {
        assert_eq!(guest.kick(queue), Reply::Done(0));
    }
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    let held = guest.model().held.clone();
    assert_eq!(held.len(), 3);
    reset_at_once(&mut guest);
    assert_eq!(guest.model().count(Event::Stopped(0)), 1);
    let before = shot(ram);
    let served = guest.model().count(Event::Served(0));
    let mut stale = 0;
    for &token in &held {
        stale += u32::from(guest.complete(token) == Err(Refusal::StaleToken));
    }
    assert_eq!(stale, 2);
    guest.backend_ready(0);
    guest.poll(BUDGET);
    assert_eq!(guest.model().count(Event::Served(0)), served);
    // The other queue's was answered, and nothing else changed.
    assert_eq!(answer(&mut other, 1).as_deref(), Some(&b"other"[..]));
    assert_eq!(driver.used_idx(), 0);
    assert_eq!(shot(ram)[..0x1000], before[..0x1000], "its rings");
}

#[test]
fn a_token_from_before_is_stale_for_the_new_queue_as_well() {
    let (mut guest, [mut driver, _], ram) = live();
    guest.model_mut().holds = true;
    let head = publish(&mut driver, 0, b"old");
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    let old = guest.model().held[0];
    reset_at_once(&mut guest);
    let mut driver = enable(&mut guest, ram, elsewhere());
    // The same slot, the same head.
    assert_eq!(publish(&mut driver, 0, b"new"), head);
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    assert_eq!(guest.complete(old), Err(Refusal::StaleToken));
    assert_eq!(driver.used_idx(), 0);
    let new = *guest.model().held.last().expect("it is held");
    assert_ne!(old, new);
    assert_eq!(guest.complete(new), Ok(()));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_waits_in_the_ring_is_not_taken_and_nothing_is_announced() {
    let (mut guest, [mut driver, _], ram) = live();
    publish(&mut driver, 0, b"one");
    publish(&mut driver, 0, b"two");
    assert_eq!(guest.kick(0), Reply::Done(0));
    // One is served with an interrupt, then comes the reset.
    assert_eq!(guest.poll(1), Step::More);
    assert_eq!(driver.used_idx(), 1);
    let raised = guest.device().notify().asserted();
    reset_at_once(&mut guest);
    let before = shot(ram);
    let counted = guest.counters();
    assert_eq!(
        guest.kick(0),
        Reply::Refused(Refusal::QueueNotReady { queue: 0 })
    );
    guest.device().shared().doorbell().ring(0);
    guest.backend_ready(0);
    assert!(guest.notify_queue(0).is_err());
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.counters(), counted);
    assert_eq!(guest.device().notify().asserted(), raised);
    assert!(shot(ram) == before, "memory changed");
    assert_eq!(pending(&mut guest), 1, "what was pending before stays");
}

#[test]
fn slots_that_a_reset_queue_held_are_free_for_others() {
    let (mut guest, [mut driver, mut other], _) = live();
    guest.model_mut().holds = true;
    for text in [b"a", b"b", b"c", b"d"] {
        publish(&mut driver, 0, text);
    }
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    assert_eq!(guest.model().held.len(), 3, "one slot is for queue 1");
    reset_at_once(&mut guest);
    for text in [b"a", b"b", b"c", b"d"] {
        publish(&mut other, 1, text);
    }
    assert_eq!(guest.kick(1), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    assert_eq!(guest.model().count(Event::Served(1)), 3);
}

#[test]
fn a_chain_that_wants_to_be_served_again_is_not() {
    let (mut guest, [mut driver, _], ram) = live();
    guest.model_mut().holds = true;
    publish(&mut driver, 0, b"text");
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    guest.backend_ready(0);
    reset_at_once(&mut guest);
    let served = guest.model().count(Event::Served(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.queue_state(0), QueueState::Off);
    let driver = FakeDriver::new(ram.flat(BASE), elsewhere());
    assert_eq!(guest.configure(&driver.config(0)), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(guest.model().count(Event::Served(0)), served);
}

//! Queues that stopped, or were reset.

use super::*;

/// A live device with a queue that its driver broke, and one that works.
fn half_broken() -> (Guest<Probe>, Client, TestRam) {
    let (mut guest, ram) = device();
    let broken = Client::new(ram, 0, PLAIN);
    let client = Client::new(ram, 1, PLAIN);
    assert!(guest.bring_up(PLAIN, &[broken.config(), client.config()]));
    broken.split().set_avail_idx(1000);
    let _ = guest.poll(BUDGET);
    assert!(guest.driver_fault(0).is_some());
    (guest, client, ram)
}

#[test]
fn a_queue_that_was_stopped_by_a_fault_stays_stopped() {
    let (guest, mut client, ram) = half_broken();
    let mut guest = carry(guest, ram);
    assert_eq!(guest.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut guest), 2);
    assert_eq!(guest.queue_state(0), virtside::QueueState::Dead);
    client.assert_works(&mut guest);
    assert_eq!(guest.kick(0), Reply::Done(0));
    let rings = virtside_tests::rings::shot(ram);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert!(virtside_tests::rings::shot(ram) == rings);
    // QueueReady = 0 and a reset of the queue work as ever.
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    assert_eq!(ready(&mut guest, 0), 0);
    let mut guest = carry(guest, ram);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn a_stopped_queue_that_cannot_be_served_leaves_the_device_idle() {
    // A model that has nothing for that queue is not a reason to look again.
    use virtside_tests::rings::{Plan, RecordingModel};
    let ram = virtside_tests::ram();
    let make = || virtside_tests::guest_over(RecordingModel::new(Plan::Fill(1)), ram.flat(BASE), 4);
    let mut guest = make();
    let driver = FakeDriver::new(ram.flat(BASE), virtside_tests::layout(0));
    assert!(guest.bring_up(PLAIN, &[config(0)]));
    driver.set_avail_idx(1000);
    let _ = guest.poll(BUDGET);
    guest.model_mut().busy = vec![0];
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    let state = guest.save::<4>().expect("it is saved");
    let mut next = make();
    next.model_mut().busy = vec![0];
    next.restore(&state).expect("it is whole");
    assert_eq!(next.poll(BUDGET), Step::Idle);
}

#[test]
fn a_queue_whose_ring_is_gone_stays_stopped() {
    use virtside_tests::rings::GuardedMem;
    let ram = virtside_tests::ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let make = || virtside_tests::guest_over(model(PLAIN), mem.clone(), 4);
    for live in [false, true] {
        mem.allow_all();
        let mut guest = make();
        let mut driver = virtside_tests::driver(ram, 1);
        assert!(guest.negotiate(PLAIN));
        assert_eq!(guest.configure(&config(0)), Reply::Done(0));
        assert_eq!(guest.configure(&config(1)), Reply::Done(0));
        if live {
            assert_eq!(guest.go_live(), Reply::Done(0));
        }
        mem.deny(config(0).driver, 4);
        assert!(guest.memory_changed());
        let state = guest.save::<4>().expect("it is saved");
        let mut next = make();
        next.restore(&state).expect("it is whole");
        assert_eq!(next.load(reg::STATUS), if live { 15 | 64 } else { 11 | 64 });
        assert_eq!((ready(&mut next, 0), ready(&mut next, 1)), (1, 1));
        assert_eq!(next.queue_state(0), virtside::QueueState::Dead);
        if live {
            virtside_tests::probe::assert_works(&mut next, &mut driver, 1);
        } else {
            assert!(next.go_live().refusal().is_some());
        }
    }
}

#[test]
fn a_queue_that_was_reset_and_is_set_up_anew() {
    let (mut guest, mut client, ram) = live(PLAIN);
    client.assert_works(&mut guest);
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    let mut guest = carry(guest, ram);
    assert_eq!(ready(&mut guest, 0), 0);
    let mut client = Client::new(ram, 0, PLAIN);
    guest.lay_out(&client.config());
    let mut guest = carry(guest, ram);
    assert_eq!(guest.store(reg::QUEUE_READY, 1), Reply::Done(0));
    let mut guest = carry(guest, ram);
    client.assert_works(&mut guest);
    let mut guest = carry(guest, ram);
    client.assert_works(&mut guest);
}

#[test]
fn a_queue_stopped_by_queue_ready_0_may_not_be_made_ready() {
    let (mut guest, mut client, ram) = live(PLAIN);
    client.assert_works(&mut guest);
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let mut guest = carry(guest, ram);
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert!(guest.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn a_queue_reset_that_waited_for_a_taken_queue() {
    let (mut guest, mut client, ram) = live(PLAIN);
    let taken = guest.take_queue(0).expect("it is live");
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    assert_eq!(guest.load(reg::QUEUE_RESET), 1);
    assert!(guest.put_back(taken).is_ok());
    // It does not go on.
    assert!(client.send(false));
    let state = crate::support::save(&mut guest);
    let mut next = fresh(ram, crate::support::heir(&guest));
    next.restore(&state).expect("it is whole");
    assert_eq!(next.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    let _ = next.store(reg::QUEUE_SEL, 0);
    assert_eq!(next.load(reg::QUEUE_RESET), 0, "it is complete");
    assert_eq!(next.load(reg::QUEUE_READY), 0);
    let mut client = Client::new(ram, 0, PLAIN);
    assert_eq!(next.configure(&client.config()), Reply::Done(0));
    client.assert_works(&mut next);
}

#[test]
fn a_queue_whose_owner_dropped_it_stays_stopped() {
    let (mut guest, _, ram) = live(PLAIN);
    drop(guest.take_queue(0).expect("it is live"));
    let mut guest = carry(guest, ram);
    assert_eq!(guest.queue_state(0), virtside::QueueState::Dead);
    let _ = guest.store(reg::QUEUE_SEL, 0);
    assert_eq!(guest.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_reset_cures(&mut guest, ram);
}

//! What goes wrong on the way into a suspension, in it, and on the way out.

use virtside::{
    Chain, DriverFault, Features, FlatMem, HostFault, QueueState, Step, Stop,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, Guest, config, driver, guest_over,
    probe::{Probe, assert_works, pending, publish},
    ram, reg,
    rings::GuardedMem,
    status::{LIVE, NEEDS_RESET, SUSPENDED},
};

use crate::{FEATURES, begin, holding, live, resume, suspend};

/// Status and InterruptStatus.
fn told<M: virtside::DriverMem>(guest: &mut Guest<Probe, M>) -> (u32, u32) {
    (guest.load(reg::STATUS), pending(guest))
}

/// A resume of a device that needs a reset.
#[track_caller]
fn resume_in_need<M: virtside::DriverMem>(guest: &mut Guest<Probe, M>) {
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), LIVE | NEEDS_RESET);
    assert_eq!(guest.phase(), Phase::Live);
}

#[test]
fn a_fault_on_the_way_shows_at_once_and_beside_suspend() {
    let (mut guest, _, _) = holding();
    begin(&mut guest);
    // What it was sent turns out to be nonsense.
    guest.model_mut().blames = Some(DriverFault::BadRequest { head: 0 });
    let token = guest.model().held[0];
    assert_eq!(guest.complete(token), Ok(()));
    assert_eq!(
        pending(&mut guest),
        2,
        "announced at once: not suspended yet"
    );
    assert_eq!(guest.device().notify().asserted(), 1);
    assert_eq!(guest.queue_state(0), QueueState::Dead);
    // The chain is gone with its queue, so this read finds the device suspended.
    assert_eq!(guest.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    resume_in_need(&mut guest);
    assert_eq!(guest.device().notify().asserted(), 1, "not told twice");
}

#[test]
fn a_device_that_needs_a_reset_can_be_suspended_and_resumed() {
    let (mut guest, [driver, mut other], _) = live();
    driver.set_avail_idx(1000);
    assert_eq!(guest.kick(0), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(told(&mut guest), (LIVE | NEEDS_RESET, 2));
    assert_eq!(guest.store(reg::STATUS, 0x5f), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    resume_in_need(&mut guest);
    assert_works(&mut guest, &mut other, 1);
}

#[test]
fn rings_that_go_while_suspended_are_announced_at_the_resume() {
    for config_changes in [false, true] {
        let ram = ram();
        let mem = GuardedMem::new(ram.flat(BASE));
        let mut guest = guest_over(Probe::default(), mem.clone(), 4);
        let mut other = driver(ram, 1);
        assert!(guest.bring_up(FEATURES, &[config(0), config(1)]));
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        suspend(&mut guest);
        mem.deny(BASE, 16);
        assert!(guest.memory_changed());
        assert_eq!(guest.queue_state(0), QueueState::Dead);
        assert_eq!(
            guest.take_host_fault(),
            Some(HostFault::RingGone { queue: 0 })
        );
        assert_eq!(told(&mut guest), (SUSPENDED | NEEDS_RESET, 0));
        assert!(guest.memory_changed());
        if config_changes {
            guest.update_config(|_| ());
        }
        assert_eq!(guest.device().notify().asserted(), 0);
        resume_in_need(&mut guest);
        assert_eq!(pending(&mut guest), 2);
        assert_eq!(guest.device().notify().asserted(), 1);
        assert_works(&mut guest, &mut other, 1);
    }
}

#[test]
fn rings_that_moved_while_suspended_are_used_after_the_resume() {
    let (mut guest, [mut old, _], _) = live();
    assert_works(&mut guest, &mut old, 0);
    suspend(&mut guest);
    let new = ram();
    *guest.memory_mut() = new.flat(BASE);
    assert!(guest.memory_changed());
    let mut driver = driver(new, 0);
    driver.set_next(old.next_avail(), 0);
    resume(&mut guest);
    publish(&mut driver, 0, b"moved");
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!((old.used_idx(), driver.used_idx()), (1, 2));
}

#[test]
fn a_ring_that_goes_on_the_way_takes_its_chains_along() {
    let ram = ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let model = Probe {
        holds: true,
        ..Probe::default()
    };
    let mut guest: Guest<Probe, GuardedMem<FlatMem>> = guest_over(model, mem.clone(), 4);
    let mut driver = driver(ram, 0);
    assert!(guest.bring_up(FEATURES, &[config(0)]));
    publish(&mut driver, 0, b"held");
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    begin(&mut guest);
    mem.deny(BASE, 16);
    assert!(guest.memory_changed());
    assert_eq!(pending(&mut guest), 2, "not suspended yet");
    assert_eq!(guest.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
}

#[test]
fn a_fault_of_a_quiet_owner_is_announced_after_the_resume() {
    let (mut guest, _, ram) = live();
    let mut queue = guest.take_queue(0).expect("a live queue");
    assert_eq!(guest.store(reg::STATUS, 0x1f), Reply::Done(0));
    let popped = queue.pop(&ram.flat(BASE), &mut Chain::new());
    assert_eq!(popped, Err(Stop::Asked));
    assert_eq!(guest.load(reg::STATUS), SUSPENDED);
    queue.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(told(&mut guest), (SUSPENDED, 0));
    assert!(guest.put_back(queue).is_err());
    assert_eq!(told(&mut guest), (SUSPENDED | NEEDS_RESET, 0));
    assert_eq!(guest.device().notify().asserted(), 0);
    resume_in_need(&mut guest);
    assert_eq!(pending(&mut guest), 2);
    assert_eq!(guest.device().notify().asserted(), 1);
}

#[test]
fn a_fault_of_a_taken_queue_on_the_way_is_announced_at_once() {
    let (mut guest, [mut driver, _], ram) = live();
    let mut queue = guest.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"in flight");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    begin(&mut guest);
    queue.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(told(&mut guest), (LIVE | NEEDS_RESET, 2));
    queue.abandon(&chain);
    assert_eq!(guest.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    assert!(guest.put_back(queue).is_err());
    resume_in_need(&mut guest);
    assert_eq!(guest.device().notify().asserted(), 1);
}

#[test]
fn a_change_held_back_when_the_driver_fails_is_never_told() {
    let (mut guest, _, _) = live();
    suspend(&mut guest);
    guest.update_config(|_| ());
    assert_eq!(guest.store(reg::STATUS, SUSPENDED | 128), Reply::Done(0));
    guest.update_config(|_| ());
    guest.poll(BUDGET);
    assert_eq!(guest.device().notify().asserted(), 0);
    assert_eq!(guest.phase(), Phase::Failed);
}

#[test]
fn a_queue_that_is_refused_just_after_a_resume_is_told() {
    let (mut guest, _) = virtside_tests::probe::probe();
    let features = FEATURES | Features::RING_RESET;
    assert!(guest.bring_up(features, &[config(0)]));
    suspend(&mut guest);
    assert_eq!(guest.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(guest.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    // Refused as any write is in a suspension: nothing was checked.
    assert!(guest.configure(&config(0)).refusal().is_some());
    assert_eq!(told(&mut guest), (SUSPENDED, 0));
    resume(&mut guest);
    let mut odd = config(0);
    odd.size = 3;
    assert!(guest.configure(&odd).refusal().is_some());
    assert_eq!(told(&mut guest), (LIVE | NEEDS_RESET, 2));
}

#[test]
fn a_device_whose_driver_ok_was_refused_is_not_suspended() {
    let (mut guest, _) = virtside_tests::probe::probe();
    assert!(guest.negotiate(FEATURES));
    let mut bad = virtside_tests::config(0);
    bad.size = 3;
    assert!(guest.configure(&bad).refusal().is_some());
    assert!(guest.go_live().refusal().is_some());
    let status = guest.load(reg::STATUS);
    assert_eq!(status, 15 | 64);
    for value in [0x1f, 0x1b | 4, 0x5f] {
        assert_eq!(
            guest.store(reg::STATUS, value),
            Reply::Done(0),
            "{value:#x}"
        );
        assert_eq!(guest.load(reg::STATUS), status);
        assert_eq!(guest.phase(), virtside::mmio::Phase::Live);
    }
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 0);
}

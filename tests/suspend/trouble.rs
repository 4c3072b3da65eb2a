//! Faults and refusals while the device is suspending, suspended, and resuming.

use virtside::{
    DriverFault, Features, FlatMem, HostFault, Step,
    device::{QueueState, Stop},
    mmio::{Phase, Reply},
    queue::Chain,
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, TestEngine, config, driver, engine_over,
    probe::{Probe, assert_works, pending, publish},
    ram, reg,
    rings::GuardedMem,
    status::{LIVE, NEEDS_RESET, SUSPENDED},
};

use crate::{FEATURES, begin, holding, live, resume, suspend};

/// Status and InterruptStatus.
fn status_and_interrupts<M: virtside::DriverMem>(engine: &mut TestEngine<Probe, M>) -> (u32, u32) {
    (engine.load(reg::STATUS), pending(engine))
}

/// Resumes a device that needs a reset.
#[track_caller]
fn resume_in_need<M: virtside::DriverMem>(engine: &mut TestEngine<Probe, M>) {
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), LIVE | NEEDS_RESET);
    assert_eq!(engine.phase(), Phase::Live);
}

#[test]
fn a_fault_while_suspending_shows_at_once_beside_suspend() {
    let (mut engine, _, _) = holding();
    begin(&mut engine);
    // The model finds that the request is invalid.
    engine.model_mut().blames = Some(DriverFault::BadRequest { head: 0 });
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(
        pending(&mut engine),
        2,
        "the device is not suspended yet, so it interrupts at once"
    );
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(engine.queue_state(0), QueueState::Failed);
    // The chain was abandoned with its queue, so this read finds the device suspended.
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    resume_in_need(&mut engine);
    assert_eq!(
        engine.device().notify().asserted(),
        1,
        "the driver is interrupted once"
    );
}

#[test]
fn a_device_that_needs_a_reset_can_be_suspended_and_resumed() {
    let (mut engine, [driver, mut other], _) = live();
    driver.set_avail_idx(1000);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(status_and_interrupts(&mut engine), (LIVE | NEEDS_RESET, 2));
    assert_eq!(engine.store(reg::STATUS, 0x5f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    resume_in_need(&mut engine);
    assert_works(&mut engine, &mut other, 1);
}

#[test]
fn rings_gone_while_suspended_interrupt_at_the_resume() {
    for config_changes in [false, true] {
        let ram = ram();
        let mem = GuardedMem::new(ram.flat(BASE));
        let mut engine = engine_over(Probe::default(), mem.clone(), 4);
        let mut other = driver(ram, 1);
        assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        suspend(&mut engine);
        mem.deny(BASE, 16);
        assert!(engine.memory_changed().is_done());
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        assert_eq!(
            engine.take_host_fault(),
            Some(HostFault::RingGone { queue: 0 })
        );
        assert_eq!(
            status_and_interrupts(&mut engine),
            (SUSPENDED | NEEDS_RESET, 0)
        );
        assert!(engine.memory_changed().is_done());
        if config_changes {
            engine.update_config(|_| ());
        }
        assert_eq!(engine.device().notify().asserted(), 0);
        resume_in_need(&mut engine);
        assert_eq!(pending(&mut engine), 2);
        assert_eq!(engine.device().notify().asserted(), 1);
        assert_works(&mut engine, &mut other, 1);
    }
}

#[test]
fn rings_that_moved_while_suspended_are_used_after_the_resume() {
    let (mut engine, [mut old, _], _) = live();
    assert_works(&mut engine, &mut old, 0);
    suspend(&mut engine);
    let new = ram();
    *engine.memory_mut() = new.flat(BASE);
    assert!(engine.memory_changed().is_done());
    let mut driver = driver(new, 0);
    driver.set_next(old.next_avail(), 0);
    resume(&mut engine);
    publish(&mut driver, 0, b"moved");
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((old.used_idx(), driver.used_idx()), (1, 2));
}

#[test]
fn a_ring_gone_while_suspending_abandons_its_chains() {
    let ram = ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let model = Probe {
        holds: true,
        ..Probe::default()
    };
    let mut engine: TestEngine<Probe, GuardedMem<FlatMem>> = engine_over(model, mem.clone(), 4);
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(FEATURES, &[config(0)]));
    publish(&mut driver, 0, b"held");
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    begin(&mut engine);
    mem.deny(BASE, 16);
    assert!(engine.memory_changed().is_done());
    assert_eq!(pending(&mut engine), 2, "not suspended yet");
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
}

#[test]
fn a_fault_of_a_suspended_owner_interrupts_after_resume() {
    let (mut engine, _, ram) = live();
    let mut queue = engine.take_queue(0).expect("a live queue");
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    let popped = queue.pop(&ram.flat(BASE), &mut Chain::new());
    assert_eq!(popped, Err(Stop::Asked));
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    queue.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(status_and_interrupts(&mut engine), (SUSPENDED, 0));
    assert!(engine.put_back(queue).is_err());
    assert_eq!(
        status_and_interrupts(&mut engine),
        (SUSPENDED | NEEDS_RESET, 0)
    );
    assert_eq!(engine.device().notify().asserted(), 0);
    resume_in_need(&mut engine);
    assert_eq!(pending(&mut engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn a_fault_of_a_taken_queue_interrupts_while_suspending() {
    let (mut engine, [mut driver, _], ram) = live();
    let mut queue = engine.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"in flight");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    begin(&mut engine);
    queue.report(DriverFault::BadRequest { head: 0 });
    assert_eq!(status_and_interrupts(&mut engine), (LIVE | NEEDS_RESET, 2));
    queue.abandon(&chain);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED | NEEDS_RESET);
    assert!(engine.put_back(queue).is_err());
    resume_in_need(&mut engine);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn a_change_held_back_at_failed_never_interrupts() {
    let (mut engine, _, _) = live();
    suspend(&mut engine);
    engine.update_config(|_| ());
    assert_eq!(engine.store(reg::STATUS, SUSPENDED | 128), Reply::Done(0));
    engine.update_config(|_| ());
    engine.poll(BUDGET);
    assert_eq!(engine.device().notify().asserted(), 0);
    assert_eq!(engine.phase(), Phase::Failed);
}

#[test]
fn a_queue_refused_just_after_a_resume_interrupts() {
    let (mut engine, _) = virtside_tests::probe::probe();
    let features = FEATURES | Features::RING_RESET;
    assert!(engine.bring_up(features, &[config(0)]));
    suspend(&mut engine);
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    // The queue write is refused, as every other during a suspension: nothing was checked.
    assert!(engine.configure(&config(0)).refusal().is_some());
    assert_eq!(status_and_interrupts(&mut engine), (SUSPENDED, 0));
    resume(&mut engine);
    let mut odd = config(0);
    odd.size = 3;
    assert!(engine.configure(&odd).refusal().is_some());
    assert_eq!(status_and_interrupts(&mut engine), (LIVE | NEEDS_RESET, 2));
}

#[test]
fn a_device_whose_driver_ok_was_refused_is_not_suspended() {
    let (mut engine, _) = virtside_tests::probe::probe();
    assert!(engine.negotiate(FEATURES));
    let mut bad = virtside_tests::config(0);
    bad.size = 3;
    assert!(engine.configure(&bad).refusal().is_some());
    assert!(engine.go_live().refusal().is_some());
    let status = engine.load(reg::STATUS);
    assert_eq!(status, 15 | 64);
    for value in [0x1f, 0x1b | 4, 0x5f] {
        assert_eq!(
            engine.store(reg::STATUS, value),
            Reply::Done(0),
            "{value:#x}"
        );
        assert_eq!(engine.load(reg::STATUS), status);
        assert_eq!(engine.phase(), virtside::mmio::Phase::Live);
    }
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
}

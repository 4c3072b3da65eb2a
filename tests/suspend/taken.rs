//! Queues that are taken when the driver suspends the device.

use std::sync::Arc;

use virtside::{
    DriverMem, FlatMem, Refusal, Shared, Step,
    device::{QueueState, Stop, TakenQueue},
    mmio::Reply,
    queue::Chain,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, Line, N, Q, TestEngine, TestRam,
    probe::{Probe, answer, assert_works, pending, publish},
    reg,
    rings::shot,
    status::{LIVE, SUSPENDED},
};

use crate::{begin, live, resume};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

/// A device that is asked to suspend while a chain of its taken queue 0 is in flight.
fn busy() -> (
    TestEngine<Probe>,
    Queue,
    Chain<N>,
    FakeDriver<FlatMem>,
    TestRam,
) {
    let (mut engine, [mut driver, _], ram) = live();
    let mut queue = engine.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"in flight");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    assert!(queue.was_kicked());
    begin(&mut engine);
    (engine, queue, chain, driver, ram)
}

#[test]
fn the_device_waits_for_its_owner_and_for_chains_in_flight() {
    let (mut engine, mut queue, chain, mut driver, ram) = busy();
    assert!(queue.was_kicked(), "being asked is a kick");
    publish(&mut driver, 0, b"late");
    let mut none = Chain::new();
    assert_eq!(queue.pop(&ram.flat(BASE), &mut none), Err(Stop::Asked));
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    // The last chain is answered: the device interrupts, and is suspended.
    assert_eq!(pending(&mut engine), 1);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    let before = shot(ram);
    assert!(!queue.flush());
    queue.disable_kicks();
    assert!(queue.enable_kicks().is_err());
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(shot(ram) == before, "memory changed");
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b""[..]));
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"late"[..]));
}

#[test]
fn one_put_back_while_suspending_serves_after_the_resume() {
    let (mut engine, mut queue, chain, mut driver, _) = busy();
    queue.abandon(&chain);
    publish(&mut driver, 0, b"late");
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.used_idx(), 0);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.used_idx(), 1);
}

#[test]
fn one_that_stays_taken_is_idle_until_it_is_put_back() {
    let (mut engine, mut queue, chain, mut driver, ram) = busy();
    queue.abandon(&chain);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    resume(&mut engine);
    assert_eq!(engine.queue_state(0), QueueState::Taken);
    publish(&mut driver, 0, b"after");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    let mut none = Chain::new();
    assert_eq!(queue.pop(&ram.flat(BASE), &mut none), Err(Stop::Asked));
    assert_eq!(
        engine.take_queue(0).err(),
        Some(Refusal::QueueTaken { queue: 0 })
    );
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"after"[..]));
    assert_works(&mut engine, &mut driver, 0);
    // The queue can be taken again.
    let mut queue = engine.take_queue(0).expect("a live queue");
    publish(&mut driver, 0, b"again");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut none), Ok(true));
}

#[test]
fn dropping_one_while_suspending_ends_the_wait() {
    let (mut engine, queue, _, _, _) = busy();
    drop(queue);
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    resume(&mut engine);
    assert_eq!(engine.queue_state(0), QueueState::Failed);
}

#[test]
fn a_reset_while_suspending_waits_for_it() {
    let (mut engine, queue, _, _, _) = busy();
    let Reply::Pending(ticket) = engine.store(reg::STATUS, 0) else {
        panic!("a queue is taken");
    };
    assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
    drop(queue);
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
}

#[test]
fn a_suspension_under_load_ends_and_leaves_memory_alone() {
    let (mut engine, [mut driver, _], ram) = live();
    for _ in 0..20 {
        let mut queue = engine.take_queue(0).expect("a live queue");
        for _ in 0..3 {
            publish(&mut driver, 0, b"load");
        }
        let owner = std::thread::spawn(move || {
            let mem = ram.flat(BASE);
            let mut chain = Chain::new();
            loop {
                match queue.pop(&mem, &mut chain) {
                    Ok(true) => {
                        assert_eq!(queue.complete(&chain, 0), Ok(()));
                        queue.flush();
                    }
                    Ok(false) => std::hint::spin_loop(),
                    Err(stop) => return (queue, stop),
                }
            }
        });
        assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
        while engine.load(reg::STATUS) != SUSPENDED {
            std::thread::yield_now();
        }
        let (before, raised) = (shot(ram), engine.device().notify().asserted());
        let (queue, stop) = owner.join().expect("no panic");
        assert_eq!(stop, Stop::Asked);
        assert!(shot(ram) == before, "memory changed");
        assert_eq!(engine.device().notify().asserted(), raised);
        assert!(engine.put_back(queue).is_ok());
        resume(&mut engine);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        while driver.take_used().is_some() {}
    }
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn after_the_resume_a_taken_queue_delays_nothing() {
    for dropped in [false, true] {
        let (mut engine, mut queue, chain, _, _) = busy();
        engine.model_mut().unready = vec![0];
        queue.abandon(&chain);
        let queue = (!dropped).then_some(queue);
        assert_eq!(engine.load(reg::STATUS), SUSPENDED);
        resume(&mut engine);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        if let Some(queue) = queue {
            assert!(engine.put_back(queue).is_ok());
            assert_eq!(engine.poll(BUDGET), Step::Blocked);
        }
    }
}

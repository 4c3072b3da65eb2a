//! A reset while the queue is taken: QueueReset reads 1 until its owner has stopped, and the
//! driver's other accesses do not wait.

use std::sync::Arc;

use virtside::{
    DriverFault, DriverMem, Features, FlatMem, Refusal, Shared, Step,
    device::{PutBackError, QueueState, Stop, TakenQueue},
    mmio::Reply,
    queue::Chain,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, Line, N, Q, TestEngine, TestRam, config, driver,
    probe::{
        Event, Probe, answer, assert_works, pending, probe, publish, ready, reset_queue, seen,
    },
    reg,
    rings::shot,
};

use crate::{FEATURES, enable, live, other_layout, resetting};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

/// A device with queue 0 taken and one chain in flight, while the driver resets the queue.
struct Busy {
    engine: TestEngine<Probe>,
    queue: Queue,
    chain: Chain<N>,
    driver: FakeDriver<FlatMem>,
    other: FakeDriver<FlatMem>,
    ram: TestRam,
}

fn busy() -> Busy {
    let (mut engine, [mut driver, other], ram) = live();
    let mut queue = engine.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"in flight");
    publish(&mut driver, 0, b"not taken");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    Busy {
        engine,
        queue,
        chain,
        driver,
        other,
        ram,
    }
}

#[test]
fn it_reads_1_while_the_queue_works_and_0_after_it_stops() {
    let mut b = busy();
    for _ in 0..3 {
        assert_eq!(
            (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
            (1, 1)
        );
    }
    let mut none = Chain::new();
    assert_eq!(b.queue.pop(&b.ram.flat(BASE), &mut none), Err(Stop::Asked));
    // One chain is in flight.
    assert_eq!(
        (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
        (1, 1)
    );
    assert_eq!(b.engine.model().count(Event::Stopped(0)), 0);
    assert_eq!(b.queue.complete(&b.chain, 0), Ok(()));
    assert_eq!(
        (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
        (0, 0)
    );
    assert_eq!(b.engine.model().count(Event::Stopped(0)), 1);
    assert_eq!(b.engine.queue_state(0), QueueState::Off);
}

#[test]
fn reading_queue_ready_alone_also_sees_the_reset() {
    let mut b = busy();
    assert_eq!(ready(&mut b.engine, 0), 1);
    drop(b.queue);
    assert_eq!(ready(&mut b.engine, 0), 0);
    assert_eq!(resetting(&mut b.engine, 0), 0);
}

#[test]
fn being_reset_is_a_kick_for_the_owner() {
    let (mut engine, _, ram) = live();
    let mut queue = engine.take_queue(0).expect("a live queue");
    assert!(queue.was_kicked());
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert!(queue.was_kicked());
    assert_eq!(
        queue.pop(&ram.flat(BASE), &mut Chain::new()),
        Err(Stop::Asked)
    );
    assert_eq!(resetting(&mut engine, 0), 0);
}

#[test]
fn meanwhile_other_accesses_and_queues_continue() {
    let mut b = busy();
    assert_eq!(b.engine.load(reg::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(b.engine.load(reg::STATUS), 15);
    for _ in 0..20 {
        assert_works(&mut b.engine, &mut b.other, 1);
        assert_eq!(resetting(&mut b.engine, 0), 1);
    }
    // Neither a second reset of the queue nor a reset of another queue changes anything.
    assert_eq!(reset_queue(&mut b.engine, 0), Reply::Done(0));
    assert_eq!(resetting(&mut b.engine, 0), 1);
    assert_eq!(reset_queue(&mut b.engine, 1), Reply::Done(0));
    assert_eq!(
        (resetting(&mut b.engine, 1), ready(&mut b.engine, 1)),
        (0, 0)
    );
    assert_eq!(resetting(&mut b.engine, 0), 1);
}

#[test]
fn meanwhile_the_queue_takes_neither_kicks_nor_parameters() {
    let mut b = busy();
    let refusal = Refusal::QueueNotReady { queue: 0 };
    assert_eq!(b.engine.kick(0), Reply::Refused(refusal));
    let before = seen(&b.engine);
    assert_eq!(ready(&mut b.engine, 0), 1);
    for offset in reg::PARAMETERS {
        assert!(b.engine.store(offset, 0).refusal().is_some(), "{offset:#x}");
    }
    assert_eq!(b.engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(seen(&b.engine), before);
    b.queue.abandon_all();
    assert_eq!(
        (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
        (0, 0)
    );
}

#[test]
fn queue_ready_0_meanwhile_is_withheld_and_the_queue_is_reset() {
    let mut b = busy();
    assert_eq!(ready(&mut b.engine, 0), 1);
    let Reply::Pending(ticket) = b.engine.store(reg::QUEUE_READY, 0) else {
        panic!("the queue is still taken");
    };
    assert_eq!(b.engine.finish(ticket), Reply::Pending(ticket));
    b.queue.abandon(&b.chain);
    assert_eq!(b.engine.finish(ticket), Reply::Done(0));
    assert_eq!(
        (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
        (0, 0)
    );
    let mut driver = enable(&mut b.engine, b.ram, other_layout());
    assert_works(&mut b.engine, &mut driver, 0);
}

#[test]
fn a_queue_that_is_put_back_meanwhile_serves_nothing() {
    let mut b = busy();
    b.queue.abandon(&b.chain);
    assert!(b.engine.put_back(b.queue).is_ok());
    let (before, counted) = (shot(b.ram), b.engine.counters());
    b.engine.device().shared().doorbell().ring(0);
    let _ = b.engine.notify_queue(0);
    b.engine.backend_ready(0);
    for _ in 0..3 {
        assert_eq!(b.engine.poll(BUDGET), Step::Idle);
    }
    assert_eq!(b.engine.counters(), counted);
    assert!(shot(b.ram) == before, "memory changed");
    assert_eq!(
        (resetting(&mut b.engine, 0), ready(&mut b.engine, 0)),
        (0, 0)
    );
    let mut driver = enable(&mut b.engine, b.ram, other_layout());
    assert_works(&mut b.engine, &mut driver, 0);
}

#[test]
fn a_queue_that_is_put_back_meanwhile_cannot_be_taken_again() {
    let mut b = busy();
    b.queue.abandon(&b.chain);
    assert!(b.engine.put_back(b.queue).is_ok());
    let refusal = Refusal::QueueNotReady { queue: 0 };
    match b.engine.take_queue(0) {
        Err(refused) => assert_eq!(refused, refusal),
        Ok(mut queue) => panic!(
            "the queue was taken, and gives {:?}",
            queue.pop(&b.ram.flat(BASE), &mut Chain::new())
        ),
    }
    assert_eq!(resetting(&mut b.engine, 0), 0);
}

#[test]
fn a_queue_put_back_meanwhile_serves_nothing_after_a_resume() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    let features = FEATURES | Features::SUSPEND;
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    let mut queue = engine.take_queue(0).expect("a live queue");
    publish(&mut driver, 0, b"never served");
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(
        queue.pop(&ram.flat(BASE), &mut Chain::new()),
        Err(Stop::Asked)
    );
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(engine.load(reg::STATUS), 0x1b);
    assert_eq!(engine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0x0f);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.used_idx(), 0);
    assert_eq!(resetting(&mut engine, 0), 0);
}

#[test]
fn the_old_queue_cannot_serve_the_new_one() {
    let mut b = busy();
    b.queue.abandon_all();
    assert_eq!(resetting(&mut b.engine, 0), 0);
    let mut driver = enable(&mut b.engine, b.ram, other_layout());
    let before = shot(b.ram);
    let seen_before = seen(&b.engine);
    let stale = Refusal::StaleToken;
    assert_eq!(b.queue.complete(&b.chain, 0), Err(stale.into()));
    b.queue.abandon(&b.chain);
    b.queue.report(DriverFault::BadRequest { head: 0 });
    assert!(!b.queue.flush());
    b.queue.disable_kicks();
    assert!(b.queue.enable_kicks().is_err());
    assert!(b.queue.pop(&b.ram.flat(BASE), &mut b.chain).is_err());
    assert!(!b.queue.was_kicked());
    assert_eq!(seen(&b.engine), seen_before);
    assert!(matches!(
        b.engine.put_back(b.queue),
        Err(PutBackError::Discarded)
    ));
    assert_eq!(seen(&b.engine), seen_before);
    assert!(shot(b.ram) == before, "memory changed");
    assert_works(&mut b.engine, &mut driver, 0);
}

#[test]
fn the_old_queue_cannot_suppress_kicks_of_a_new_taken_one() {
    let mut b = busy();
    b.queue.abandon_all();
    assert_eq!(resetting(&mut b.engine, 0), 0);
    let mut driver = enable(&mut b.engine, b.ram, other_layout());
    let mut new = b.engine.take_queue(0).expect("a live queue");
    b.queue.abandon_all();
    drop(b.queue);
    assert!(!new.is_stopped());
    publish(&mut driver, 0, b"new");
    let mem = b.ram.flat(BASE);
    assert_eq!(new.pop(&mem, &mut b.chain), Ok(true));
    assert_eq!(new.complete(&b.chain, 0), Ok(()));
    assert!(new.flush());
    assert!(b.engine.put_back(new).is_ok());
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b""[..]));
    assert_works(&mut b.engine, &mut driver, 0);
}

#[test]
fn returned_chains_interrupt_before_the_reset_is_done() {
    let mut b = busy();
    assert_eq!(b.queue.complete(&b.chain, 0), Ok(()));
    assert_eq!(pending(&mut b.engine), 0, "the queue is not flushed yet");
    let mut none = Chain::new();
    assert_eq!(b.queue.pop(&b.ram.flat(BASE), &mut none), Err(Stop::Asked));
    assert_eq!(pending(&mut b.engine), 1);
    assert_eq!(resetting(&mut b.engine, 0), 0);
    assert_eq!(b.engine.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert!(!b.queue.flush());
    drop(b.queue);
    assert_eq!(pending(&mut b.engine), 0);
    assert_eq!(b.driver.used_idx(), 1);
}

#[test]
fn a_taken_queue_at_fault_can_be_reset() {
    for put_back in [false, true] {
        let (mut engine, [driver, _], ram) = live();
        let mut queue = engine.take_queue(0).expect("a live queue");
        driver.set_avail_idx(1000);
        let popped = queue.pop(&ram.flat(BASE), &mut Chain::new());
        assert!(matches!(popped, Err(Stop::Driver(_))));
        assert_eq!(pending(&mut engine), 2);
        if put_back {
            assert!(engine.put_back(queue).is_err());
        }
        assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
        assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 0));
        let mut driver = enable(&mut engine, ram, other_layout());
        assert_works(&mut engine, &mut driver, 0);
        assert_eq!(engine.load(reg::STATUS), 79);
    }
}

#[test]
fn a_queue_that_was_dropped_can_be_reset_and_works_again() {
    let (mut engine, _, ram) = live();
    drop(engine.take_queue(0).expect("a live queue"));
    assert_eq!(engine.queue_state(0), QueueState::Failed);
    assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
    assert_eq!((resetting(&mut engine, 0), ready(&mut engine, 0)), (0, 0));
    let mut driver = enable(&mut engine, ram, other_layout());
    assert_eq!(engine.queue_state(0), QueueState::Live);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_reset_under_load_ends_and_leaves_the_old_rings() {
    let (mut engine, [mut driver, _], ram) = live();
    for turn in 0..20 {
        let mut queue = engine.take_queue(0).expect("a live queue");
        for _ in 0..6 {
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
                    Err(stop) => return stop,
                }
            }
        });
        assert_eq!(reset_queue(&mut engine, 0), Reply::Done(0));
        while resetting(&mut engine, 0) == 1 {
            std::thread::yield_now();
        }
        let layout = *driver.layout();
        let mut rings = vec![0; 0x200];
        let at = (layout.desc - BASE) as usize;
        ram.read(at, &mut rings);
        assert_eq!(owner.join().expect("no panic"), Stop::Asked);
        let next = if turn % 2 == 0 {
            other_layout()
        } else {
            virtside_tests::layout(0)
        };
        let mut now = vec![0; 0x200];
        ram.read(at, &mut now);
        assert_eq!(now, rings);
        driver = enable(&mut engine, ram, next);
    }
    assert_works(&mut engine, &mut driver, 0);
}

//! Reset and QueueReady = 0 while requests are pending.

use virtside::{
    Features, Refusal, Step, Token,
    device::QueueState,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, TestEngine, TestRam, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, ready},
    reg,
};

/// A live device that holds two requests of each of its queues 0 and 1, and their tokens by queue.
struct Holding {
    engine: TestEngine<Probe>,
    ram: TestRam,
    drivers: [FakeDriver<virtside::FlatMem>; 2],
    tokens: [[Token; 2]; 2],
}

fn holding() -> Holding {
    let (mut engine, ram) = probe();
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    engine.model_mut().holds = true;
    let mut tokens = Vec::new();
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        publish(driver, queue, b"first");
        publish(driver, queue, b"second");
        assert_eq!(engine.kick(queue), Reply::Done(0));
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        let held = &engine.model().held;
        tokens.push([held[held.len() - 2], held[held.len() - 1]]);
    }
    assert_eq!(engine.model().held.len(), 4);
    assert_eq!(engine.counters().chains, 0);
    let tokens = [tokens[0], tokens[1]];
    Holding {
        engine,
        ram,
        drivers,
        tokens,
    }
}

/// The rings of one queue.
fn rings(ram: TestRam, queue: u16) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    ram.read(0x1000 * usize::from(queue), &mut bytes);
    bytes
}

#[test]
fn a_pending_request_is_answered_when_it_is_complete() {
    // The usual case, for comparison.
    let mut h = holding();
    assert_eq!(h.engine.complete(h.tokens[0][1]), Ok(()));
    assert_eq!(
        answer(&mut h.drivers[0], 0).as_deref(),
        Some(&b"second"[..])
    );
    assert_eq!(h.engine.complete(h.tokens[0][0]), Ok(()));
    assert_eq!(answer(&mut h.drivers[0], 0).as_deref(), Some(&b"first"[..]));
    assert_eq!(pending(&mut h.engine), 1);
    // Each request is answered once.
    for token in h.tokens[0] {
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!(h.drivers[0].used_idx(), 2);
}

#[test]
fn a_reset_does_not_wait_for_pending_requests() {
    let mut h = holding();
    assert_eq!(h.engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(h.engine.load(reg::STATUS), 0);
    assert_eq!(h.engine.poll(BUDGET), Step::Idle);
}

#[test]
fn a_token_from_before_a_reset_is_stale() {
    let mut h = holding();
    assert_eq!(h.engine.store(reg::STATUS, 0), Reply::Done(0));
    // The memory belongs to something else now.
    h.ram.write(0, &[0xa5; 0x2000]);
    let before = [rings(h.ram, 0), rings(h.ram, 1)];
    let served = h.engine.model().log.len();
    for token in h.tokens.concat() {
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!([rings(h.ram, 0), rings(h.ram, 1)], before);
    assert_eq!(
        h.engine.model().log.len(),
        served,
        "the model was not called"
    );
    assert_eq!(pending(&mut h.engine), 0);
    assert!(!h.engine.device().notify().is_high());
}

#[test]
fn a_token_from_before_a_reset_completes_no_later_request() {
    let mut h = holding();
    h.drivers = [driver(h.ram, 0), driver(h.ram, 1)];
    assert!(
        h.engine
            .bring_up(Features::VERSION_1, &[config(0), config(1)])
    );
    // New requests with the same slots and the same heads.
    for (driver, queue) in h.drivers.iter_mut().zip(0..) {
        publish(driver, queue, b"newer");
        publish(driver, queue, b"still");
    }
    assert_eq!(h.engine.poll(BUDGET), Step::Blocked);
    let new = h.engine.model().held.clone();
    assert_eq!(new.len(), 4);
    for token in h.tokens.concat() {
        assert!(!new.contains(&token));
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!((h.drivers[0].used_idx(), h.drivers[1].used_idx()), (0, 0));
    for token in new {
        assert_eq!(h.engine.complete(token), Ok(()));
    }
    assert_eq!((h.drivers[0].used_idx(), h.drivers[1].used_idx()), (2, 2));
    assert_eq!(answer(&mut h.drivers[0], 0).as_deref(), Some(&b"newer"[..]));
}

#[test]
fn a_reset_gives_every_slot_back() {
    // One queue takes all four slots; a device that leaked a slot would hold fewer each time.
    let mut h = holding();
    for _ in 0..10 {
        h.drivers[0] = driver(h.ram, 0);
        assert!(h.engine.bring_up(Features::VERSION_1, &[config(0)]));
        for _ in 0..5 {
            publish(&mut h.drivers[0], 0, b"text");
        }
        assert_eq!(h.engine.poll(BUDGET), Step::Blocked);
        assert_eq!(h.engine.model().held.len(), 4);
    }
}

#[test]
fn the_memory_of_outstanding_buffers_may_be_reused_at_once() {
    let mut h = holding();
    assert_eq!(h.engine.store(reg::STATUS, 0), Reply::Done(0));
    // The driver reuses rings and buffers, and the device serves other requests meanwhile.
    let marked = vec![0x3c; 0x4000];
    h.ram.write(0x1_0000, &marked);
    h.ram.write(0, &marked[..0x1000]);
    for token in h.tokens.concat() {
        assert!(h.engine.complete(token).is_err());
    }
    h.engine.model_mut().holds = false;
    let layout = virtside::testing::Layout::packed_at(BASE + 0x8000, 16);
    let mut elsewhere = FakeDriver::new(h.ram.flat(BASE), layout);
    assert!(
        h.engine
            .bring_up(Features::VERSION_1, &[elsewhere.config(2 - 1)])
    );
    elsewhere.send(0, &[]);
    h.engine.poll(BUDGET);
    let mut now = vec![0; 0x4000];
    h.ram.read(0x1_0000, &mut now);
    assert!(now == marked);
    assert_eq!(rings(h.ram, 0), marked[..0x1000]);
}

#[test]
fn stopping_a_queue_abandons_only_its_own_requests() {
    let mut h = holding();
    assert_eq!(ready(&mut h.engine, 0), 1);
    assert_eq!(h.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    // The driver reads QueueReady back to know that the queue has stopped.
    assert_eq!(h.engine.load(reg::QUEUE_READY), 0);
    assert_eq!(h.engine.queue_state(0), QueueState::Off);
    assert_eq!(h.engine.model().count(Event::Stopped(0)), 1);
    let before = rings(h.ram, 0);
    for token in h.tokens[0] {
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    h.engine.backend_ready(0);
    assert_eq!(h.engine.poll(BUDGET), Step::Blocked, "queue 1 still waits");
    assert_eq!(rings(h.ram, 0), before);
    assert_eq!(pending(&mut h.engine), 0);

    for token in h.tokens[1] {
        assert_eq!(h.engine.complete(token), Ok(()));
    }
    assert_eq!(answer(&mut h.drivers[1], 1).as_deref(), Some(&b"first"[..]));
    assert_eq!(
        answer(&mut h.drivers[1], 1).as_deref(),
        Some(&b"second"[..])
    );
    h.engine.model_mut().holds = false;
    assert_works(&mut h.engine, &mut h.drivers[1], 1);
}

#[test]
fn a_stopped_queue_gives_its_slots_to_the_others() {
    let mut h = holding();
    assert_eq!(ready(&mut h.engine, 0), 1);
    publish(&mut h.drivers[1], 1, b"third");
    assert_eq!(h.engine.kick(1), Reply::Done(0));
    assert_eq!(h.engine.poll(BUDGET), Step::Blocked);
    assert_eq!(h.engine.model().held.len(), 4, "no slot is free");
    assert_eq!(h.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(h.engine.poll(BUDGET), Step::Blocked);
    assert_eq!(h.engine.model().held.len(), 5);
}

#[test]
fn a_stopped_queue_is_not_polled_again() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    assert_works(&mut engine, &mut driver, 0);
    publish(&mut driver, 0, b"kicked");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(ready(&mut engine, 0), 1);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let before = rings(ram, 0);
    engine.device().shared().doorbell().ring(0);
    engine.backend_ready(0);
    assert!(engine.notify_queue(0).is_err());
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(engine.take_queue(0).is_err());
    assert_eq!(rings(ram, 0), before);
    assert_eq!(engine.model().count(Event::Served(0)), 1);
}

#[test]
fn a_failed_queue_abandons_its_pending_requests() {
    let mut h = holding();
    h.drivers[0].set_avail_idx(1000);
    assert_eq!(h.engine.kick(0), Reply::Done(0));
    // Frees a slot, because the device polls the queue only with a free slot.
    assert_eq!(h.engine.complete(h.tokens[1][0]), Ok(()));
    h.engine.poll(BUDGET);
    assert_eq!(h.engine.queue_state(0), QueueState::Failed);
    for token in h.tokens[0] {
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!(h.drivers[0].used_idx(), 0);
    assert_eq!(h.engine.complete(h.tokens[1][1]), Ok(()));
    assert_eq!(h.drivers[1].used_idx(), 2);
}

#[test]
fn after_failed_no_pending_request_is_answered() {
    let mut h = holding();
    assert_eq!(h.engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    let before = [rings(h.ram, 0), rings(h.ram, 1)];
    h.engine.backend_ready(0);
    for token in h.tokens.concat() {
        assert_eq!(h.engine.complete(token), Err(Refusal::StaleToken));
    }
    assert_eq!(h.engine.poll(BUDGET), Step::Idle);
    assert_eq!([rings(h.ram, 0), rings(h.ram, 1)], before);
    assert_eq!(pending(&mut h.engine), 0);
    assert_eq!(h.engine.device().notify().asserted(), 0);
}

//! A taken queue on another thread, while a driver sends requests, stops queues, and resets the
//! device.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use virtside::{
    Features, FlatMem,
    device::Stop,
    mmio::{Reply, Ticket},
    queue::Chain,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, DATA, TestEngine, TestRam, config, driver,
    probe::{Probe, assert_works, probe},
    reg,
};

use crate::{Queue, mem, serve_one};

/// A time limit that nothing here reaches, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done` returns a value.
#[track_caller]
fn until<T>(mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "the time limit is reached");
        thread::yield_now();
    }
}

/// The queue that a worker returns when it was asked to stop, and the number of requests that it
/// served.
type Worker = JoinHandle<(Queue, usize)>;

/// Serves a taken queue until it is asked to stop or told to leave.
fn work(mut queue: Queue, ram: TestRam, leave: Arc<AtomicBool>) -> Worker {
    thread::spawn(move || {
        let (mem, mut chain, mut served) = (mem(ram), Chain::new(), 0);
        while !leave.load(Ordering::Relaxed) {
            match serve_one(&mut queue, &mem, &mut chain) {
                Ok(true) => served += 1,
                Ok(false) => thread::yield_now(),
                Err(Stop::Asked) => break,
                Err(stop) => panic!("{stop:?}"),
            }
        }
        (queue, served)
    })
}

fn never_leaves() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

/// Sends `number` and waits until it comes back. At most 255 times in one epoch: the fake driver
/// does not write its index in one piece.
fn exchange(driver: &mut FakeDriver<FlatMem>, number: u32) {
    let head = driver.next_avail() % 8 * 2;
    let at = DATA + 0x40 * u64::from(head);
    driver.write(at, &number.to_le_bytes());
    driver.write(at + 0x20, &[0; 4]);
    let buffers = [Buffer::readable(at, 4), Buffer::writable(at + 0x20, 4)];
    driver.write_chain(head, &buffers);
    driver.offer(head);
    fence(Ordering::SeqCst);
    driver.publish();
    let used = until(|| driver.take_used());
    fence(Ordering::SeqCst);
    assert_eq!(used, (head.into(), 4));
    let mut bytes = [0; 4];
    driver.read(at + 0x20, &mut bytes);
    assert_eq!(u32::from_le_bytes(bytes), number);
}

/// Waits until the driver's write is complete.
#[track_caller]
fn finish(engine: &mut TestEngine<Probe>, ticket: Ticket) {
    let reply = until(|| Some(engine.finish(ticket)).filter(|reply| reply.bus_value().is_some()));
    assert_eq!(reply, Reply::Done(0));
}

#[track_caller]
fn complete(engine: &mut TestEngine<Probe>, reply: Reply) {
    match reply {
        Reply::Pending(ticket) => finish(engine, ticket),
        reply => assert_eq!(reply, Reply::Done(0)),
    }
}

#[test]
fn another_thread_serves_while_the_device_serves_its_own() {
    let (mut engine, ram) = probe();
    for life in 0..4 {
        let mut there = driver(ram, 0);
        let mut here = driver(ram, 1);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
        let queue = engine.take_queue(0).expect("a live queue");
        let worker = work(queue, ram, never_leaves());
        for number in 0..200 {
            exchange(&mut there, life * 1000 + number);
            if number % 8 == 0 {
                // The interrupts of the two threads mix, so no count of them is expected.
                virtside_tests::probe::publish(&mut here, 1, b"here");
                assert_eq!(engine.kick(1), Reply::Done(0));
                engine.poll(BUDGET);
                assert!(here.take_used().is_some());
            }
        }
        assert_eq!(engine.load(reg::INTERRUPT_STATUS), 1);
        let reply = engine.store(reg::STATUS, 0);
        complete(&mut engine, reply);
        let (_, served) = worker.join().expect("no assertion failed");
        assert_eq!(served, 200);
    }
}

#[test]
fn a_queue_moves_back_and_forth_between_threads() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    for round in 0..20 {
        let queue = engine.take_queue(0).expect("a live queue");
        let leave = never_leaves();
        let worker = work(queue, ram, leave.clone());
        for number in 0..5 {
            exchange(&mut driver, round * 100 + number);
        }
        leave.store(true, Ordering::Relaxed);
        let (queue, served) = worker.join().expect("no assertion failed");
        assert_eq!(served, 5);
        assert!(engine.put_back(queue).is_ok());
        assert_eq!(engine.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
    }
    assert_works(&mut engine, &mut driver, 0);
}

/// Fills the rings and buffers as soon as the driver's write is complete, and checks that nothing
/// changes while the worker's queue still exists.
fn assert_untouched(ram: TestRam, round: u8, worker: Worker) {
    let (rings, data) = ([round; 0x1000], [round; 0x1000]);
    ram.write(0, &rings);
    ram.write(0x1_0000, &data);
    let (queue, _) = worker.join().expect("no assertion failed");
    assert_eq!(queue.in_flight(), 0);
    drop(queue);
    let (mut now, mut data_now) = ([0; 0x1000], [0; 0x1000]);
    ram.read(0, &mut now);
    ram.read(0x1_0000, &mut data_now);
    assert!(
        now == rings && data_now == data,
        "memory was touched after the reset"
    );
}

/// Publishes many requests at once, without waiting for them.
fn flood(driver: &mut FakeDriver<FlatMem>) {
    for _ in 0..8 {
        let head = driver.next_avail() % 8 * 2;
        let at = DATA + 0x40 * u64::from(head);
        let buffers = [
            Buffer::readable(at, 0x20),
            Buffer::writable(at + 0x20, 0x20),
        ];
        driver.write_chain(head, &buffers);
        driver.offer(head);
    }
    fence(Ordering::SeqCst);
    driver.publish();
}

#[test]
fn a_reset_under_load_completes_and_leaves_memory_alone() {
    let (mut engine, ram) = probe();
    for round in 1..=200u8 {
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        let queue = engine.take_queue(0).expect("a live queue");
        let worker = work(queue, ram, never_leaves());
        flood(&mut driver);
        for _ in 0..round {
            thread::yield_now();
        }
        let reply = engine.store(reg::STATUS, 0);
        complete(&mut engine, reply);
        assert_untouched(ram, round, worker);
        assert_eq!(engine.load(reg::STATUS), 0);
    }
}

#[test]
fn a_queue_stopped_under_load_leaves_memory_alone() {
    let (mut engine, ram) = probe();
    for round in 1..=200u8 {
        let mut driver = driver(ram, 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        let queue = engine.take_queue(0).expect("a live queue");
        let worker = work(queue, ram, never_leaves());
        flood(&mut driver);
        for _ in 0..round {
            thread::yield_now();
        }
        assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
        let reply = engine.store(reg::QUEUE_READY, 0);
        complete(&mut engine, reply);
        assert_untouched(ram, round, worker);
        assert_eq!(engine.load(reg::QUEUE_READY), 0);
    }
}

#[test]
fn kicks_from_another_thread_reach_the_owner() {
    let (mut engine, ram) = probe();
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    let mut queue = engine.take_queue(0).expect("a live queue");
    let shared = engine.device().shared().clone();
    // An owner that sleeps until it is kicked.
    let worker = thread::spawn(move || {
        let (mem, mut chain, mut served) = (mem(ram), Chain::new(), 0);
        while served < 100 {
            until(|| queue.was_kicked().then_some(()));
            while serve_one(&mut queue, &mem, &mut chain) == Ok(true) {
                served += 1;
            }
        }
        queue
    });
    let head = 0;
    for number in 0..100u32 {
        driver.write(DATA, &number.to_le_bytes());
        let buffers = [Buffer::readable(DATA, 4), Buffer::writable(DATA + 0x20, 4)];
        driver.write_chain(head, &buffers);
        driver.offer(head);
        fence(Ordering::SeqCst);
        driver.publish();
        // Kicks through the doorbell, as a VMM's ioeventfd would.
        shared.doorbell().ring(0);
        until(|| driver.take_used());
    }
    let queue = worker.join().expect("no assertion failed");
    assert!(engine.put_back(queue).is_ok());
}

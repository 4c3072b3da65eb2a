//! Taken queues: who may take them, and what a driver's reset waits for.

mod announced;
mod epochs;
mod owner;
mod remap;
mod served;
mod stale;
mod stress;
mod successor;
mod threads;
mod withheld;

use std::sync::Arc;

use virtside::{
    DriverMem, Features, FlatMem, Shared,
    device::{Stop, TakenQueue},
    mmio::{Reply, Ticket},
    queue::Chain,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    Line, N, Q, TestEngine, TestRam, config, driver,
    probe::{Probe, probe, publish},
    reg,
};

/// A taken queue.
type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

/// A live device with queues 0 and 1; queue 0 is taken.
struct Out {
    engine: TestEngine<Probe>,
    ram: TestRam,
    queue: Queue,
    driver: FakeDriver<FlatMem>,
    chain: Chain<N>,
}

fn out() -> Out {
    let (mut engine, ram) = probe();
    let driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    let queue = engine.take_queue(0).expect("a live queue");
    Out {
        engine,
        ram,
        queue,
        driver,
        chain: Chain::new(),
    }
}

/// That device with one chain of queue 0 in flight.
fn in_flight() -> Out {
    let mut out = out();
    publish(&mut out.driver, 0, b"in flight");
    assert_eq!(out.queue.pop(&mem(out.ram), &mut out.chain), Ok(true));
    assert_eq!(out.queue.in_flight(), 1);
    out
}

fn mem(ram: TestRam) -> FlatMem {
    ram.flat(virtside_tests::BASE)
}

/// Copies the request to the answer; returns its length.
fn echo<M: DriverMem>(mem: &M, chain: &Chain<N>) -> u32 {
    let (mut from, mut to) = (chain.readable(mem), chain.writable(mem));
    while let (Ok(Some(text)), Ok(Some(room))) = (from.view(u32::MAX), to.view(u32::MAX)) {
        let mut bytes = vec![0; text.len().min(room.len())];
        text.copy_to(&mut bytes);
        room.copy_from(&bytes);
        from.skip(bytes.len() as u32);
        to.commit(bytes.len() as u32);
    }
    to.written()
}

/// Serves one request of a taken queue, if there is one, and notifies the driver.
fn serve_one<M: DriverMem>(queue: &mut Queue, mem: &M, chain: &mut Chain<N>) -> Result<bool, Stop> {
    let found = queue.pop(mem, chain)?;
    if found {
        let written = echo(mem, chain);
        assert_eq!(queue.complete(chain, written), Ok(()));
        queue.flush();
    }
    Ok(found)
}

/// Resets the device as the driver, which has to wait.
#[track_caller]
fn reset_waits(engine: &mut TestEngine<Probe>) -> Ticket {
    waits(engine.store(reg::STATUS, 0))
}

/// Stops queue 0 as the driver, which has to wait.
#[track_caller]
fn stop_waits(engine: &mut TestEngine<Probe>) -> Ticket {
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    waits(engine.store(reg::QUEUE_READY, 0))
}

#[track_caller]
fn waits(reply: Reply) -> Ticket {
    match reply {
        Reply::Pending(ticket) => ticket,
        other => panic!("the driver was answered {other:?}"),
    }
}

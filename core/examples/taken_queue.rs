//! A queue that is taken from its device and served on another thread.
//!
//! `cargo run -p virtside --features testing --example taken_queue`

use std::{sync::Arc, thread};

use embedded_io::Write;
use virtside::{
    ChainSlot, Engine, Features, FlatMem, Shared,
    device::{Stop, TakenQueue},
    memory::Ram,
    models::Entropy,
    queue::Chain,
    testing::{Buffer, Registers, fake_queue},
    transport::Reply,
};

static RAM: Ram<8192> = Ram::new();

type Queue = TakenQueue<virtside::memory::PtrWindow, (), 1, 16, Arc<Shared<1>>>;

/// Serves the queue until the driver stops it. Uses no lock, and does not call the device.
fn work(mut queue: Queue, memory: FlatMem) -> u32 {
    let mut chain = Chain::new();
    let mut served = 0;
    loop {
        match queue.pop(&memory, &mut chain) {
            Ok(true) => {
                let mut answer = chain.writable(&memory);
                let bytes = [7; 32];
                let len = bytes.len().min(answer.remaining().try_into().unwrap_or(0));
                let _ = answer.write_all(bytes.get(..len).unwrap_or(&[]));
                let written = answer.written();
                if queue.complete(&chain, written).is_ok() {
                    served = u32::wrapping_add(served, 1);
                }
            }
            // No chain is available: notify the driver of the used chains, then wait for a kick.
            Ok(false) => {
                queue.flush();
                if queue.enable_kicks() == Ok(false) {
                    thread::yield_now();
                }
            }
            // One chain was rejected; the queue continues.
            Err(Stop::Rejected(_)) => {}
            // The driver stopped the queue or broke the protocol. Dropping the queue lets a reset
            // that waits for it complete.
            Err(_) => return served,
        }
    }
}

fn main() -> Result<(), virtside::Refusal> {
    let source = |bytes: &mut [u8]| Ok(bytes.len());
    let mut device: Engine<_, _, _, 1, 16, _, Arc<Shared<1>>> = Engine::new(
        Entropy::new(source),
        RAM.flat(0),
        (),
        [ChainSlot::new()],
        Arc::new(Shared::new()),
    );
    let mut driver = fake_queue(RAM.flat(0), 0, 8);
    assert!(device.bring_up(Features::VERSION_1, &[driver.config(0)]));

    let queue = device.take_queue(0)?;
    let worker = thread::spawn(|| work(queue, RAM.flat(0)));
    for head in 0..8 {
        driver.send(head, &[Buffer::writable(0x1000, 32)]);
        while driver.take_used().is_none() {
            thread::yield_now();
        }
    }

    // The driver resets the device. The write completes when the worker has dropped the queue.
    let mut reply = device.store(0x70, 0);
    while let Reply::Pending(ticket) = reply {
        thread::yield_now();
        reply = device.finish(ticket);
    }
    assert_eq!(worker.join().ok(), Some(8));
    println!("the worker served 8 chains");
    Ok(())
}

//! Interrupts for chains that were given back before a taken queue stops.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use virtside::{
    DriverNotify, Features,
    device::Stop,
    interrupt::BufferedNotify,
    models::Entropy,
    queue::Chain,
    testing::{Buffer, Registers},
};
use virtside_tests::{CountingSource, DATA, config, driver, test_engine};

#[test]
fn chains_returned_before_the_queue_is_put_back_interrupt() {
    let (mut engine, ram) = test_engine(Entropy::new(CountingSource::default()), 1);
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    driver.send(0, &[Buffer::writable(DATA, 8)]);
    let mut queue = engine.take_queue(0).expect("taken");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(engine.device().memory(), &mut chain), Ok(true));
    // The memory may change while a chain is in flight: the queue is asked to stop.
    assert!(!engine.memory_changed().is_done());
    assert_eq!(
        queue.pop(engine.device().memory(), &mut Chain::new()),
        Err(Stop::Asked)
    );
    assert_eq!(queue.complete(&chain, 8), Ok(()));
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(driver.take_used(), Some((0, 8)));
    assert_eq!(
        engine.device().notify().asserted(),
        1,
        "the driver waits for the interrupt"
    );
    assert!(engine.memory_changed().is_done());
}

#[test]
fn the_last_chain_given_back_stops_a_queue() {
    let (mut engine, ram) = test_engine(Entropy::new(CountingSource::default()), 1);
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    driver.send(0, &[Buffer::writable(DATA, 8)]);
    let mut queue = engine.take_queue(0).expect("taken");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(engine.device().memory(), &mut chain), Ok(true));
    assert!(queue.was_kicked(), "a taken queue has to be looked at");
    assert!(!engine.memory_changed().is_done());
    assert!(queue.was_kicked(), "a sleeping owner wakes");
    assert_eq!(
        queue.pop(engine.device().memory(), &mut Chain::new()),
        Err(Stop::Asked)
    );
    assert_eq!(queue.complete(&chain, 8), Ok(()));
    assert!(
        engine.memory_changed().is_done(),
        "without another call of its owner"
    );
}

/// A line with a level, and what another thread does just before its first rise.
#[derive(Default)]
struct Level {
    high: AtomicBool,
    meddled: AtomicBool,
    buffer: OnceLock<&'static BufferedNotify<&'static Self>>,
}

impl DriverNotify for Level {
    fn assert(&self) {
        if !self.meddled.swap(true, Ordering::SeqCst)
            && let Some(buffer) = self.buffer.get()
        {
            buffer.deassert();
        }
        self.high.store(true, Ordering::SeqCst);
    }
    fn deassert(&self) {
        self.high.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_buffered_line_acknowledged_during_a_flush_ends_low() {
    let line: &'static Level = Box::leak(Box::default());
    let buffer: &'static _ = Box::leak(Box::new(BufferedNotify::new(line)));
    assert!(line.buffer.set(buffer).is_ok());
    buffer.assert();
    buffer.flush();
    assert!(!line.high.load(Ordering::SeqCst), "nothing is pending");
    // The line continues to work.
    buffer.assert();
    assert!(!line.high.load(Ordering::SeqCst));
    buffer.flush();
    assert!(line.high.load(Ordering::SeqCst));
    buffer.flush();
    buffer.deassert();
    assert!(!line.high.load(Ordering::SeqCst));
}

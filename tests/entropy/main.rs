//! The entropy device: requests, limits, and sources that fail or wait.

use virtside::{
    Features, FlatMem, HostFault, Step,
    models::{Entropy, EntropyError, EntropySource},
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, CountingSource, DATA, SIZE, TestEngine, TestEntropy, TestRam, config, driver,
    engine_over, live_entropy, ram, reg,
    rings::{GuardedMem, settle},
    test_engine,
};

/// A live device that counts upwards and returns at most this many bytes per request.
fn limited(limit: u32) -> (TestEngine<TestEntropy>, FakeDriver<FlatMem>, TestRam) {
    let model = Entropy::new(CountingSource::default()).with_limit(limit);
    let (mut engine, ram) = test_engine(model, 4);
    assert!(engine.bring_up(Features::RING, &[config(0)]));
    (engine, driver(ram, 0), ram)
}

/// Sends a chain; returns the used length, if the chain came back.
fn ask<E: EntropySource>(
    engine: &mut TestEngine<Entropy<E>>,
    driver: &mut FakeDriver<FlatMem>,
    buffers: &[Buffer],
) -> Option<u32> {
    driver.send(0, buffers);
    let _ = engine.kick(0);
    settle(engine);
    driver.take_used().map(|(head, len)| {
        assert_eq!(head, 0);
        len
    })
}

fn bytes(driver: &FakeDriver<FlatMem>, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    driver.read(addr, &mut bytes);
    bytes
}

/// The bytes that the counting source returns, from this byte on.
fn counted(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at + 1) as u8).collect()
}

#[test]
fn it_has_type_4_one_queue_and_no_features_of_its_own() {
    let (mut engine, _) = test_engine(Entropy::new(CountingSource::default()), 1);
    assert_eq!(engine.load(reg::DEVICE_ID), 4);
    assert_eq!(engine.offered(), Features::ALL_RINGS);
    for (queue, size) in [(0, u32::from(SIZE)), (1, 0), (2, 0)] {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), size);
    }
    assert!(engine.negotiate(Features::VERSION_1));
    let access = virtside::mmio::Access::Read {
        offset: reg::CONFIG,
        width: 1,
    };
    assert!(
        engine.access(access).refusal().is_some(),
        "there is no configuration space"
    );
}

#[test]
fn a_buffer_is_filled_with_what_the_source_gives() {
    for len in [1, 2, 63, 64, 65, 128, 1000, 4096] {
        let (mut engine, mut driver, _) = live_entropy(Features::VERSION_1);
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, len)]),
            Some(len)
        );
        let len = len as usize;
        assert_eq!(bytes(&driver, DATA, len), counted(0, len));
        assert_eq!(
            bytes(&driver, DATA + len as u64, 8),
            [0; 8],
            "the rest is untouched"
        );
    }
}

#[test]
fn every_request_gets_new_bytes() {
    let (mut engine, mut driver, _) = live_entropy(Features::VERSION_1);
    for turn in 0..20 {
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 10)]),
            Some(10)
        );
        assert_eq!(bytes(&driver, DATA, 10), counted(10 * turn, 10));
    }
}

#[test]
fn several_segments_are_filled_in_order() {
    let (mut engine, mut driver, _) = live_entropy(Features::RING);
    let buffers = [
        Buffer::writable(DATA + 0x400, 3),
        Buffer::writable(0, 0),
        Buffer::writable(DATA, 100),
        Buffer::writable(DATA + 0x200, 70),
    ];
    assert_eq!(ask(&mut engine, &mut driver, &buffers), Some(173));
    assert_eq!(bytes(&driver, DATA + 0x400, 3), counted(0, 3));
    assert_eq!(bytes(&driver, DATA, 100), counted(3, 100));
    assert_eq!(bytes(&driver, DATA + 0x200, 70), counted(103, 70));
}

#[test]
fn a_long_buffer_is_filled_up_to_the_limit() {
    for limit in [1, 7, 64, 65, 200] {
        let (mut engine, mut driver, _) = limited(limit);
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 300)]),
            Some(limit)
        );
        let limit = limit as usize;
        assert_eq!(bytes(&driver, DATA, limit), counted(0, limit));
        assert_eq!(bytes(&driver, DATA + limit as u64, 8), [0; 8]);
        // A shorter buffer is filled completely.
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 1)]),
            Some(1)
        );
    }
}

#[test]
fn by_default_the_limit_is_4096_bytes() {
    let (mut engine, mut driver, _) = live_entropy(Features::VERSION_1);
    assert_eq!(
        ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 20_000)]),
        Some(4096)
    );
}

#[test]
fn a_limit_of_nothing_is_a_limit_of_one_byte() {
    let (mut engine, mut driver, _) = limited(0);
    assert_eq!(
        ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 9)]),
        Some(1)
    );
    assert_eq!(bytes(&driver, DATA, 2), [1, 0]);
}

#[test]
fn the_limit_may_end_within_any_segment() {
    let (mut engine, mut driver, _) = limited(5);
    let buffers = [Buffer::writable(DATA, 3), Buffer::writable(DATA + 64, 3)];
    assert_eq!(ask(&mut engine, &mut driver, &buffers), Some(5));
    assert_eq!(bytes(&driver, DATA + 64, 3), [4, 5, 0]);
}

#[test]
fn a_request_without_room_is_given_back_empty() {
    let (mut engine, mut driver, _) = live_entropy(Features::VERSION_1);
    for buffers in [
        vec![Buffer::readable(DATA, 8)],
        vec![Buffer::writable(DATA, 0)],
        vec![Buffer::readable(DATA, 0), Buffer::writable(0, 0)],
    ] {
        assert_eq!(ask(&mut engine, &mut driver, &buffers), Some(0));
    }
    assert_eq!(engine.take_host_fault(), None);
}

#[test]
fn a_readable_part_is_ignored() {
    let (mut engine, mut driver, _) = live_entropy(Features::VERSION_1);
    driver.write(DATA, &[0x55; 8]);
    let buffers = [Buffer::readable(DATA, 8), Buffer::writable(DATA + 64, 6)];
    assert_eq!(ask(&mut engine, &mut driver, &buffers), Some(6));
    assert_eq!(bytes(&driver, DATA, 8), [0x55; 8]);
    assert_eq!(bytes(&driver, DATA + 64, 6), counted(0, 6));
}

#[test]
fn many_requests_are_served_in_one_batch() {
    let (mut engine, mut driver, _) = live_entropy(Features::RING);
    for head in 0..SIZE {
        let buffer = Buffer::writable(DATA + 16 * u64::from(head), 16);
        driver.write_chain(head, &[buffer]);
        driver.offer(head);
    }
    driver.publish();
    let _ = engine.kick(0);
    assert_eq!(settle(&mut engine), Step::Idle);
    assert_eq!(driver.used_idx(), SIZE);
    assert_eq!(bytes(&driver, DATA, 256), counted(0, 256));
}

/// A source that follows a script of byte counts and errors.
#[derive(Debug)]
struct Scripted(Vec<Result<usize, EntropyError>>);

impl EntropySource for Scripted {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        bytes.fill(0xcc);
        if self.0.is_empty() {
            Ok(bytes.len())
        } else {
            self.0.remove(0)
        }
    }
}

fn scripted(
    script: Vec<Result<usize, EntropyError>>,
) -> (TestEngine<Entropy<Scripted>>, FakeDriver<FlatMem>) {
    let (mut engine, ram) = test_engine(Entropy::new(Scripted(script)), 4);
    assert!(engine.bring_up(Features::RING, &[config(0)]));
    (engine, driver(ram, 0))
}

#[test]
fn a_slow_source_is_asked_until_the_buffer_is_full() {
    let (mut engine, mut driver) = scripted(vec![Ok(1), Ok(2), Ok(64)]);
    assert_eq!(
        ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 100)]),
        Some(100)
    );
    assert_eq!(
        bytes(&driver, DATA, 101),
        [vec![0xcc; 100], vec![0]].concat()
    );
}

#[test]
fn a_request_waits_while_the_source_has_nothing() {
    for (trouble, fault) in [
        (Err(EntropyError::NotReady), None),
        (Err(EntropyError::Failed), Some(HostFault::Backend)),
        // A source must return at least one byte or an error.
        (Ok(0), Some(HostFault::Backend)),
    ] {
        let (mut engine, mut driver) = scripted(vec![trouble, trouble]);
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 5)]),
            None
        );
        assert_eq!(engine.poll(9), Step::Blocked);
        assert_eq!(engine.take_host_fault(), fault);
        assert_eq!(bytes(&driver, DATA, 5), [0; 5], "nothing was written");
        assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
        // The source still has nothing.
        engine.backend_ready(0);
        assert_eq!(settle(&mut engine), Step::Blocked);
        assert_eq!(
            (driver.take_used(), engine.take_host_fault()),
            (None, fault)
        );
        // The source has bytes now.
        engine.backend_ready(0);
        assert_eq!(settle(&mut engine), Step::Idle);
        assert_eq!(driver.take_used(), Some((0, 5)));
        assert_eq!(bytes(&driver, DATA, 5), [0xcc; 5]);
        assert_eq!(
            (engine.load(reg::INTERRUPT_STATUS), engine.take_host_fault()),
            (1, None)
        );
    }
}

#[test]
fn a_partly_filled_buffer_is_an_answer() {
    for (trouble, fault) in [
        (Err(EntropyError::NotReady), None),
        (Err(EntropyError::Failed), Some(HostFault::Backend)),
        (Ok(0), Some(HostFault::Backend)),
    ] {
        let (mut engine, mut driver) = scripted(vec![Ok(3), trouble]);
        assert_eq!(
            ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 5)]),
            Some(3)
        );
        assert_eq!(engine.take_host_fault(), fault);
        assert_eq!(bytes(&driver, DATA, 5), [0xcc, 0xcc, 0xcc, 0, 0]);
    }
}

#[test]
fn requests_that_wait_do_not_overtake_each_other() {
    let waits = vec![Err(EntropyError::NotReady); 3];
    let (mut engine, mut driver) = scripted(waits);
    for head in 0..3 {
        let buffer = Buffer::writable(DATA + 16 * u64::from(head), 1 + u32::from(head));
        driver.write_chain(head, &[buffer]);
        driver.offer(head);
    }
    driver.publish();
    let _ = engine.kick(0);
    assert_eq!(settle(&mut engine), Step::Blocked);
    engine.backend_ready(0);
    assert_eq!(settle(&mut engine), Step::Idle);
    for head in 0..3 {
        assert_eq!(driver.take_used(), Some((head, head + 1)));
    }
}

#[test]
fn a_source_that_claims_too_much_is_a_host_fault() {
    let (mut engine, mut driver) = scripted(vec![Ok(1000)]);
    assert_eq!(
        ask(&mut engine, &mut driver, &[Buffer::writable(DATA, 5)]),
        Some(5)
    );
    assert_eq!(bytes(&driver, DATA, 6), [0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0]);
}

#[test]
fn unmapped_memory_ends_the_request_early() {
    let ram = ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let source = Scripted(vec![Err(EntropyError::NotReady)]);
    let mut engine = engine_over(Entropy::new(source), mem, 4);
    assert!(engine.bring_up(Features::RING, &[config(0)]));
    let mut driver = driver(ram, 0);
    driver.send(
        0,
        &[
            Buffer::writable(DATA, 10),
            Buffer::writable(DATA + 0x1000, 10),
        ],
    );
    let _ = engine.kick(0);
    assert_eq!(settle(&mut engine), Step::Blocked);
    engine.memory_mut().deny(DATA + 0x1000, 16);
    assert!(engine.memory_changed().is_done());
    engine.backend_ready(0);
    assert_eq!(settle(&mut engine), Step::Idle);
    assert_eq!(driver.take_used(), Some((0, 10)));
    let fault = HostFault::MemoryGone {
        addr: DATA + 0x1000,
    };
    assert_eq!(engine.take_host_fault(), Some(fault));
}

//! Devices with one queue, and with several through MQ.

use virtio_spec::blk::F;
use virtside::{
    Features, Refusal, Step,
    device::QueueState,
    mmio::{Access, Reply},
    models::{Block, BlockError, BlockOptions},
    testing::{Buffer, Registers},
};
use virtside_tests::{
    DATA, Q, SIZE, TestEngine, TestRam, config, driver, models::blk::*, reg, rings::settle,
    test_engine,
};

fn device(queues: u16) -> (TestEngine<Block<Disk>>, TestRam) {
    let options = BlockOptions::new(SIZE).with_queues(queues);
    test_engine(Block::new(Disk::new(), options), 2)
}

/// QueueSizeMax of each possible queue.
fn sizes(engine: &mut TestEngine<Block<Disk>>) -> Vec<u32> {
    let size = |queue| {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        engine.load(reg::QUEUE_SIZE_MAX)
    };
    (0..=Q as u32).map(size).collect()
}

#[test]
fn a_device_with_one_queue_has_one_queue() {
    let (mut engine, _) = device(1);
    assert_eq!(sizes(&mut engine), [16, 0, 0, 0, 0]);
    assert!(engine.negotiate(Features::from_bits(0) | all()));
    assert_eq!(sizes(&mut engine), [16, 0, 0, 0, 0]);
}

#[test]
fn with_mq_the_driver_gets_all_queues() {
    let (mut engine, _) = device(3);
    assert!(engine.negotiate(all() | feature(F::MQ)));
    assert_eq!(sizes(&mut engine), [16, 16, 16, 0, 0]);
}

#[test]
fn without_mq_the_driver_gets_one_queue() {
    let (mut engine, _) = device(3);
    assert!(engine.negotiate(all()));
    assert_eq!(sizes(&mut engine), [16, 0, 0, 0, 0]);
    let refusal = Refusal::NoSuchQueue { queue: 1 };
    assert_eq!(engine.configure(&config(1)), Reply::Refused(refusal));
}

#[test]
fn a_reset_undoes_the_choice_of_mq() {
    let (mut engine, _) = device(3);
    assert!(engine.negotiate(all()));
    let _ = engine.store(reg::STATUS, 0);
    assert_eq!(sizes(&mut engine), [16, 16, 16, 0, 0]);
    assert!(engine.negotiate(all() | feature(F::MQ)));
    assert_eq!(sizes(&mut engine), [16, 16, 16, 0, 0]);
}

#[test]
fn every_queue_serves_requests() {
    let (mut engine, ram) = device(3);
    let configs = [config(0), config(1), config(2)];
    assert!(engine.bring_up(all() | feature(F::MQ), &configs));
    let mut drivers: Vec<_> = (0..3).map(|queue| driver(ram, queue)).collect();
    for (queue, driver) in drivers.iter_mut().enumerate() {
        let at = DATA + 0x1000 * queue as u64;
        driver.write(at, &[0; 8]);
        driver.write(at + 8, &(10 + queue as u64).to_le_bytes());
        driver.send(
            queue as u16,
            &[
                Buffer::readable(at, 16),
                Buffer::writable(at + 0x200, 512),
                Buffer::writable(at + 0x800, 1),
            ],
        );
        let _ = engine.kick(queue as u16);
    }
    assert_eq!(settle(&mut engine), Step::Idle);
    for (queue, driver) in drivers.iter_mut().enumerate() {
        assert_eq!(driver.take_used(), Some((queue as u32, 513)));
        let mut bytes = [0; 512];
        driver.read(DATA + 0x1000 * queue as u64 + 0x200, &mut bytes);
        assert_eq!(bytes, [10 + queue as u8; 512]);
    }
}

#[test]
fn requests_of_one_queue_that_wait_leave_slots_for_the_others() {
    let options = BlockOptions::new(SIZE).with_queues(3);
    let (mut engine, ram) = test_engine(Block::new(Disk::new(), options), 6);
    let configs = [config(0), config(1), config(2)];
    assert!(engine.bring_up(all() | feature(F::MQ), &configs));
    let mut drivers: Vec<_> = (0..3).map(|queue| driver(ram, queue)).collect();
    let mut flush = |engine: &mut TestEngine<Block<Disk>>, queue: u16, head: u16| {
        let driver = &mut drivers[usize::from(queue)];
        driver.write(DATA, &[4, 0, 0, 0]);
        let buffers = [Buffer::readable(DATA, 16), Buffer::writable(DATA + 64, 1)];
        driver.send(head, &buffers);
        let _ = engine.kick(queue);
        let step = settle(engine);
        (step, driver.take_used())
    };
    engine.model_mut().backend_mut().trouble = vec![Some(BlockError::NotReady); 6];
    for head in 0..6 {
        assert_eq!(flush(&mut engine, 0, 2 * head), (Step::Blocked, None));
    }
    // Most slots go to the only queue with work.
    assert_eq!(engine.model().backend().calls, [Call::Flush; 4]);
    engine.model_mut().backend_mut().trouble.clear();
    for queue in [1, 2] {
        assert_eq!(flush(&mut engine, queue, 0).1, Some((0, 1)));
    }
}

#[test]
fn with_mq_not_all_queues_need_be_used() {
    let (mut engine, ram) = device(3);
    assert!(engine.bring_up(all() | feature(F::MQ), &[config(1)]));
    let mut driver = driver(ram, 1);
    driver.write(DATA, &[4, 0, 0, 0]);
    driver.send(
        0,
        &[Buffer::readable(DATA, 16), Buffer::writable(DATA + 64, 1)],
    );
    let _ = engine.kick(1);
    settle(&mut engine);
    assert_eq!(driver.take_used(), Some((0, 1)));
}

/// A driver may lay queues out before it negotiates. Queues that negotiation hides do not go live.
#[test]
fn a_queue_laid_out_before_mq_was_declined_does_not_go_live() {
    for features_first in [false, true] {
        let (mut engine, _) = device(3);
        let _ = engine.store(reg::STATUS, 3);
        let write_features = |engine: &mut TestEngine<Block<Disk>>| {
            for word in 0..2 {
                let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
                let _ = engine.store(reg::DRIVER_FEATURES, Features::VERSION_1.word(word));
            }
        };
        if features_first {
            write_features(&mut engine);
        }
        assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        assert_eq!(
            engine.configure(&config(1)),
            Reply::Done(0),
            "every queue still exists"
        );
        write_features(&mut engine);
        let _ = engine.store(reg::STATUS, 0xb);
        assert_eq!(engine.load(reg::STATUS), 0xb);
        assert!(
            engine.go_live().refusal().is_some(),
            "features first: {features_first}"
        );
        assert_eq!(
            engine.load(reg::STATUS),
            0x4f,
            "DRIVER_OK and DEVICE_NEEDS_RESET are both set"
        );
        assert_ne!(engine.queue_state(1), QueueState::Live);
        settle(&mut engine);
        assert_ne!(engine.queue_state(1), QueueState::Live);
    }
}

#[test]
fn queues_are_as_large_as_the_options_say() {
    for size in [1, 2, 8, 16, 1024] {
        let (mut engine, _) = test_engine(Block::new(Disk::new(), BlockOptions::new(size)), 1);
        let _ = engine.store(reg::QUEUE_SEL, 0);
        // The engine has room for 16 elements per queue.
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), u32::from(size.min(16)));
    }
}

#[test]
fn the_engines_capacity_limits_what_is_announced() {
    let options = BlockOptions::new(1024).with_queues(99);
    let (mut engine, _) = test_engine(Block::new(Disk::new(), options), 1);
    assert_eq!(sizes(&mut engine), [16, 16, 16, 16, 0]);
    assert!(engine.negotiate(all() | feature(F::MQ)));
    assert_eq!(sizes(&mut engine), [16, 16, 16, 16, 0]);
    // The first number is num_queues. The second is seg_max: a queue of 16 minus header and status.
    let (queues, segments) = (
        Access::Read {
            offset: 0x122,
            width: 2,
        },
        Access::read(0x10c),
    );
    assert_eq!(engine.access(queues), Reply::Done(4));
    assert_eq!(engine.access(segments), Reply::Done(14));
}

//! QueueSel: which queue the queue registers refer to, and the order in which queues are set up.

use virtside::{
    Features, QueueConfig, Refusal,
    device::QueueState,
    mmio::Reply,
    testing::{FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, TestEngine, TestRam, config, driver,
    probe::{Probe, assert_works, probe, ready, seen},
    reg,
};

use crate::assert_accepted;

fn setting_up() -> (TestEngine<Probe>, TestRam) {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    (engine, ram)
}

/// The layout of a queue in these tests: queue 2 has at most 8 elements.
fn small(queue: u16) -> QueueConfig {
    Layout::packed_at(BASE + 0x1000 * u64::from(queue), 8).config(queue)
}

#[test]
fn every_queue_has_registers_of_its_own() {
    let (mut engine, _) = setting_up();
    // One parameter of each queue in turn, which no driver does.
    for (offset, pick) in [
        (
            reg::QUEUE_SIZE,
            (|config| u64::from(config.size)) as fn(QueueConfig) -> u64,
        ),
        (reg::QUEUE_DESC_LOW, |config| config.desc),
        (reg::QUEUE_DESC_HIGH, |config| config.desc >> 32),
        (reg::QUEUE_DRIVER_LOW, |config| config.driver),
        (reg::QUEUE_DRIVER_HIGH, |config| config.driver >> 32),
        (reg::QUEUE_DEVICE_LOW, |config| config.device),
        (reg::QUEUE_DEVICE_HIGH, |config| config.device >> 32),
    ] {
        for queue in [2, 0, 1] {
            assert_eq!(engine.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
            let value = pick(small(queue)) as u32;
            assert_eq!(engine.store(offset, value), Reply::Done(0));
        }
    }
    for queue in [1, 2, 0] {
        assert_eq!(engine.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
        assert_eq!(engine.load(reg::QUEUE_READY), 0);
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
        assert_eq!(engine.queue_config(queue), Some(&small(queue)));
    }
}

#[test]
fn ready_and_maximum_are_those_of_the_selected_queue() {
    let (mut engine, _) = setting_up();
    assert_accepted(&mut engine, &small(1));
    for (queue, maximum, is_ready) in [
        (0, 16, 0),
        (1, 16, 1),
        (2, 8, 0),
        (3, 0, 0),
        (4, 0, 0),
        (0xffff, 0, 0),
        (0x1_0001, 0, 0),
        (u32::MAX, 0, 0),
        (1, 16, 1),
    ] {
        assert_eq!(engine.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), maximum, "{queue:#x}");
        assert_eq!(engine.load(reg::QUEUE_READY), is_ready, "{queue:#x}");
    }
}

#[test]
fn stopping_one_queue_leaves_the_others() {
    let (mut engine, ram) = setting_up();
    for queue in [0, 1] {
        assert_accepted(&mut engine, &config(queue));
    }
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!((ready(&mut engine, 0), ready(&mut engine, 1)), (0, 1));
    let mut driver = driver(ram, 1);
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert_works(&mut engine, &mut driver, 1);
}

#[test]
fn queues_may_be_made_ready_in_any_order_and_some_never() {
    let orders: [&[u16]; 16] = [
        &[],
        &[0],
        &[1],
        &[2],
        &[0, 1],
        &[1, 0],
        &[0, 2],
        &[2, 0],
        &[1, 2],
        &[2, 1],
        &[0, 1, 2],
        &[0, 2, 1],
        &[1, 0, 2],
        &[1, 2, 0],
        &[2, 0, 1],
        &[2, 1, 0],
    ];
    for order in orders {
        let (mut engine, ram) = setting_up();
        for &queue in order {
            assert_accepted(&mut engine, &small(queue));
        }
        assert_eq!(engine.go_live(), Reply::Done(0));
        for queue in 0..3 {
            let layout = Layout::packed_at(BASE + 0x1000 * u64::from(queue), 8);
            let mut driver = FakeDriver::new(ram.flat(BASE), layout);
            if order.contains(&queue) {
                assert_works(&mut engine, &mut driver, queue);
            } else {
                assert_eq!(engine.queue_state(queue), QueueState::Off);
                let refusal = Refusal::QueueNotReady { queue };
                assert_eq!(engine.kick(queue), Reply::Refused(refusal));
            }
        }
        assert_eq!(engine.configured_queues().count(), order.len());
    }
}

#[test]
fn reading_and_selecting_changes_nothing() {
    let (mut engine, _) = setting_up();
    assert_accepted(&mut engine, &config(0));
    let before = seen(&engine);
    for queue in [0, 1, 2, 3, 4, 77, u32::MAX] {
        assert_eq!(engine.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        engine.load(reg::QUEUE_SIZE_MAX);
        engine.load(reg::QUEUE_READY);
        assert_eq!(seen(&engine), before);
    }
}

#[test]
fn a_reset_clears_every_parameter() {
    let (mut engine, _) = setting_up();
    assert_accepted(&mut engine, &config(0));
    engine.lay_out(&config(1));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    for queue in [0, 1] {
        assert_eq!(ready(&mut engine, queue), 0);
        // Made ready without a written parameter, the queue has size 0.
        let refusal = Refusal::QueueSize {
            queue,
            size: 0,
            max: 16,
        };
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Refused(refusal));
    }
}

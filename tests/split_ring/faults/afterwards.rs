//! A queue after its driver violated the protocol.

use super::*;
use virtside_tests::reg;

/// A queue that failed because of a loop, with a chain pending.
fn failed_rig() -> RecordingRig {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write_desc(0, (DATA, 4), NEXT, 0);
    rig.driver.offer(0);
    rig.driver.publish();
    rig.kick();
    assert_eq!(rig.fault(), Some(DriverFault::ChainTooLong { head: 0 }));
    rig
}

#[test]
fn the_queue_stops_and_the_device_needs_a_reset() {
    let mut rig = failed_rig();
    assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
    assert!(
        rig.engine
            .status()
            .contains(DeviceStatus::DEVICE_NEEDS_RESET)
    );
    assert!(rig.engine.status().contains(DeviceStatus::DRIVER_OK));
    assert_eq!(rig.engine.model().stopped, [0]);
}

#[test]
fn there_is_exactly_one_configuration_interrupt() {
    let mut rig = failed_rig();
    assert_eq!(rig.interrupts(), 1);
    assert_eq!(rig.acknowledge(), InterruptStatus::CONFIG_CHANGE);
    for _ in 0..3 {
        rig.driver.offer(0);
        rig.driver.publish();
        assert_eq!(rig.kick(), Step::Idle);
    }
    assert_eq!(
        (rig.interrupts(), rig.acknowledge()),
        (1, InterruptStatus::empty())
    );
}

#[test]
fn a_second_failed_queue_gives_no_second_interrupt() {
    let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(0)), 2);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    for queue in [0, 1] {
        driver(ram, queue).set_avail_idx(99);
        let _ = engine.kick(queue);
        settle(&mut engine);
        let fault = DriverFault::AvailIndexJump { idx: 99, next: 0 };
        assert_eq!(engine.driver_fault(queue), Some(fault));
    }
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn nothing_is_written_and_nothing_read_any_more() {
    let mut rig = failed_rig();
    let before = rig.shot();
    rig.driver.set_avail_idx(0);
    let mut ring = rig.driver.clone();
    ring.set_next(0, 0);
    ring.send(3, &[Buffer::writable(DATA, 64)]);
    let after = rig.shot();
    assert_ne!(before, after);
    rig.kick();
    rig.engine.backend_ready(0);
    rig.poll();
    assert!(rig.engine.memory_changed().is_done());
    assert_eq!(
        rig.engine.notify_queue(0),
        Err(virtside::error::DeviceError::InvalidQueue(0))
    );
    rig.poll();
    assert_eq!(rig.shot(), after);
    assert!(rig.engine.model().seen.is_empty());
}

#[test]
fn other_queues_continue() {
    let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(7)), 2);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(Features::VERSION_1, &configs));
    let mut drivers: Vec<_> = (0..Q as u16).map(|queue| driver(ram, queue)).collect();
    // All chains at once: the failed queue is served between the others.
    for (queue, driver) in drivers.iter_mut().enumerate() {
        let head = if queue == 1 { 77 } else { 2 };
        driver.write_chain(2, &[Buffer::writable(DATA, 3)]);
        driver.offer(head);
        driver.publish();
        let _ = engine.kick(queue as u16);
    }
    assert_eq!(settle(&mut engine), Step::Idle);
    assert_eq!(
        engine.driver_fault(1),
        Some(DriverFault::HeadOutOfRange { head: 77 })
    );
    for queue in [0, 2, 3] {
        assert_eq!(engine.driver_fault(queue), None);
        let driver = &mut drivers[usize::from(queue)];
        assert_eq!(driver.take_used(), Some((2, 3)));
        driver.send(4, &[Buffer::writable(DATA, 5)]);
        assert_eq!(engine.kick(queue), Reply::Done(0));
        settle(&mut engine);
        assert_eq!(
            driver.take_used(),
            Some((4, 5)),
            "queue {queue} still works"
        );
    }
}

#[test]
fn chains_given_back_before_the_fault_interrupt() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write_chain(0, &[Buffer::writable(DATA, 3)]);
    rig.driver.offer(0);
    rig.driver.offer(99);
    rig.driver.publish();
    rig.kick();
    assert_eq!(rig.fault(), Some(DriverFault::HeadOutOfRange { head: 99 }));
    assert_eq!(rig.driver.take_used(), Some((0, 3)));
    // The driver asked for an interrupt for every used chain (split-usedsup-03), so also for this
    // one.
    assert_eq!(rig.acknowledge(), InterruptStatus::all());
}

#[test]
fn chains_in_flight_are_abandoned() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.engine.model_mut().plan = Plan::Wait;
    rig.driver.send(0, &[Buffer::writable(DATA, 3)]);
    rig.kick();
    let token = rig.last().token;
    rig.driver.offer(99);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    rig.engine.model_mut().plan = Plan::Fill(1);
    let before = rig.shot();
    assert_eq!(
        rig.engine.complete(token),
        Err(virtside::Refusal::StaleToken)
    );
    rig.engine.backend_ready(0);
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(rig.shot(), before);
}

#[test]
fn a_fault_that_the_model_finds_stops_the_queue_too() {
    let mut rig = RecordingRig::new(Features::empty());
    let fault = DriverFault::BadRequest { head: 6 };
    rig.engine.model_mut().plan = Plan::Blame(fault);
    rig.driver.send(6, &[Buffer::writable(DATA, 3)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!((rig.fault(), rig.driver.used_idx()), (Some(fault), 0));
    assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
    assert_eq!(
        (rig.interrupts(), rig.acknowledge()),
        (1, InterruptStatus::CONFIG_CHANGE)
    );
}

#[test]
fn a_queue_stopped_by_the_driver_after_the_fault_stays_unusable() {
    let mut rig = failed_rig();
    let _ = rig.engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(rig.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(rig.engine.load(reg::QUEUE_READY), 0);
    assert!(rig.engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    assert!(
        rig.engine
            .status()
            .contains(DeviceStatus::DEVICE_NEEDS_RESET)
    );
    let before = shot(rig.ram);
    rig.kick();
    assert_eq!(shot(rig.ram), before);
}

#[test]
fn a_reset_cures_it() {
    let mut rig = failed_rig();
    assert_eq!(rig.engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(rig.engine.phase(), Phase::Reset);
    assert_eq!(
        (rig.engine.status(), rig.fault()),
        (DeviceStatus::empty(), None)
    );
    rig.restart(Features::EVENT_IDX);
    rig.driver.send(0, &[Buffer::writable(DATA, 3)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((0, 3)));
    assert_eq!(rig.engine.status().bits(), 0xf);
    // A new fault sends a new interrupt.
    let _ = rig.acknowledge();
    let before = rig.interrupts();
    rig.driver.set_avail_idx(0x4000);
    rig.kick();
    assert_eq!(rig.interrupts(), before + 1);
    assert_eq!(rig.acknowledge(), InterruptStatus::CONFIG_CHANGE);
}

#[test]
fn after_a_reset_rings_of_a_failed_queue_may_be_used() {
    let mut rig = failed_rig();
    let layout = Layout::packed_at(BASE + 64, 4);
    assert!(
        rig.engine
            .bring_up(Features::VERSION_1, &[layout.config(0)])
    );
    let mut other = virtside::testing::FakeDriver::new(rig.ram.flat(BASE), layout);
    other.send(3, &[Buffer::writable(DATA, 8)]);
    rig.kick();
    assert_eq!(other.take_used(), Some((3, 8)));
}

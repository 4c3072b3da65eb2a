//! QueueNotify: which values are accepted, and what a kick does.

use virtside::{
    Features, Refusal, Step,
    mmio::Reply,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, DATA, TestEngine, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg,
};

/// A live device with queues 0 and 1, which both wait for a kick.
fn live(features: Features) -> (TestEngine<Probe>, [FakeDriver<virtside::FlatMem>; 2]) {
    let (mut engine, ram) = probe();
    let drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    (engine, drivers)
}

#[test]
fn the_value_is_the_number_of_the_queue() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        publish(driver, queue, b"x");
    }
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert!(
        engine
            .model()
            .log
            .iter()
            .all(|event| !matches!(event, Event::Served(_)))
    );
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((drivers[0].used_idx(), drivers[1].used_idx()), (0, 1));
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((drivers[0].used_idx(), drivers[1].used_idx()), (1, 1));
}

#[test]
fn a_kick_is_only_noted_until_the_device_is_polled() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[0], 0, b"x");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.model().count(Event::Served(0)), 0);
    assert_eq!(drivers[0].used_idx(), 0);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(drivers[0].used_idx(), 1);
}

#[test]
fn a_queue_that_does_not_exist_is_refused_in_full_width() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[0], 0, b"x");
    let before = seen(&engine);
    // The low half of some of these values is a queue's number; NOTIFICATION_DATA would accept
    // them.
    for queue in [4, 5, 0xffff, 0x1_0000, 0x1_0001, 0x8000_0000, u32::MAX] {
        let refusal = Refusal::NoSuchQueue { queue };
        assert_eq!(
            engine.store(reg::QUEUE_NOTIFY, queue),
            Reply::Refused(refusal)
        );
        assert!(
            engine.device().shared().doorbell().is_silent(),
            "{queue:#x}"
        );
    }
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(seen(&engine), before);
}

#[test]
fn a_queue_that_was_never_made_ready_is_refused() {
    let (mut engine, _) = live(Features::VERSION_1);
    for queue in [2, 3] {
        let refusal = Refusal::QueueNotReady { queue };
        assert_eq!(engine.kick(queue), Reply::Refused(refusal));
    }
    assert!(engine.device().shared().doorbell().is_silent());
}

#[test]
fn a_queue_that_was_stopped_is_refused() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[0], 0, b"x");
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    let refusal = Refusal::QueueNotReady { queue: 0 };
    assert_eq!(engine.kick(0), Reply::Refused(refusal));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(drivers[0].used_idx(), 0);
}

#[test]
fn a_kick_before_its_queue_stopped_has_no_effect() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[0], 0, b"x");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((drivers[0].used_idx(), pending(&mut engine)), (0, 0));
    assert_eq!(engine.model().count(Event::Served(0)), 0);
}

#[test]
fn kicks_without_new_buffers_do_nothing_however_often_they_come() {
    for features in [Features::VERSION_1, Features::RING] {
        let (mut engine, mut drivers) = live(features);
        assert_works(&mut engine, &mut drivers[0], 0);
        let before = seen(&engine);
        for _ in 0..100 {
            assert_eq!(engine.kick(0), Reply::Done(0));
            assert_eq!(engine.kick(0), Reply::Done(0));
            assert_eq!(engine.poll(BUDGET), Step::Idle);
        }
        assert_eq!(seen(&engine), before);
        assert_eq!(drivers[0].used_idx(), 1);
        drivers[0].set_used_event(1);
        assert_works(&mut engine, &mut drivers[0], 0);
    }
}

#[test]
fn a_suppressed_kick_is_handled_as_any_other() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    for text in [b"one", b"two"] {
        publish(&mut drivers[0], 0, text);
    }
    assert_eq!(engine.kick(0), Reply::Done(0));
    // The budget is too small: the device will poll the queue again without a kick, and suppresses
    // kicks.
    assert_eq!(engine.poll(1), Step::More);
    assert_eq!(drivers[0].used_flags(), 1);
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut drivers[0], 0).as_deref(), Some(&b"one"[..]));
    assert_eq!(answer(&mut drivers[0], 0).as_deref(), Some(&b"two"[..]));
    assert_eq!(answer(&mut drivers[0], 0), None);
    assert_eq!(drivers[0].used_flags(), 0, "kicks are wanted again");
}

#[test]
fn one_kick_serves_all_that_was_published_in_one_step() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    for text in [b"a", b"b", b"c", b"d"] {
        publish(&mut drivers[0], 0, text);
    }
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(drivers[0].used_idx(), 4);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn free_descriptors_may_be_reused_in_any_order() {
    let (mut engine, mut drivers) = live(Features::VERSION_1);
    let driver = &mut drivers[0];
    driver.write(DATA, b"text");
    let heads = [7, 3, 15, 0, 3, 3, 14, 0, 7, 1, 15, 2, 8, 8, 0, 5, 4, 3];
    // One by one at first, then three chains for each kick.
    for batch in heads[..12].chunks(1).chain(heads[12..].chunks(3)) {
        let mut batch = batch.to_vec();
        batch.dedup();
        for &head in &batch {
            // Each chain's descriptors are not next to each other.
            let last = (head + 9) % 16;
            let answer = DATA + 0x100 + 0x10 * u64::from(head);
            driver.write_desc(head, (DATA, 4), 1, last);
            driver.write_desc(last, (answer, 4), 2, 0);
            driver.offer(head);
        }
        driver.publish();
        assert_eq!(engine.kick(0), Reply::Done(0));
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        for head in batch {
            assert_eq!(driver.take_used(), Some((head.into(), 4)));
            let mut answer = [0; 4];
            driver.read(DATA + 0x100 + 0x10 * u64::from(head), &mut answer);
            assert_eq!(&answer, b"text");
            driver.write(DATA + 0x100 + 0x10 * u64::from(head), &[0; 4]);
        }
    }
    // Also with `Buffer`s, over descriptors that were just used in chains.
    driver.send(
        9,
        &[Buffer::readable(DATA, 4), Buffer::writable(DATA + 0x80, 4)],
    );
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.take_used(), Some((9, 4)));
}

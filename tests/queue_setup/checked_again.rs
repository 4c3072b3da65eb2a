//! Every ready queue is checked again at DRIVER_OK, with the final features and queues.

use virtside::{Features, QueueConfig, Refusal, mmio::Reply, testing::Registers};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Event, Probe, assert_works, pending, probe, publish},
    reg,
    status::NEEDS_RESET,
};

use crate::assert_accepted;

/// A driver that has accepted these features, but has not written FEATURES_OK.
fn negotiating(features: Features) -> (TestEngine<Probe>, TestRam) {
    let (mut engine, ram) = probe();
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    accept(&mut engine, features);
    (engine, ram)
}

fn accept(engine: &mut TestEngine<Probe>, features: Features) {
    for word in 0..2 {
        assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, word), Reply::Done(0));
        let reply = engine.store(reg::DRIVER_FEATURES, features.word(word));
        assert_eq!(reply, Reply::Done(0));
    }
}

/// Continues to DRIVER_OK, which fails because of a queue that is no longer valid.
#[track_caller]
fn assert_driver_ok_fails(engine: &mut TestEngine<Probe>, ram: TestRam, why: Refusal) {
    let mut early = driver(ram, 0);
    publish(&mut early, 0, b"never served");
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(
        engine.store(reg::STATUS, 15),
        Reply::Refused(Refusal::NotReady)
    );
    assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    assert_eq!(pending(engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    engine.poll(BUDGET);
    assert_eq!(engine.model().count(Event::Served(0)), 0);
    assert_eq!(engine.transport().last_refusal(), Some(why));
}

#[test]
fn a_queue_that_fits_is_ready_whenever_it_was_set_up() {
    for phase in [0, 3] {
        let (mut engine, ram) = probe();
        if phase != 0 {
            assert_eq!(engine.store(reg::STATUS, phase), Reply::Done(0));
        }
        assert_accepted(&mut engine, &config(0));
        accept(&mut engine, Features::RING);
        assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
        assert_accepted(&mut engine, &config(1));
        assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
        for queue in [0, 1] {
            let mut driver = driver(ram, queue);
            driver.set_used_event(0);
            assert_works(&mut engine, &mut driver, queue);
            // The queue uses the negotiated features, not those that were known at QueueReady.
            assert_eq!(driver.avail_event(), 1);
        }
    }
}

#[test]
fn a_queue_that_needs_a_rejected_feature_fails_driver_ok() {
    let (mut engine, ram) = negotiating(Features::RING);
    engine.model_mut().check.needs = vec![(0, Features::EVENT_IDX)];
    assert_accepted(&mut engine, &config(0));
    accept(&mut engine, Features::VERSION_1);
    assert_driver_ok_fails(&mut engine, ram, Refusal::QueueCheck { queue: 0 });
}

#[test]
fn a_queue_that_the_features_hide_fails_driver_ok() {
    // Like queue 1 of a block device whose driver did not accept MQ.
    let (mut engine, ram) = negotiating(Features::VERSION_1);
    engine.model_mut().sizes_negotiated = Some([16, 0, 0, 0]);
    assert_accepted(&mut engine, &config(0));
    assert_accepted(&mut engine, &config(1));
    assert_driver_ok_fails(&mut engine, ram, Refusal::NoSuchQueue { queue: 1 });
}

#[test]
fn a_queue_that_the_features_hide_can_still_be_stopped() {
    let (mut engine, ram) = negotiating(Features::VERSION_1);
    engine.model_mut().sizes_negotiated = Some([16, 0, 0, 0]);
    assert_accepted(&mut engine, &config(0));
    assert_accepted(&mut engine, &config(1));
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_SEL, 1), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), 0);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    let mut driver = driver(ram, 0);
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_queue_too_large_for_the_features_fails_driver_ok() {
    let (mut engine, ram) = negotiating(Features::VERSION_1);
    engine.model_mut().sizes_negotiated = Some([8, 16, 8, 0]);
    assert_accepted(&mut engine, &config(0));
    let refusal = Refusal::QueueSize {
        queue: 0,
        size: 16,
        max: 8,
    };
    assert_driver_ok_fails(&mut engine, ram, refusal);
}

#[test]
fn queues_that_need_each_other_pass_at_driver_ok() {
    let (mut engine, ram) = negotiating(Features::VERSION_1);
    engine.model_mut().check.beside = vec![(0, 2), (1, 0)];
    let small = |queue| QueueConfig {
        size: 8,
        ..config(queue)
    };
    for queue in [2, 0, 1] {
        assert_accepted(&mut engine, &small(queue));
    }
    accept(&mut engine, Features::RING);
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 15);
    let layout = virtside::testing::Layout {
        size: 8,
        ..virtside_tests::layout(1)
    };
    let mut driver = virtside::testing::FakeDriver::new(ram.flat(virtside_tests::BASE), layout);
    assert_works(&mut engine, &mut driver, 1);
}

#[test]
fn a_queue_whose_companion_was_stopped_fails_driver_ok() {
    for early in [true, false] {
        let (mut engine, ram) = negotiating(Features::VERSION_1);
        engine.model_mut().check.beside = vec![(0, 1)];
        let _ = engine.store(reg::STATUS, if early { 3 } else { 11 });
        assert_accepted(&mut engine, &config(1));
        assert_accepted(&mut engine, &config(0));
        assert_eq!(engine.store(reg::QUEUE_SEL, 1), Reply::Done(0));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        assert_driver_ok_fails(&mut engine, ram, Refusal::QueueCheck { queue: 0 });
    }
}

#[test]
fn a_companion_that_came_back_smaller_fails_driver_ok() {
    for early in [true, false] {
        let (mut engine, ram) = negotiating(Features::VERSION_1);
        engine.model_mut().check.no_larger = vec![(0, 1)];
        let _ = engine.store(reg::STATUS, if early { 3 } else { 11 });
        assert_accepted(&mut engine, &config(1));
        assert_accepted(&mut engine, &config(0));
        assert_eq!(engine.store(reg::QUEUE_SEL, 1), Reply::Done(0));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        let smaller = QueueConfig {
            size: 8,
            ..config(1)
        };
        assert_accepted(&mut engine, &smaller);
        assert_driver_ok_fails(&mut engine, ram, Refusal::QueueCheck { queue: 0 });
    }
}

//! Checks that relate queues, once the device is live and the driver stops some of them.

use virtside::{
    Features, Refusal, device::QueueState, error::FaultPolicy, mmio::Reply, testing::Registers,
};
use virtside_tests::{
    TestEngine, TestRam, config, driver,
    probe::{Check, Probe, assert_works, reset_queue},
    test_engine,
};

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

fn device(check: &Check) -> (TestEngine<Probe>, TestRam) {
    let model = Probe {
        check: check.clone(),
        ..Probe::default()
    };
    test_engine(model, 4)
}

fn one_beside_zero() -> Check {
    Check {
        beside: vec![(1, 0)],
        ..Check::default()
    }
}

fn live(check: &Check) -> (TestEngine<Probe>, TestRam) {
    let (mut engine, ram) = device(check);
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    (engine, ram)
}

#[test]
fn two_related_queues_may_be_reset_if_the_first_returns_first() {
    let (mut engine, ram) = live(&one_beside_zero());
    for queue in [1, 0] {
        assert_eq!(reset_queue(&mut engine, queue), Reply::Done(0));
    }
    for queue in [0, 1] {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
        assert_works(&mut engine, &mut driver(ram, queue), queue);
    }
}

#[test]
fn a_lenient_device_lets_the_driver_try_a_refused_return_again() {
    let (engine, ram) = device(&one_beside_zero());
    let mut engine = engine.with_policy(FaultPolicy::Reject);
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    for queue in [0, 1] {
        assert_eq!(reset_queue(&mut engine, queue), Reply::Done(0));
    }
    let refused = Reply::Refused(Refusal::QueueCheck { queue: 1 });
    assert_eq!(engine.configure(&config(1)), refused);
    assert_eq!(engine.queue_state(1), QueueState::Off);
    assert!(!engine.device().shared().needs_reset());
    for queue in [0, 1] {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
        assert_works(&mut engine, &mut driver(ram, queue), queue);
    }
}

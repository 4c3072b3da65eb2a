//! Queues that the device needs together, and that the driver resets together.

use virtside::{Features, mmio::Reply, testing::Registers};
use virtside_tests::{
    config, driver,
    probe::{Check, Probe, assert_works, reset_queue},
    test_engine,
};

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

#[test]
fn two_needed_queues_may_be_reset_at_the_same_time() {
    let check = Check {
        needed: vec![0, 1],
        ..Check::default()
    };
    let model = Probe {
        check,
        ..Probe::default()
    };
    let (mut engine, ram) = test_engine(model, 4);
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    for queue in [0, 1] {
        assert_eq!(reset_queue(&mut engine, queue), Reply::Done(0));
    }
    for queue in [0, 1] {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
    }
    for queue in [0, 1] {
        assert_works(&mut engine, &mut driver(ram, queue), queue);
    }
}

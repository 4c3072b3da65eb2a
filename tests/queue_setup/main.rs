//! Queue set-up: which registers may be written in which phase, and what is checked.

mod cells;
mod checked_again;
mod mapping;
mod overlap;
mod refused;
mod selection;

use virtside::{DriverMem, QueueConfig, Refusal, mmio::Reply, testing::Registers};
use virtside_tests::{
    TestEngine,
    probe::{Probe, ready, seen},
};

/// Asserts that the queue is refused for this reason: it is not ready, nothing else changed, and
/// the reason is kept.
#[track_caller]
fn assert_refused<M: DriverMem>(
    engine: &mut TestEngine<Probe, M>,
    config: &QueueConfig,
    why: Refusal,
) {
    let before = seen(engine);
    assert_eq!(engine.configure(config), Reply::Refused(why), "{config:x?}");
    assert_eq!(seen(engine), before, "{config:x?}");
    assert_eq!(ready(engine, config.queue), 0);
    assert_eq!(engine.transport().last_refusal(), Some(why));
}

/// Asserts that the queue passes every check.
#[track_caller]
fn assert_accepted<M: DriverMem>(engine: &mut TestEngine<Probe, M>, config: &QueueConfig) {
    assert_eq!(engine.configure(config), Reply::Done(0), "{config:x?}");
    assert_eq!(engine.queue_config(config.queue), Some(config));
    assert_eq!(ready(engine, config.queue), 1);
}

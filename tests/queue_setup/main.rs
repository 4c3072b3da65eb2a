//! How a queue comes to be: what may be written when, and what is checked.

mod cells;
mod checked_again;
mod mapping;
mod overlap;
mod refused;
mod selection;

use virtside::{DriverMem, QueueConfig, Refusal, mmio::Reply, testing::Registers};
use virtside_tests::{
    Guest,
    probe::{Probe, ready, seen},
};

/// The queue is refused for this reason: it is not ready, nothing else changed, and the reason is
/// kept.
#[track_caller]
fn assert_refused<M: DriverMem>(guest: &mut Guest<Probe, M>, config: &QueueConfig, why: Refusal) {
    let before = seen(guest);
    assert_eq!(guest.configure(config), Reply::Refused(why), "{config:x?}");
    assert_eq!(seen(guest), before, "{config:x?}");
    assert_eq!(ready(guest, config.queue), 0);
    assert_eq!(guest.transport().last_refusal(), Some(why));
}

/// The queue passes every check.
#[track_caller]
fn assert_accepted<M: DriverMem>(guest: &mut Guest<Probe, M>, config: &QueueConfig) {
    assert_eq!(guest.configure(config), Reply::Done(0), "{config:x?}");
    assert_eq!(guest.queue_config(config.queue), Some(config));
    assert_eq!(ready(guest, config.queue), 1);
}

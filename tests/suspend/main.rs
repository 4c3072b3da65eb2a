//! VIRTIO_F_SUSPEND: a device finishes the chains in hand, is suspended, and is resumed.

mod finishing;
mod quiet;
mod status;
mod taken;
mod trouble;

use virtside::{
    DriverMem, Features, FlatMem, Step,
    mmio::{Phase, Reply},
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, TestRam, config, driver,
    probe::{Probe, probe, publish},
    reg,
    status::{LIVE, LIVE_SUSPEND, SUSPENDED},
};

const FEATURES: Features = Features::VERSION_1.union(Features::SUSPEND);

/// A live, idle device with queues 0 and 1.
fn live() -> (TestEngine<Probe>, [FakeDriver<FlatMem>; 2], TestRam) {
    let (mut engine, ram) = probe();
    let drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    (engine, drivers, ram)
}

/// A live device that holds a chain of queue 0.
fn holding() -> (TestEngine<Probe>, [FakeDriver<FlatMem>; 2], TestRam) {
    let (mut engine, mut drivers, ram) = live();
    engine.model_mut().holds = true;
    publish(&mut drivers[0], 0, b"held");
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    assert_eq!(engine.model().held.len(), 1);
    (engine, drivers, ram)
}

/// Suspends the device as the driver; it is suspended at once.
#[track_caller]
fn suspend<M: DriverMem>(engine: &mut TestEngine<Probe, M>) {
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), SUSPENDED);
    assert_eq!(engine.phase(), Phase::Suspended);
}

/// Suspends the device as the driver; it is not suspended at once.
#[track_caller]
fn begin<M: DriverMem>(engine: &mut TestEngine<Probe, M>) {
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_eq!(engine.phase(), Phase::Suspending);
}

#[track_caller]
fn resume<M: DriverMem>(engine: &mut TestEngine<Probe, M>) {
    assert_eq!(engine.store(reg::STATUS, LIVE_SUSPEND), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), LIVE);
    assert_eq!(engine.phase(), Phase::Live);
}

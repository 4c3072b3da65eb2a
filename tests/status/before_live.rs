//! Before DRIVER_OK the device keeps its hands off.

use virtside::{
    Features, QueueState, Refusal, Step,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, Guest, TestRam, config, driver,
    probe::{Event, Probe, answer, assert_works, pending, probe, publish, seen},
    reg,
};

/// Every byte of the first two queues' rings.
fn rings(ram: TestRam) -> Vec<u8> {
    let mut bytes = vec![0; 0x2000];
    assert_eq!(ram.read(0, &mut bytes), 0x2000);
    bytes
}

/// A device that a driver is about to set up, with a request published on queue 0.
fn published() -> (Guest<Probe>, FakeDriver<virtside::FlatMem>, TestRam) {
    let (guest, ram) = probe();
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"early");
    // A mark where the device would write its flags.
    driver.write(driver.layout().device, &[0xff; 4]);
    (guest, driver, ram)
}

/// Nothing was taken or answered, no byte of the rings changed, and no interrupt was sent.
#[track_caller]
fn assert_untouched(guest: &mut Guest<Probe>, ram: TestRam, before: &[u8]) {
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(rings(ram), before);
    assert_eq!(guest.counters().chains, 0);
    assert_eq!(guest.model().count(Event::Served(0)), 0);
    assert_eq!(pending(guest), 0);
    let line = guest.device().notify();
    assert_eq!((line.asserted(), line.is_high()), (0, false));
}

#[test]
fn nothing_is_taken_or_announced_although_it_is_published() {
    let (mut guest, _, ram) = published();
    let before = rings(ram);
    assert_untouched(&mut guest, ram, &before);
    assert!(guest.negotiate(Features::RING));
    assert_untouched(&mut guest, ram, &before);
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    assert_eq!(guest.queue_state(0), QueueState::Ready);
    assert_untouched(&mut guest, ram, &before);
    // A kick, a push of the host, and an interrupt handler's ring change nothing in this.
    assert_eq!(guest.kick(0), Reply::Refused(Refusal::WrongPhase));
    guest.backend_ready(0);
    assert_eq!(guest.notify_queue(0), Ok(()));
    guest.device().shared().doorbell().ring(0);
    assert_untouched(&mut guest, ram, &before);
}

#[test]
fn chains_published_early_are_served_at_driver_ok() {
    let (mut guest, mut driver, _) = published();
    driver.write(driver.layout().device, &[0; 4]);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"early"[..]));
    assert_eq!(pending(&mut guest), 1);
    assert_works(&mut guest, &mut driver, 0);
}

#[test]
fn every_configured_queue_is_live_at_driver_ok() {
    let (mut guest, ram) = probe();
    let mut first = driver(ram, 0);
    let mut second = driver(ram, 1);
    publish(&mut first, 0, b"one");
    publish(&mut second, 1, b"two");
    assert!(guest.bring_up(Features::VERSION_1, &[config(1), config(0)]));
    assert_eq!(guest.queue_state(0), QueueState::Live);
    assert_eq!(guest.queue_state(1), QueueState::Live);
    assert_eq!(guest.queue_state(2), QueueState::Off);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut first, 0).as_deref(), Some(&b"one"[..]));
    assert_eq!(answer(&mut second, 1).as_deref(), Some(&b"two"[..]));
}

#[test]
fn a_kick_of_a_queue_that_is_not_ready_is_refused() {
    let (mut guest, _) = probe();
    assert!(guest.negotiate(Features::VERSION_1));
    let before = seen(&guest);
    assert_eq!(
        guest.kick(0),
        Reply::Refused(Refusal::QueueNotReady { queue: 0 })
    );
    assert_eq!(seen(&guest), before);
    assert!(guest.device().shared().doorbell().is_silent());
}

#[test]
fn driver_ok_with_no_queues_at_all_is_harmless() {
    let (mut guest, ram) = probe();
    let before = rings(ram);
    assert!(guest.bring_up(Features::VERSION_1, &[]));
    assert_eq!(guest.load(reg::STATUS), 15);
    assert_untouched(&mut guest, ram, &before);
    for queue in 0..4 {
        assert!(guest.kick(queue).refusal().is_some());
        assert!(guest.take_queue(queue).is_err());
    }
    assert_untouched(&mut guest, ram, &before);
    // It is too late for queues now, but not for a fresh start.
    assert!(guest.configure(&config(0)).refusal().is_some());
    let mut driver = driver(ram, 0);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    assert_works(&mut guest, &mut driver, 0);
}

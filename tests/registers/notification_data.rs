//! QueueNotify with NOTIFICATION_DATA: a queue's number and the driver's next ring position.

use virtside::{
    Features, FlatMem, Refusal, Step,
    features::Offer,
    mmio::{Notification, Reply},
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, TestEngine, config, driver,
    probe::{Event, Probe, answer, probe, publish, seen},
    reg, test_engine,
};

const DATA: Features = Features::VERSION_1.union(Features::NOTIFICATION_DATA);

/// A live device with queues 0 and 1, whose host offers NOTIFICATION_DATA.
fn live(features: Features) -> (TestEngine<Probe>, [FakeDriver<FlatMem>; 2]) {
    let (engine, ram) = test_engine(Probe::default(), 4);
    let mut engine = engine.with_offer(Offer::AS_IS.with(Features::NOTIFICATION_DATA));
    let drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    (engine, drivers)
}

#[test]
fn the_bits_are_queue_then_offset_then_wrap_counter() {
    for (value, queue, next_off, next_wrap) in [
        (0, 0, 0, false),
        (0x8000_0000, 0, 0, true),
        (0x7fff_ffff, 0xffff, 0x7fff, false),
        (0x8003_0001, 1, 3, true),
        (0x4001_8000, 0x8000, 0x4001, false),
    ] {
        let kick = Notification {
            queue,
            next_off,
            next_wrap,
        };
        assert_eq!(Notification::from_value(value), kick);
    }
}

#[test]
fn the_low_half_names_the_queue_whatever_the_high_half_says() {
    let (mut engine, mut drivers) = live(DATA);
    for high in [0, 1, 7, 0x7fff, 0x8000, 0xffff] {
        for queue in [1, 0] {
            let text = format!("{high:x}");
            publish(&mut drivers[queue], queue as u16, text.as_bytes());
            let served = engine.model().count(Event::Served(1 - queue as u16));
            let value = high << 16 | queue as u32;
            assert_eq!(engine.store(reg::QUEUE_NOTIFY, value), Reply::Done(0));
            assert_eq!(engine.poll(BUDGET), Step::Idle);
            assert_eq!(
                answer(&mut drivers[queue], queue as u16).as_deref(),
                Some(text.as_bytes())
            );
            let now = engine.model().count(Event::Served(1 - queue as u16));
            assert_eq!(now, served);
        }
    }
}

#[test]
fn the_offset_is_only_a_hint_for_the_ring() {
    let (mut engine, mut drivers) = live(DATA);
    // One value beyond what is published, and one before it.
    assert_eq!(engine.store(reg::QUEUE_NOTIFY, 9 << 16), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(engine.load(reg::STATUS), 15);
    for text in [b"a", b"b", b"c"] {
        publish(&mut drivers[0], 0, text);
    }
    assert_eq!(engine.store(reg::QUEUE_NOTIFY, 1 << 16), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(drivers[0].used_idx(), 3);
}

#[test]
fn a_queue_that_does_not_exist_is_refused_by_its_low_half() {
    let (mut engine, _) = live(DATA);
    let before = seen(&engine);
    for (value, queue) in [
        (4, 4),
        (0x0001_0004, 4),
        (0x8000_ffff, 0xffff),
        (u32::MAX, 0xffff),
    ] {
        let refusal = Refusal::NoSuchQueue { queue };
        assert_eq!(
            engine.store(reg::QUEUE_NOTIFY, value),
            Reply::Refused(refusal)
        );
    }
    let refusal = Refusal::QueueNotReady { queue: 2 };
    assert_eq!(
        engine.store(reg::QUEUE_NOTIFY, 0x8000_0002),
        Reply::Refused(refusal)
    );
    assert!(engine.device().shared().doorbell().is_silent());
    assert_eq!(seen(&engine), before);
}

#[test]
fn without_negotiation_the_whole_value_is_the_number() {
    let (mut engine, _) = live(Features::VERSION_1);
    for value in [0x1_0000, 0x8000_0001, 0x7fff_0000] {
        let refusal = Refusal::NoSuchQueue { queue: value };
        assert_eq!(
            engine.store(reg::QUEUE_NOTIFY, value),
            Reply::Refused(refusal)
        );
    }
    assert!(engine.device().shared().doorbell().is_silent());
    assert_eq!(engine.kick(1), Reply::Done(0));
}

#[test]
fn it_is_offered_on_request_and_notif_config_data_never() {
    assert!(!probe().0.offered().contains(Features::NOTIFICATION_DATA));
    let notif_config_data = Features::from_bits(1 << 39);
    let (mut engine, _) = live(DATA);
    assert!(engine.offered().contains(Features::NOTIFICATION_DATA));
    let (wishing, _) = engine_wishing(notif_config_data);
    let mut wishing = wishing.with_offer(Offer::AS_IS.with(notif_config_data));
    assert_eq!(wishing.offered(), Features::VERSION_1);
    assert!(!wishing.negotiate(notif_config_data | Features::VERSION_1));
}

fn engine_wishing(wishes: Features) -> (TestEngine<Probe>, virtside_tests::TestRam) {
    let model = Probe {
        wishes,
        ..Probe::default()
    };
    test_engine(model, 1)
}

//! Each reason why a queue is refused: number, size, alignment, wrapping around, and the model's
//! own check.

use virtside::{
    Features, QueueConfig, Refusal,
    device::QueueState,
    error::Area,
    mmio::Reply,
    testing::{FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, N, SIZE, TestEngine, TestRam, config, driver,
    probe::{Check, Probe, assert_works, probe, ready, seen},
    reg, test_engine,
};

use crate::{assert_accepted, assert_refused};

/// A device during set-up, with queue 1 ready.
fn setting_up() -> (TestEngine<Probe>, TestRam) {
    let (mut engine, ram) = probe();
    assert!(engine.negotiate(Features::RING));
    assert_accepted(&mut engine, &config(1));
    (engine, ram)
}

/// Asserts that both queues work if they are set up correctly after a refusal.
#[track_caller]
fn assert_recovers(engine: &mut TestEngine<Probe>, ram: TestRam) {
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert_accepted(engine, &config(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        assert_works(engine, driver, queue);
    }
}

#[test]
fn a_wrong_size_is_refused_in_its_full_width() {
    let (mut engine, ram) = setting_up();
    for size in [
        0,
        3,
        5,
        6,
        7,
        12,
        15,
        17,
        24,
        32,
        0x100,
        0x8000,
        // Sizes whose low 16 bits are 0, 1, 16, or 4.
        0x1_0000,
        0x1_0001,
        0x1_0010,
        0x8000_0010,
        0x0004_0004,
        0x8000_0000,
        0xffff_0010,
        u32::MAX,
    ] {
        let bad = QueueConfig { size, ..config(0) };
        let refusal = Refusal::QueueSize {
            queue: 0,
            size,
            max: SIZE,
        };
        assert_refused(&mut engine, &bad, refusal);
    }
    assert_recovers(&mut engine, ram);
}

#[test]
fn every_power_of_two_up_to_the_maximum_is_accepted() {
    for size in [1, 2, 4, 8, 16] {
        let (mut engine, ram) = probe();
        let mut driver = FakeDriver::new(ram.flat(BASE), Layout::packed_at(BASE, size));
        assert!(engine.negotiate(Features::VERSION_1));
        assert_accepted(&mut engine, &driver.config(0));
        assert_eq!(engine.go_live(), Reply::Done(0));
        // The request below needs more than one descriptor.
        if size > 1 {
            assert_works(&mut engine, &mut driver, 0);
        }
    }
}

#[test]
fn a_smaller_maximum_of_one_queue_applies() {
    let (mut engine, _) = setting_up();
    let bad = config(2);
    let refusal = Refusal::QueueSize {
        queue: 2,
        size: 16,
        max: 8,
    };
    assert_refused(&mut engine, &bad, refusal);
    assert_accepted(&mut engine, &QueueConfig { size: 8, ..bad });
}

#[test]
fn a_smaller_capacity_for_chains_applies() {
    // The model allows 65535 elements, but the engine's chains hold 16 buffers.
    let (mut engine, _) = test_engine(
        virtside::models::Entropy::new(virtside_tests::CountingSource::default()),
        1,
    );
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_SIZE_MAX) as usize, N);
    let reply = engine.configure(&QueueConfig {
        size: 32,
        ..config(0)
    });
    let refusal = Refusal::QueueSize {
        queue: 0,
        size: 32,
        max: SIZE,
    };
    assert_eq!(reply, Reply::Refused(refusal));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
}

#[test]
fn a_maximum_that_is_no_power_of_two_is_rounded_down() {
    // Otherwise a driver that uses the maximum, as most do, would be refused.
    let (mut engine, _) = probe();
    for (size, maximum) in [
        (1, 1),
        (3, 2),
        (12, 8),
        (15, 8),
        (16, 16),
        (17, 16),
        (u16::MAX, 16),
    ] {
        engine.model_mut().sizes[0] = size;
        assert!(engine.negotiate(Features::VERSION_1));
        assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
        assert_eq!(engine.load(reg::QUEUE_SIZE_MAX), maximum, "{size}");
        let good = QueueConfig {
            size: maximum,
            ..config(0)
        };
        assert_accepted(&mut engine, &good);
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        let size = maximum * 2;
        let refusal = Refusal::QueueSize {
            queue: 0,
            size,
            max: maximum as u16,
        };
        assert_refused(&mut engine, &QueueConfig { size, ..good }, refusal);
    }
}

/// A layout with another start of one area.
fn with(area: Area, start: u64) -> QueueConfig {
    let mut config = config(0);
    match area {
        Area::Descriptor => config.desc = start,
        Area::Driver => config.driver = start,
        Area::Device => config.device = start,
    }
    config
}

const AREAS: [(Area, u64, u64); 3] = [
    // Alignment, and length for 16 elements.
    (Area::Descriptor, 16, 16 * 16),
    (Area::Driver, 2, 6 + 2 * 16),
    (Area::Device, 4, 6 + 8 * 16),
];

#[test]
fn an_area_that_is_not_aligned_is_refused() {
    let (mut engine, ram) = setting_up();
    for (area, align, _) in AREAS {
        for off in 1..align {
            let start = BASE + 0x8000 + off;
            let refusal = Refusal::Misaligned {
                queue: 0,
                area,
                start,
            };
            assert_refused(&mut engine, &with(area, start), refusal);
        }
        // The smallest alignment that is allowed.
        assert_accepted(&mut engine, &with(area, BASE + 0x8000 + align));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    }
    assert_recovers(&mut engine, ram);
}

#[test]
fn an_area_that_wraps_around_is_refused() {
    let (mut engine, ram) = setting_up();
    for (area, align, len) in AREAS {
        let wrapping = (len - 1) / align * align;
        for before_end in [align, wrapping] {
            let start = 0u64.wrapping_sub(before_end);
            let refusal = Refusal::Wraps {
                queue: 0,
                area,
                start,
            };
            assert_refused(&mut engine, &with(area, start), refusal);
        }
        // One step lower the area does not wrap, but is not mapped.
        let start = 0u64.wrapping_sub(wrapping + align);
        let refusal = Refusal::Unmapped {
            queue: 0,
            area,
            start,
            len: len as u32,
        };
        assert_refused(&mut engine, &with(area, start), refusal);
    }
    assert_recovers(&mut engine, ram);
}

#[test]
fn a_wrong_queue_number_is_refused_in_its_full_width() {
    let (mut engine, ram) = setting_up();
    // Queue 3 has size 0, queue 4 is beyond the engine, and the other numbers end in 0 or 1.
    for queue in [
        3,
        4,
        0x100,
        0xffff,
        0x1_0000,
        0x1_0001,
        0x8000_0000,
        u32::MAX,
    ] {
        let before = seen(&engine);
        assert_eq!(engine.store(reg::QUEUE_SEL, queue), Reply::Done(0));
        let refusal = Refusal::NoSuchQueue { queue };
        assert_eq!(engine.store(reg::QUEUE_SIZE, 16), Reply::Refused(refusal));
        assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Refused(refusal));
        assert_eq!(engine.load(reg::QUEUE_READY), 0, "{queue:#x}");
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Refused(refusal));
        assert_eq!(seen(&engine), before, "{queue:#x}");
        assert_eq!(engine.transport().last_refusal(), Some(refusal));
    }
    assert_eq!(engine.queue_config(1), Some(&config(1)));
    assert_eq!(ready(&mut engine, 0), 0);
    // A driver that asked for a queue that does not exist cannot go live with the others.
    assert_accepted(&mut engine, &config(0));
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert!(engine.negotiate(Features::RING));
    assert_accepted(&mut engine, &config(1));
    assert_recovers(&mut engine, ram);
}

#[test]
fn a_queue_that_the_model_does_not_want_is_refused() {
    let (mut engine, ram) = setting_up();
    engine.model_mut().check.unwanted = vec![0];
    assert_refused(&mut engine, &config(0), Refusal::QueueCheck { queue: 0 });
    engine.model_mut().check = Check::default();
    assert_recovers(&mut engine, ram);
}

#[test]
fn a_check_sees_the_features_and_the_other_queues() {
    let (mut engine, ram) = setting_up();
    let platform = Features::ACCESS_PLATFORM;
    engine.model_mut().check.needs = vec![(0, Features::RING | platform)];
    assert_refused(&mut engine, &config(0), Refusal::QueueCheck { queue: 0 });
    engine.model_mut().check.needs = vec![(0, Features::RING)];
    engine.model_mut().check.beside = vec![(0, 2)];
    assert_refused(&mut engine, &config(0), Refusal::QueueCheck { queue: 0 });
    engine.model_mut().check.beside = vec![(0, 1)];
    assert_recovers(&mut engine, ram);
}

#[test]
fn a_refused_queue_is_corrected_by_rewriting_one_parameter() {
    let (mut engine, ram) = setting_up();
    let mut driver = driver(ram, 0);
    let bad = QueueConfig {
        size: 0x1_0010,
        driver: config(0).driver + 1,
        ..config(0)
    };
    assert!(engine.configure(&bad).refusal().is_some());
    assert_eq!(engine.store(reg::QUEUE_SIZE, 16), Reply::Done(0));
    let refusal = Refusal::Misaligned {
        queue: 0,
        area: Area::Driver,
        start: bad.driver,
    };
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Refused(refusal));
    let low = config(0).driver as u32;
    assert_eq!(engine.store(reg::QUEUE_DRIVER_LOW, low), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(engine.transport().last_refusal(), None);
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn a_refusal_is_remembered_while_other_queues_are_made_ready() {
    // Otherwise the driver could not find out why the device did not start.
    let (mut engine, _) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    let refusal = Refusal::QueueSize {
        queue: 0,
        size: 3,
        max: SIZE,
    };
    assert_refused(&mut engine, &bad, refusal);
    assert_accepted(&mut engine, &config(1));
    assert_eq!(engine.transport().last_refusal(), Some(refusal));
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.transport().last_refusal(), Some(refusal));
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.transport().last_refusal(), None);
}

#[test]
fn a_refused_queue_is_off_and_ignores_kicks() {
    let (mut engine, _) = setting_up();
    let bad = QueueConfig {
        size: 3,
        ..config(0)
    };
    assert!(engine.configure(&bad).refusal().is_some());
    assert_eq!(engine.queue_state(0), QueueState::Off);
    assert!(engine.configured_queues().eq([1]));
    let refusal = Refusal::QueueNotReady { queue: 0 };
    assert_eq!(engine.kick(0), Reply::Refused(refusal));
    assert!(engine.notify_queue(0).is_err());
}

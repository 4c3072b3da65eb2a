//! No two areas share a byte, neither of one queue nor of two.

use virtside::{Features, QueueConfig, Refusal, error::Area, mmio::Reply, testing::Registers};
use virtside_tests::{
    BASE, TestEngine,
    probe::{Probe, probe},
    reg,
};

use crate::{assert_accepted, assert_refused};

/// Area, alignment, and length for 16 elements.
const AREAS: [(Area, u64, u64); 3] = [
    (Area::Descriptor, 16, 16 * 16),
    (Area::Driver, 2, 6 + 2 * 16),
    (Area::Device, 4, 6 + 8 * 16),
];

/// A queue with three areas far from each other and from every other queue's.
fn apart(queue: u16) -> QueueConfig {
    let start = BASE + 0x4000 * u64::from(queue) + 0x1000;
    QueueConfig {
        queue,
        size: 16,
        desc: start,
        driver: start + 0x1000,
        device: start + 0x2000,
    }
}

fn start(config: &QueueConfig, area: Area) -> u64 {
    match area {
        Area::Descriptor => config.desc,
        Area::Driver => config.driver,
        Area::Device => config.device,
    }
}

fn moved(mut config: QueueConfig, area: Area, to: u64) -> QueueConfig {
    match area {
        Area::Descriptor => config.desc = to,
        Area::Driver => config.driver = to,
        Area::Device => config.device = to,
    }
    config
}

/// Addresses at which an area of `(align, len)` overlaps one of `their_len` bytes at `at`: in its
/// last byte, its first, and all of them.
fn collisions(at: u64, their_len: u64, align: u64, len: u64) -> [u64; 3] {
    let down = |address: u64| address / align * align;
    [down(at + their_len - 1), down(at + align - len), down(at)].map(|start| {
        if start + len <= at {
            start + align
        } else {
            start
        }
    })
}

/// The two addresses next to an area: just behind it, and just before it.
fn neighbours(at: u64, their_len: u64, align: u64, len: u64) -> [u64; 2] {
    [
        (at + their_len).next_multiple_of(align),
        (at - len) / align * align,
    ]
}

fn setting_up() -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    engine
}

/// Undoes a successful configuration.
fn stop(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
}

#[test]
fn a_queue_whose_own_areas_overlap_is_refused() {
    let mut engine = setting_up();
    let mut tried = 0;
    for (first, (area, _, its_len)) in AREAS.into_iter().enumerate() {
        for (other, align, len) in AREAS.into_iter().skip(first + 1) {
            let at = start(&apart(0), area);
            for to in collisions(at, its_len, align, len) {
                tried += 1;
                let refusal = Refusal::Overlap {
                    queue: 0,
                    area,
                    with: 0,
                };
                assert_refused(&mut engine, &moved(apart(0), other, to), refusal);
            }
            for to in neighbours(at, its_len, align, len) {
                assert_accepted(&mut engine, &moved(apart(0), other, to));
                stop(&mut engine);
            }
        }
    }
    assert_eq!(tried, 9);
}

#[test]
fn a_queue_that_overlaps_another_is_refused_in_any_area() {
    let mut engine = setting_up();
    assert_accepted(&mut engine, &apart(1));
    let mut tried = 0;
    for (theirs, _, their_len) in AREAS {
        for (mine, align, len) in AREAS {
            let at = start(&apart(1), theirs);
            for to in collisions(at, their_len, align, len) {
                tried += 1;
                let refusal = Refusal::Overlap {
                    queue: 0,
                    area: mine,
                    with: 1,
                };
                assert_refused(&mut engine, &moved(apart(0), mine, to), refusal);
            }
            for to in neighbours(at, their_len, align, len) {
                assert_accepted(&mut engine, &moved(apart(0), mine, to));
                stop(&mut engine);
            }
        }
    }
    assert_eq!(tried, 27);
    assert_accepted(&mut engine, &apart(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
}

#[test]
fn a_queue_with_the_rings_of_another_is_refused() {
    let mut engine = setting_up();
    assert_accepted(&mut engine, &apart(0));
    let same = QueueConfig {
        queue: 1,
        ..apart(0)
    };
    let refusal = Refusal::Overlap {
        queue: 1,
        area: Area::Descriptor,
        with: 0,
    };
    assert_refused(&mut engine, &same, refusal);
}

#[test]
fn areas_are_compared_with_every_other_queue() {
    let mut engine = setting_up();
    for queue in [2, 0] {
        let config = QueueConfig {
            size: 8,
            ..apart(queue)
        };
        assert_accepted(&mut engine, &config);
    }
    for with in [0, 2] {
        let bad = moved(apart(1), Area::Driver, apart(with).device);
        let refusal = Refusal::Overlap {
            queue: 1,
            area: Area::Driver,
            with,
        };
        assert_refused(&mut engine, &bad, refusal);
    }
}

#[test]
fn areas_end_where_the_current_queue_sizes_say() {
    // Two queues of 8 elements fit where two of 16 do not.
    let mut engine = setting_up();
    let near = |queue: u16, size: u32| QueueConfig {
        queue,
        size,
        desc: BASE + 16 * 8 * u64::from(queue),
        driver: BASE + 0x1000 + 0x100 * u64::from(queue),
        device: BASE + 0x2000 + 0x100 * u64::from(queue),
    };
    assert_accepted(&mut engine, &near(0, 16));
    let refusal = Refusal::Overlap {
        queue: 1,
        area: Area::Descriptor,
        with: 0,
    };
    assert_refused(&mut engine, &near(1, 8), refusal);
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    stop(&mut engine);
    assert_accepted(&mut engine, &near(0, 8));
    assert_accepted(&mut engine, &near(1, 8));
}

#[test]
fn the_areas_of_a_stopped_queue_are_free() {
    let mut engine = setting_up();
    assert_accepted(&mut engine, &apart(0));
    stop(&mut engine);
    let same = QueueConfig {
        queue: 1,
        ..apart(0)
    };
    assert_accepted(&mut engine, &same);
    // A reset frees the memory as well.
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_accepted(&mut engine, &apart(0));
}

#[test]
fn areas_of_a_queue_that_is_not_ready_are_free() {
    let mut engine = setting_up();
    engine.lay_out(&apart(0));
    let same = QueueConfig {
        queue: 1,
        ..apart(0)
    };
    assert_accepted(&mut engine, &same);
    let refusal = Refusal::Overlap {
        queue: 0,
        area: Area::Descriptor,
        with: 1,
    };
    assert_refused(&mut engine, &apart(0), refusal);
}

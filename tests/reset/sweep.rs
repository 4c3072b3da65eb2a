//! A scenario that is replayed with a reset or a hostile write after each of its register writes. A
//! clean start must work afterwards.

use virtside::{
    Features, FlatMem, QueueConfig,
    mmio::{Access, Phase, Reply},
    testing::{FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, BUDGET, TestEngine, TestRam, config, driver, engine_over,
    probe::{Probe, answer, assert_works, publish},
    ram, reg,
};

/// What is written after the write number `after`.
#[derive(Clone, Copy, Debug)]
struct Intrusion {
    after: usize,
    access: Access,
    /// Whether the driver continues as if nothing had happened, or ends.
    continues: bool,
}

/// The connection from the driver to its device, which inserts the intrusion.
struct Wire {
    engine: TestEngine<Probe>,
    ram: TestRam,
    writes: usize,
    intrusion: Option<Intrusion>,
    cut: bool,
    /// Whether the intrusion gave the forbidden memory to the device, in a phase in which this is
    /// allowed.
    allowed: bool,
}

fn value(access: Access) -> Option<u64> {
    match access {
        Access::Write { value, .. } => Some(value),
        Access::Read { .. } => None,
    }
}

impl Registers for Wire {
    fn reach(&mut self, access: Access) -> Reply {
        if self.cut {
            return Reply::Done(0);
        }
        let reply = self.access(access);
        if matches!(access, Access::Write { .. }) {
            self.writes += 1;
            if let Some(intrusion) = self.intrusion
                && intrusion.after == self.writes
            {
                let reply = self.access(intrusion.access);
                let there = value(intrusion.access) == Some(BASE + FORBIDDEN.start as u64);
                self.allowed = there && reply.refusal().is_none();
                self.cut = !intrusion.continues;
            }
        }
        reply
    }
}

impl Wire {
    /// Makes one access, and checks what must hold after each access.
    fn access(&mut self, access: Access) -> Reply {
        let engine = &mut self.engine;
        let before = (engine.phase(), configs(engine));
        let reply = engine.access(access);
        assert!(
            reply.bus_value().is_some(),
            "{access:x?} was answered {reply:?}"
        );
        let after = (engine.phase(), configs(engine));
        let alive = |phase| matches!(phase, Phase::Live | Phase::Suspending | Phase::Suspended);
        if alive(before.0) && alive(after.0) {
            // While live, a queue stops or stays unchanged, or is set up again after a queue reset.
            let resets = engine.features().contains(Features::RING_RESET);
            let comes = access == Access::write(reg::QUEUE_READY, 1) && resets;
            for (was, is) in before.1.iter().zip(&after.1) {
                let came = was.is_none() && comes && after.0 == Phase::Live;
                assert!(
                    is.is_none() || is == was || came,
                    "{access:x?} moved a queue"
                );
            }
        }
        for config in after.1.iter().flatten() {
            assert!(config.size.is_power_of_two() && config.size <= 16);
        }
        let live = engine.device().shared().is_live();
        assert!(!live || alive(after.0));
        reply
    }

    fn poll(&mut self) {
        if !self.cut {
            self.engine.poll(BUDGET);
        }
    }
}

fn configs(engine: &TestEngine<Probe>) -> [Option<QueueConfig>; 3] {
    [0, 1, 2].map(|queue| engine.queue_config(queue).copied())
}

/// A layout of 8 elements that overlaps no other.
fn other_layout(queue: u16) -> Layout {
    Layout::packed_at(BASE + 0x8000 + 0x800 * u64::from(queue), 8)
}

/// Resets queue 0 alone and sets it up with another layout; returns the requests answered then.
fn queue_reset(wire: &mut Wire) -> usize {
    let _ = wire.store(reg::QUEUE_SEL, 0);
    let _ = wire.store(reg::QUEUE_RESET, 1);
    assert!(wire.cut || wire.load(reg::QUEUE_RESET) <= 1);
    let mut driver = FakeDriver::new(wire.ram.flat(BASE), other_layout(0));
    let _ = wire.configure(&other_layout(0).config(0));
    publish(&mut driver, 0, b"anew");
    let _ = wire.kick(0);
    wire.poll();
    usize::from(answer(&mut driver, 0).is_some())
}

/// Suspends the device while a request is in hand, and resumes it; returns the requests answered.
fn suspension(wire: &mut Wire, driver: &mut FakeDriver<FlatMem>) -> usize {
    wire.engine.model_mut().holds = true;
    publish(driver, 1, b"rest");
    let _ = wire.kick(1);
    wire.poll();
    let _ = wire.store(reg::STATUS, 0x1f);
    let _ = wire.load(reg::STATUS);
    let held = core::mem::take(&mut wire.engine.model_mut().held);
    wire.engine.model_mut().holds = false;
    for token in held {
        let _ = wire.engine.complete(token);
    }
    wire.poll();
    let _ = wire.load(reg::STATUS);
    let answered = usize::from(answer(driver, 1).is_some());
    let used = driver.used_idx();
    publish(driver, 1, b"late");
    let _ = wire.kick(1);
    wire.poll();
    if wire.engine.phase() == Phase::Suspended {
        assert_eq!(driver.used_idx(), used, "the device is suspended");
    }
    let _ = wire.store(reg::STATUS, 0xf);
    let _ = wire.load(reg::STATUS);
    wire.poll();
    answered + usize::from(answer(driver, 1).is_some())
}

/// Set-up, requests, a queue reset, a suspension, a pending request and a stopped queue; then all
/// again with other features and layouts. Returns the number of answered requests.
fn scenario(wire: &mut Wire) -> usize {
    let ram = wire.ram;
    let mut answered = 0;
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    let resting = Features::VERSION_1 | Features::RING_RESET | Features::SUSPEND;
    wire.bring_up(resting, &[config(0), config(1)]);
    for _ in 0..2 {
        for (driver, queue) in drivers.iter_mut().zip(0..) {
            publish(driver, queue, b"text");
            let _ = wire.kick(queue);
            wire.poll();
            let pending = wire.load(reg::INTERRUPT_STATUS);
            let _ = wire.store(reg::INTERRUPT_ACK, pending);
            answered += usize::from(answer(driver, queue).is_some());
        }
    }
    answered += queue_reset(wire);
    answered += suspension(wire, &mut drivers[1]);
    wire.engine.model_mut().holds = true;
    publish(&mut drivers[1], 1, b"held");
    let _ = wire.kick(1);
    wire.poll();
    let _ = wire.store(reg::QUEUE_SEL, 1);
    let _ = wire.store(reg::QUEUE_READY, 0);
    for token in wire.engine.model().held.clone() {
        let _ = wire.engine.complete(token);
    }
    wire.engine.model_mut().holds = false;
    let mut drivers = [0, 2].map(|queue| FakeDriver::new(ram.flat(BASE), other_layout(queue)));
    let queues = [other_layout(2).config(2), other_layout(0).config(0)];
    wire.bring_up(Features::RING, &queues);
    for (driver, queue) in drivers.iter_mut().zip([0, 2]) {
        publish(driver, queue, b"again");
        let _ = wire.kick(queue);
        wire.poll();
        answered += usize::from(answer(driver, queue).is_some());
    }
    let _ = wire.store(reg::INTERRUPT_ACK, 3);
    answered
}

/// Memory that no driver gives to the device.
const FORBIDDEN: core::ops::Range<usize> = 0x2_0000..0x2_1000;

/// Runs the scenario with this intrusion, then a clean start and requests that are answered.
/// Returns the writes and the answers in the scenario.
fn run(ram: TestRam, intrusion: Option<Intrusion>) -> (usize, usize) {
    let engine = engine_over(Probe::default(), ram.flat(BASE), 4);
    let mut wire = Wire {
        engine,
        ram,
        writes: 0,
        intrusion,
        cut: false,
        allowed: false,
    };
    wire.engine.model_mut().writable = 0..4;
    let answered = scenario(&mut wire);
    let Wire {
        mut engine,
        writes,
        allowed,
        ..
    } = wire;
    engine.model_mut().holds = false;
    assert_eq!(
        engine.store(reg::STATUS, 0),
        Reply::Done(0),
        "{intrusion:x?}"
    );
    assert_eq!(engine.load(reg::STATUS), 0);
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(
        engine.bring_up(Features::RING, &[config(0), config(1)]),
        "{intrusion:x?}"
    );
    assert_eq!(engine.load(reg::STATUS), 15, "{intrusion:x?}");
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0, "{intrusion:x?}");
    for (driver, queue) in drivers.iter_mut().zip(0..) {
        assert_works(&mut engine, driver, queue);
        let _ = engine.store(reg::INTERRUPT_ACK, 1);
    }
    let mut forbidden = [0; 0x1000];
    ram.read(FORBIDDEN.start, &mut forbidden);
    let untouched = forbidden.iter().all(|byte| *byte == 0x99);
    assert!(untouched || allowed, "{intrusion:x?}");
    if !untouched {
        ram.write(FORBIDDEN.start, &[0x99; 0x1000]);
    }
    (writes, answered)
}

/// Memory for all runs, and the number of writes of a run without an intrusion.
fn prepared() -> (TestRam, usize) {
    let ram = ram();
    ram.write(FORBIDDEN.start, &[0x99; 0x1000]);
    let (writes, answered) = run(ram, None);
    assert_eq!(answered, 9, "the scenario works without an intrusion");
    (ram, writes)
}

#[test]
fn a_reset_after_any_write_is_followed_by_a_clean_start() {
    let (ram, writes) = prepared();
    assert!(writes > 60, "the scenario has {writes} writes");
    for after in 1..=writes {
        for continues in [false, true] {
            let intrusion = Intrusion {
                after,
                access: Access::write(reg::STATUS, 0),
                continues,
            };
            run(ram, Some(intrusion));
        }
    }
}

/// Writes that no driver should make, or not in this phase.
fn hostile() -> Vec<Access> {
    let mut all = Vec::new();
    for (offset, values) in [
        (reg::QUEUE_READY, &[0, 1, 2, u32::MAX][..]),
        (reg::QUEUE_SIZE, &[0, 1, 3, 0x1_0000, 0x8000_0010, u32::MAX]),
        (reg::QUEUE_SEL, &[0, 1, 2, 3, 0x1_0000, u32::MAX]),
        (reg::DRIVER_FEATURES_SEL, &[0, 2, 7]),
        (reg::DRIVER_FEATURES, &[0, u32::MAX]),
        (reg::QUEUE_NOTIFY, &[0, 1, 2, 3, 0x1_0000, u32::MAX]),
        (reg::INTERRUPT_ACK, &[0, u32::MAX]),
        (
            reg::STATUS,
            &[4, 8, 12, 15, 16, 27, 31, 64, 128, 143, 255, 256, u32::MAX],
        ),
        (reg::QUEUE_RESET, &[0, 1, 2, u32::MAX]),
        (reg::SHM_SEL, &[1]),
        (reg::MAGIC_VALUE, &[0]),
        (reg::CONFIG, &[u32::MAX]),
        (reg::CONFIG + 0x1000, &[0]),
    ] {
        all.extend(values.iter().map(|value| Access::write(offset, *value)));
    }
    for offset in &reg::PARAMETERS[1..] {
        // Addresses of another ring, of the forbidden memory, and unmapped ones.
        for value in [BASE as u32, BASE as u32 + 0x2_0000, 0, 1, u32::MAX] {
            all.push(Access::write(*offset, value));
        }
    }
    for width in [0, 1, 2, 8, 255] {
        all.push(Access::Write {
            offset: reg::STATUS,
            width,
            value: 0,
        });
    }
    all
}

#[test]
fn a_hostile_write_after_any_write_is_cured_by_a_clean_start() {
    let (ram, writes) = prepared();
    for access in hostile() {
        for after in 1..=writes {
            let intrusion = Intrusion {
                after,
                access,
                continues: true,
            };
            run(ram, Some(intrusion));
        }
    }
}

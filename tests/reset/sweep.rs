//! A scenario, replayed with a reset or a hostile write after every register write of it. Whatever
//! becomes of the scenario, a clean start must work afterwards.

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

/// What comes after the `after`-th write.
#[derive(Clone, Copy, Debug)]
struct Intrusion {
    after: usize,
    access: Access,
    /// Whether the driver is gone then, or goes on as if nothing had happened.
    goes_on: bool,
}

/// The way from a driver to its device, on which something may happen.
struct Wire {
    engine: TestEngine<Probe>,
    ram: TestRam,
    writes: usize,
    intrusion: Option<Intrusion>,
    cut: bool,
    /// The intrusion lent the device the memory that is otherwise forbidden, and was allowed to.
    invited: bool,
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
                self.invited = there && reply.refusal().is_none();
                self.cut = !intrusion.goes_on;
            }
        }
        reply
    }
}

impl Wire {
    /// One access that gets through, and what must hold for each.
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
            // In life a queue stops, or stays what it is; or comes back once it was reset.
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

/// A layout of 8 elements that is nowhere near the others.
fn elsewhere(queue: u16) -> Layout {
    Layout::packed_at(BASE + 0x8000 + 0x800 * u64::from(queue), 8)
}

/// Resets queue 0 alone, and sets it up elsewhere; the requests that are answered then.
fn queue_reset(wire: &mut Wire) -> usize {
    let _ = wire.store(reg::QUEUE_SEL, 0);
    let _ = wire.store(reg::QUEUE_RESET, 1);
    assert!(wire.cut || wire.load(reg::QUEUE_RESET) <= 1);
    let mut driver = FakeDriver::new(wire.ram.flat(BASE), elsewhere(0));
    let _ = wire.configure(&elsewhere(0).config(0));
    publish(&mut driver, 0, b"anew");
    let _ = wire.kick(0);
    wire.poll();
    usize::from(answer(&mut driver, 0).is_some())
}

/// Suspends the device while a request is in hand, and resumes it; the requests that are answered.
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
        assert_eq!(driver.used_idx(), used, "it rests");
    }
    let _ = wire.store(reg::STATUS, 0xf);
    let _ = wire.load(reg::STATUS);
    wire.poll();
    answered + usize::from(answer(driver, 1).is_some())
}

/// Set-up, requests, a queue reset, a suspension, a request that stays pending, a stopped queue, and
/// all again with other features and layouts. Says how many requests were answered.
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
    let mut drivers = [0, 2].map(|queue| FakeDriver::new(ram.flat(BASE), elsewhere(queue)));
    let queues = [elsewhere(2).config(2), elsewhere(0).config(0)];
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

/// Memory that no driver here lets the device have.
const FORBIDDEN: core::ops::Range<usize> = 0x2_0000..0x2_1000;

/// The scenario with this intrusion, a clean start, and requests that are answered. Says how many
/// writes there were, and how many answers, in the scenario.
fn run(ram: TestRam, intrusion: Option<Intrusion>) -> (usize, usize) {
    let engine = engine_over(Probe::default(), ram.flat(BASE), 4);
    let mut wire = Wire {
        engine,
        ram,
        writes: 0,
        intrusion,
        cut: false,
        invited: false,
    };
    wire.engine.model_mut().writable = 0..4;
    let answered = scenario(&mut wire);
    let Wire {
        mut engine,
        writes,
        invited,
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
    assert!(untouched || invited, "{intrusion:x?}");
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
    assert_eq!(answered, 9, "the scenario works when nothing happens");
    (ram, writes)
}

#[test]
fn a_reset_after_any_write_is_followed_by_a_clean_start() {
    let (ram, writes) = prepared();
    assert!(writes > 60, "the scenario has {writes} writes");
    for after in 1..=writes {
        for goes_on in [false, true] {
            let intrusion = Intrusion {
                after,
                access: Access::write(reg::STATUS, 0),
                goes_on,
            };
            run(ram, Some(intrusion));
        }
    }
}

/// What no driver should write, or not then.
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
        // Over another ring, to the memory that is none of its own, and nowhere.
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
                goes_on: true,
            };
            run(ram, Some(intrusion));
        }
    }
}

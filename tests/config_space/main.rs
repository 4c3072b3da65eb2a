//! The device configuration space: reads, writes and the generation.

mod early;
mod generation;
mod reads;
mod writes;

use virtside::{
    Features,
    mmio::{Access, Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    TestEngine, config,
    probe::{Probe, probe},
    reg,
};

/// A load from the configuration space.
fn load(offset: u32, width: u8) -> Access {
    Access::Read {
        offset: reg::CONFIG + offset,
        width,
    }
}

/// A store to the configuration space.
fn store(offset: u32, width: u8, value: u64) -> Access {
    Access::Write {
        offset: reg::CONFIG + offset,
        width,
        value,
    }
}

/// A device in this phase. Its 12 bytes of configuration are 1 to 12.
fn at(phase: Phase) -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    match phase {
        Phase::Reset => {}
        Phase::Negotiating => assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0)),
        Phase::SettingUp => assert!(engine.negotiate(Features::VERSION_1)),
        Phase::Live => assert!(engine.bring_up(Features::VERSION_1, &[config(0)])),
        _ => assert_eq!(engine.store(reg::STATUS, 3 | 128), Reply::Done(0)),
    }
    assert_eq!(engine.phase(), phase);
    engine
}

/// Every phase.
const PHASES: [Phase; 5] = [
    Phase::Reset,
    Phase::Negotiating,
    Phase::SettingUp,
    Phase::Live,
    Phase::Failed,
];

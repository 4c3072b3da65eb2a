//! A driver that changes memory just before one load of the device, once for each load.

use std::sync::Arc;

use virtside::{
    ChainSlot, DeviceModel, DriverMem, Engine, Features, QueueConfig, Shared, Step,
    interrupt::CountingNotify,
    memory::{DriverRange, Permission},
    testing::{Buffer, CountingMem, Counts, Registers, Shift, ShiftingMem},
};

use super::{Form, Given, Ring, offer, slots};
use crate::{BASE, BUDGET, N, TestRam, in_order::Format, ram, random::Random};

/// Address of the requests. It is behind all rings, and the changes can reach it.
pub const REQUESTS: u64 = BASE + 0x6000;
/// Address of the tables, which every second chain uses.
const TABLES: u64 = BASE + 0x7000;

/// Bytes from [`REQUESTS`] on that a scenario uses.
const BYTES: usize = 0x200;

/// A chain of a scenario: its queue, its buffers, and bytes that the driver writes first.
pub type Chain = (u16, Vec<Buffer>, Vec<(u64, Vec<u8>)>);

type Shifted<'s, D, M, const Q: usize> =
    Engine<D, M, &'s CountingNotify, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

fn settle<D: DeviceModel, M: DriverMem, const Q: usize>(engine: &mut Shifted<'_, D, M, Q>) {
    for _ in 0..100 {
        let before = engine.counters().chains;
        if engine.poll(BUDGET) != Step::More && engine.counters().chains == before {
            return;
        }
    }
    panic!("the device always finds more to do");
}

/// Plays a scenario from reset on; returns the driver's ends of the queues.
///
/// # Panics
/// If the device does not go live.
pub fn play_scenario<D: DeviceModel, M: DriverMem, const Q: usize>(
    engine: &mut Shifted<'_, D, M, Q>,
    (ram, format, wanted): (TestRam, Format, Features),
    scenario: &[Chain],
) -> Vec<Ring> {
    let queues = 1 + scenario.iter().map(|chain| chain.0).max().unwrap_or(0);
    let mut rings: Vec<Ring> = (0..queues)
        .map(|queue| Ring::new(ram, format, queue, false))
        .collect();
    let configs: Vec<QueueConfig> = rings.iter().map(Ring::config).collect();
    let wanted = wanted | Features::VERSION_1 | format.features();
    ram.write((REQUESTS - BASE) as usize, &[0; BYTES]);
    let offered = engine.offered();
    assert!(engine.bring_up(offered.intersection(wanted), &configs));
    for (at, (queue, buffers, bytes)) in (0u64..).zip(scenario) {
        for (addr, bytes) in bytes {
            ram.write((addr - BASE) as usize, bytes);
        }
        let table = wanted.contains(Features::INDIRECT_DESC) && at % 2 == 1;
        let form = if table { Form::Table(0) } else { Form::Direct };
        rings[usize::from(*queue)].send(buffers, form, TABLES + 0x80 * at);
        // With EVENT_IDX the device serves all chains at once, otherwise one after the other.
        let _ = engine.kick(*queue);
        if !wanted.contains(Features::EVENT_IDX) {
            settle(engine);
        }
    }
    settle(engine);
    rings
}

/// Plays `scenario` four times for each load of the device, and changes one byte of memory just before
/// that load. Then it resets the device and plays the scenario unchanged. That last run must have
/// the same results as an undisturbed run, to the byte if the model `repeats` itself. Returns how
/// many disturbed runs ended without and with a driver fault.
///
/// # Panics
/// If the results differ, or if the device used an address that it had not checked.
pub fn shift_each_load<D: DeviceModel, const Q: usize>(
    model: impl Fn() -> D,
    wanted: Features,
    scenario: &[Chain],
    repeats: bool,
) -> [u32; 2] {
    let mut random = Random::new(0x00c0_ffee_1234_5678);
    let queues = 1 + scenario.iter().map(|chain| chain.0).max().unwrap_or(0);
    let mut ends = [0; 2];
    let line = CountingNotify::new();
    for format in [Format::Split, Format::Packed] {
        let memory = ram();
        let place = (memory, format, wanted);
        let counts = Counts::new();
        let mem = CountingMem::new(memory.flat(BASE), &counts);
        let mut engine = reset::<D, _, Q>(model(), mem, &line);
        let undisturbed = given(&mut play_scenario(&mut engine, place, scenario));
        assert_eq!(undisturbed.len(), scenario.len());
        let answers = shot(memory);
        let loads = counts.loads() + counts.descriptors() + counts.translations();
        for load in 0..loads as usize {
            for _ in 0..4 {
                let ring = 0x1000 * random.below(u64::from(queues));
                let slot = 16 * random.below(4);
                let at = match random.below(8) {
                    // Flags and lengths of descriptors, and upper halves of their addresses.
                    0..3 => ring + slot + 8 + random.below(8),
                    3 => ring + slot + 4 + random.below(4),
                    // The available index and its entries, or a suppression structure.
                    4 => ring + 0x100 + random.below(8),
                    5 => ring + random.below(0x140),
                    6 => REQUESTS - BASE + random.below(0x30),
                    _ => TABLES - BASE + 0x80 + random.below(0x30),
                };
                let any = random.below(256);
                let byte = random.of(&[0, 1, 2, 3, 4, 0x80, 0xff, any]) as u8;
                let [low, high] = (at as u16).to_le_bytes();
                let mut script = vec![0xff; 3 * load];
                script.extend([low, high, byte]);
                let shift = Shift::new(&script, BASE);
                let mem = ShiftingMem::new(memory.flat(BASE), &shift);
                let mut engine = reset::<D, _, Q>(model(), mem, &line);
                play_scenario(&mut engine, place, scenario);
                assert_eq!(engine.take_host_fault(), None, "{script:x?}");
                let fault = (0..queues).any(|queue| engine.driver_fault(queue).is_some());
                ends[usize::from(fault)] += 1;
                // Makes the change if the device did not reach that load.
                let one = DriverRange::new(BASE, 1).expect("a byte");
                for _ in 0..=load {
                    let _ = engine.memory_mut().translate(one, Permission::Read);
                }
                let cured = given(&mut play_scenario(&mut engine, place, scenario));
                assert_eq!(cured, undisturbed, "{format:?} {script:x?}");
                assert!(
                    !repeats || shot(memory) == answers,
                    "{format:?} {script:x?}"
                );
            }
        }
    }
    ends
}

fn shot(ram: TestRam) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    ram.read((REQUESTS - BASE) as usize, &mut bytes);
    bytes
}

/// Takes the chains that the device returned.
pub fn given(rings: &mut [Ring]) -> Vec<Given> {
    rings.iter_mut().flat_map(Ring::take).collect()
}

fn reset<'l, D: DeviceModel, M: DriverMem, const Q: usize>(
    model: D,
    mem: M,
    line: &'l CountingNotify,
) -> Shifted<'l, D, M, Q> {
    Engine::new(model, mem, line, slots(), Arc::new(Shared::new())).with_offer(offer())
}

//! A driver that overwrites its rings and buffers from another thread while the device works.

use std::sync::atomic::{AtomicBool, Ordering};

use virtside::{
    Features,
    error::FaultPolicy,
    mmio::Access,
    testing::{PackedDriver, Registers},
};
use virtside_tests::{
    BASE, SIZE, TestRam, config,
    differential::{REQUESTS, direct, given, play_scenario},
    driver,
    in_order::Format,
    ram,
    random::Random,
};

use crate::{
    case::{Device, Q},
    *,
};

/// Rounds of each format, each with a device of its own.
const ROUNDS: u64 = 150;

/// Writes plausible descriptors, indices and headers until told to stop.
fn overwrite(ram: TestRam, queues: u64, mut random: Random, begun: &AtomicBool, stop: &AtomicBool) {
    begun.store(true, Ordering::Relaxed);
    let at = (REQUESTS - BASE) as usize;
    while !stop.load(Ordering::Relaxed) {
        // Mostly a descriptor's address and length, seldom the rest: otherwise no chain would be
        // good.
        let slot = (0x1000 * random.below(queues) + 16 * random.below(16)) as usize;
        let len = random.below(0x400) as u32;
        let addr = REQUESTS + random.below(0x1000);
        let any = random.word().to_le_bytes();
        let _ = match random.below(64) {
            0 => ram.write(slot + 8, &any),
            1 => ram.write(slot, &any),
            2..32 => ram.write(slot + 8, &len.to_le_bytes()),
            _ => ram.write(slot, &addr.to_le_bytes()),
        };
        let kind = random.below(15) as u8;
        ram.write(at + random.of(&[0, 0, 4, 0x20]), &[kind, 0, 0, 0]);
    }
}

/// Returns the number of chains served, and of rounds that ended with a fault.
fn race<C: ModelCase>(case: &C, format: Format) -> (u64, u32) {
    let scenario = case.scenario();
    let ram = ram();
    let wanted = Features::RING | case.features();
    let device = || -> Device<C::Model> {
        direct::<_, Q>(case.scenario_model(), ram, FaultPolicy::default())
    };
    let undisturbed = given(&mut play_scenario(
        &mut device(),
        (ram, format, wanted),
        &scenario,
    ));
    assert_eq!(undisturbed.len(), scenario.len());
    let (mut chains, mut faults) = (0, 0);
    for round in 0..ROUNDS {
        let mut device = device();
        let queues = case.queues();
        let mut split: Vec<_> = (0..queues).map(|queue| driver(ram, queue)).collect();
        let start = |queue: u16| BASE + 0x1000 * u64::from(queue);
        let ring = |queue| PackedDriver::new(ram.flat(BASE), start(queue), SIZE);
        let mut packed: Vec<_> = Vec::new();
        let configs: Vec<_> = if format == Format::Packed {
            packed.extend((0..queues).map(ring));
            (0..)
                .zip(&packed)
                .map(|(queue, ring)| ring.config(queue))
                .collect()
        } else {
            (0..queues).map(config).collect()
        };
        let features = device.offered().difference(Features::RING_PACKED);
        let features = features.intersection(wanted) | format.features();
        assert!(device.bring_up(features, &configs));
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|threads| {
            let (begun, stop) = (&begun, &stop);
            let random = Random::new(0x1234_5678_9abc + round);
            threads.spawn(move || overwrite(ram, queues.into(), random, begun, stop));
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let mut random = Random::new(0xfeed_beef_cafe + round);
            for turn in 0..200 {
                let before = device.counters().chains;
                let (queue, buffers, bytes) = &scenario[turn % scenario.len()];
                for (addr, bytes) in bytes {
                    ram.write((addr - BASE) as usize, bytes);
                }
                let at = usize::from(*queue);
                match packed.get_mut(at) {
                    Some(ring) => ring.send(0, buffers),
                    None => split[at].send(0, buffers),
                }
                let _ = device.kick(*queue);
                let _ = device.poll(SIZE);
                let done = device.counters().chains.wrapping_sub(before);
                assert!(done <= u32::from(SIZE), "{done} chains in one poll");
                chains += u64::from(done);
                if random.once_in(50) {
                    let offset = random.below(0x140) as u32;
                    let width = 1 << random.below(4);
                    let _ = device.access(Access::Read { offset, width });
                }
                if (0..queues).any(|queue| device.driver_fault(queue).is_some()) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        faults += u32::from((0..queues).any(|queue| device.driver_fault(queue).is_some()));
        assert_eq!(
            device.take_host_fault(),
            None,
            "every address was checked before its use"
        );
        let cured = given(&mut play_scenario(
            &mut device,
            (ram, format, wanted),
            &scenario,
        ));
        assert_eq!(cured, undisturbed, "a reset cures it");
    }
    (chains, faults)
}

fn race_each<C: ModelCase>(format: Format) {
    for (case, _) in C::all() {
        let (chains, faults) = race(&case, format);
        assert!(chains > 0 && faults > 0, "{chains} chains, {faults} faults");
    }
}

fn a_reset_cures_a_concurrently_overwritten_split_ring<C: ModelCase>() {
    race_each::<C>(Format::Split);
}

fn a_reset_cures_a_concurrently_overwritten_packed_ring<C: ModelCase>() {
    race_each::<C>(Format::Packed);
}

over_models! {
    blk console entropy gpio i2c spi: {
        a_reset_cures_a_concurrently_overwritten_split_ring
        a_reset_cures_a_concurrently_overwritten_packed_ring
    }
}

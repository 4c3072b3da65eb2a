//! A driver that scribbles over its rings and buffers from another thread while the device works.

use std::sync::atomic::{AtomicBool, Ordering};

use virtside::{
    Features,
    mmio::Access,
    models::{Block, BlockOptions},
    testing::{Buffer, PackedDriver, Registers},
};
use virtside_tests::{
    BASE, DATA, SIZE, TestRam, config, driver, guest, random::Random, rings::settle,
};

use super::support::*;

/// Rounds of each format, each with a device that is set up anew.
const ROUNDS: u64 = 150;

/// Writes what could be a descriptor, an index or a header, until told to stop.
fn scribble(ram: TestRam, mut random: Random, begun: &AtomicBool, stop: &AtomicBool) {
    begun.store(true, Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        // A descriptor's address and length, seldom the rest: or no chain would be good.
        let slot = 16 * random.below(16) as usize;
        let len = random.below(0x400) as u32;
        let addr = DATA + random.below(0x1000);
        let any = random.below(u64::MAX).to_le_bytes();
        let _ = match random.below(64) {
            0 => ram.write(slot + 8, &any),
            1 => ram.write(slot, &any),
            2..32 => ram.write(slot + 8, &len.to_le_bytes()),
            _ => ram.write(slot, &addr.to_le_bytes()),
        };
        let kind = random.below(15) as u8;
        ram.write((DATA - BASE) as usize, &[kind, 0, 0, 0]);
    }
}

fn race(packed: bool) -> (u64, u32) {
    let (guest, ram) = guest(Block::new(Disk::new(), BlockOptions::new(SIZE)), 4);
    let mut guest = guest.offering(virtside::Offer::AS_IS.with(Features::RING_PACKED));
    let format = if packed {
        Features::RING_PACKED
    } else {
        Features::empty()
    };
    let wanted = all() | Features::RING_RESET | Features::SUSPEND | format;
    let (mut chains, mut faults) = (0, 0);
    for round in 0..ROUNDS {
        let mut split = driver(ram, 0);
        let mut ring = PackedDriver::new(ram.flat(BASE), BASE, SIZE);
        let queue = if packed { ring.config(0) } else { config(0) };
        let offered = guest.offered();
        let features = if packed {
            offered
        } else {
            offered.difference(Features::RING_PACKED)
        };
        assert!(guest.bring_up(
            features.intersection(wanted | Features::VERSION_1),
            &[queue]
        ));
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|threads| {
            let (begun, stop) = (&begun, &stop);
            threads
                .spawn(move || scribble(ram, Random::new(0x1234_5678_9abc + round), begun, stop));
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let mut random = Random::new(0xfeed_beef_cafe + round);
            for _ in 0..200 {
                let before = guest.device().counters().chains;
                let buffers = [
                    Buffer::readable(HEADER, 16),
                    Buffer::writable(BODY, 20),
                    Buffer::writable(STATUS, 1),
                ];
                if packed {
                    ring.send(0, &buffers);
                } else {
                    split.send(0, &buffers);
                }
                let _ = guest.kick(0);
                let _ = guest.poll(SIZE);
                let done = guest.device().counters().chains.wrapping_sub(before);
                assert!(done <= u32::from(SIZE), "{done} chains in one poll");
                chains += u64::from(done);
                if random.once_in(50) {
                    let offset = random.below(0x140) as u32;
                    let width = 1 << random.below(4);
                    let _ = guest.access(Access::Read { offset, width });
                }
                if guest.driver_fault(0).is_some() {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        faults += u32::from(guest.driver_fault(0).is_some());
        // No address was used without its check.
        assert_eq!(guest.take_host_fault(), None);
        // A reset cures it.
        let mut driver = driver(ram, 0);
        assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
        driver.write(HEADER, &T_GET_ID.to_le_bytes());
        driver.send(
            3,
            &[
                Buffer::readable(HEADER, 16),
                Buffer::writable(BODY, 20),
                Buffer::writable(STATUS, 1),
            ],
        );
        let _ = guest.kick(0);
        settle(&mut guest);
        assert_eq!(driver.take_used(), Some((3, 21)));
    }
    (chains, faults)
}

#[test]
fn a_split_ring_scribbled_over_meanwhile_is_cured_by_a_reset() {
    let (chains, faults) = race(false);
    assert!(chains > 0 && faults > 0, "{chains} chains, {faults} faults");
}

#[test]
fn a_packed_ring_scribbled_over_meanwhile_is_cured_by_a_reset() {
    let (chains, faults) = race(true);
    assert!(chains > 0 && faults > 0, "{chains} chains, {faults} faults");
}

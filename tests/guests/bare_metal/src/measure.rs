//! Measures register reads of a device against exits that the VMM answers at once, and block reads.

use crate::{
    Console, blk,
    machine::{DISK, EXIT, load, ticks},
};

const ROUNDS: usize = 201;
const READS: u64 = 300;

/// Returns how many ticks a load from this address takes.
fn load_time(address: usize) -> u64 {
    let start = ticks();
    for _ in 0..READS {
        core::hint::black_box(load(address));
    }
    (ticks() - start) / READS
}

fn median(mut times: [u64; ROUNDS]) -> u64 {
    times.sort_unstable();
    times[ROUNDS / 2]
}

pub fn run(console: &mut Console, ticks_per_ms: u64) {
    let per_second = |ticks: u64| ticks_per_ms * 1000 / ticks.max(1);
    let (mut bare, mut device, mut ratio) = ([0; ROUNDS], [0; ROUNDS], [0; ROUNDS]);
    // In turns, so that both meet the same disturbances.
    for round in 0..ROUNDS {
        bare[round] = load_time(EXIT);
        // DeviceID.
        device[round] = load_time(DISK + 8);
        ratio[round] = device[round] * 1000 / bare[round];
    }
    console.say(format_args!(
        "{} exits a second bare, {} register reads a second, each read takes {} per mille of an exit",
        per_second(median(bare)),
        per_second(median(device)),
        median(ratio),
    ));
    let mut disk = blk::new();
    disk.disable_interrupts();
    let mut bytes = [0; 4096];
    let mut times = [0; ROUNDS];
    for time in &mut times {
        let start = ticks();
        for turn in 0..40 {
            blk::read(&mut disk, turn * 8, &mut bytes);
        }
        *time = (ticks() - start) / 40;
    }
    console.say(format_args!(
        "{} reads of 4 KiB a second, polled, one at a time",
        per_second(median(times))
    ));
}

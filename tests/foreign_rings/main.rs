//! Drivers of other projects at virtside's rings: many requests of random sizes, several in flight,
//! written and read back against a copy of the disk. None of these drivers knows IN_ORDER; a driver
//! of this project tests its batches.
//!
//! Neither side polls: the device runs after a kick and the driver after an interrupt, so a lost
//! wake-up fails the test. The environment variable `ROUNDTRIPS` sets the number of requests of
//! each run.

mod batches;
mod board;
mod stepped;
mod threads;
mod traffic;
mod vhost_user;
mod virtio_driver;
mod virtio_drivers;

use virtside::Features;

/// Requests of a run.
fn requests() -> usize {
    match std::env::var("ROUNDTRIPS") {
        Ok(count) => count.parse().expect("ROUNDTRIPS is a number"),
        Err(_) => 20_000,
    }
}

/// Every subset of `varied`, each with `always`.
fn subsets(always: Features, varied: &[Features]) -> Vec<Features> {
    (0..1u32 << varied.len())
        .map(|subset| {
            let chosen = |&(bit, _): &(usize, &Features)| subset >> bit & 1 != 0;
            let chosen = varied.iter().enumerate().filter(chosen);
            chosen.fold(always, |set, (_, &feature)| set | feature)
        })
        .collect()
}

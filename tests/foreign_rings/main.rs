//! Drivers that nobody here wrote, at our rings: many requests of random sizes, several in flight,
//! written and read back against a copy of what the disk should hold. None of them knows IN_ORDER, whose
//! batches a driver of ours takes.
//!
//! Nothing is polled: the device looks when it was kicked, the driver when it was interrupted, so a
//! lost wake-up fails. `ROUNDTRIPS` in the environment is the number of requests of each run.

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

/// Every subset of `varied`, beside what is in all of them.
fn subsets(always: Features, varied: &[Features]) -> Vec<Features> {
    (0..1u32 << varied.len())
        .map(|subset| {
            let chosen = |&(bit, _): &(usize, &Features)| subset >> bit & 1 != 0;
            let chosen = varied.iter().enumerate().filter(chosen);
            chosen.fold(always, |set, (_, &feature)| set | feature)
        })
        .collect()
}

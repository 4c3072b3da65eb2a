//! The split ring from the driver's side: what a device makes of every ring, right or wrong.

#[path = "split_ring/chains.rs"]
mod chains;
#[path = "split_ring/differential.rs"]
mod differential;
#[path = "split_ring/faults.rs"]
mod faults;
#[path = "split_ring/flight.rs"]
mod flight;
#[path = "split_ring/hostile.rs"]
mod hostile;
#[path = "split_ring/indirect.rs"]
mod indirect;
#[path = "split_ring/interrupts.rs"]
mod interrupts;
#[path = "split_ring/kicks.rs"]
mod kicks;
#[path = "split_ring/reference.rs"]
mod reference;
#[path = "split_ring/rings.rs"]
mod rings;
#[path = "split_ring/streams.rs"]
mod streams;
#[path = "split_ring/threads.rs"]
mod threads;
#[path = "split_ring/untouched.rs"]
mod untouched;
#[path = "split_ring/used.rs"]
mod used;

//! The split ring from the driver's side: what a device makes of every ring, right or wrong.

mod chains;
mod differential;
mod faults;
mod flight;
mod hostile;
mod indirect;
mod interrupts;
mod kicks;
mod reference;
mod rings;
mod streams;
mod threads;
mod untouched;
mod used;

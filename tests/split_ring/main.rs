//! The split ring as the driver sees it: how a device handles every ring, valid or not.

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

//! For tests and fuzzing: a driver that can build any ring, right or wrong, a driver of registers,
//! and memories that count or change under the device's hands.
//!
//! Nothing here is for production, but all of it runs without `std`, on the target too.

mod driver;
mod fuzz;
mod memory;
mod registers;

pub use driver::{Buffer, FakeDriver, INDIRECT, Layout, NEXT, WRITE, fake_queue};
pub use fuzz::{FuzzRam, fuzz_registers, fuzz_shifting, fuzz_split_ring};
pub use memory::{CountingMem, CountingWindow, Counts, Shift, ShiftingMem, ShiftingWindow};
pub use registers::Registers;

use crate::{Chain, FlatMem, Ram};

/// Shows `show` a chain of `readable` bytes and room for `writable` more.
pub fn one_chain(readable: &[u8], writable: u32, show: impl FnOnce(&FlatMem, &Chain<4>)) {
    static RAM: Ram<4096> = Ram::new();
    let mem = RAM.flat(0);
    RAM.write(0, readable);
    let mut chain = Chain::new();
    chain.begin(0);
    let len = crate::num::clamp_u32(readable.len());
    let _ = chain.push(&mem, 0, len, false);
    let _ = chain.push(&mem, 2048, writable, true);
    show(&mem, &chain);
}

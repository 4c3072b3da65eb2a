//! Tools for tests and fuzzing of devices. Do not use them in production.
//!
//! * [`FakeDriver`] builds split rings and `PackedDriver` builds packed rings, valid or invalid.
//! * [`Registers`] accesses a register block as a driver does.
//! * [`CountingMem`] counts the accesses of the device, and [`ShiftingMem`] changes memory between
//!   two accesses of the device.
//! * [`Shot`] finds the bytes of a memory that changed.
//!
//! All of these tools run without `std`, so they also run on the target.

mod driver;
mod memory;
#[cfg(feature = "packed")]
mod packed;
mod registers;
mod shot;

pub use driver::{Buffer, FakeDriver, INDIRECT, Layout, NEXT, WRITE, fake_queue};
pub use memory::{CountingMem, CountingWindow, Counts, Shift, ShiftingMem, ShiftingWindow};
#[cfg(feature = "packed")]
pub use packed::{AVAIL, PackedDriver, USED};
pub use registers::Registers;
pub use shot::Shot;

pub use crate::memory::order;
use crate::{
    FlatMem,
    memory::Ram,
    queue::{Chain, Segment},
};

/// Builds a chain in `ram`, and calls `show` with the memory and the chain.
///
/// The chain has one device-readable buffer with the bytes `readable` at address 0, and one
/// device-writable buffer of `writable` bytes at address 2048. Neither buffer may exceed 2048
/// bytes; this is not checked.
pub fn one_chain(
    ram: &'static Ram<4096>,
    readable: &[u8],
    writable: u32,
    show: impl FnOnce(&FlatMem, &Chain<4>),
) {
    let mem = ram.flat(0);
    ram.write(0, readable);
    let mut chain = Chain::new();
    let len = crate::num::clamp_u32(readable.len());
    chain.put(0, Segment { addr: 0, len });
    chain.put(
        1,
        Segment {
            addr: 2048,
            len: writable,
        },
    );
    chain.header.end_readable(1, len.into());
    let _ = chain
        .header
        .end(0, 2, u64::from(len).wrapping_add(writable.into()));
    show(&mem, &chain);
}

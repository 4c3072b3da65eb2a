//! For tests and fuzzing: a driver that can build any ring, right or wrong, a driver of registers,
//! and memories that count or change under the device's hands.
//!
//! Nothing here is for production, but all of it runs without `std`, on the target too.

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

/// Shows `show` a chain of `readable` bytes and room for `writable` more, up to 2048 each, in `ram`.
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

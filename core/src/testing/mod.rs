//! For tests and fuzzing: a driver that can build any ring, right or wrong, and memories that
//! count, refuse or change under the device's hands.

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

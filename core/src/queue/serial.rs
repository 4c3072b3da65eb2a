//! Serial numbers of chains, and the reserved values that are never serial numbers.
//!
//! A queue gives each chain that it pops a serial number. The number is kept twice: in the chain,
//! and in the queue's table of chains in flight. The queue marks a chain as used only if both
//! numbers agree. A clone of an earlier chain has an older number and is rejected, even if a new
//! chain with the same head is in flight.
//!
//! | format | serial numbers |
//! |---|---|
//! | split | below 2^31 + 2^15, see [`SPLIT_WRAP`]; the low half is the index of the available entry |
//! | packed | odd |
//!
//! A chain or a table entry without a serial number contains a reserved value. In either format,
//! with and without the XOR, a reserved value never equals a serial number.
//!
//! The first number of a queue depends on its generation, so that most clones of chains of earlier
//! generations are rejected, too. Two generations may share numbers, at the latest 2^15 generations
//! apart, so an owner must discard its clones when a queue stops.
//!
//! # How the XOR disables the fast path of a packed queue
//!
//! The fast path of `push_used` is one comparison: the number in the table entry against the number
//! in the chain. A packed queue must not take the fast path while some id is not in its home entry,
//! since the queue then has to search for the id. A flag for this case would cost the fast path a
//! second test. Instead the copies in the table are XORed with [`PACKED_SLOW_XOR`], so that the
//! comparison fails. The slow path undoes the XOR.
//!
//! The XOR inverts bit 30, so the fast path confuses two serial numbers that differ in bit 30 only.
//! The numbers of a packed queue count up by 2, so such chains are at least 2^29 chains apart. A
//! clone of an earlier chain that is kept that long may be accepted.

/// Serial number of a chain buffer that holds no chain: nothing was popped into it, or the last pop
/// found a fault.
pub(super) const NO_CHAIN: u32 = u32::MAX - 1;
/// Table entry without a chain in flight.
pub(super) const FREE: u32 = u32::MAX - 3;
/// Table entry of a head that is beyond the size of a split queue.
pub(super) const BEYOND_SIZE: u32 = u32::MAX - 7;
/// The serial numbers of a split queue wrap at this value, but only when the available index is
/// read. One read makes at most 2^15 chains available, so every number is below this value + 2^15.
pub(super) const SPLIT_WRAP: u32 = 1 << 31;
/// XORed into every entry of the in-flight table of a packed queue, the free ones included, while
/// chains have to take the slow path.
pub(super) const PACKED_SLOW_XOR: u32 = 1 << 30;

const _: () = {
    // The highest serial number of a split queue.
    let highest = SPLIT_WRAP | 0xffff;
    assert!(BEYOND_SIZE > highest);
    // `FREE` after the XOR is no serial number of a split queue either.
    let free = FREE ^ PACKED_SLOW_XOR;
    assert!(free > highest);
    // No reserved value is odd, so none is a serial number of a packed queue.
    assert!((BEYOND_SIZE | FREE | NO_CHAIN | free) & 1 == 0);
};

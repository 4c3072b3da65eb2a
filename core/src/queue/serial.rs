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
//! A chain or a table entry without a serial number contains a reserved value. In either format and
//! with either XOR constant, a reserved value never equals a serial number. A chain of an earlier
//! generation of the queue is therefore rejected even if that generation had the other format.
//!
//! # How the XOR constants disable the fast path
//!
//! The fast path of `push_used` is one comparison: the number in the table entry against the number
//! in the chain. Sometimes the fast path must not be taken: a queue with IN_ORDER has to check the
//! order first, and a packed queue has to search for an id that is not in its home entry. A flag
//! for these cases would cost the fast path a second test. Instead one of the two copies is XORed
//! with a constant, so that the comparison fails. The slow path undoes the XOR. A split queue
//! changes the copy in the chain ([`SPLIT_IN_ORDER_XOR`]), a packed queue the copies in its table
//! ([`PACKED_SLOW_XOR`]).
//!
//! The XOR inverts bit 30, so the fast path confuses two serial numbers that differ in bit 30 only.
//! The numbers count up by 1 in a split and by 2 in a packed queue, so such chains are at least
//! 2^29 chains apart. A clone of an earlier chain that is kept that long may be accepted.

/// Serial number of a chain buffer that holds no chain: nothing was popped into it, or the last pop
/// found a fault.
pub(super) const NO_CHAIN: u32 = u32::MAX - 1;
/// Table entry without a chain in flight.
pub(super) const FREE: u32 = u32::MAX - 3;
/// Table entry without a chain in flight, in a split queue with IN_ORDER.
pub(super) const FREE_IN_ORDER: u32 = u32::MAX - 5;
/// Table entry of a head that is beyond the size of a split queue.
pub(super) const BEYOND_SIZE: u32 = u32::MAX - 7;
/// The serial numbers of a split queue wrap at this value, but only when the available index is
/// read. One read makes at most 2^15 chains available, so every number is below this value + 2^15.
pub(super) const SPLIT_WRAP: u32 = 1 << 31;
/// XORed into the serial number in a chain of a split queue with IN_ORDER. The table keeps the
/// plain number. [`SplitQueue::push_used`](super::SplitQueue::push_used) then fails, and only
/// `push_in_order` accepts the chain.
pub(super) const SPLIT_IN_ORDER_XOR: u32 = 1 << 30;
/// XORed into every entry of the in-flight table of a packed queue, the free ones included, while
/// chains have to take the slow path.
pub(super) const PACKED_SLOW_XOR: u32 = 1 << 30;

const _: () = {
    // The highest serial number of a split queue, after the XOR.
    let highest = SPLIT_WRAP | SPLIT_IN_ORDER_XOR | 0xffff;
    assert!(BEYOND_SIZE > highest);
    // `FREE` after the XOR lies between the two ranges of a split queue, plain and XORed.
    let (free, plain) = (FREE ^ PACKED_SLOW_XOR, SPLIT_WRAP | 0xffff);
    assert!(free > plain && free < SPLIT_WRAP | SPLIT_IN_ORDER_XOR);
    // No reserved value is odd, so none is a serial number of a packed queue.
    assert!((BEYOND_SIZE | FREE_IN_ORDER | FREE | NO_CHAIN | free) & 1 == 0);
};

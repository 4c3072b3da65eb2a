//! Serial numbers of chains, and the words that stand where there is none.
//!
//! A chain is told from a clone of an earlier one with the same head by its number. That of a chain in
//! a split ring is below 2^31 + 2^16, with IN_ORDER after one bit was [turned](SPLIT_IN_ORDER_XOR); in a packed
//! ring it is odd. What stands for no chain is none of these in either format, so that a chain of
//! another life gives nothing back, whatever the format was then.

/// In place of the number of a chain that was never popped, or was taken back.
pub(super) const NO_CHAIN: u32 = u32::MAX - 1;
/// In place of that of a chain in flight: there is none.
pub(super) const FREE: u32 = u32::MAX - 3;
/// The same in a split ring with IN_ORDER.
pub(super) const ORDERED: u32 = u32::MAX - 5;
/// The same: the head is beyond the size of a split ring.
pub(super) const ABSENT: u32 = u32::MAX - 7;
/// Numbers of a batch in a split ring begin below this.
pub(super) const SPLIT_END: u32 = 1 << 31;
/// What is turned in a split ring with IN_ORDER: a chain has another number than is noted of it, so
/// that it is not given back without asking for its turn.
pub(super) const SPLIT_IN_ORDER_XOR: u32 = 1 << 30;
/// The same in a packed ring where not all chains are in their places, of [`FREE`], too.
pub(super) const PACKED_FAR_XOR: u32 = 1 << 30;

const _: () = {
    // The highest number in a split ring, and the highest after the turn.
    let highest = SPLIT_END | SPLIT_IN_ORDER_XOR | 0xffff;
    assert!(ABSENT > highest);
    let (free, plain) = (FREE ^ PACKED_FAR_XOR, SPLIT_END | 0xffff);
    assert!(free > plain && free < SPLIT_END | SPLIT_IN_ORDER_XOR);
    assert!((ABSENT | ORDERED | FREE | NO_CHAIN | free) & 1 == 0);
};

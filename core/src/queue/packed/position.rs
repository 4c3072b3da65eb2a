//! Positions in a packed ring.

use crate::{
    memory::{AVAIL, USED},
    num,
};

/// AVAIL and USED. The two flags are equal in a used descriptor (packed-13) and differ in an
/// available one. The start of each round of the ring inverts both.
pub(super) const BOTH: u16 = AVAIL | USED;

/// A slot of the ring, and the wrap counter of a round.
///
/// The low half is the slot. The high half contains the expected flags AVAIL and USED: the flags of
/// an available descriptor in the position of the next available chain, and the flags of a used
/// descriptor in the position of the next used element. AVAIL equals the wrap counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(u32);

impl Position {
    /// Creates the position at which both sides start (packed-11): slot 0, with these flags.
    pub(super) fn start(flags: u16) -> Self {
        Self(u32::from(flags) << 16)
    }

    #[inline(always)]
    pub(super) fn slot(self) -> u16 {
        num::low16(self.0)
    }

    #[inline(always)]
    pub(super) fn flags(self) -> u16 {
        num::high16(self.0)
    }

    /// Advances by `by` slots, at most the size of the ring.
    ///
    /// The result may lie beyond the end of the ring, where no descriptor is. The caller applies
    /// [`around`](Self::around) before it uses the slot.
    #[inline(always)]
    pub(super) fn advance(&mut self, by: u16) {
        // Neither summand is above 32768, so the sum stays in the low half.
        self.0 = self.0.wrapping_add(by.into());
    }

    /// Returns this position, moved to the next round if it lies beyond the end of the ring.
    pub(super) fn around(self, size: u16) -> Self {
        if self.slot() < size {
            return self;
        }
        Self(self.0.wrapping_sub(size.into()) ^ (u32::from(BOTH) << 16))
    }

    pub(super) fn wrap(self) -> bool {
        self.flags() & AVAIL != 0
    }

    /// Returns the position as the word of an event suppression structure whose flags are 0.
    pub(super) fn word(self) -> u32 {
        self.halfword().into()
    }

    /// Returns the slot in bits 0 to 14 and the wrap counter in bit 15.
    pub(super) fn halfword(self) -> u16 {
        self.slot() | if self.wrap() { 1 << 15 } else { 0 }
    }

    /// Parses a [`halfword`](Self::halfword). `flags` are the flags of a round in which the wrap
    /// counter is 1. Returns `None` if the slot is beyond the end of the ring.
    pub(super) fn from_halfword(halfword: u16, flags: u16, size: u16) -> Option<Self> {
        let (slot, wrap) = (halfword & 0x7fff, halfword >> 15 != 0);
        let flags = if wrap { flags } else { flags ^ BOTH };
        (slot < size).then_some(Self(u32::from(flags) << 16 | u32::from(slot)))
    }

    /// Returns the number of slots from this position to `ahead`, or `None` if `ahead` is not
    /// within `size` slots after this position.
    pub(super) fn distance(self, ahead: Self, size: u16) -> Option<u16> {
        if self.wrap() == ahead.wrap() {
            ahead.slot().checked_sub(self.slot())
        } else {
            let back = self.slot().checked_sub(ahead.slot())?;
            size.checked_sub(back)
        }
    }

    /// Returns whether the event descriptor of a suppression word is among the last `given` slots
    /// before this position.
    ///
    /// A slot number beyond the end of the ring may count as passed. No driver needs such an event.
    #[inline(always)]
    pub(super) fn has_passed(self, word: u32, given: u32, size: u16) -> bool {
        let (slot, now, size) = (word & 0x7fff, u32::from(self.slot()), u32::from(size));
        // Slots used after the event descriptor. If the event is still ahead, the subtraction wraps
        // to a number that is far above any `given`.
        let behind = now.wrapping_sub(slot).wrapping_sub(1);
        // The wrap counter of the word, shifted, is at the bit of USED in a position.
        if ((word << 16) ^ self.0) & (u32::from(USED) << 16) == 0 {
            behind < given
        } else if now >= size {
            // This position lies beyond the end of the ring, and the event in the next round.
            behind.wrapping_sub(size) < given
        } else {
            // The event was in the previous round. A slot before `now` would be in the next round,
            // and is not passed yet.
            slot >= now && slot < size && behind.wrapping_add(size) < given
        }
    }
}

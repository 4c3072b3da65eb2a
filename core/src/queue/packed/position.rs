//! Where a side of a packed ring is.

use crate::{
    memory::{AVAIL, USED},
    num,
};

/// Equal in a used descriptor (packed-13), and not in an available one; a round turns both.
pub(super) const BOTH: u16 = AVAIL | USED;

/// A slot of the ring in the round of a wrap counter.
///
/// The slot is in the low half. In the high half are AVAIL and USED of the descriptor that is looked
/// for here, or written; the wrap counter is AVAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(u32);

impl Position {
    /// Where both sides start (packed-11).
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

    /// So many slots on, at most the size of the ring. That may be behind its end, where no descriptor
    /// is: before it is looked at it has to be brought [`around`](Self::around).
    #[inline(always)]
    pub(super) fn advance(&mut self, by: u16) {
        // Neither is over 32768, so the sum stays in the low half.
        self.0 = self.0.wrapping_add(by.into());
    }

    /// The same position, in the next round if it is behind the end of the ring.
    pub(super) fn around(self, size: u16) -> Self {
        if self.slot() < size {
            return self;
        }
        Self(self.0.wrapping_sub(size.into()) ^ (u32::from(BOTH) << 16))
    }

    pub(super) fn wrap(self) -> bool {
        self.flags() & AVAIL != 0
    }

    /// As an event suppression structure has it.
    pub(super) fn word(self) -> u32 {
        self.halfword().into()
    }

    pub(super) fn halfword(self) -> u16 {
        self.slot() | if self.wrap() { 1 << 15 } else { 0 }
    }

    /// The same the other way round, with these flags in a round whose wrap counter is 1.
    pub(super) fn from_word(word: u16, flags: u16, size: u16) -> Option<Self> {
        let (slot, wrap) = (word & 0x7fff, word >> 15 != 0);
        let flags = if wrap { flags } else { flags ^ BOTH };
        (slot < size).then_some(Self(u32::from(flags) << 16 | u32::from(slot)))
    }

    /// How many slots ahead of this the other one is, at most `size`.
    pub(super) fn distance(self, ahead: Self, size: u16) -> Option<u16> {
        if self.wrap() == ahead.wrap() {
            ahead.slot().checked_sub(self.slot())
        } else {
            let back = self.slot().checked_sub(ahead.slot())?;
            size.checked_sub(back)
        }
    }

    /// Whether the descriptor that an event suppression structure names is among the last `given`
    /// slots before this. One behind the end of the ring may be, too: nobody has to ask for that.
    #[inline(always)]
    pub(super) fn has_passed(self, word: u32, given: u32, size: u16) -> bool {
        let (slot, now, size) = (word & 0x7fff, u32::from(self.slot()), u32::from(size));
        // How many were given back behind it; far more than ever are if it is still ahead.
        let behind = now.wrapping_sub(slot).wrapping_sub(1);
        // The wrap counter is where USED is.
        if ((word << 16) ^ self.0) & (u32::from(USED) << 16) == 0 {
            behind < given
        } else if now >= size {
            // It is of the next round, and so is this position.
            behind.wrapping_sub(size) < given
        } else {
            // It is of the last round; what would be in the next one is not passed.
            slot >= now && slot < size && behind.wrapping_add(size) < given
        }
    }
}

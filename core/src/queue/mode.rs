//! The negotiated interrupt and order features of a queue, in either format.

use crate::features::Features;
use crate::features::built;

/// Interrupt and order mode of a queue.
///
/// The mode is one byte, so that the fast path compares it once with [`EVENT_IDX`](Self::EVENT_IDX)
/// instead of testing three flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(u8);

impl Mode {
    /// The mode of the fast path: EVENT_IDX was negotiated, IN_ORDER was not, and the queue is not
    /// quiet.
    pub(super) const EVENT_IDX: Self = Self(1);
    const IN_ORDER: u8 = 2;
    const QUIET: u8 = 4;
    /// The driver has not accepted IN_ORDER, so each chain gets a used element of its own.
    const SINGLE: u8 = 8;
    /// The host wants the order.
    const KEPT: u8 = 16;

    pub(super) fn of(features: Features) -> Self {
        let in_order = built::IN_ORDER && features.contains(Features::IN_ORDER);
        let event_idx = features.contains(Features::EVENT_IDX);
        Self(u8::from(event_idx) | if in_order { Self::IN_ORDER } else { 0 })
    }

    pub(super) const fn event_idx(self) -> bool {
        self.0 & 1 != 0
    }

    pub(super) const fn in_order(self) -> bool {
        built::IN_ORDER && self.0 & Self::IN_ORDER != 0
    }

    /// Gives chains back in order, even if the driver has not accepted IN_ORDER.
    pub(super) const fn keep_order(&mut self) {
        if built::IN_ORDER {
            self.0 |= Self::KEPT;
            if !self.in_order() {
                self.0 |= Self::IN_ORDER | Self::SINGLE;
            }
        }
    }

    /// Returns whether the host wants the order.
    pub(super) const fn is_kept(self) -> bool {
        built::IN_ORDER && self.0 & Self::KEPT != 0
    }

    /// Returns whether the queue keeps the order, although the driver has not accepted IN_ORDER.
    pub(super) const fn is_single(self) -> bool {
        built::IN_ORDER && self.0 & Self::SINGLE != 0
    }

    /// Returns whether the device must not access the rings any more.
    pub(super) const fn is_quiet(self) -> bool {
        self.0 & Self::QUIET != 0
    }

    pub(super) const fn set_quiet(&mut self, quiet: bool) {
        self.0 = self.0 & !Self::QUIET | if quiet { Self::QUIET } else { 0 };
    }
}

//! What is known of one line.

use super::{Direction, Trigger};
use crate::slots::Token;

/// What the driver wants of a line.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct State {
    pub(super) direction: Direction,
    /// How it is driven as an output, now or later (gpio-20).
    pub(super) value: Option<bool>,
    /// What its interrupt is enabled for.
    pub(super) trigger: Option<Trigger>,
    /// The level that was last sensed.
    pub(super) last: bool,
    /// It interrupted and the driver was not told: an edge at any time, a level only while there is
    /// an event (gpio-10, gpio-11).
    pub(super) fired: bool,
    /// The eventq buffer: while there is one, the interrupt is unmasked.
    pub(super) event: Option<Token>,
    /// The eventq buffer of an interrupt that was disabled: it is to be given back as invalid.
    pub(super) void: Option<Token>,
}

impl State {
    pub(super) const NEW: Self = Self {
        direction: Direction::None,
        value: None,
        trigger: None,
        last: false,
        fired: false,
        event: None,
        void: None,
    };

    /// The interrupt is disabled: nothing is kept for it (gpio-12, gpio-14).
    pub(super) fn disable(&mut self) {
        self.trigger = None;
        self.fired = false;
        self.void = self.event.take().or(self.void);
    }

    pub(super) fn due(&self) -> Option<Token> {
        self.void.or(self.event.filter(|_| self.fired))
    }
}

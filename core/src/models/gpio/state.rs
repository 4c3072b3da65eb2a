//! What is known of one line.

use super::{Direction, Trigger};
use crate::model::Token;

/// What the driver wants of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The eventq buffer in hand.
    pub(super) buffer: EventBuffer,
    /// Its name; `None` if a restored device was not shown it again yet.
    pub(super) token: Option<Token>,
}

/// The eventq buffer of a line that the device has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EventBuffer {
    /// There is none.
    #[default]
    None,
    /// The interrupt is unmasked, and the buffer waits for it.
    Kept,
    /// The interrupt was disabled meanwhile: it is to be given back as invalid.
    Void,
}

impl State {
    pub(super) const NEW: Self = Self {
        direction: Direction::None,
        value: None,
        trigger: None,
        last: false,
        fired: false,
        buffer: EventBuffer::None,
        token: None,
    };

    /// The interrupt is disabled: nothing is kept for it (gpio-12, gpio-14).
    pub(super) fn disable(&mut self) {
        self.trigger = None;
        self.fired = false;
        if self.buffer == EventBuffer::Kept {
            self.buffer = EventBuffer::Void;
        }
    }

    /// The buffer is given back, or was taken away.
    pub(super) fn let_go(&mut self) {
        self.buffer = EventBuffer::None;
        self.token = None;
    }

    pub(super) fn due(&self) -> Option<Token> {
        self.token.filter(|_| match self.buffer {
            EventBuffer::None => false,
            EventBuffer::Kept => self.fired,
            EventBuffer::Void => true,
        })
    }
}

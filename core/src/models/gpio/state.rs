//! The device's state of one line.

use super::{Direction, Trigger};
use crate::model::Token;

/// The state that the driver asked for, and the eventq buffer of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct State {
    pub(super) direction: Direction,
    /// Value that the driver set. The line is driven to it while it is an output (gpio-20).
    pub(super) value: Option<bool>,
    /// Trigger that the interrupt is enabled for.
    pub(super) trigger: Option<Trigger>,
    /// Level that was last read.
    pub(super) last: bool,
    /// The line interrupted, and the driver was not told yet. An edge sets this at any time. A
    /// level sets this only while the device keeps an eventq buffer (gpio-10, gpio-11).
    pub(super) fired: bool,
    /// The eventq buffer in hand.
    pub(super) buffer: EventBuffer,
    /// Token of the eventq buffer. `None` until a restored device has served the buffer again.
    pub(super) token: Option<Token>,
}

/// The eventq buffer of a line that the device has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EventBuffer {
    /// The device has no buffer of the line.
    #[default]
    None,
    /// The interrupt is unmasked, and the buffer waits for the interrupt.
    Kept,
    /// The driver disabled the interrupt, and the device must return the buffer as invalid.
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

    /// Disables the interrupt: discards a latched edge or level, and marks a kept buffer to be
    /// returned as invalid (gpio-12, gpio-14).
    pub(super) fn disable(&mut self) {
        self.trigger = None;
        self.fired = false;
        if self.buffer == EventBuffer::Kept {
            self.buffer = EventBuffer::Void;
        }
    }

    /// Clears the buffer when the device returns it, or when the driver has taken it away.
    pub(super) fn drop_buffer(&mut self) {
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

//! The device's state of one line.

use super::{Direction, Trigger};
use crate::model::Token;

/// The state that the driver asked for, and the eventq buffer of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct State {
    pub(super) direction: Direction,
    /// Value that the driver set. While the line is an output, it is driven to this value
    /// (gpio-20).
    pub(super) value: Option<bool>,
    /// Trigger that the interrupt is enabled for.
    pub(super) trigger: Option<Trigger>,
    /// Level of the line when it was last read. True means high.
    pub(super) last: bool,
    /// The line interrupted, and the device has not returned a buffer for this interrupt yet. An
    /// edge sets this flag at any time. A level sets it only while the device keeps an eventq
    /// buffer (gpio-10, gpio-11).
    pub(super) fired: bool,
    /// The state of the line's eventq buffer.
    pub(super) buffer: EventBuffer,
    /// Token of the eventq buffer. `None` until a restored device has served the buffer again.
    pub(super) token: Option<Token>,
}

/// The state of a line's eventq buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EventBuffer {
    /// The device has no buffer of the line in hand.
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

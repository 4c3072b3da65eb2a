//! Hardware in software: chips and lines that behave like real ones.

mod eeprom;
mod lines;
mod wire;

pub(super) use eeprom::Eeprom;
pub(super) use lines::{LINES, Lines};
pub(super) use wire::Wire;

//! What lines are to the gpio device.

use super::{Direction, Trigger};

bitflags::bitflags! {
    /// What a line can do.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Abilities: u8 {
        /// It can be driven.
        const OUTPUT = 1;
        /// It can be sensed as an input.
        const INPUT = 2;
        /// Its interrupts reach [`Gpio::interrupt`](super::Gpio::interrupt), or somebody calls
        /// [`Gpio::sense`](super::Gpio::sense) often enough.
        const INTERRUPT = 4;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Abilities {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Abilities({=u8:#x})", self.bits());
    }
}

/// Why a line did not do as asked. The driver gets an error either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GpioError {
    /// It cannot.
    Unsupported,
    /// It failed: [`HostFault::Backend`](crate::HostFault) is reported.
    Failed,
}

/// A bank of lines, numbered from 0. An array of [`GpioLine`]s is one; a port expander that reaches
/// its lines together is another.
///
/// The device knows what the driver asked for: it only asks a line for what it can do, and drives
/// none that the driver has not made an output.
pub trait GpioLines {
    /// How many lines there are. Constant.
    fn count(&self) -> u16;

    /// What a line can do. Constant between resets.
    fn abilities(&self, line: u16) -> Abilities;

    /// The driver wants the line in this direction. An output starts at `high` if the driver has
    /// said so.
    ///
    /// # Errors
    /// [`GpioError`]; the line then counts as in its earlier direction, or as in none if that is
    /// what was asked for.
    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> Result<(), GpioError>;

    /// Whether the line is high; an output that cannot be sensed says how it is driven.
    ///
    /// # Errors
    /// [`GpioError`]
    fn level(&mut self, line: u16) -> Result<bool, GpioError>;

    /// Drives the line, which is an output.
    ///
    /// # Errors
    /// [`GpioError`]
    fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError>;

    /// Sets up an interrupt for this trigger, or none. A trigger may replace an earlier one, with no
    /// `None` in between.
    ///
    /// # Errors
    /// [`GpioError`]; the interrupt then counts as disabled.
    fn set_trigger(&mut self, line: u16, trigger: Option<Trigger>) -> Result<(), GpioError> {
        let _ = (line, trigger);
        Ok(())
    }
}

/// One line, whatever is behind it; see [`GpioLines`] for what is asked of it when.
///
/// Lines of several kinds share an array as `&mut dyn GpioLine`.
pub trait GpioLine {
    /// What it can do. Constant between resets.
    fn abilities(&self) -> Abilities;

    /// See [`GpioLines::set_direction`].
    ///
    /// # Errors
    /// As there.
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError>;

    /// See [`GpioLines::level`].
    ///
    /// # Errors
    /// As there.
    fn level(&mut self) -> Result<bool, GpioError>;

    /// See [`GpioLines::drive`].
    ///
    /// # Errors
    /// As there.
    fn drive(&mut self, high: bool) -> Result<(), GpioError>;

    /// See [`GpioLines::set_trigger`].
    ///
    /// # Errors
    /// As there.
    fn set_trigger(&mut self, trigger: Option<Trigger>) -> Result<(), GpioError> {
        let _ = trigger;
        Ok(())
    }
}

impl<T: GpioLine + ?Sized> GpioLine for &mut T {
    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError> {
        (**self).set_direction(direction, high)
    }
    fn level(&mut self) -> Result<bool, GpioError> {
        (**self).level()
    }
    fn drive(&mut self, high: bool) -> Result<(), GpioError> {
        (**self).drive(high)
    }
    fn set_trigger(&mut self, trigger: Option<Trigger>) -> Result<(), GpioError> {
        (**self).set_trigger(trigger)
    }
}

impl<T: GpioLine, const L: usize> GpioLines for [T; L] {
    fn count(&self) -> u16 {
        crate::num::clamp_u16(L)
    }
    fn abilities(&self, line: u16) -> Abilities {
        self.get(usize::from(line))
            .map_or(Abilities::empty(), GpioLine::abilities)
    }
    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> Result<(), GpioError> {
        one(self, line)?.set_direction(direction, high)
    }
    fn level(&mut self, line: u16) -> Result<bool, GpioError> {
        one(self, line)?.level()
    }
    fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError> {
        one(self, line)?.drive(high)
    }
    fn set_trigger(&mut self, line: u16, trigger: Option<Trigger>) -> Result<(), GpioError> {
        one(self, line)?.set_trigger(trigger)
    }
}

fn one<T>(lines: &mut [T], line: u16) -> Result<&mut T, GpioError> {
    lines
        .get_mut(usize::from(line))
        .ok_or(GpioError::Unsupported)
}

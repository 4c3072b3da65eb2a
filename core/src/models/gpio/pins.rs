//! Pins of `embedded-hal` as lines.
//!
//! The type of a pin determines its directions, so a line offers only the directions of its pin.
//! While the driver does not use an output, the pin keeps the value that it was last driven to. An
//! [`OpenDrainLine`] is released instead.

use embedded_hal::digital::{InputPin, OutputPin, StatefulOutputPin};

use super::{Abilities, Direction, GpioError, GpioLine};

fn failed<E>(_: E) -> GpioError {
    GpioError::Failed
}

fn drive(pin: &mut impl OutputPin, high: bool) -> Result<(), GpioError> {
    pin.set_state(high.into()).map_err(failed)
}

/// A line over an input pin.
///
/// ```
/// # #[derive(Debug)] struct Pin;
/// # impl embedded_hal::digital::ErrorType for Pin { type Error = core::convert::Infallible; }
/// # impl embedded_hal::digital::InputPin for Pin {
/// #     fn is_high(&mut self) -> Result<bool, Self::Error> { Ok(true) }
/// #     fn is_low(&mut self) -> Result<bool, Self::Error> { Ok(false) }
/// # }
/// # let button = Pin;
/// use virtside::models::gpio::{GpioLine, InputLine};
/// let mut line = InputLine::new(button).with_interrupt();
/// assert_eq!(line.level(), Ok(true));
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InputLine<P> {
    pin: P,
    interrupts: bool,
}

impl<P: InputPin> InputLine<P> {
    /// Creates the line of this pin.
    pub const fn new(pin: P) -> Self {
        Self {
            pin,
            interrupts: false,
        }
    }

    /// Declares that the line can interrupt. See [`Abilities::INTERRUPT`].
    #[must_use]
    pub fn with_interrupt(self) -> Self {
        Self {
            interrupts: true,
            ..self
        }
    }
}

impl<P: InputPin> GpioLine for InputLine<P> {
    fn abilities(&self) -> Abilities {
        let mut abilities = Abilities::INPUT;
        abilities.set(Abilities::INTERRUPT, self.interrupts);
        abilities
    }
    fn set_direction(&mut self, _: Direction, _: Option<bool>) -> Result<(), GpioError> {
        Ok(())
    }
    fn level(&mut self) -> Result<bool, GpioError> {
        self.pin.is_high().map_err(failed)
    }
    fn drive(&mut self, _: bool) -> Result<(), GpioError> {
        Err(GpioError::Unsupported)
    }
}

/// An output that cannot be read back. Its level is the value that it was last driven to. Reading
/// the level fails with [`GpioError::Unsupported`] until the driver has driven the line, and again
/// after the driver has given up the direction output.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutputLine<P> {
    pin: P,
    driven: Option<bool>,
}

impl<P: OutputPin> OutputLine<P> {
    /// Creates the line of this pin.
    pub const fn new(pin: P) -> Self {
        Self { pin, driven: None }
    }
}

impl<P: OutputPin> GpioLine for OutputLine<P> {
    fn abilities(&self) -> Abilities {
        Abilities::OUTPUT
    }
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError> {
        match (direction, high) {
            (Direction::Output, Some(high)) => self.drive(high),
            (Direction::Output, None) => Ok(()),
            // Leaving the output direction resets the value (gpio-09).
            (Direction::Input | Direction::None, _) => {
                self.driven = None;
                Ok(())
            }
        }
    }
    fn level(&mut self) -> Result<bool, GpioError> {
        self.driven.ok_or(GpioError::Unsupported)
    }
    fn drive(&mut self, high: bool) -> Result<(), GpioError> {
        drive(&mut self.pin, high)?;
        self.driven = Some(high);
        Ok(())
    }
}

/// An output whose level is the driven value, read back from the pin.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StatefulLine<P> {
    pin: P,
}

impl<P: StatefulOutputPin> StatefulLine<P> {
    /// Creates the line of this pin.
    pub const fn new(pin: P) -> Self {
        Self { pin }
    }
}

impl<P: StatefulOutputPin> GpioLine for StatefulLine<P> {
    fn abilities(&self) -> Abilities {
        Abilities::OUTPUT
    }
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError> {
        match high {
            Some(high) if direction == Direction::Output => self.drive(high),
            _ => Ok(()),
        }
    }
    fn level(&mut self) -> Result<bool, GpioError> {
        self.pin.is_set_high().map_err(failed)
    }
    fn drive(&mut self, high: bool) -> Result<(), GpioError> {
        drive(&mut self.pin, high)
    }
}

/// A line over a pin that can be driven and read at the same time, such as an open drain. While the
/// line is an input or unused, the pin is released (driven high).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OpenDrainLine<P> {
    pin: P,
    interrupts: bool,
}

impl<P: InputPin + OutputPin> OpenDrainLine<P> {
    /// Creates the line of this pin.
    pub const fn new(pin: P) -> Self {
        Self {
            pin,
            interrupts: false,
        }
    }

    /// Declares that the line can interrupt. See [`Abilities::INTERRUPT`].
    #[must_use]
    pub fn with_interrupt(self) -> Self {
        Self {
            interrupts: true,
            ..self
        }
    }
}

impl<P: InputPin + OutputPin> GpioLine for OpenDrainLine<P> {
    fn abilities(&self) -> Abilities {
        let mut abilities = Abilities::INPUT | Abilities::OUTPUT;
        abilities.set(Abilities::INTERRUPT, self.interrupts);
        abilities
    }
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError> {
        match direction {
            Direction::Output => high.map_or(Ok(()), |high| drive(&mut self.pin, high)),
            Direction::Input | Direction::None => drive(&mut self.pin, true),
        }
    }
    fn level(&mut self) -> Result<bool, GpioError> {
        self.pin.is_high().map_err(failed)
    }
    fn drive(&mut self, high: bool) -> Result<(), GpioError> {
        drive(&mut self.pin, high)
    }
}

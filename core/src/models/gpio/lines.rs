//! The interface between the GPIO device and its lines.

use super::{Direction, Trigger};

bitflags::bitflags! {
    /// What a line can do.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Abilities: u8 {
        /// The line can be driven.
        const OUTPUT = 1;
        /// The line can be read as an input.
        const INPUT = 2;
        /// The line can interrupt: the host calls [`Gpio::interrupt`](super::Gpio::interrupt) for
        /// each interrupt, or calls [`Gpio::sense`](super::Gpio::sense) often enough to see each
        /// change of the level.
        const INTERRUPT = 4;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Abilities {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Abilities({=u8:#x})", self.bits());
    }
}

/// Why an operation on a line failed. The driver gets an error in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GpioError {
    /// The line does not support the operation.
    Unsupported,
    /// The operation failed, and [`HostFault::Backend`](crate::HostFault) is reported.
    Failed,
}

/// A bank of lines, numbered from 0.
///
/// An array of [`GpioLine`]s is a bank. Another example is a port expander, which accesses its
/// lines together.
///
/// The device tracks the state that the driver asked for. The device sets only directions and
/// triggers that the [`abilities`](Self::abilities) of a line allow, and drives a line only while
/// its direction is output. The device may read the level of any line.
///
/// ```
/// use virtside::models::{Gpio, GpioError, GpioLines, gpio::{Abilities, Direction}};
/// # struct Bus;
/// # impl Bus { fn write_port(&mut self, _: u8) -> Result<(), GpioError> { Ok(()) } }
///
/// /// A port expander with eight outputs.
/// struct Expander { bus: Bus, outputs: u8 }
///
/// impl GpioLines for Expander {
///     fn count(&self) -> u16 { 8 }
///     fn abilities(&self, _: u16) -> Abilities { Abilities::OUTPUT }
///     fn set_direction(&mut self, line: u16, _: Direction, high: Option<bool>)
///     -> Result<(), GpioError> {
///         high.map_or(Ok(()), |high| self.drive(line, high))
///     }
///     fn level(&mut self, line: u16) -> Result<bool, GpioError> {
///         Ok(self.outputs & (1 << line) != 0)
///     }
///     fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError> {
///         let bit = 1 << line;
///         let outputs = if high { self.outputs | bit } else { self.outputs & !bit };
///         self.bus.write_port(outputs)?;
///         self.outputs = outputs;
///         Ok(())
///     }
/// }
///
/// let device = Gpio::<_, 8>::new(Expander { bus: Bus, outputs: 0 });
/// # let _ = device;
/// ```
pub trait GpioLines {
    /// Returns the number of lines. The number is constant.
    fn count(&self) -> u16;

    /// Returns what a line can do. The abilities are constant between resets.
    fn abilities(&self, line: u16) -> Abilities;

    /// Sets the direction of a line. For [`Direction::Output`], `high` is the value to which the
    /// line is driven at once, or `None` if the driver has not set a value yet. For the other
    /// directions, `high` is `None`.
    ///
    /// # Errors
    /// [`GpioError`]; the line then keeps its earlier direction. If the requested direction is
    /// [`Direction::None`], the line counts as unused despite the error.
    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> Result<(), GpioError>;

    /// Returns whether the line is high. For an output that cannot be read back, returns the value
    /// that the line is driven to.
    ///
    /// # Errors
    /// [`GpioError`]; [`Unsupported`](GpioError::Unsupported) if the level is unknown.
    fn level(&mut self, line: u16) -> Result<bool, GpioError>;

    /// Drives the line, which is an output.
    ///
    /// # Errors
    /// [`GpioError`]
    fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError>;

    /// Sets the trigger of a line's interrupt, or disables the interrupt if `trigger` is `None`. A
    /// new trigger may replace an earlier trigger without a `None` in between. The default does
    /// nothing.
    ///
    /// # Errors
    /// [`GpioError`]; the interrupt then counts as disabled.
    fn set_trigger(&mut self, line: u16, trigger: Option<Trigger>) -> Result<(), GpioError> {
        let _ = (line, trigger);
        Ok(())
    }
}

/// One line of any kind. [`GpioLines`] describes when the device calls each method.
///
/// Lines of several kinds share an array as `&mut dyn GpioLine`.
pub trait GpioLine {
    /// Returns what the line can do. The abilities are constant between resets.
    fn abilities(&self) -> Abilities;

    /// Sets the direction of the line. See [`GpioLines::set_direction`].
    ///
    /// # Errors
    /// See [`GpioLines::set_direction`].
    fn set_direction(&mut self, direction: Direction, high: Option<bool>) -> Result<(), GpioError>;

    /// Returns whether the line is high. See [`GpioLines::level`].
    ///
    /// # Errors
    /// See [`GpioLines::level`].
    fn level(&mut self) -> Result<bool, GpioError>;

    /// Drives the line. See [`GpioLines::drive`].
    ///
    /// # Errors
    /// See [`GpioLines::drive`].
    fn drive(&mut self, high: bool) -> Result<(), GpioError>;

    /// Sets the trigger of the line's interrupt. See [`GpioLines::set_trigger`].
    ///
    /// # Errors
    /// See [`GpioLines::set_trigger`].
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

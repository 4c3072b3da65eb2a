//! GPIO lines that are wired to each other.

use virtside::models::{
    GpioError, GpioLines,
    gpio::{Abilities, Direction},
};

/// Number of lines.
pub(in crate::serve::devices) const LINES: usize = 16;

/// A ring of lines: each line that is not driven has the level of the line before it, if that one is
/// driven. Otherwise it is low.
#[derive(Debug)]
pub(in crate::serve::devices) struct Lines {
    /// The levels of the driven lines.
    driven: [Option<bool>; LINES],
}

impl Lines {
    pub(in crate::serve::devices) const fn new() -> Self {
        Self {
            driven: [None; LINES],
        }
    }

    fn driven(&self, line: usize) -> Option<bool> {
        self.driven.get(line).copied().flatten()
    }
}

impl GpioLines for Lines {
    fn count(&self) -> u16 {
        u16::try_from(LINES).unwrap_or(u16::MAX)
    }

    fn abilities(&self, _: u16) -> Abilities {
        Abilities::all()
    }

    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> Result<(), GpioError> {
        let driven = self.driven.get_mut(usize::from(line));
        *driven.ok_or(GpioError::Unsupported)? = match direction {
            Direction::Output => Some(high.unwrap_or(false)),
            Direction::Input | Direction::None => None,
        };
        Ok(())
    }

    fn level(&mut self, line: u16) -> Result<bool, GpioError> {
        let line = usize::from(line);
        let before = line.checked_sub(1).unwrap_or(LINES - 1);
        let level = self.driven(line).or_else(|| self.driven(before));
        Ok(level.unwrap_or(false))
    }

    fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError> {
        let driven = self.driven.get_mut(usize::from(line));
        *driven.ok_or(GpioError::Unsupported)? = Some(high);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_what_the_line_before_it_drives() {
        let mut lines = Lines::new();
        for line in 0..16 {
            let next = (line + 1) % 16;
            assert_eq!(lines.level(next), Ok(false));
            let high = Some(true);
            lines.set_direction(line, Direction::Output, high).unwrap();
            assert_eq!(lines.level(next), Ok(true));
            lines.drive(line, false).unwrap();
            assert_eq!(lines.level(next), Ok(false));
            lines.drive(line, true).unwrap();
            lines.set_direction(line, Direction::None, None).unwrap();
            assert_eq!(lines.level(next), Ok(false));
        }
    }

    #[test]
    fn a_driven_line_keeps_its_own_level() {
        let mut lines = Lines::new();
        for (line, high) in [(3, true), (4, false)] {
            let direction = Direction::Output;
            lines.set_direction(line, direction, Some(high)).unwrap();
        }
        assert_eq!(lines.level(4), Ok(false));
    }
}

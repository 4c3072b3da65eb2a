//! The names of the lines.

use embedded_io::Write;

use crate::{num, queue::ChainError};

/// Why [`Gpio::with_names`](super::Gpio::with_names) rejected a list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NameError {
    /// The name of a line is not 7-bit ASCII, or contains a zero byte.
    NotAscii {
        /// Line number.
        line: u16,
    },
    /// A line has the same name as an earlier line.
    Twice {
        /// Line number.
        line: u16,
    },
}

impl core::fmt::Display for NameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotAscii { line } => write!(
                f,
                "the name of line {line} is not 7-bit ASCII or contains a zero byte"
            ),
            Self::Twice { line } => {
                write!(f, "line {line} has the same name as an earlier line")
            }
        }
    }
}

impl core::error::Error for NameError {}

/// The names of up to `L` lines. Each name is ASCII without zero bytes, and no two lines have the
/// same name.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Names<const L: usize>([&'static str; L]);

impl<const L: usize> Names<L> {
    /// No line has a name.
    pub(super) const NONE: Self = Self([""; L]);

    pub(super) fn new(names: [&'static str; L]) -> Result<Self, NameError> {
        for (at, name) in names.iter().enumerate() {
            let line = num::clamp_u16(at);
            if !name.bytes().all(|byte| byte.is_ascii() && byte != 0) {
                return Err(NameError::NotAscii { line });
            }
            if !name.is_empty() && names.iter().take(at).any(|other| other == name) {
                return Err(NameError::Twice { line });
            }
        }
        Ok(Self(names))
    }

    /// Returns the size in bytes of the names block of the first `lines` lines, or 0 if no line has
    /// a name (gpio-03, gpio-04).
    pub(super) fn size(&self, lines: u16) -> u32 {
        let names = self.0.iter().take(usize::from(lines));
        if names.clone().all(|name| name.is_empty()) {
            return 0;
        }
        names.fold(0u32, |sum, name| {
            sum.saturating_add(num::clamp_u32(name.len()))
                .saturating_add(1)
        })
    }

    /// Writes the names block of the first `lines` lines.
    pub(super) fn write(
        &self,
        lines: u16,
        to: &mut impl Write<Error = ChainError>,
    ) -> Result<(), ChainError> {
        for name in self.0.iter().take(usize::from(lines)) {
            to.write_all(name.as_bytes())?;
            to.write_all(&[0])?;
        }
        Ok(())
    }
}

//! The smallest possible back end of each model. Functions that do the work are declared and not
//! linked, so that they add no size.

use embedded_hal::{
    digital::{self, InputPin, OutputPin},
    i2c,
    spi::{self, SpiDevice},
};
use virtside::models::{ConsoleError, ConsolePort, EntropyError, EntropySource};

unsafe extern "C" {
    fn elsewhere_fill(to: *mut u8, len: usize) -> usize;
    fn elsewhere_take(from: *const u8, len: usize) -> usize;
    safe fn elsewhere_level() -> bool;
    safe fn elsewhere_drive(high: bool);
    static mut ELSEWHERE_DISK: [u8; 65536];
}

fn fill(bytes: &mut [u8]) -> usize {
    // SAFETY: this code is measured, and never runs.
    unsafe { elsewhere_fill(bytes.as_mut_ptr(), bytes.len()) }
}

fn take(bytes: &[u8]) -> usize {
    // SAFETY: this code is measured, and never runs.
    unsafe { elsewhere_take(bytes.as_ptr(), bytes.len()) }
}

/// A back end for every model.
pub(crate) struct Elsewhere;

impl EntropySource for Elsewhere {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        match fill(bytes) {
            0 => Err(EntropyError::NotReady),
            count => Ok(count),
        }
    }
}

impl ConsolePort for Elsewhere {
    fn has_input(&self) -> bool {
        elsewhere_level()
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        Ok(fill(bytes))
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        Ok(take(bytes))
    }
}

impl i2c::ErrorType for Elsewhere {
    type Error = i2c::ErrorKind;
}

impl i2c::I2c for Elsewhere {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [i2c::Operation<'_>],
    ) -> Result<(), i2c::ErrorKind> {
        elsewhere_drive(address != 0);
        for operation in operations {
            match operation {
                i2c::Operation::Read(bytes) => fill(bytes),
                i2c::Operation::Write(bytes) => take(bytes),
            };
        }
        if elsewhere_level() {
            Ok(())
        } else {
            Err(i2c::ErrorKind::Bus)
        }
    }
}

impl spi::ErrorType for Elsewhere {
    type Error = spi::ErrorKind;
}

impl SpiDevice for Elsewhere {
    fn transaction(
        &mut self,
        operations: &mut [spi::Operation<'_, u8>],
    ) -> Result<(), spi::ErrorKind> {
        for operation in operations {
            match operation {
                spi::Operation::Read(bytes) | spi::Operation::TransferInPlace(bytes) => {
                    fill(bytes);
                }
                spi::Operation::Write(bytes) => {
                    take(bytes);
                }
                spi::Operation::Transfer(to, from) => {
                    take(from);
                    fill(to);
                }
                spi::Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }
}

impl digital::ErrorType for Elsewhere {
    type Error = core::convert::Infallible;
}

impl InputPin for Elsewhere {
    fn is_high(&mut self) -> Result<bool, Self::Error> {
        Ok(elsewhere_level())
    }
    fn is_low(&mut self) -> Result<bool, Self::Error> {
        Ok(!elsewhere_level())
    }
}

impl OutputPin for Elsewhere {
    fn set_high(&mut self) -> Result<(), Self::Error> {
        elsewhere_drive(true);
        Ok(())
    }
    fn set_low(&mut self) -> Result<(), Self::Error> {
        elsewhere_drive(false);
        Ok(())
    }
}

impl AsRef<[u8]> for Elsewhere {
    fn as_ref(&self) -> &[u8] {
        let disk = &raw const ELSEWHERE_DISK;
        // SAFETY: this code is measured, and never runs.
        unsafe { &*disk }
    }
}

impl AsMut<[u8]> for Elsewhere {
    fn as_mut(&mut self) -> &mut [u8] {
        let disk = &raw mut ELSEWHERE_DISK;
        // SAFETY: this code is measured, and never runs.
        unsafe { &mut *disk }
    }
}

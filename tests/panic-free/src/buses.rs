//! Buses and pins with arbitrary results for the models over embedded-hal, and a console port.

use embedded_hal::{
    delay::DelayNs,
    digital::{self, InputPin, OutputPin},
    i2c::{self, I2c},
    spi::{self, SpiBus, SpiDevice},
};
use virtside::models::{ConsoleError, ConsolePort};

/// Fails or succeeds as `next` says.
#[derive(Clone, Copy, Debug)]
pub struct Any(pub extern "C" fn() -> u64);

/// The error of every bus.
#[derive(Clone, Copy, Debug)]
pub struct Failure(u64);

impl Any {
    fn result(self, bytes: &mut [u8]) -> Result<(), Failure> {
        for byte in bytes {
            *byte = (self.0)().to_le_bytes()[0];
        }
        match (self.0)() {
            0 => Ok(()),
            kind => Err(Failure(kind)),
        }
    }
}

impl i2c::Error for Failure {
    fn kind(&self) -> i2c::ErrorKind {
        match self.0 {
            1 => i2c::ErrorKind::NoAcknowledge(i2c::NoAcknowledgeSource::Unknown),
            _ => i2c::ErrorKind::Bus,
        }
    }
}

impl spi::Error for Failure {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

impl digital::Error for Failure {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl i2c::ErrorType for Any {
    type Error = Failure;
}

impl<A: i2c::AddressMode> I2c<A> for Any {
    fn transaction(&mut self, _: A, operations: &mut [i2c::Operation<'_>]) -> Result<(), Failure> {
        for operation in operations {
            match operation {
                i2c::Operation::Read(bytes) => self.result(bytes)?,
                i2c::Operation::Write(_) => self.result(&mut [])?,
            }
        }
        Ok(())
    }
}

impl spi::ErrorType for Any {
    type Error = Failure;
}

impl SpiBus for Any {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Failure> {
        self.result(words)
    }
    fn write(&mut self, _: &[u8]) -> Result<(), Failure> {
        self.result(&mut [])
    }
    fn transfer(&mut self, read: &mut [u8], _: &[u8]) -> Result<(), Failure> {
        self.result(read)
    }
    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Failure> {
        self.result(words)
    }
    fn flush(&mut self) -> Result<(), Failure> {
        self.result(&mut [])
    }
}

/// `Any` as an SPI device: a type cannot be both a bus and a device.
#[derive(Clone, Copy, Debug)]
pub struct AnyDevice(pub Any);

impl spi::ErrorType for AnyDevice {
    type Error = Failure;
}

impl SpiDevice for AnyDevice {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Failure> {
        for operation in operations {
            match operation {
                spi::Operation::Read(words)
                | spi::Operation::Transfer(words, _)
                | spi::Operation::TransferInPlace(words) => self.0.result(words)?,
                _ => self.0.result(&mut [])?,
            }
        }
        Ok(())
    }
}

impl digital::ErrorType for Any {
    type Error = Failure;
}

impl OutputPin for Any {
    fn set_low(&mut self) -> Result<(), Failure> {
        self.result(&mut [])
    }
    fn set_high(&mut self) -> Result<(), Failure> {
        self.result(&mut [])
    }
}

impl DelayNs for Any {
    fn delay_ns(&mut self, _: u32) {
        let _ = self.result(&mut []);
    }
}

impl InputPin for Any {
    fn is_high(&mut self) -> Result<bool, Failure> {
        self.result(&mut []).map(|()| (self.0)() == 0)
    }
    fn is_low(&mut self) -> Result<bool, Failure> {
        self.is_high().map(|high| !high)
    }
}

impl ConsolePort for Any {
    fn has_input(&self) -> bool {
        (self.0)() == 0
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        self.result(bytes).map_err(|_| ConsoleError::NotReady)?;
        // Any length, including one that exceeds the buffer.
        Ok(usize::try_from((self.0)()).unwrap_or(0))
    }
    fn write(&mut self, _: &[u8]) -> Result<usize, ConsoleError> {
        self.result(&mut []).map_err(|_| ConsoleError::Failed)?;
        Ok(usize::try_from((self.0)()).unwrap_or(0))
    }
}

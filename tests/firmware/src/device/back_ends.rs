//! The back ends of the devices.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use virtside::models::{ConsoleError, ConsolePort, EntropyError, EntropySource};

/// Bytes that [`Pool`] holds.
const POOL: usize = 64;

/// A pool of bytes, like one that a hardware generator fills. The bytes are not random, so that the
/// transcript is the same each time.
#[derive(Debug)]
pub(super) struct Pool([u8; POOL]);

impl Pool {
    pub(super) const fn new() -> Self {
        let mut bytes = [0; POOL];
        let mut state = 0x2545_f491_u32;
        let mut at = 0;
        while at < POOL {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes[at] = (state >> 24) as u8;
            at += 1;
        }
        Self(bytes)
    }
}

impl EntropySource for Pool {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        let count = bytes.len().min(POOL);
        bytes[..count].copy_from_slice(&self.0[..count]);
        self.0[0] = self.0[0].wrapping_add(1);
        Ok(count)
    }
}

/// Bytes that [`Echo`] holds.
const ROOM: usize = 64;

/// The console's peer. It sends the received bytes back in upper case.
#[derive(Debug)]
pub(super) struct Echo {
    kept: [u8; ROOM],
    count: usize,
}

impl Echo {
    pub(super) const fn new() -> Self {
        Self {
            kept: [0; ROOM],
            count: 0,
        }
    }
}

impl ConsolePort for Echo {
    fn has_input(&self) -> bool {
        self.count > 0
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        let count = self.count.min(bytes.len());
        if count == 0 {
            return Err(ConsoleError::NotReady);
        }
        for (byte, kept) in bytes.iter_mut().zip(&self.kept[..count]) {
            *byte = *kept;
        }
        self.kept.copy_within(count..self.count, 0);
        self.count -= count;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        let free = &mut self.kept[self.count..];
        let count = free.len().min(bytes.len());
        if count == 0 {
            return Err(ConsoleError::NotReady);
        }
        for (kept, byte) in free.iter_mut().zip(bytes) {
            *kept = byte.to_ascii_uppercase();
        }
        self.count += count;
        Ok(count)
    }

    fn emergency(&mut self, byte: u8) {
        defmt::info!("device console: emergency, {=u8:a}", byte);
    }
}

/// Address of the sensor on its bus.
const ADDRESS: u8 = 0x48;

/// A bus with one chip, a temperature sensor. The chip has a pointer, and registers of two bytes.
/// The first register is the temperature in 1/256 of a degree.
#[derive(Debug)]
pub(super) struct Sensor {
    pointer: u8,
    registers: [u16; 4],
}

impl Sensor {
    pub(super) const fn new() -> Self {
        Self {
            pointer: 0,
            registers: [0x1560, 0x60a0, 0x4b00, 0x5000],
        }
    }

    fn register(&mut self) -> &mut u16 {
        &mut self.registers[usize::from(self.pointer & 3)]
    }
}

impl ErrorType for Sensor {
    type Error = ErrorKind;
}

impl I2c for Sensor {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        for operation in operations {
            match operation {
                Operation::Read(bytes) => {
                    let value = self.register().to_be_bytes();
                    for (byte, value) in bytes.iter_mut().zip(value) {
                        *byte = value;
                    }
                }
                Operation::Write([]) => {}
                Operation::Write([pointer, value @ ..]) => {
                    self.pointer = *pointer;
                    if let [high, low] = value {
                        *self.register() = u16::from_be_bytes([*high, *low]);
                    }
                }
            }
        }
        Ok(())
    }
}

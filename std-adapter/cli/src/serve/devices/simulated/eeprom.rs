//! An EEPROM of 256 bytes on an I2C bus.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

/// Bytes of the memory.
const SIZE: usize = 256;
/// Bytes of a page, which a write does not leave.
const PAGE: usize = 8;

/// The only chip on its bus: an EEPROM 24C02 at address 0x50, with all bytes 0xff at first.
///
/// The first byte of a write sets the address in the memory, and the others are stored. A read
/// begins at that address, and leaves it behind the last byte. A write wraps at the end of its page,
/// and a read at the end of the memory.
#[derive(Debug)]
pub(in crate::serve::devices) struct Eeprom {
    memory: [u8; SIZE],
    address: u8,
}

impl Eeprom {
    /// The address of the chip.
    pub(in crate::serve::devices) const ADDRESS: u8 = 0x50;

    pub(in crate::serve::devices) const fn new() -> Self {
        Self {
            memory: [0xff; SIZE],
            address: 0,
        }
    }

    fn load(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self
                .memory
                .get(usize::from(self.address))
                .copied()
                .unwrap_or(0xff);
            self.address = self.address.wrapping_add(1);
        }
    }

    fn store(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = usize::from(self.address);
            if let Some(place) = self.memory.get_mut(at) {
                *place = *byte;
            }
            let next = self.address.wrapping_add(1);
            let page = u8::try_from(PAGE).unwrap_or(1);
            self.address = if next.is_multiple_of(page) {
                next.wrapping_sub(page)
            } else {
                next
            };
        }
    }
}

impl ErrorType for Eeprom {
    type Error = ErrorKind;
}

impl I2c for Eeprom {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), ErrorKind> {
        if address != Self::ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        // Adjacent writes are one write to the chip.
        let mut addressed = false;
        for operation in operations {
            match operation {
                Operation::Read(bytes) => {
                    self.load(bytes);
                    addressed = false;
                }
                Operation::Write(bytes) => {
                    let mut data = &**bytes;
                    if !addressed && let [first, rest @ ..] = data {
                        self.address = *first;
                        data = rest;
                        addressed = true;
                    }
                    self.store(data);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_where_they_were_written() {
        let mut chip = Eeprom::new();
        chip.write(0x50, &[0x10, 1, 2, 3]).unwrap();
        let mut bytes = [0; 4];
        chip.write_read(0x50, &[0x11], &mut bytes).unwrap();
        assert_eq!(bytes, [2, 3, 0xff, 0xff]);
        chip.read(0x50, &mut bytes[..1]).unwrap();
        assert_eq!(bytes[0], 0xff, "a read goes on where the last one ended");
        assert_eq!(chip.address, 0x16);
    }

    #[test]
    fn a_write_wraps_in_its_page() {
        let mut chip = Eeprom::new();
        chip.write(0x50, &[0x06, 1, 2, 3]).unwrap();
        let mut bytes = [0; 9];
        chip.write_read(0x50, &[0], &mut bytes).unwrap();
        assert_eq!(bytes, [3, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 0xff]);
    }

    #[test]
    fn other_addresses_are_not_acknowledged() {
        let error = Eeprom::new().read(0x51, &mut [0]).unwrap_err();
        assert!(matches!(error, ErrorKind::NoAcknowledge(_)));
    }
}

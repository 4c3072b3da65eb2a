//! An SPI chip that is a wire.

use std::convert::Infallible;

use embedded_hal::spi::{ErrorType, Operation, SpiDevice};

/// A wire from the controller's output to its input: what is sent comes back. A read alone gets
/// zeros.
#[derive(Debug)]
pub(in crate::serve::devices) struct Wire;

impl ErrorType for Wire {
    type Error = Infallible;
}

impl SpiDevice for Wire {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        for operation in operations {
            match operation {
                Operation::Read(bytes) => bytes.fill(0),
                Operation::Transfer(bytes, sent) => {
                    bytes.fill(0);
                    for (byte, sent) in bytes.iter_mut().zip(*sent) {
                        *byte = *sent;
                    }
                }
                Operation::TransferInPlace(_) | Operation::Write(_) | Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }
}

//! An I2C bus of the host.

use std::path::Path;

use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use i2cdev::{
    core::{I2CMessage, I2CTransfer},
    linux::{I2CMessageFlags, LinuxI2CBus, LinuxI2CMessage},
};
use virtside::models::{I2cAddress, I2cBus, I2cTransfer};

use super::Bus;
use crate::failure::{Failure, Result};

/// Opens the bus.
///
/// # Errors
/// The bus cannot be opened.
pub(super) fn open(path: &Path) -> Result<Box<dyn Bus>> {
    match LinuxI2CBus::new(path) {
        Ok(bus) => Ok(Box::new(HostBus(bus))),
        Err(error) => Err(Failure::Usage(format!("bus {}: {error}", path.display()))),
    }
}

/// A bus whose transfers name their chip, so that one open file serves all chips.
struct HostBus(LinuxI2CBus);

impl I2cBus for HostBus {
    fn transfer(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> std::result::Result<(), ErrorKind> {
        let read = I2CMessageFlags::READ;
        let write = I2CMessageFlags::empty();
        let done = match transfer {
            I2cTransfer::Read(bytes) => {
                let messages = &mut [to(address, LinuxI2CMessage::read(bytes), read)];
                self.0.transfer(messages)
            }
            I2cTransfer::Write(bytes) => {
                let messages = &mut [to(address, LinuxI2CMessage::write(bytes), write)];
                self.0.transfer(messages)
            }
            I2cTransfer::WriteRead(sent, bytes) => self.0.transfer(&mut [
                to(address, LinuxI2CMessage::write(sent), write),
                to(address, LinuxI2CMessage::read(bytes), read),
            ]),
        };
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(kind(std::io::Error::from(error).raw_os_error())),
        }
    }
}

/// Addresses a message.
fn to<'a>(
    address: I2cAddress,
    message: LinuxI2CMessage<'a>,
    direction: I2CMessageFlags,
) -> LinuxI2CMessage<'a> {
    match address {
        I2cAddress::Seven(address) => message.with_address(address.into()).with_flags(direction),
        I2cAddress::Ten(address) => message
            .with_address(address)
            .with_flags(direction | I2CMessageFlags::TEN_BIT_ADDRESS),
    }
}

/// Returns what an error of the kernel's I2C subsystem says.
fn kind(error: Option<i32>) -> ErrorKind {
    match error {
        Some(libc::ENXIO) => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
        Some(libc::EREMOTEIO) => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
        Some(libc::EAGAIN) => ErrorKind::ArbitrationLoss,
        Some(libc::ETIMEDOUT) => ErrorKind::Bus,
        _ => ErrorKind::Other,
    }
}

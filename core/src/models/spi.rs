//! The SPI controller device, over a small [`SpiController`].
//!
//! * [`SpiLines`] is a controller over an embedded-hal bus, chip select pins and a delay.
//! * [`SpiDevices`] is a controller over embedded-hal devices. Such a device drives its own chip
//!   select, so each message is one transfer.
//!
//! The device answers a failed transfer with zeros, at most `BYTES` of them. The used length counts
//! the zeros. It counts the result only if every byte before the result was written.
//!
//! # Worst case
//!
//! One request takes one transfer of at most `BYTES` bytes; the controller determines its duration.
//! The device copies the header, the data (or as many zeros) and the result once. Each access to
//! the configuration space builds the space again.
//!
//! Clauses: spi-01 to spi-12.

mod controller;
mod devices;
mod lines;
mod snapshot;

pub use controller::{
    SpiCapabilities, SpiController, SpiData, SpiError, SpiFunctions, SpiMode, SpiSettings,
    SpiWidths,
};
pub use devices::{SpiChip, SpiDevices};
pub use lines::{FixedClock, SpiClock, SpiLines, SteppedClock};
pub use snapshot::SpiSnapshot;

use embedded_io::{Read, ReadExactError, Write};

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request},
    num,
    queue::ChainError,
};

const TRANS_OK: u8 = 0;
const PARAM_ERR: u8 = 1;
const TRANS_ERR: u8 = 2;

/// Length of a request's header (`virtio_spi_transfer_head`) in bytes.
const HEADER: usize = 32;

/// The SPI controller device, with a buffer for transfers of up to `BYTES` bytes.
///
/// The data passes through the buffer. A transfer of more than `BYTES` bytes fails with TRANS_ERR.
/// The driver cannot learn the limit in advance, because the configuration space has no field for
/// it.
///
/// ```
/// use embedded_hal::{delay::DelayNs, digital, spi::{self, MODE_0}};
/// use virtside::models::{Spi, spi::{FixedClock, SpiLines}};
/// # #[derive(Debug)]
/// # struct Bus;
/// # impl spi::ErrorType for Bus { type Error = core::convert::Infallible; }
/// # impl spi::SpiBus for Bus {
/// #     fn read(&mut self, _: &mut [u8]) -> Result<(), Self::Error> { Ok(()) }
/// #     fn write(&mut self, _: &[u8]) -> Result<(), Self::Error> { Ok(()) }
/// #     fn transfer(&mut self, _: &mut [u8], _: &[u8]) -> Result<(), Self::Error> { Ok(()) }
/// #     fn transfer_in_place(&mut self, _: &mut [u8]) -> Result<(), Self::Error> { Ok(()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # struct Pin;
/// # impl digital::ErrorType for Pin { type Error = core::convert::Infallible; }
/// # impl digital::OutputPin for Pin {
/// #     fn set_low(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// #     fn set_high(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # struct Timer;
/// # impl DelayNs for Timer { fn delay_ns(&mut self, _: u32) {} }
///
/// // Two chips on one bus with mode 0 and 1 MHz. The driver may ask for pauses of up to 20 us.
/// let clock = FixedClock::new(MODE_0, 1_000_000);
/// let lines = SpiLines::new(Bus, [Pin, Pin], Timer, clock).with_delays(20_000);
/// let device = Spi::<_, 256>::new(lines);
/// # let _ = device;
/// ```
#[derive(Clone, Debug)]
pub struct Spi<C, const BYTES: usize> {
    controller: C,
    buffer: [u8; BYTES],
}

/// Why a request is not answered with TRANS_OK.
enum SpiFailure {
    /// Answered with PARAM_ERR.
    Parameters,
    /// Answered with TRANS_ERR.
    Transfer,
    /// Answered with TRANS_ERR, and reported as a host fault.
    Host(HostFault),
}

impl From<SpiError> for SpiFailure {
    fn from(error: SpiError) -> Self {
        match error {
            SpiError::Unsupported => Self::Parameters,
            SpiError::Failed => Self::Host(HostFault::Backend),
        }
    }
}

impl From<ChainError> for SpiFailure {
    fn from(error: ChainError) -> Self {
        Self::Host(error.into())
    }
}

impl From<ReadExactError<ChainError>> for SpiFailure {
    fn from(error: ReadExactError<ChainError>) -> Self {
        match error {
            ReadExactError::UnexpectedEof => Self::Parameters,
            ReadExactError::Other(error) => error.into(),
        }
    }
}

impl<C: SpiController, const BYTES: usize> Spi<C, BYTES> {
    /// Creates the device of this controller.
    pub const fn new(controller: C) -> Self {
        Self {
            controller,
            buffer: [0; BYTES],
        }
    }

    /// Returns the controller.
    pub const fn controller(&self) -> &C {
        &self.controller
    }

    /// Returns the controller for changes. To change its capabilities, use `update_config`.
    pub const fn controller_mut(&mut self) -> &mut C {
        &mut self.controller
    }

    fn execute<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<(), SpiFailure> {
        let mut transferred = false;
        let done = self.try_execute(request, &mut transferred);
        // The controller itself deselects the chip after a transfer that fails.
        if done.is_err() && !transferred {
            self.deselect();
        }
        done
    }

    fn try_execute<M: DriverMem>(
        &mut self,
        request: &mut Request<'_, M>,
        transferred: &mut bool,
    ) -> Result<(), SpiFailure> {
        let mut header = [0; HEADER];
        request.readable.read_exact(&mut header)?;
        let settings = self.controller.capabilities().normalized().check(&header);
        let settings = settings.ok_or(SpiFailure::Parameters)?;
        // The lengths of the data determine which of the three types of transfer the request is
        // (spi-05, spi-06).
        let (tx, rx) = (request.readable.remaining(), request.writable.remaining());
        if tx.max(rx) == 0 || (tx != 0 && rx != 0 && tx != rx) {
            return Err(SpiFailure::Parameters);
        }
        let bytes = self.buffer.get_mut(..num::clamp_index(tx.max(rx)));
        let bytes = bytes.ok_or(SpiFailure::Transfer)?;
        if tx == 0 {
            bytes.fill(0);
        } else {
            request.readable.read_exact(bytes)?;
        }
        let data = match (tx, rx) {
            (0, _) => SpiData::Read(&mut *bytes),
            (_, 0) => SpiData::Write(bytes),
            _ => SpiData::Exchange(&mut *bytes),
        };
        *transferred = true;
        self.controller.transfer(&settings, data)?;
        if rx != 0 {
            request.writable.write_all(bytes)?;
        }
        Ok(())
    }

    /// Deselects the chip that an earlier request kept selected, because a request has failed. The
    /// next request must not continue the broken message.
    fn deselect(&mut self) {
        if self.controller.selected().is_some() {
            self.controller.release();
        }
    }
}

impl<C: SpiController, const BYTES: usize> DeviceConfig for Spi<C, BYTES> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::Spi))
    }

    fn features(&self) -> Features {
        Features::ALL_RINGS
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue == 0 { u16::MAX } else { 0 }
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let space = self.controller.capabilities().normalized().config_space();
        let part = space
            .get(num::index(offset)..)
            .and_then(|rest| rest.get(..bytes.len()));
        match part {
            Some(part) => {
                bytes.copy_from_slice(part);
                true
            }
            None => false,
        }
    }
}

impl<C: SpiController, const BYTES: usize> DeviceModel for Spi<C, BYTES> {
    fn reset(&mut self) {
        self.controller.release();
    }

    fn queue_stopped(&mut self, _queue: u16) {
        self.controller.release();
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // A request without a byte for the result cannot be answered.
        let Some(end) = request.writable.split_end(1) else {
            self.deselect();
            return Err(DriverFault::BadRequest { head: request.head });
        };
        let result = match self.execute(request) {
            Ok(()) => TRANS_OK,
            Err(SpiFailure::Parameters) => PARAM_ERR,
            Err(SpiFailure::Transfer) => TRANS_ERR,
            Err(SpiFailure::Host(fault)) => {
                request.report(fault);
                TRANS_ERR
            }
        };
        let zeros = if result == TRANS_OK {
            0
        } else {
            num::clamp_u32(BYTES)
        };
        Ok(super::answer(request, end, result, zeros))
    }
}

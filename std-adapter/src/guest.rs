//! The other side: unmodified `virtio-drivers` over a [`channel`](crate::channel).
//!
//! [`ChannelTransport`] makes the register accesses that `virtio_drivers`' own `MmioTransport` makes,
//! in the same order and widths; that one needs registers in memory. [`GuestHal`] is the memory that
//! both sides share.

mod transport;

use crate::channel::{Closed, DriverPort};
pub use crate::memory::dma::GuestHal;
pub use transport::{Port, PortTransport};

/// Why there is no device to drive.
pub type ProbeError = transport::ProbeError<Closed>;

/// A `virtio_drivers` transport over a channel.
pub type ChannelTransport = PortTransport<DriverPort>;

impl Port for DriverPort {
    type Closed = Closed;

    fn read(&self, offset: u32, width: u8) -> Result<u64, Closed> {
        Self::read(self, offset, width)
    }

    fn write(&self, offset: u32, width: u8, value: u64) -> Result<(), Closed> {
        Self::write(self, offset, width, value)
    }
}

#[cfg(test)]
mod tests;

//! The driver's side: unmodified `virtio-drivers` over a [`channel`](crate::channel).
//!
//! [`ChannelTransport`] makes the same register accesses as `MmioTransport` of `virtio_drivers`, in
//! the same order and widths. `MmioTransport` itself cannot be used, because it needs registers in
//! memory. [`GuestHal`] is the memory that both sides share. `examples/bus.rs` connects two drivers
//! to two devices.
//!
//! # When the device goes away
//!
//! A driver of `virtio-drivers` that waits for a request reads only its used ring. When the
//! device's side of the channel is dropped, the channel therefore adds a used element to each used
//! ring. The element has an id that no request has. The waiting request and all later requests of
//! that queue then fail with [`virtio_drivers::Error::WrongToken`].

mod transport;

use std::sync::atomic::Ordering;

use virtside::mmio::Access;
use vm_memory::{Bytes, GuestAddress};

pub use crate::memory::dma::GuestHal;
use crate::{
    AccessError, HostedDevice, Served,
    channel::{Closed, DriverPort},
};
pub use transport::{Port, PortTransport};

/// Reason why no device was found on a channel.
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

    fn queue_set(&self, queue: u16, size: u32, used: u64) {
        let base = self.base();
        let ring = UsedRing {
            base,
            queue,
            size,
            used,
        };
        self.with_rings(|rings| rings.push(ring));
    }

    fn queue_unset(&self, queue: Option<u16>) {
        let base = self.base();
        let is_unset =
            |ring: &UsedRing| ring.base == base && queue.is_none_or(|queue| queue == ring.queue);
        self.with_rings(|rings| rings.retain(|ring| !is_unset(ring)));
    }
}

/// A driver in this process over a hosted device.
///
/// A driver that waits for a request does not learn that the device was stopped.
impl<T: Served + Send + 'static> Port for HostedDevice<T> {
    type Closed = AccessError;

    fn read(&self, offset: u32, width: u8) -> Result<u64, AccessError> {
        match self.access(Access::Read { offset, width }) {
            Err(AccessError::Refused(_)) => Ok(0),
            result => result,
        }
    }

    fn write(&self, offset: u32, width: u8, value: u64) -> Result<(), AccessError> {
        let access = Access::Write {
            offset,
            width,
            value,
        };
        match self.access(access) {
            Err(AccessError::Refused(_)) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// The used ring of a queue, on which a driver waits for its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedRing {
    /// First address of the device's registers.
    base: u32,
    queue: u16,
    /// Number of elements, a power of two.
    size: u32,
    /// Address of the used ring.
    used: u64,
}

/// Length of flags and idx, which precede the elements of a used ring, in bytes.
const HEADER: u64 = 4;
/// Length of an element (id and len), in bytes.
const ELEMENT: u64 = 8;
/// An id that no chain of a split queue has.
const NO_CHAIN: u32 = u32::MAX;

impl UsedRing {
    /// Adds an element with an id that no request has, because the device is gone.
    pub(crate) fn end(&self) {
        let Ok(memory) = GuestHal::memory() else {
            return;
        };
        let idx = GuestAddress(self.used.saturating_add(2));
        let Ok(at) = memory.load::<u16>(idx, Ordering::Acquire) else {
            return;
        };
        let at = u16::from_le(at);
        let slot = u64::from(at).checked_rem(self.size.into()).unwrap_or(0);
        let element = slot.saturating_mul(ELEMENT).saturating_add(HEADER);
        let element = GuestAddress(self.used.saturating_add(element));
        if memory.write_obj(NO_CHAIN, element).is_ok() {
            let _ = memory.store(at.wrapping_add(1).to_le(), idx, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;

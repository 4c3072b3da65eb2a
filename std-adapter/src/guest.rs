//! The other side: unmodified `virtio-drivers` over a [`channel`](crate::channel).
//!
//! [`ChannelTransport`] makes the register accesses that `virtio_drivers`' own `MmioTransport` makes,
//! in the same order and widths; that one needs registers in memory. [`GuestHal`] is the memory that
//! both sides share.
//!
//! A driver of `virtio-drivers` that waits for a request looks at nothing but its used ring. When the
//! device's side of the channel is dropped, the next element of each such ring is therefore one with
//! an id that no request has: the request that waits, and each later one of this queue, fails with
//! [`virtio_drivers::Error::WrongToken`].

mod transport;

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress};

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

    fn queue_set(&self, queue: u16, size: u32, used: u64) {
        let base = self.base();
        let ring = UsedRing {
            base,
            queue,
            size,
            used,
        };
        self.rings(|rings| rings.push(ring));
    }

    fn queue_unset(&self, queue: Option<u16>) {
        let base = self.base();
        let is_it =
            |ring: &UsedRing| ring.base == base && queue.is_none_or(|queue| queue == ring.queue);
        self.rings(|rings| rings.retain(|ring| !is_it(ring)));
    }
}

/// Where a driver waits for its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedRing {
    /// Names the device on its bus.
    base: u32,
    queue: u16,
    /// Elements, a power of two.
    size: u32,
    /// Address of the used ring.
    used: u64,
}

/// Bytes of flags and idx, which stand before the elements of a used ring.
const HEAD: u64 = 4;
/// Bytes of an element: id and len.
const ELEMENT: u64 = 8;
/// An id that no chain of a split queue has.
const NO_CHAIN: u32 = u32::MAX;

impl UsedRing {
    /// The device is gone: whoever waits for this ring finds an element that is no answer.
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
        let element = slot.saturating_mul(ELEMENT).saturating_add(HEAD);
        let element = GuestAddress(self.used.saturating_add(element));
        if memory.write_obj(NO_CHAIN, element).is_ok() {
            let _ = memory.store(at.wrapping_add(1).to_le(), idx, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;

//! Hosted devices on the buses of rust-vmm's `vm-device`.

use vm_device::{
    DeviceMmio,
    bus::{MmioAddress, MmioAddressOffset},
};

use super::HostedDevice;
use crate::serve::Served;

/// A hosted device behind an `IoManager` of `vm-device`, which has 64-bit addresses.
///
/// ```
/// use std::sync::Arc;
/// use vm_device::{bus::{MmioAddress, MmioRange}, device_manager::{IoManager, MmioManager}};
/// use virtside::{ChainSlot, Engine, Shared, models::Entropy};
/// use virtside_std::{HostedDevice, OsEntropy, VmMem};
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// # let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 65536)])?;
///
/// let engine: Engine<_, _, _, 1, 16, _, _> =
///     Engine::new(Entropy::new(OsEntropy), VmMem::new(&guest), (), [ChainSlot::new()], Arc::new(Shared::new()));
/// let mut bus = IoManager::new();
/// let range = MmioRange::new(MmioAddress(0xff_0000_0000), 0x200)?;
/// bus.register_mmio(range, Arc::new(HostedDevice::new(engine)?))?;
///
/// // For an MMIO exit of a vCPU:
/// let mut id = [0; 4];
/// bus.mmio_read(MmioAddress(0xff_0000_0008), &mut id)?;
/// assert_eq!(u32::from_le_bytes(id), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: Served + Send + 'static> DeviceMmio for HostedDevice<T> {
    fn mmio_read(&self, _: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        match u32::try_from(offset) {
            Ok(offset) => self.read(offset, data),
            Err(_) => data.fill(0),
        }
    }

    fn mmio_write(&self, _: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        if let Ok(offset) = u32::try_from(offset) {
            self.write(offset, data);
        }
    }
}

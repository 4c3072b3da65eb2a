//! A transport for unmodified `virtio-drivers` over any way to reach registers.
//!
//! This file uses only `core`, `virtio-drivers` and `zerocopy`, because `tests/firmware` compiles
//! it for its image too.

use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use virtio_drivers::{
    Error, PhysAddr, Result,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const MAGIC_VALUE: u32 = 0x000;
const VERSION: u32 = 0x004;
const DEVICE_ID: u32 = 0x008;
const VENDOR_ID: u32 = 0x00c;
const DEVICE_FEATURES: u32 = 0x010;
const DEVICE_FEATURES_SEL: u32 = 0x014;
const DRIVER_FEATURES: u32 = 0x020;
const DRIVER_FEATURES_SEL: u32 = 0x024;
const QUEUE_SEL: u32 = 0x030;
const QUEUE_SIZE_MAX: u32 = 0x034;
const QUEUE_SIZE: u32 = 0x038;
const QUEUE_READY: u32 = 0x044;
const QUEUE_NOTIFY: u32 = 0x050;
const INTERRUPT_STATUS: u32 = 0x060;
const INTERRUPT_ACK: u32 = 0x064;
const STATUS: u32 = 0x070;
/// Low halves of the addresses of the descriptor, driver and device area. Each high half follows.
const QUEUE_AREAS: [u32; 3] = [0x080, 0x090, 0x0a0];
const CONFIG_GENERATION: u32 = 0x0fc;
const CONFIG: u32 = 0x100;

/// Length of the configuration space of a register block of 512 bytes.
const CONFIG_LEN: usize = 0x100;

/// Access to the registers of a device. A call returns when the device has completed the access.
pub trait Port {
    /// The error of an access to a device that is gone.
    type Closed;

    /// Loads `width` bytes (1, 2, 4 or 8) from `offset`.
    ///
    /// # Errors
    /// [`Self::Closed`](Port::Closed): the device is gone.
    fn read(&self, offset: u32, width: u8) -> core::result::Result<u64, Self::Closed>;

    /// Stores `width` bytes (1, 2, 4 or 8) at `offset`.
    ///
    /// # Errors
    /// [`Self::Closed`](Port::Closed): the device is gone.
    fn write(&self, offset: u32, width: u8, value: u64) -> core::result::Result<(), Self::Closed>;

    /// Called before the driver uses a queue of `size` elements with its used ring at `used`.
    ///
    /// A driver that waits for a request reads this ring and makes no register access. A port whose
    /// device may vanish can end the wait by writing to the ring. The default does nothing.
    fn queue_set(&self, queue: u16, size: u32, used: u64) {
        let _ = (queue, size, used);
    }

    /// Called before the driver reuses the memory of `queue`, or of all queues if `queue` is
    /// `None`.
    fn queue_unset(&self, queue: Option<u16>) {
        let _ = queue;
    }
}

/// Reason why no device was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError<C> {
    /// The device is gone.
    Closed(C),
    /// The registers are not those of a virtio-mmio device of version 2.
    NotVirtio {
        /// MagicValue
        magic: u32,
        /// Version
        version: u32,
    },
    /// A device type that `virtio_drivers` does not know.
    UnknownDevice(u32),
}

impl<C: fmt::Display> fmt::Display for ProbeError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(closed) => closed.fmt(f),
            Self::NotVirtio { magic, version } => {
                write!(
                    f,
                    "no virtio-mmio device: magic {magic:#x}, version {version}"
                )
            }
            Self::UnknownDevice(id) => write!(f, "unknown device type {id}"),
        }
    }
}

impl<C: fmt::Debug + fmt::Display> core::error::Error for ProbeError<C> {}

impl<C> From<C> for ProbeError<C> {
    fn from(closed: C) -> Self {
        Self::Closed(closed)
    }
}

/// A `virtio_drivers` transport over a [`Port`].
///
/// It makes the same register accesses as `MmioTransport` of `virtio_drivers`, in the same order
/// and widths. `MmioTransport` itself needs registers in memory.
///
/// Most methods of `Transport` cannot return an error if the device is gone. After the first access
/// that failed ([`is_gone`](Self::is_gone)), the transport makes no further access:
///
/// * The status reads as DEVICE_NEEDS_RESET.
/// * Every other register reads as 0, so that no loop waits for the device and no queue is set up.
/// * Accesses to the configuration space return [`Error::IoError`].
/// * Writes have no effect, so that drivers can be dropped.
///
/// The [`Port`] can end a request whose device has vanished: see [`queue_set`](Port::queue_set).
#[derive(Debug)]
pub struct PortTransport<P: Port> {
    port: P,
    device_type: DeviceType,
    gone: AtomicBool,
}

impl<P: Port> PortTransport<P> {
    /// Probes the registers for a device.
    ///
    /// # Errors
    /// There is no device, or `virtio_drivers` does not know its type.
    pub fn new(port: P) -> core::result::Result<Self, ProbeError<P::Closed>> {
        let read = |offset| port.read(offset, 4).map(low);
        let magic = read(MAGIC_VALUE)?;
        let id = read(DEVICE_ID)?;
        let version = read(VERSION)?;
        if magic != u32::from_le_bytes(*b"virt") || version != 2 {
            return Err(ProbeError::NotVirtio { magic, version });
        }
        let device_type = DeviceType::try_from(id).map_err(|_| ProbeError::UnknownDevice(id))?;
        Ok(Self {
            port,
            device_type,
            gone: AtomicBool::new(false),
        })
    }

    /// Returns whether the device is gone: an access has failed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Makes an access. Returns `None` if this access or an earlier one failed.
    fn try_access<T>(
        &self,
        access: impl FnOnce(&P) -> core::result::Result<T, P::Closed>,
    ) -> Option<T> {
        if self.is_gone() {
            return None;
        }
        let result = access(&self.port).ok();
        if result.is_none() {
            self.gone.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Returns the register VendorID.
    #[must_use]
    pub fn vendor_id(&self) -> u32 {
        self.read(VENDOR_ID)
    }

    fn read(&self, offset: u32) -> u32 {
        self.try_access(|port| port.read(offset, 4)).map_or(0, low)
    }

    fn write(&self, offset: u32, value: u32) {
        let _ = self.try_access(|port| port.write(offset, 4, value.into()));
    }

    fn write_areas(&self, areas: [PhysAddr; 3]) {
        for (offset, area) in QUEUE_AREAS.into_iter().zip(areas) {
            self.write(offset, low(area));
            self.write(offset.saturating_add(4), low(area >> 32));
        }
    }

    /// Checks that a field is inside the configuration space. Returns the offset of its first
    /// register access and the width of each access.
    fn field<T>(offset: usize) -> Result<(u32, usize)> {
        let end = offset.checked_add(size_of::<T>());
        match (u32::try_from(offset), end) {
            (Ok(at), Some(end)) if end <= CONFIG_LEN => {
                // One access for a field of a register's width, else aligned parts of the field.
                let width = match size_of::<T>() {
                    width @ (1 | 2 | 4 | 8) => width,
                    _ => align_of::<T>(),
                };
                Ok((at.saturating_add(CONFIG), width))
            }
            _ => Err(Error::ConfigSpaceTooSmall),
        }
    }
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn width(part: &[u8]) -> u8 {
    u8::try_from(part.len()).unwrap_or(0)
}

/// Returns the offsets of the parts of a field.
fn parts(start: u32, width: usize) -> impl Iterator<Item = u32> {
    (start..).step_by(width.max(1))
}

impl<P: Port> Transport for PortTransport<P> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        self.write(DEVICE_FEATURES_SEL, 0);
        let bits = u64::from(self.read(DEVICE_FEATURES));
        self.write(DEVICE_FEATURES_SEL, 1);
        bits | u64::from(self.read(DEVICE_FEATURES)) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        self.write(DRIVER_FEATURES_SEL, 0);
        self.write(DRIVER_FEATURES, low(features));
        self.write(DRIVER_FEATURES_SEL, 1);
        self.write(DRIVER_FEATURES, low(features >> 32));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.write(QUEUE_SEL, queue.into());
        self.read(QUEUE_SIZE_MAX)
    }

    fn notify(&mut self, queue: u16) {
        self.write(QUEUE_NOTIFY, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        let status = DeviceStatus::from_bits_retain(self.read(STATUS));
        if self.is_gone() {
            return DeviceStatus::DEVICE_NEEDS_RESET;
        }
        status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.write(STATUS, status.bits());
        if status.is_empty() {
            self.port.queue_unset(None);
        }
    }

    fn set_guest_page_size(&mut self, _: u32) {
        // Only the legacy interface has this register.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.write(QUEUE_SEL, queue.into());
        self.write(QUEUE_SIZE, size);
        self.write_areas([descriptors, driver_area, device_area]);
        self.write(QUEUE_READY, 1);
        self.port.queue_set(queue, size, device_area);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.write(QUEUE_SEL, queue.into());
        self.write(QUEUE_READY, 0);
        while self.read(QUEUE_READY) != 0 {}
        self.port.queue_unset(Some(queue));
        self.write(QUEUE_SIZE, 0);
        self.write_areas([0; 3]);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.write(QUEUE_SEL, queue.into());
        self.read(QUEUE_READY) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let pending = self.read(INTERRUPT_STATUS);
        if pending != 0 {
            self.write(INTERRUPT_ACK, pending);
        }
        InterruptStatus::from_bits_truncate(pending)
    }

    fn read_config_generation(&self) -> u32 {
        self.read(CONFIG_GENERATION)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let (start, size) = Self::field::<T>(offset)?;
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes();
        for (part, at) in bytes.chunks_mut(size.max(1)).zip(parts(start, size)) {
            let loaded = self.try_access(|port| port.read(at, width(part)));
            let loaded = loaded.ok_or(Error::IoError)?;
            for (byte, loaded) in part.iter_mut().zip(loaded.to_le_bytes()) {
                *byte = loaded;
            }
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        let (start, size) = Self::field::<T>(offset)?;
        for (part, at) in value.as_bytes().chunks(size.max(1)).zip(parts(start, size)) {
            let mut stored = [0; 8];
            for (byte, value) in stored.iter_mut().zip(part) {
                *byte = *value;
            }
            let value = u64::from_le_bytes(stored);
            self.try_access(|port| port.write(at, width(part), value))
                .ok_or(Error::IoError)?;
        }
        Ok(())
    }
}

impl<P: Port> Drop for PortTransport<P> {
    fn drop(&mut self) {
        self.set_status(DeviceStatus::empty());
    }
}

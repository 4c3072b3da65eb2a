//! Decoding of QueueNotify with NOTIFICATION_DATA.

use crate::num;

/// A kick with the position of the driver in the ring (`VIRTIO_F_NOTIFICATION_DATA`, mmio-23).
///
/// The position is a hint: the driver may send the same value again (driver-21), and the device
/// reads the position from the ring. A host that dispatches kicks itself, for instance by
/// ioeventfd, must compare bits 0 to 15 only.
///
/// ```
/// use virtside::mmio::Notification;
/// let kick = Notification::from_value(0x8003_0001);
/// assert_eq!(kick, Notification { queue: 1, next_off: 3, next_wrap: true });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Notification {
    /// Queue number: bits 0 to 15.
    pub queue: u16,
    /// Offset of the next descriptor that the driver will write. In a split ring, the low 15 bits
    /// of the available index. Bits 16 to 30.
    pub next_off: u16,
    /// Wrap counter of the driver at that offset. In a split ring, bit 15 of the available index.
    /// Bit 31.
    pub next_wrap: bool,
}

impl Notification {
    /// Mask of the queue number in a value of QueueNotify.
    pub const QUEUE: u32 = 0xffff;

    /// Decodes a value of QueueNotify.
    #[must_use]
    pub fn from_value(value: u32) -> Self {
        let high = num::high16(value);
        Self {
            queue: num::low16(value),
            next_off: high & 0x7fff,
            next_wrap: high >> 15 != 0,
        }
    }
}

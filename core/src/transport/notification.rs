//! What a driver writes to QueueNotify with NOTIFICATION_DATA.

use crate::num;

/// A kick that says how far the driver is (`VIRTIO_F_NOTIFICATION_DATA`, mmio-23).
///
/// It is a hint: the driver may send the same one again (driver-21), and the ring itself is what
/// counts. A host that catches kicks before the register block (ioeventfd) has to match on the
/// lower 16 bits alone.
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
    /// Where the driver will put its next descriptor; in a split ring, the low 15 bits of the
    /// available index: bits 16 to 30.
    pub next_off: u16,
    /// The driver's wrap counter there; in a split ring, bit 15 of the available index: bit 31.
    pub next_wrap: bool,
}

impl Notification {
    /// Where the queue number is in a value of QueueNotify.
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

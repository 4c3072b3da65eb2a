//! The narrow waist: what every transport says to a device, in one vocabulary.

use crate::features::Features;

/// How a driver laid out one queue. Nothing in it is trusted until it has been checked.
///
/// `size` is in elements, as the driver wrote it (all 32 bits, so that no check sees a truncated
/// value); the areas are driver addresses in bytes.
///
/// ```
/// use virtside::QueueConfig;
/// let config = QueueConfig { queue: 0, size: 16, desc: 0x1000, driver: 0x2000, device: 0x3000 };
/// assert_eq!(config.queue, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueConfig {
    /// Queue number.
    pub queue: u16,
    /// Number of elements.
    pub size: u32,
    /// Descriptor area.
    pub desc: u64,
    /// Driver area: the available ring of a split queue.
    pub driver: u64,
    /// Device area: the used ring of a split queue.
    pub device: u64,
}

/// One step of the conversation between a driver and a device, whichever way it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Message {
    /// Check this queue and make it ready.
    ConfigureQueue(QueueConfig),
    /// Stop this queue. Its memory is not touched once the message is acknowledged.
    ResetQueue(u16),
    /// Set-up is complete; the driver goes live with these features.
    Ready {
        /// What was negotiated.
        features: Features,
    },
    /// Buffers may have been made available on this queue.
    NotifyQueue(u16),
    /// Take nothing more, finish what is in hand, announce it, and rest (SUSPEND).
    Suspend,
    /// Go on (DRIVER_OK, after a [`Suspend`](Self::Suspend)).
    Resume,
    /// Forget everything. No memory of the driver is touched once the message is acknowledged.
    Reset,
}

//! Messages from a transport to a device, and the layout and positions of a queue.

use crate::features::Features;

/// Layout of one queue, as the driver wrote it. No field is trusted until the queue is checked.
///
/// `size` is in elements and keeps all 32 bits, so that no check sees a truncated value. The areas
/// are driver addresses in bytes.
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
    /// Driver address of the descriptor area.
    pub desc: u64,
    /// Driver address of the driver area: the available ring of a split queue.
    pub driver: u64,
    /// Driver address of the device area: the used ring of a split queue.
    pub device: u64,
}

impl QueueConfig {
    /// Entry of an unconfigured queue. A checked queue has a non-zero size.
    pub(crate) const ABSENT: Self = Self {
        queue: 0,
        size: 0,
        desc: 0,
        driver: 0,
        device: 0,
    };
}

/// The positions of a queue in its rings.
///
/// In a snapshot from before DRIVER_OK, every field has the value that it has at the start of the
/// queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RingPosition {
    /// Position from which the device takes the next available chain.
    ///
    /// Split: the index of the next available entry. Packed: the slot in bits 0 to 14, the wrap
    /// counter in bit 15.
    pub next_avail: u16,
    /// Position at which the device stores the next used element, in the format of `next_avail`.
    pub next_used: u16,
    /// Number of chains (split) or ring slots (packed) that were marked as used since the device
    /// last decided whether to interrupt the driver. At most the size of the queue.
    pub unsignalled: u16,
    /// Number of chains (split) or ring slots (packed) that were popped and abandoned. The device
    /// never marks them as used.
    pub abandoned: u16,
    /// Whether the flags in the device area tell the driver not to kick.
    pub kicks_off: bool,
    /// Whether the host wants chains to be given back in the order in which they were made
    /// available, even if the driver has not accepted IN_ORDER. See [`in_order`](Self::in_order).
    pub in_order: bool,
}

impl RingPosition {
    /// Creates the positions of a queue whose last device has given every chain back.
    ///
    /// Both positions are then equal. If the last device of a split queue is gone and may not have
    /// given every chain back, use the index in the used ring for both: the unanswered chains are
    /// served again. The last device may also have left an interrupt unsent, so send one after the start.
    #[must_use]
    pub const fn at(next_avail: u16, next_used: u16) -> Self {
        Self {
            next_avail,
            next_used,
            unsignalled: 0,
            abandoned: 0,
            // Kicks may be off, so they are turned on before the device waits for one.
            kicks_off: true,
            in_order: false,
        }
    }

    /// Returns the same positions, of a queue that gives chains back in the order in which they were
    /// made available. Chains that are answered early wait for the older chains.
    ///
    /// If the device of such a queue is killed, every chain from `next_used` on is unanswered, and
    /// none before it. Another device serves exactly these chains if it starts with `next_used` as
    /// both positions.
    ///
    /// Has no effect without the feature `in-order`.
    #[must_use]
    pub const fn in_order(self) -> Self {
        Self {
            in_order: true,
            ..self
        }
    }
}

/// The queues that a driver has made ready: number, size and addresses of each.
///
/// ```
/// use virtside::{Features, message::ReadyQueues, model::Start};
/// // A device that cannot work without queue 0.
/// fn ready(_: Features, queues: ReadyQueues<'_>) -> Start {
///     if queues.get(0).is_some() { Start::Accept } else { Start::Refuse }
/// }
/// # let _ = ready;
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReadyQueues<'a> {
    /// Indexed by queue number. The size is 0 if the queue is not ready.
    pub(crate) configs: &'a [QueueConfig],
}

impl<'a> ReadyQueues<'a> {
    /// Returns the ready queues, lowest number first. Takes one step for each queue that the device
    /// has room for.
    pub fn iter(self) -> impl Iterator<Item = &'a QueueConfig> + Clone {
        self.configs.iter().filter(|config| config.size != 0)
    }

    /// Returns the queue with this number, if it is ready. Takes one step.
    #[must_use]
    pub fn get(self, queue: u16) -> Option<&'a QueueConfig> {
        let config = self.configs.get(usize::from(queue))?;
        (config.size != 0).then_some(config)
    }

    /// Returns the ready queues other than `queue`.
    pub(crate) fn beside(self, queue: u16) -> impl Iterator<Item = &'a QueueConfig> + Clone {
        self.iter().filter(move |other| other.queue != queue)
    }
}

/// A message from the driver to the device, for set-up, notification or reset. The same on every
/// transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Message {
    /// Check this queue and make it ready.
    ConfigureQueue(QueueConfig),
    /// Check this queue and make it ready to start in the middle of its rings, because another
    /// device has served it before.
    ConfigureQueueAt(QueueConfig, RingPosition),
    /// Stop this queue. The device does not access the memory of the queue after it acknowledges
    /// the message.
    ResetQueue(u16),
    /// Set-up is complete, and the driver goes live with these features.
    Ready {
        /// The negotiated features.
        features: Features,
    },
    /// The driver may have made chains available on this queue.
    NotifyQueue(u16),
    /// Suspend the device (SUSPEND). The device takes no further chains, finishes the chains in
    /// hand, sends their interrupts, and is then suspended.
    Suspend,
    /// Resume the device (DRIVER_OK after [`Suspend`](Self::Suspend)).
    Resume,
    /// Reset the device. The device does not access the driver's memory after it acknowledges the
    /// message.
    Reset,
}

impl core::fmt::Display for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ConfigureQueue(config) => write!(f, "configure queue {}", config.queue),
            Self::ConfigureQueueAt(config, position) => write!(
                f,
                "configure queue {} at position {}",
                config.queue, position.next_avail
            ),
            Self::ResetQueue(queue) => write!(f, "reset queue {queue}"),
            Self::Ready { features } => write!(f, "ready with features {features}"),
            Self::NotifyQueue(queue) => write!(f, "notify queue {queue}"),
            Self::Suspend => f.write_str("suspend"),
            Self::Resume => f.write_str("resume"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

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

impl QueueConfig {
    /// No queue: a checked one has a size.
    pub(crate) const ABSENT: Self = Self {
        queue: 0,
        size: 0,
        desc: 0,
        driver: 0,
        device: 0,
    };
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
    /// By queue number; of size 0 where there is none.
    pub(crate) configs: &'a [QueueConfig],
}

impl<'a> ReadyQueues<'a> {
    /// The queues, lowest number first. One step for each queue that the device has room for.
    pub fn iter(self) -> impl Iterator<Item = &'a QueueConfig> + Clone {
        self.configs.iter().filter(|config| config.size != 0)
    }

    /// The queue of this number, if it is ready. One step.
    #[must_use]
    pub fn get(self, queue: u16) -> Option<&'a QueueConfig> {
        let config = self.configs.get(usize::from(queue))?;
        (config.size != 0).then_some(config)
    }

    /// The ready queues but this one.
    pub(crate) fn beside(self, queue: u16) -> impl Iterator<Item = &'a QueueConfig> + Clone {
        self.iter().filter(move |other| other.queue != queue)
    }
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

impl core::fmt::Display for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ConfigureQueue(config) => write!(f, "configure queue {}", config.queue),
            Self::ResetQueue(queue) => write!(f, "reset queue {queue}"),
            Self::Ready { features } => write!(f, "ready with features {features}"),
            Self::NotifyQueue(queue) => write!(f, "notify queue {queue}"),
            Self::Suspend => f.write_str("suspend"),
            Self::Resume => f.write_str("resume"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

//! A device's whole state as a plain value: for a snapshot, a migration, or a restart in place.
//!
//! [`Engine::save`](crate::Engine::save) makes one, `restore` of a device in reset takes it: set-up,
//! ring positions, the chains in hand, interrupt status, and what the driver made of
//! a model that is a [`SaveModel`], as every one of [`models`](crate::models) is. It is as trustworthy
//! as a driver: everything in it is checked as what a driver says, and what does not pass is refused,
//! with the device in reset.
//!
//! [`Device::save`](crate::Device::save) leaves the model out. A host without an engine calls
//! [`negotiate`](crate::DeviceConfig::negotiate), `Device::restore`, and then [`SaveModel::restore`].
//!
//! Not in it, and so for the host to carry or to do:
//!
//! - the driver's memory, which has to be the same;
//! - how the host made the model, and its back end: it has to offer what it offered, and have the
//!   queues that it had; tokens that a back end kept are void;
//! - the offer, if the host changed it;
//! - kicks, for which every queue counts as notified: poll once after a restore, kicked or not;
//! - counters, the last refusal, and why a queue was stopped (that it was is in it).
//!
//! Chains in hand are served again from their start: what the back end had not answered is done once
//! more, and each is answered once. One whose buffers are no longer in the memory is refused.
//!
//! What a device came to by itself can be restored, but for two cases:
//!
//! - A live device whose driver has stopped a queue, and not set it up again, without which the model's
//!   [`queue_check`](crate::DeviceModel::queue_check) does not want the others ([`SnapshotError::Queue`],
//!   [`SnapshotError::Queues`]): it is asked as when the driver goes live, about the queues of the state.
//! - A queue whose rings were gone before the driver was live, and which does not fit the features that
//!   it accepted later. (A queue that is ready waits for DRIVER_OK with the features that it was
//!   checked with, also here.)
//!
//! With the feature `serde` each of these is `Serialize` and `Deserialize`.
//!
//! [`SaveModel`]: crate::model::SaveModel
//! [`SaveModel::restore`]: crate::model::SaveModel::restore
//! [`SnapshotError::Queue`]: crate::snapshot::SnapshotError::Queue
//! [`SnapshotError::Queues`]: crate::snapshot::SnapshotError::Queues

use heapless::Vec;

pub use crate::queue::snapshot::{ChainSnapshot, RingSnapshot};
use crate::{error::Refusal, message::QueueConfig};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// The version of the layout of [`DeviceSnapshot`] and [`EngineSnapshot`]; others are refused.
pub const SNAPSHOT_VERSION: u16 = 1;

/// The state of a [`Device`](crate::Device) with up to `P` chains in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct DeviceSnapshot<const Q: usize, const N: usize, const P: usize> {
    /// [`SNAPSHOT_VERSION`] when it was made.
    pub version: u16,
    /// What was negotiated: bits 0 to 63, and 64 to 127. Behind registers, 0 before DRIVER_OK.
    pub features: [u64; 2],
    /// Whether the driver is live (DRIVER_OK was accepted, and FAILED not written since).
    pub live: bool,
    /// Whether it is suspended or about to be; a device that is not live is neither.
    pub suspension: Suspension,
    /// DEVICE_NEEDS_RESET.
    pub needs_reset: bool,
    /// InterruptStatus.
    pub interrupt: u32,
    /// A configuration change that the driver hears of when it is live, or awake, again.
    pub config_changed: bool,
    /// The configured queues. `save` gives them lowest first; `restore` takes them in any order.
    pub queues: Vec<QueueSnapshot, Q>,
    /// The chains in hand; those of one queue oldest first.
    pub chains: Vec<ChainSnapshot<N>, P>,
}

impl<const Q: usize, const N: usize, const P: usize> DeviceSnapshot<Q, N, P> {
    /// Of another version nothing else is looked at.
    pub(crate) const fn check_version(&self) -> Result<(), SnapshotError> {
        check_version(self.version, SNAPSHOT_VERSION)
    }
}

/// Whether a device is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Suspension {
    /// It is not.
    #[default]
    Awake,
    /// SUSPEND was written, and chains are in hand still.
    Suspending,
    /// It is.
    Suspended,
}

/// The state of one configured queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct QueueSnapshot {
    /// How the driver laid it out.
    pub config: QueueConfig,
    /// How far it is; `None` if it is stopped until it or the device is reset.
    pub ring: Option<RingSnapshot>,
    /// Before the driver is live, what it had accepted when the queue was made ready (DRIVER_OK checks
    /// it again with what it has accepted then): bits 0 to 63, and 64 to 127. Else 0.
    pub checked: [u64; 2],
}

/// The state of a register block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct RegisterSnapshot<const Q: usize> {
    /// Status, without DEVICE_NEEDS_RESET.
    pub status: u8,
    /// DeviceFeaturesSel
    pub device_features_sel: u32,
    /// DriverFeaturesSel
    pub driver_features_sel: u32,
    /// What the driver accepted so far: bits 0 to 63, and 64 to 127.
    pub driver_features: [u64; 2],
    /// It accepted bits from 128 up, too.
    pub beyond: bool,
    /// QueueSel
    pub queue_sel: u32,
    /// SHMSel
    pub shm_sel: u32,
    /// ConfigGeneration. Who restores goes on with a later one.
    pub generation: u32,
    /// The driver made a queue ready that there is not.
    pub refused_beyond: bool,
    /// What the driver wrote of each queue, from queue 0 on.
    pub queues: Vec<QueueRegisters, Q>,
}

/// What the driver wrote of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct QueueRegisters {
    /// QueueSize
    pub size: u32,
    /// QueueDesc
    pub desc: u64,
    /// QueueDriver
    pub driver: u64,
    /// QueueDevice
    pub device: u64,
    /// QueueReady and QueueReset.
    pub stage: Stage,
    /// It was made ready, and refused.
    pub refused: bool,
}

/// Where a queue is between QueueReady and QueueReset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Stage {
    /// QueueReady is 0.
    #[default]
    Off,
    /// QueueReady is 1.
    Ready,
    /// QueueReady and QueueReset are 1: its taken queue is still at work.
    Resetting,
    /// QueueReady is 0 since a queue reset: it may be set up again, though the device is live.
    WasReset,
}

/// The state of an [`Engine`](crate::Engine) and of its model, with up to `P` chains in hand.
///
/// It is a plain value of at most `96 + 96 * Q + P * (16 * N + 24)` bytes, and the model's
/// state, which `save` leaves in its caller's frame or static:
///
/// | `Q` | `N` | `P` | bytes |
/// |---|---|---|---|
/// | 1 | 16 | 1 | 472 |
/// | 6 | 16 | 5 | 2,072 |
/// | 1 | 128 | 16 | 33,344 |
/// | 8 | 256 | 64 | 264,544 |
///
/// Where that is too much for a stack, choose a smaller `P`: `save` is refused while more chains are in
/// hand, and can be repeated when they were answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct EngineSnapshot<S, const Q: usize, const N: usize, const P: usize> {
    /// The register block.
    pub registers: RegisterSnapshot<Q>,
    /// The device behind it.
    pub device: DeviceSnapshot<Q, N, P>,
    /// What the driver made of the model: [`SaveModel::Snapshot`](crate::model::SaveModel::Snapshot).
    pub model: S,
}

/// Of another version nothing else is looked at.
pub(crate) const fn check_version(version: u16, known: u16) -> Result<(), SnapshotError> {
    if version == known {
        Ok(())
    } else {
        Err(SnapshotError::Version { version })
    }
}

/// Why a state was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is of another version.
    Version {
        /// Which.
        version: u16,
    },
    /// The device that is to take it is not in reset, or a queue of it is ready: it is left as it is.
    /// Or its model is at work.
    NotInReset,
    /// Bits of Status or InterruptStatus that there are not, or that do not go together, or not with
    /// the rest of the state.
    Status,
    /// The features were not offered, lack VERSION_1, or the model does not want them.
    Features,
    /// A queue does not pass the checks of a set-up, or is not what its registers say.
    Queue {
        /// Queue number.
        queue: u16,
        /// Why, as its driver would have been told.
        why: Refusal,
    },
    /// The model does not want to be live with these queues: see
    /// [`QueueCheck::check_ready`](crate::QueueCheck::check_ready).
    Queues {
        /// Why, as their driver would have been told.
        why: Refusal,
    },
    /// The positions of a queue do not fit each other, its size, or its chains in hand.
    Positions {
        /// Queue number.
        queue: u16,
    },
    /// A chain in hand could not have been taken from its queue.
    Chain {
        /// Which of the state's chains, from 0.
        at: u16,
    },
    /// There are fewer chain slots than chains in hand.
    NoRoom,
    /// A driver could not have made that of the model.
    Model {
        /// Which line or port; 0 of a model that has none.
        at: u16,
    },
    /// The back end of the model could not be put where it was.
    Backend {
        /// Which line; 0 of a model that has none.
        at: u16,
    },
}

impl core::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version { version } => write!(f, "the snapshot has the unknown version {version}"),
            Self::NotInReset => f.write_str("the device is not in reset, or its model is at work"),
            Self::Status => f.write_str(
                "the bits of Status or InterruptStatus contradict each other or the rest of the snapshot",
            ),
            Self::Features => f.write_str("the features in the snapshot do not fit the offer"),
            Self::Queue { queue, .. } => {
                write!(f, "the registers of queue {queue} in the snapshot were refused")
            }
            Self::Queues { .. } => f.write_str("the queues in the snapshot were refused together"),
            Self::Positions { queue } => write!(
                f,
                "the positions of queue {queue} contradict each other, its size, or its chains"
            ),
            Self::Chain { at } => {
                write!(f, "chain {at} of the snapshot cannot come from its queue")
            }
            Self::NoRoom => f.write_str("the snapshot has more chains than there are chain slots"),
            Self::Model { at } => write!(
                f,
                "no driver can bring the model into the state of line or port {at} in the snapshot"
            ),
            Self::Backend { at } => {
                write!(f, "the back end of line {at} cannot be put into the state of the snapshot")
            }
        }
    }
}

impl core::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Queue { why, .. } | Self::Queues { why } => Some(why),
            _ => None,
        }
    }
}

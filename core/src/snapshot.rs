//! Saved state of a device as plain values, for snapshots, migration and restarts.
//!
//! [`Engine::save`] returns the state. [`Engine::restore`] puts an engine in reset into this state.
//! The state contains the set-up, the ring positions, the chains in hand, the interrupt status, and
//! the state of a model that implements [`SaveModel`]. Every model in [`models`](crate::models)
//! implements that trait.
//!
//! A saved state is not trusted. Every value is checked in the same way as a value from a driver.
//! If a check fails, the state is refused, and the device is in reset afterwards.
//!
//! [`Device::save`](crate::Device::save) leaves the model out. A host without an engine calls
//! [`negotiate`](crate::DeviceConfig::negotiate), `Device::restore` and [`SaveModel::restore`], in
//! this order.
//!
//! # What the state does not contain
//!
//! - The driver's memory. The host must restore it unchanged.
//! - The configuration of the model, and its back end. The model must offer the same features and
//!   have the same queues. Tokens that a back end kept are stale.
//! - The host's changes to the offer. The host must make the same changes before the restore.
//! - Kicks. Every queue counts as kicked, so poll once after a restore.
//! - Counters, the last refusal, and the fault that stopped a queue. (The state contains whether a
//!   queue is stopped.)
//!
//! # Chains in hand
//!
//! Chains in hand are served again from their start. The back end repeats the work that it had not
//! answered, and each chain is answered once. If a buffer of a chain in hand is no longer mapped,
//! the state is refused ([`SnapshotError::Chain`]).
//!
//! # States that cannot be restored
//!
//! Every state that a device reaches by itself can be restored, with two exceptions:
//!
//! - In a live device, the driver has stopped a queue and has not set it up again. A restore calls
//!   the model's [`queue_check`](crate::DeviceModel::queue_check) for the remaining queues, as when
//!   the driver goes live. If the check refuses them, the state is refused
//!   ([`SnapshotError::Queue`], [`SnapshotError::Queues`]).
//! - Before DRIVER_OK, a queue failed because its rings were unmapped, and then the driver accepted
//!   features with which the layout of this queue is not valid ([`SnapshotError::Queue`]). A queue
//!   that has not failed is checked with the features in [`QueueSnapshot::checked`] and can be
//!   restored.
//!
//! With the feature `serde`, every snapshot type is `Serialize` and `Deserialize`.
//!
//! [`Engine::restore`]: crate::Engine::restore
//! [`Engine::save`]: crate::Engine::save
//! [`QueueSnapshot::checked`]: crate::snapshot::QueueSnapshot::checked
//! [`SaveModel`]: crate::model::SaveModel
//! [`SaveModel::restore`]: crate::model::SaveModel::restore
//! [`SnapshotError::Chain`]: crate::snapshot::SnapshotError::Chain
//! [`SnapshotError::Queue`]: crate::snapshot::SnapshotError::Queue
//! [`SnapshotError::Queues`]: crate::snapshot::SnapshotError::Queues

use heapless::Vec;

use crate::message::RingPosition;
pub use crate::queue::snapshot::ChainSnapshot;
use crate::{error::Refusal, message::QueueConfig};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// Version of the layout of [`DeviceSnapshot`] and [`EngineSnapshot`]. A restore refuses other
/// versions.
pub const SNAPSHOT_VERSION: u16 = 1;

/// State of a [`Device`](crate::Device) with up to `P` chains in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct DeviceSnapshot<const Q: usize, const N: usize, const P: usize> {
    /// Value of [`SNAPSHOT_VERSION`] when the state was saved.
    pub version: u16,
    /// Negotiated features: bits 0 to 63, and 64 to 127. Behind a register block, 0 before
    /// DRIVER_OK.
    pub features: [u64; 2],
    /// Whether the driver is live: DRIVER_OK was accepted, and FAILED was not set since.
    pub live: bool,
    /// Suspension state. [`Suspension::Awake`] if the device is not live.
    pub suspension: Suspension,
    /// Whether DEVICE_NEEDS_RESET is set.
    pub needs_reset: bool,
    /// Value of InterruptStatus.
    pub interrupt: u32,
    /// Whether a configuration change is held back. The driver is told when it goes live, or when
    /// it resumes the device.
    pub config_changed: bool,
    /// Configured queues. `save` returns them lowest number first; `restore` accepts any order.
    pub queues: Vec<QueueSnapshot, Q>,
    /// Chains in hand. The chains of one queue are ordered oldest first.
    pub chains: Vec<ChainSnapshot<N>, P>,
}

impl<const Q: usize, const N: usize, const P: usize> DeviceSnapshot<Q, N, P> {
    /// Refuses other versions. Called before any other field is read.
    pub(crate) const fn check_version(&self) -> Result<(), SnapshotError> {
        check_version(self.version, SNAPSHOT_VERSION)
    }
}

/// Suspension state of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Suspension {
    /// The device is not suspended.
    #[default]
    Awake,
    /// SUSPEND was written, and chains are still in hand.
    Suspending,
    /// The device is suspended.
    Suspended,
}

/// State of one configured queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct QueueSnapshot {
    /// Layout that the driver wrote.
    pub config: QueueConfig,
    /// Ring positions. `None` if the queue is stopped until a reset of the queue or the device.
    pub ring: Option<RingPosition>,
    /// Features that the driver had accepted when the queue was made ready and checked: bits 0 to
    /// 63, and 64 to 127. 0 if the driver is live, because DRIVER_OK checks the queue again with
    /// the final features.
    pub checked: [u64; 2],
}

/// State of a register block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct RegisterSnapshot<const Q: usize> {
    /// Value of Status, without DEVICE_NEEDS_RESET.
    pub status: u8,
    /// Value of DeviceFeaturesSel.
    pub device_features_sel: u32,
    /// Value of DriverFeaturesSel.
    pub driver_features_sel: u32,
    /// Features that the driver accepted so far: bits 0 to 63, and 64 to 127.
    pub driver_features: [u64; 2],
    /// Whether the driver accepted bits from 128 up.
    pub beyond: bool,
    /// Value of QueueSel.
    pub queue_sel: u32,
    /// Value of SHMSel.
    pub shm_sel: u32,
    /// Value of ConfigGeneration. A restored device continues with a later value.
    pub generation: u32,
    /// Whether the driver tried to make a queue ready that does not exist.
    pub refused_beyond: bool,
    /// Registers of each queue, from queue 0 on.
    pub queues: Vec<QueueRegisters, Q>,
}

/// Registers of one queue, as the driver wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct QueueRegisters {
    /// Value of QueueSize.
    pub size: u32,
    /// Value of QueueDesc.
    pub desc: u64,
    /// Value of QueueDriver.
    pub driver: u64,
    /// Value of QueueDevice.
    pub device: u64,
    /// State of QueueReady and QueueReset.
    pub stage: Stage,
    /// Whether the driver made the queue ready and the queue was refused.
    pub refused: bool,
}

/// State of QueueReady and QueueReset of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub enum Stage {
    /// QueueReady is 0.
    #[default]
    Off,
    /// QueueReady is 1.
    Ready,
    /// QueueReady and QueueReset are 1: the taken queue has not stopped yet.
    Resetting,
    /// QueueReady is 0 after a queue reset. The queue may be set up again, even if the device is
    /// live.
    WasReset,
}

/// State of an [`Engine`](crate::Engine) and its model, with up to `P` chains in hand.
///
/// The value takes at most `96 + 96 * Q + P * (16 * N + 24)` bytes, plus the size of the model's
/// state. `save` returns it by value, usually on the stack. Sizes without the model's state:
///
/// | `Q` | `N` | `P` | bytes |
/// |---|---|---|---|
/// | 1 | 16 | 1 | 472 |
/// | 6 | 16 | 5 | 2,072 |
/// | 1 | 128 | 16 | 33,344 |
/// | 8 | 256 | 64 | 264,544 |
///
/// If the value is too large for the stack, choose a smaller `P`. `save` is refused while more than
/// `P` chains are in hand, and succeeds after enough of them are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct EngineSnapshot<S, const Q: usize, const N: usize, const P: usize> {
    /// State of the register block.
    pub registers: RegisterSnapshot<Q>,
    /// State of the device.
    pub device: DeviceSnapshot<Q, N, P>,
    /// State of the model: [`SaveModel::Snapshot`](crate::model::SaveModel::Snapshot).
    pub model: S,
}

/// Refuses a version other than `known`.
pub(crate) const fn check_version(version: u16, known: u16) -> Result<(), SnapshotError> {
    if version == known {
        Ok(())
    } else {
        Err(SnapshotError::Version { version })
    }
}

/// Why a saved state was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SnapshotError {
    /// The state has an unknown version.
    Version {
        /// Version of the state.
        version: u16,
    },
    /// The device is not in reset, one of its queues is ready, or its model is busy
    /// ([`SaveModel::is_reset`](crate::model::SaveModel::is_reset)). Device and model are
    /// unchanged.
    NotInReset,
    /// Status or InterruptStatus has unknown bits, or contradicts itself or the rest of the
    /// snapshot.
    Status,
    /// The features were not offered, do not include VERSION_1, or were declined by the model.
    Features,
    /// A queue fails the set-up checks, or does not match its registers.
    Queue {
        /// Queue number.
        queue: u16,
        /// The refusal that the driver would have got.
        why: Refusal,
    },
    /// The model refuses to go live with this set of queues: see
    /// [`QueueCheck::check_ready`](crate::QueueCheck::check_ready).
    Queues {
        /// The refusal that the driver would have got.
        why: Refusal,
    },
    /// The ring positions of a queue contradict each other, its size, or its chains in hand.
    Positions {
        /// Queue number.
        queue: u16,
    },
    /// A chain in hand cannot have come from its queue.
    Chain {
        /// Index of the chain in the state, from 0.
        at: u16,
    },
    /// The state has more chains in hand than the device has chain slots.
    NoRoom,
    /// No driver can bring the model into this state.
    Model {
        /// Line or port with the fault; 0 if the model has no lines or ports.
        at: u16,
    },
    /// The back end of the model could not be put into the saved state.
    Backend {
        /// Line with the fault; 0 if the model has no lines.
        at: u16,
    },
}

impl core::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version { version } => write!(f, "the snapshot has the unknown version {version}"),
            Self::NotInReset => f.write_str("the device is not in reset, or its model is busy"),
            Self::Status => f.write_str(
                "the bits of Status or InterruptStatus contradict each other or the rest of the snapshot",
            ),
            Self::Features => f.write_str("the features in the snapshot do not match the offer"),
            Self::Queue { queue, .. } => {
                write!(f, "the registers of queue {queue} in the snapshot were refused")
            }
            Self::Queues { .. } => f.write_str("the set of queues in the snapshot was refused"),
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

//! Error types, grouped by who is at fault: the driver's request, the driver's ring, or the host.
//!
//! * [`Refusal`]: the driver asked for something that is not allowed. Nothing changed.
//! * [`DriverFault`]: the driver broke the protocol of a ring. [`FaultPolicy`] decides what
//!   follows; by default the queue stops and DEVICE_NEEDS_RESET is set.
//! * [`HostFault`]: the back end or the host's memory failed. The request fails and the device
//!   continues.
//!
//! [`DeviceError`] is the error type of set-up by messages and of queue calls. It contains one of
//! the above, a queue number that is not valid, or an error in the conversation.

mod display;
#[cfg(test)]
mod tests;

use crate::{features::Features, message::Message};

/// One of the three memory areas of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Area {
    /// Descriptor area (descriptor table or ring).
    Descriptor,
    /// Driver area (available ring).
    Driver,
    /// Device area (used ring).
    Device,
}

/// Why a queue's parameters cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Frozen {
    /// QueueReady is 1: the parameters are in use.
    QueueReady,
    /// The device is live, and the queue was not reset.
    Live,
    /// The device is suspended or suspending.
    Suspended,
    /// The driver has set FAILED.
    Failed,
}

/// A request that is not allowed. Nothing changed, unless the variant says otherwise.
///
/// Every `offset` is counted from the start of the register block, as in the access itself. On
/// virtio-mmio the configuration space begins at
/// [`Register::CONFIG`](crate::mmio::Register::CONFIG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// There is no register at this offset.
    NoSuchRegister {
        /// Offset in bytes.
        offset: u32,
    },
    /// A register was accessed with a width other than 4 bytes, or at an unaligned offset.
    BadWidth {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// A write-only register was read. The read returns 0.
    WriteOnly {
        /// Offset in bytes.
        offset: u32,
    },
    /// A read-only register was written.
    ReadOnly {
        /// Offset in bytes.
        offset: u32,
    },
    /// The access runs past the end of the device configuration space.
    OutsideConfig {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// The configuration field cannot be written at this offset, in this width, or in this phase.
    ConfigReadOnly {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// The value is not defined for this register.
    BadValue {
        /// Offset in bytes.
        offset: u32,
        /// The value that was written.
        value: u32,
    },
    /// A write to Status would clear bits that only a reset may clear.
    ///
    /// A driver that writes each status bit alone, without the earlier bits, gets this refusal.
    StatusBitsCleared {
        /// The bits that would have been cleared.
        missing: u8,
    },
    /// Features were written after FEATURES_OK.
    FeaturesFixed,
    /// The driver did not accept all required features. FEATURES_OK stays clear; other bits of the
    /// write take effect.
    ///
    /// A driver older than VirtIO 1.0 lacks VERSION_1. A device type may require more features
    /// ([`DeviceConfig::required`](crate::DeviceConfig::required)).
    FeaturesMissing {
        /// Features that are required and were not accepted.
        missing: Features,
    },
    /// The driver accepted features that were not offered. FEATURES_OK stays clear; other bits of
    /// the write take effect.
    FeaturesNotOffered {
        /// Features that were accepted and never offered. Empty if all such features are bits from
        /// 128 up.
        not_offered: Features,
    },
    /// The model declined this subset of its offer
    /// ([`DeviceConfig::negotiate`](crate::DeviceConfig::negotiate)). FEATURES_OK stays clear;
    /// other bits of the write take effect.
    FeaturesDeclined,
    /// DRIVER_OK was written without FEATURES_OK, and is ignored. Other bits of the write take
    /// effect.
    FeaturesNotNegotiated,
    /// The device's phase does not allow the operation.
    WrongPhase,
    /// The device has no queue with this number.
    NoSuchQueue {
        /// Queue number, in full 32-bit width.
        queue: u32,
    },
    /// The queue is already configured.
    QueueExists {
        /// Queue number.
        queue: u16,
    },
    /// The queue is not ready.
    QueueNotReady {
        /// Queue number.
        queue: u16,
    },
    /// The queue was moved out of the device and was not put back.
    QueueTaken {
        /// Queue number.
        queue: u16,
    },
    /// Chains of the queue are in hand, or more chains are in hand than the snapshot has room for.
    QueueBusy {
        /// Queue number.
        queue: u16,
    },
    /// The queue's parameters cannot be written now.
    QueueFrozen {
        /// Queue number.
        queue: u16,
        /// The reason.
        why: Frozen,
    },
    /// The queue size is zero, above the maximum or, for a split queue, not a power of two.
    QueueSize {
        /// Queue number.
        queue: u16,
        /// Number of elements asked for, in full 32-bit width.
        size: u32,
        /// Largest size in elements.
        max: u16,
    },
    /// An area is not aligned, either in the driver's address space or in host memory.
    Misaligned {
        /// Queue number.
        queue: u16,
        /// The area.
        area: Area,
        /// Driver address of the area.
        start: u64,
    },
    /// An area runs past the end of the address space.
    Wraps {
        /// Queue number.
        queue: u16,
        /// The area.
        area: Area,
        /// Driver address of the area.
        start: u64,
    },
    /// An area is not mapped in one piece with the required access.
    Unmapped {
        /// Queue number.
        queue: u16,
        /// The area.
        area: Area,
        /// Driver address of the area.
        start: u64,
        /// Length of the area in bytes.
        len: u32,
    },
    /// Two areas share bytes.
    Overlap {
        /// Queue number.
        queue: u16,
        /// The area of this queue.
        area: Area,
        /// Number of the queue with the other area. Equal to `queue` if both areas belong to this
        /// queue.
        with: u16,
    },
    /// The positions from which the queue is to start contradict each other or the size of the
    /// queue, or say that chains are in hand.
    BadPosition {
        /// Queue number.
        queue: u16,
    },
    /// The device's own check ([`QueueCheck`](crate::QueueCheck)) refuses this queue.
    QueueCheck {
        /// Queue number.
        queue: u16,
    },
    /// The device's own check ([`QueueCheck::check_ready`](crate::QueueCheck::check_ready)) refuses
    /// to go live with this set of queues: a queue is missing, or the queues do not fit together.
    QueueSet,
    /// The operation needs a feature that was not negotiated, or is disabled in this engine
    /// ([`without_take_queue`](crate::Engine::without_take_queue)).
    NotNegotiated,
    /// The device did not start at DRIVER_OK. DRIVER_OK and DEVICE_NEEDS_RESET are set.
    ///
    /// A queue was refused at DRIVER_OK or before, the set of queues was refused, the model refused
    /// to start, or DEVICE_NEEDS_RESET was already set.
    NotReady,
    /// IN_ORDER was negotiated, and the chain is not the oldest in flight.
    OutOfOrder {
        /// Head of the chain.
        head: u16,
    },
    /// The token's chain is no longer in flight: it was answered, or its queue was stopped or
    /// reset.
    StaleToken,
    /// The [`Ticket`](crate::transport::Ticket) does not belong to the outstanding access.
    StaleTicket,
}

/// A protocol violation of the driver in a ring or a request.
///
/// [`FaultPolicy`] decides what follows. By default the queue stops and DEVICE_NEEDS_RESET is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DriverFault {
    /// The available index advanced by more than the queue size.
    AvailIndexJump {
        /// Available index that the device read.
        idx: u16,
        /// Index of the available entry that the device takes next.
        next: u16,
    },
    /// An available entry is not a valid descriptor index (split ring).
    HeadOutOfRange {
        /// The invalid index.
        head: u16,
    },
    /// A chain was made available while it was in flight.
    HeadInFlight {
        /// Head of the chain. In a packed ring, this field and every other `head` is the buffer id.
        head: u16,
    },
    /// A `next` field is not a valid descriptor index of its table.
    NextOutOfRange {
        /// The invalid index.
        next: u16,
    },
    /// A chain has more buffers than the capacity `N` of the queue, or loops. In a packed ring, a
    /// chain continues into ring slots that are in flight.
    ChainTooLong {
        /// Head of the chain.
        head: u16,
    },
    /// A device-readable descriptor follows a device-writable one.
    ReadableAfterWritable {
        /// Head of the chain.
        head: u16,
    },
    /// The buffer lengths of a chain add up to more than 2^32 bytes.
    LengthOverflow {
        /// Head of the chain.
        head: u16,
    },
    /// A buffer is not mapped with the required access.
    BufferUnmapped {
        /// Driver address of the buffer.
        addr: u64,
        /// Length in bytes.
        len: u32,
        /// Whether the buffer is device-writable.
        writable: bool,
    },
    /// A descriptor has INDIRECT, which was not negotiated.
    IndirectNotNegotiated {
        /// Head of the chain.
        head: u16,
    },
    /// A descriptor has both INDIRECT and NEXT.
    IndirectWithNext {
        /// Head of the chain.
        head: u16,
    },
    /// A descriptor in an indirect table has INDIRECT.
    IndirectNested {
        /// Head of the chain.
        head: u16,
    },
    /// The length of an indirect table is 0 or not a multiple of the descriptor size, or the table
    /// has more descriptors than the device has room for.
    IndirectLength {
        /// Length of the table in bytes.
        len: u32,
    },
    /// A request lacks its header, or room for the answer. The model reports this fault.
    BadRequest {
        /// Head of the chain.
        head: u16,
    },
}

/// Constructors that keep the construction of an error off the fault-free path.
#[cfg(feature = "split")]
impl DriverFault {
    #[cold]
    #[inline(never)]
    pub(crate) fn bad_head(head: u16, size: u16) -> Self {
        if head < size {
            Self::HeadInFlight { head }
        } else {
            Self::HeadOutOfRange { head }
        }
    }
    #[cold]
    #[inline(never)]
    pub(crate) fn jump(idx: u16, next: u16) -> Self {
        Self::AvailIndexJump { idx, next }
    }
}

/// A failure of the host: its back end or its memory.
///
/// The request fails and the device continues, except for a queue that [`RingGone`](Self::RingGone)
/// stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HostFault {
    /// The back end reported an error.
    Backend,
    /// The model reported more written bytes than the chain's writable length.
    WrittenTooMuch {
        /// Number of bytes that the model reported.
        written: u32,
        /// The chain's writable length in bytes.
        writable: u32,
    },
    /// Memory that was mapped when the chain was taken is no longer mapped.
    MemoryGone {
        /// Driver address.
        addr: u64,
    },
    /// The memory of a queue's rings is no longer mapped after
    /// [`memory_changed`](crate::Engine::memory_changed). The queue stops.
    RingGone {
        /// Queue number.
        queue: u16,
    },
}

/// Error of the calls that build a device from messages, and of calls that name a queue or a chain.
///
/// ```
/// use virtside::{QueueCheck, Refusal, error::DeviceError};
/// let error = (0..1).check_queue(7, core::iter::empty()).unwrap_err();
/// assert_eq!(error, DeviceError::InvalidQueue(7));
/// // Refusals and faults convert into a `DeviceError`.
/// let error = DeviceError::from(Refusal::NoSuchQueue { queue: 0x1_0007 });
/// assert!(matches!(error, DeviceError::Refused(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no queue with this number that the operation can use: the number is not allowed or
    /// is already in use, or the queue is not configured or has failed.
    InvalidQueue(u16),
    /// The configuration of this queue was refused.
    BadQueueConfig(u16, Refusal),
    /// The message is not a set-up message, or the device was already built.
    UnexpectedMessage(Message),
    /// The conversation ended before the device was ready.
    UnexpectedEndOfStream,
    /// The driver asked for something that is not allowed.
    Refused(Refusal),
    /// The driver broke the protocol of a ring.
    Driver(DriverFault),
    /// The host failed.
    Host(HostFault),
}

impl DeviceError {
    /// Returns the refusal with which to answer the driver's set-up of `queue`.
    ///
    /// This is the refusal in the error. If the error contains none, it is [`Refusal::QueueCheck`].
    #[must_use]
    pub fn refusal(&self, queue: u16) -> Refusal {
        self.refusal_or(Refusal::QueueCheck { queue })
    }

    /// Returns the refusal in this error, or `other` if there is none.
    #[inline(never)]
    pub(crate) fn refusal_or(&self, other: Refusal) -> Refusal {
        match self {
            Self::Refused(refusal) | Self::BadQueueConfig(_, refusal) => *refusal,
            _ => other,
        }
    }
}

impl From<Refusal> for DeviceError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DriverFault> for DeviceError {
    fn from(fault: DriverFault) -> Self {
        Self::Driver(fault)
    }
}

impl From<HostFault> for DeviceError {
    fn from(fault: HostFault) -> Self {
        Self::Host(fault)
    }
}

/// Reaction of a device to a driver that breaks the protocol, the same on every transport.
///
/// | | a queue that fails its checks | a chain with a fault in its descriptors or its request | other faults of a ring |
/// |---|---|---|---|
/// | [`Refuse`](Self::Reject) | the device works without the queue | the chain is given back, the queue continues | the queue stops |
/// | [`StopQueue`](Self::StopQueue) | the device works without the queue | the queue stops | the queue stops |
/// | [`NeedsReset`](Self::NeedsReset) | the device does not start, DEVICE_NEEDS_RESET at DRIVER_OK | the queue stops, DEVICE_NEEDS_RESET | the queue stops, DEVICE_NEEDS_RESET |
///
/// The other queues continue in every case. A stopped queue works again after a queue reset
/// (RING_RESET) or a device reset. Faults are reported as follows:
///
/// - A [`Trace`](crate::trace::Trace) is told of every [`DriverFault`] and [`Refusal`], except of
///   the rejected chains of a taken queue and of refused messages.
/// - [`driver_fault`](crate::Device::driver_fault) returns the fault that stopped a queue. A taken
///   queue returns the fault in [`Stop`](crate::device::Stop).
/// - `Counters::rejected` counts the rejected chains, which were given back unserved, and
///   [`last_rejected`](crate::Device::last_rejected) returns the most recent reason.
/// - The driver is told of DEVICE_NEEDS_RESET by a configuration interrupt. The driver is not told
///   of other faults, and may wait forever for a queue that has stopped.
///
/// ```
/// use virtside::{ChainSlot, Engine, Shared, error::FaultPolicy, memory::Ram, models::Entropy};
/// static RAM: Ram<65536> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
/// let engine: Engine<_, _, _> =
///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::new()], &SHARED)
///         .with_policy(FaultPolicy::StopQueue);
/// # let _ = engine;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FaultPolicy {
    /// Only the faulty queue is refused, or only the faulty chain is rejected: the chain is given
    /// back with nothing written.
    ///
    /// In the following cases the device cannot give the faulty chain back, and the queue stops:
    ///
    /// - The available index is too far ahead.
    /// - The head is not a descriptor of the queue, or is in flight.
    /// - With IN_ORDER, older chains are in flight.
    /// - In a packed ring, the chain has no end.
    /// - The owner of a taken queue [reports](crate::device::TakenQueue::report) the fault. To keep
    ///   the queue running, the owner gives the chain back with nothing written instead.
    ///
    /// In a packed ring the device searches for the end of a rejected chain again. A call that
    /// rejects a chain therefore takes up to `N` ring accesses more than its documentation states.
    Reject,
    /// The queue stops.
    StopQueue,
    /// The queue stops, and DEVICE_NEEDS_RESET is set.
    #[default]
    NeedsReset,
}

impl FaultPolicy {
    pub(crate) fn rejects(self) -> bool {
        self == Self::Reject
    }

    pub(crate) fn needs_reset(self) -> bool {
        self == Self::NeedsReset
    }
}

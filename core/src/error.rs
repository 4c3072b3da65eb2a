//! Errors by blame: who has to change for it not to happen again.
//!
//! * [`Refusal`]: the driver asked for something that is not allowed; nothing changed.
//! * [`DriverFault`]: the driver broke the protocol of a ring; the queue stops and the device
//!   shows DEVICE_NEEDS_RESET.
//! * [`HostFault`]: our back end or our memory failed; the request fails, the device lives.
//!
//! [`DeviceError`] is what the set-up conversation returns: one of these, or an error of the
//! conversation itself.

mod display;
#[cfg(test)]
mod tests;

use crate::{features::Features, message::Message};

/// One of the three areas of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Area {
    /// Descriptor area.
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
    /// The device is suspended, or about to be.
    Suspended,
    /// The driver gave the device up (FAILED).
    Failed,
}

/// Something was asked for that is not allowed. Nothing changed, unless a variant says so.
///
/// Every `offset` is counted from the start of the register block, as in the access itself: on
/// virtio-mmio the configuration space begins at [`Register::CONFIG`](crate::mmio::Register::CONFIG).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// No register at this offset.
    NoSuchRegister {
        /// Offset in bytes.
        offset: u32,
    },
    /// A register was accessed with a width other than 4 bytes, or off its alignment.
    BadWidth {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// A read of a write-only register; it gives 0.
    WriteOnly {
        /// Offset in bytes.
        offset: u32,
    },
    /// A write to a read-only register.
    ReadOnly {
        /// Offset in bytes.
        offset: u32,
    },
    /// The device configuration space ends before the access does.
    OutsideConfig {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// The configuration field cannot be written, at this offset, in this width or at this time.
    ConfigReadOnly {
        /// Offset in bytes.
        offset: u32,
        /// Width in bytes.
        width: u8,
    },
    /// The value has no meaning for this register.
    BadValue {
        /// Offset in bytes.
        offset: u32,
        /// What was written.
        value: u32,
    },
    /// Status bits were left out that the driver may not clear one by one. A driver that writes each
    /// bit alone, without the earlier ones, ends here.
    StatusBitsCleared {
        /// The bits that would have been cleared.
        missing: u8,
    },
    /// Features were written after FEATURES_OK.
    FeaturesFixed,
    /// The driver did not accept what it has to: FEATURES_OK stays clear, other bits of the write
    /// stand. A driver that is older than VirtIO 1.0 lacks VERSION_1; a device type may need more
    /// ([`DeviceConfig::required`](crate::DeviceConfig::required)).
    FeaturesMissing {
        /// Required but not accepted.
        missing: Features,
    },
    /// The driver accepted what was not offered: FEATURES_OK stays clear, other bits of the write
    /// stand.
    FeaturesNotOffered {
        /// Accepted but never offered; empty if that is only true of bits from 128 up.
        not_offered: Features,
    },
    /// The device does not work with this subset of its offer
    /// ([`DeviceConfig::negotiate`](crate::DeviceConfig::negotiate)): FEATURES_OK stays clear, other
    /// bits of the write stand.
    FeaturesDeclined,
    /// DRIVER_OK without FEATURES_OK has no effect; other bits of the write stand.
    FeaturesNotNegotiated,
    /// The device is live already, or not live yet, or given up.
    WrongPhase,
    /// There is no such queue.
    NoSuchQueue {
        /// The number, in full width.
        queue: u32,
    },
    /// The queue was configured before.
    QueueExists {
        /// Queue number.
        queue: u16,
    },
    /// The queue is not ready.
    QueueNotReady {
        /// Queue number.
        queue: u16,
    },
    /// The queue is moved out and was not put back.
    QueueTaken {
        /// Queue number.
        queue: u16,
    },
    /// Chains of the queue are pending.
    QueueBusy {
        /// Queue number.
        queue: u16,
    },
    /// The queue's parameters may not be written now.
    QueueFrozen {
        /// Queue number.
        queue: u16,
        /// Why.
        why: Frozen,
    },
    /// A queue size of zero, above the maximum, or (split) no power of two.
    QueueSize {
        /// Queue number.
        queue: u16,
        /// Elements asked for, in full width.
        size: u32,
        /// Largest size.
        max: u16,
    },
    /// An area is not aligned.
    Misaligned {
        /// Queue number.
        queue: u16,
        /// Which.
        area: Area,
        /// Its driver address.
        start: u64,
    },
    /// An area runs past the end of the address space.
    Wraps {
        /// Queue number.
        queue: u16,
        /// Which.
        area: Area,
        /// Its driver address.
        start: u64,
    },
    /// An area is not wholly mapped with the right access, or not in one piece.
    Unmapped {
        /// Queue number.
        queue: u16,
        /// Which.
        area: Area,
        /// Its driver address.
        start: u64,
        /// Its length in bytes.
        len: u32,
    },
    /// Two areas share bytes.
    Overlap {
        /// Queue number.
        queue: u16,
        /// Which of its areas.
        area: Area,
        /// The queue it collides with; the same number if both areas are its own.
        with: u16,
    },
    /// The device's own check ([`QueueCheck`](crate::QueueCheck)) does not want this queue.
    Policy {
        /// Queue number.
        queue: u16,
    },
    /// The device's own check ([`QueueCheck::check_ready`](crate::QueueCheck::check_ready)) does not
    /// want to go live with these queues: one is missing, or they do not go together.
    QueueSet,
    /// A capability that was not negotiated, or is not implemented.
    NotNegotiated,
    /// At DRIVER_OK a queue that the driver wanted was refused or had been, or the set of its queues
    /// was, or the device refused to start. DRIVER_OK is set, and so is DEVICE_NEEDS_RESET.
    NotReady,
    /// IN_ORDER was negotiated, and the chain is not the oldest in flight.
    OutOfOrder {
        /// Its head.
        head: u16,
    },
    /// The token's chain is not in flight any more: its queue was stopped or reset.
    StaleToken,
    /// The ticket is not the one outstanding.
    StaleTicket,
}

/// The driver broke the protocol of a ring. The queue stops; DEVICE_NEEDS_RESET is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DriverFault {
    /// The available index ran ahead by more than the queue holds.
    AvailIndexJump {
        /// The index read.
        idx: u16,
        /// The device's own position.
        next: u16,
    },
    /// An available entry names no descriptor (split).
    HeadOutOfRange {
        /// What it names.
        head: u16,
    },
    /// A chain was made available while it was in flight.
    HeadInFlight {
        /// Its head; in a packed ring, its buffer id, as in all of these.
        head: u16,
    },
    /// A `next` field names no descriptor of its table.
    NextOutOfRange {
        /// What it names.
        next: u16,
    },
    /// A chain is longer than the largest queue, or loops; in a packed ring, it goes on into slots
    /// that are in flight.
    ChainTooLong {
        /// Its head.
        head: u16,
    },
    /// A device-readable descriptor follows a device-writable one.
    ReadableAfterWritable {
        /// Head of the chain.
        head: u16,
    },
    /// The lengths of one chain add up to more than 2^32.
    LengthOverflow {
        /// Head of the chain.
        head: u16,
    },
    /// A buffer is not mapped, or not with the right access.
    BufferUnmapped {
        /// Driver address.
        addr: u64,
        /// Length in bytes.
        len: u32,
        /// Whether the device was to write to it.
        writable: bool,
    },
    /// INDIRECT without having negotiated it.
    IndirectNotNegotiated {
        /// Head of the chain.
        head: u16,
    },
    /// INDIRECT together with NEXT.
    IndirectWithNext {
        /// Head of the chain.
        head: u16,
    },
    /// INDIRECT inside an indirect table.
    IndirectNested {
        /// Head of the chain.
        head: u16,
    },
    /// An indirect table of length 0, of no whole number of descriptors, or with more than there is
    /// room for.
    IndirectLength {
        /// Its length in bytes.
        len: u32,
    },
    /// A request that leaves the device no room to answer, or lacks its header.
    BadRequest {
        /// Head of the chain.
        head: u16,
    },
}

/// Constructors that keep the assembly of an error off the path on which there is none.
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

/// Our own back end or memory failed. The request fails; the device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HostFault {
    /// The back end reported an error.
    Backend,
    /// The model claims to have written more than the chain holds.
    WrittenTooMuch {
        /// Claimed bytes.
        written: u32,
        /// Writable bytes.
        writable: u32,
    },
    /// Memory that was mapped when the chain was taken is gone.
    MemoryGone {
        /// Driver address.
        addr: u64,
    },
    /// The memory under a queue's rings is gone since
    /// [`memory_changed`](crate::Engine::memory_changed); the queue is stopped.
    RingGone {
        /// Queue number.
        queue: u16,
    },
}

/// What can go wrong between the first message and a working device.
///
/// ```
/// use virtside::{QueueCheck, Refusal, error::DeviceError};
/// let error = (0..1).check_queue(7, core::iter::empty()).unwrap_err();
/// assert_eq!(error, DeviceError::InvalidQueue(7));
/// // Any error of blame is one of these.
/// let error = DeviceError::from(Refusal::NoSuchQueue { queue: 0x1_0007 });
/// assert!(matches!(error, DeviceError::Refused(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DeviceError {
    /// The queue is not one that this operation can be done on.
    InvalidQueue(u16),
    /// The configuration of this queue was refused.
    BadQueueConfig(u16, Refusal),
    /// A message that has no place here.
    UnexpectedMessage(Message),
    /// The conversation ended before the device was ready.
    UnexpectedEndOfStream,
    /// The driver asked for something that is not allowed.
    Refused(Refusal),
    /// The driver broke the protocol.
    Driver(DriverFault),
    /// Something of ours failed.
    Host(HostFault),
}

impl DeviceError {
    /// What a driver is told whose `queue` was refused for this.
    #[must_use]
    pub fn refusal(&self, queue: u16) -> Refusal {
        self.refusal_or(Refusal::Policy { queue })
    }

    /// The refusal in this error, or `other` if there is none.
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

/// What becomes of a driver that breaks the protocol: the same on every transport.
///
/// | | a queue that does not pass | a chain that cannot be taken | other faults of a ring |
/// |---|---|---|---|
/// | [`Refuse`](Self::Refuse) | is not there | is given back, the queue goes on | the queue stops |
/// | [`StopQueue`](Self::StopQueue) | is not there | the queue stops | the queue stops |
/// | [`NeedsReset`](Self::NeedsReset) | DEVICE_NEEDS_RESET at DRIVER_OK | the queue stops, DEVICE_NEEDS_RESET | the same |
///
/// In each case the others go on, and a queue that stopped comes back with a queue
/// reset (RING_RESET) or a device reset. What it was, a [`Trace`](crate::trace::Trace) hears as
/// [`DriverFault`] or [`Refusal`]; a queue that stopped says it by
/// [`driver_fault`](crate::Device::driver_fault), a taken one by [`Stop`](crate::device::Stop). Of chains that
/// were refused, `Counters::refused` is the number and
/// [`last_refused`](crate::Device::last_refused) the last reason. A driver is told of DEVICE_NEEDS_RESET by a configuration
/// interrupt, and of the rest by silence: it may wait for ever for a queue that has stopped.
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
    /// What was asked for is refused, and that is all: a chain that cannot be taken, or that the model
    /// finds fault with, is given back with nothing written in it. Where there is no chain to give
    /// back (an available index too far ahead, a head that is none or in flight; with IN_ORDER, while
    /// older ones are in flight; in a packed ring, a chain without an end) the queue stops. So it does
    /// for what the owner of a taken queue [reports](crate::device::TakenQueue::report): it can give the chain
    /// back with nothing written itself.
    ///
    /// In a packed ring the end of such a chain is looked for once more, so a call that refuses one
    /// takes up to `N` ring accesses more than its documentation says.
    Refuse,
    /// The queue stops.
    StopQueue,
    /// The queue stops, and DEVICE_NEEDS_RESET is set.
    #[default]
    NeedsReset,
}

impl FaultPolicy {
    pub(crate) fn refuses(self) -> bool {
        self == Self::Refuse
    }

    pub(crate) fn needs_reset(self) -> bool {
        self == Self::NeedsReset
    }
}

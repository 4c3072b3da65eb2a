//! What a device is to the engine.

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::{DriverMem, DriverRange},
    message::ReadyQueues,
    queue::QueueCheck,
    queue::{ChainError, ReadableChain, WritableChain},
    snapshot::SnapshotError,
};

/// The face of a device that a driver sees before it goes live: identity, features, queues, and
/// the device configuration space.
///
/// Clauses: features-01..05, config-01..03, mmio-16, mmio-19, mmio-20, mmio-29.
pub trait DeviceConfig {
    /// Device type, as in the specification's "Device Types"; 0 is a placeholder slot.
    fn device_id(&self) -> u32;

    /// Vendor; the specification gives no values.
    fn vendor_id(&self) -> u32 {
        u32::from_le_bytes(*b"side")
    }

    /// What the device would like to offer: bits of its type, and of [`Features::RING`]. What is
    /// not implemented is left out of the offer (see [`Features::offer`]).
    fn features(&self) -> Features;

    /// Ring and transport features that this device does not work with: they are not offered, whatever
    /// a host adds by [`Offer`](crate::features::Offer). [`Features::IN_ORDER`] of a device whose answers come
    /// when something happens, for one: they would wait for older ones that may never come. None by
    /// default; of no effect on what is [`REQUIRED`](Features::REQUIRED). Not to change before a reset.
    /// A state in which one of them was accepted is not restored. Where features are agreed upon elsewhere
    /// ([`Message::Ready`](crate::Message::Ready)), the host keeps to it.
    fn excluded(&self) -> Features {
        Features::empty()
    }

    /// There is room for this many queues of this many elements. Called before the driver's first
    /// access: a device that would offer more has to stay within it.
    fn set_capacity(&mut self, queues: u16, elements: u16) {
        let _ = (queues, elements);
    }

    /// Largest size in elements of this queue; 0 if there is no such queue. The capacity of the
    /// engine bounds it further, and it is rounded down to a power of two.
    fn queue_size_max(&self, queue: u16) -> u16;

    /// Features that a driver has to accept, beside [`Features::REQUIRED`]. A driver that does not is
    /// told so by [`FeaturesMissing`](crate::Refusal::FeaturesMissing), and FEATURES_OK stays clear.
    /// They have to be among the offer. None by default. Where features are agreed upon elsewhere
    /// ([`Message::Ready`](crate::Message::Ready)), the host keeps to it.
    fn required(&self) -> Features {
        Features::empty()
    }

    /// The driver accepted this subset of the offer, with what is [`required`](Self::required) in it.
    /// False declines it: FEATURES_OK stays clear, and the refusal is
    /// [`FeaturesDeclined`](crate::Refusal::FeaturesDeclined).
    fn negotiate(&mut self, features: Features) -> bool {
        let _ = features;
        true
    }

    /// Copies configuration bytes out, little-endian, from `offset` on. False if the space ends
    /// before `bytes` does. By default there is no configuration space.
    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let _ = (offset, bytes);
        false
    }

    /// Whether a driver may write the field at `offset` while the device is not in use: before
    /// FEATURES_OK, and after FAILED. A console's `emerg_wr` is such a field. By default there is none.
    ///
    /// | phase | a write reaches [`write_config`](Self::write_config) |
    /// |---|---|
    /// | `Reset`, `Negotiating`, `Failed` | if this is true for its first byte |
    /// | `SettingUp`, `Live` | always; this is not asked |
    /// | `Suspending`, `Suspended` | never (suspend-02) |
    ///
    /// A write that does not reach it is refused with
    /// [`ConfigReadOnly`](crate::Refusal::ConfigReadOnly). `offset` is in bytes from the start of the
    /// configuration space.
    fn is_always_writable(&self, offset: u32) -> bool {
        let _ = offset;
        false
    }

    /// Writes configuration bytes from `offset` on, all or none; false if they cannot be written.
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        let _ = (offset, bytes);
        false
    }

    /// The shared memory region of this id (`shmid`, SHMSel), if there is one (mmio-27, mmio-28).
    /// What ids mean is the device type's to say. It must hold neither what controls the device nor
    /// streamed data (shm-01, shm-02).
    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        let _ = id;
        None
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Answer {
    /// Answered; the first `written` device-writable bytes hold the answer.
    Done {
        /// Bytes, at most the chain's writable length.
        written: u32,
    },
    /// Not yet: the chain keeps its slot, and is served again from the start after
    /// `complete(token)` or `backend_ready(queue)`, or when the model says that it is
    /// [`due`](DeviceModel::due).
    ///
    /// A queue may keep as many chains as there are [slots](crate::ChainSlot) for. A queue that keeps
    /// chains does not get the slots that are reserved for the other queues, so a model may keep
    /// chains for as long as it likes.
    Pending,
}

/// Whether the device starts when the driver is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// It does.
    Accept,
    /// It cannot: DRIVER_OK is set, and DEVICE_NEEDS_RESET.
    Refuse,
    /// A [`ReadyResponder`](crate::ReadyResponder) will say; the driver's write waits.
    Later,
}

/// One chain, as a device model sees it.
#[derive(Debug)]
pub struct Request<'a, M> {
    /// The queue it came from.
    pub queue: u16,
    /// Its name while it is pending.
    pub token: Token,
    /// Index of its head descriptor, for faults that name it.
    pub head: u16,
    /// What the driver sent.
    pub readable: ReadableChain<'a, M>,
    /// Where the answer goes.
    pub writable: WritableChain<'a, M>,
    pub(crate) fault: Option<HostFault>,
}

impl<M: DriverMem> Request<'_, M> {
    /// Notes that something of ours failed. The request is still to be answered.
    pub fn report(&mut self, fault: HostFault) {
        self.fault = Some(fault);
    }
}

impl From<ChainError> for HostFault {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::MemoryGone { addr } => Self::MemoryGone { addr },
            ChainError::Full => Self::Backend,
        }
    }
}

/// A device: its configuration, and what it does with a request.
///
/// A model is a page of code without unsafe, rings or registers in it:
///
/// ```
/// use virtside::embedded_io::{Read, Write};
/// use virtside::{Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request};
///
/// /// Sends back what it is sent.
/// struct Echo;
///
/// impl DeviceConfig for Echo {
///     fn device_id(&self) -> u32 { 63 }
///     fn features(&self) -> Features { Features::RING }
///     fn queue_size_max(&self, queue: u16) -> u16 { if queue == 0 { 16 } else { 0 } }
/// }
///
/// impl DeviceModel for Echo {
///     fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
///         let mut byte = [0; 1];
///         while request.writable.remaining() > 0 && request.readable.read(&mut byte) == Ok(1) {
///             if request.writable.write_all(&byte).is_err() { break; }
///         }
///         Ok(Answer::Done { written: request.writable.written() })
///     }
/// }
/// ```
pub trait DeviceModel: DeviceConfig {
    /// The device's own check of which queues it wants, beyond what every queue is checked for. Asked
    /// for whenever one is to be made.
    fn queue_check(&self) -> impl QueueCheck {
        ..
    }

    /// The driver wants to go live with these features and these queues, each of which passed
    /// [`queue_check`](Self::queue_check). Asked by an engine; a device built of messages has its
    /// [`ReadyResponder`](crate::ReadyResponder) from the start. Of a device that is restored live,
    /// the queues that the driver has not stopped since.
    fn ready(&mut self, features: Features, queues: ReadyQueues<'_>) -> Start {
        let _ = (features, queues);
        Start::Accept
    }

    /// The driver reset the device. Nothing pending will be completed.
    fn reset(&mut self) {}

    /// The driver stopped this queue, or broke it. Nothing pending on it will be completed.
    fn queue_stopped(&mut self, queue: u16) {
        let _ = queue;
    }

    /// Whether a chain of this queue could be served now. If false, chains are left in the ring, and
    /// a poll ends with [`Step::Blocked`](crate::Step::Blocked) if the queue was kicked. Every poll
    /// asks again; call `backend_ready` when polling is worthwhile.
    fn can_serve(&self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// A pending chain that can be answered now. `poll` serves it again, and asks until there is
    /// none; one that is no longer pending counts as none. Asked before each chain and each look into
    /// an empty queue, twice more for each chain that is due only since it was
    /// [`drained`](Self::drained) with every slot in use, and up to `Q + 3` times more in a poll: at
    /// most `2 * budget + Q + 3` times.
    fn due(&self) -> Option<Token> {
        None
    }

    /// Whether the next chain of this queue might be answered with [`Answer::Pending`]. Asked where
    /// the queue has chains in hand, and only a slot is free that is reserved for another queue. If
    /// true, the chain stays in the ring; if false, it is served in that slot, and has to be answered
    /// at once. Not asked with IN_ORDER, where a chain that is answered may still wait for its turn.
    fn may_keep(&self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// Nothing more of this queue comes before its pending chains are answered: it is empty, or no
    /// slot is left for it. The place to settle what waited for the next request. It may be told more than
    /// once.
    fn drained(&mut self, queue: u16) {
        let _ = queue;
    }

    /// Whether pending chains of this queue wait for what may never come, such as input: the device
    /// is suspended with them in hand, and goes on with them when it resumes. Otherwise a suspension
    /// waits until they are answered (suspend-11).
    fn may_sleep(&self, queue: u16) -> bool {
        let _ = queue;
        false
    }

    /// Serves one request.
    ///
    /// # Errors
    /// The driver broke the protocol: the queue stops, and DEVICE_NEEDS_RESET is set.
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault>;
}

/// The name of a pending chain. It is void once the chain is answered, or its queue was stopped or
/// reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Token {
    pub(crate) slot: u16,
    pub(crate) serial: u32,
}

impl Token {
    pub(crate) const fn slot(self) -> u16 {
        self.slot
    }
}

/// Where a shared memory region is in the driver's address space.
///
/// The two sides refer to what is in it by offsets from its start (shm-03): [`at`](Self::at) checks
/// one that came from the driver.
///
/// ```
/// use virtside::model::SharedMemory;
/// let cache = SharedMemory { base: 0x1_0000_0000, len: 0x1000 };
/// assert_eq!(cache.at(0xff0, 16).map(|range| range.start()), Some(0x1_0000_0ff0));
/// assert_eq!(cache.at(0xff1, 16), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SharedMemory {
    /// Address of its first byte, as the driver sees it.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

impl SharedMemory {
    /// The `len` bytes from `offset` on, if they are within the region.
    #[must_use]
    pub fn at(&self, offset: u64, len: u32) -> Option<DriverRange> {
        let end = offset.checked_add(len.into())?;
        if end > self.len {
            return None;
        }
        DriverRange::new(self.base.checked_add(offset)?, len)
    }
}

/// A model whose state can be saved: what a driver made of it, and nothing of how its host made it.
///
/// Implemented by every one of [`models`](crate::models), and for a model of your own that keeps
/// something between two requests:
///
/// ```
/// use virtside::{
///     Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request,
///     model::{SaveModel, SavedWith}, snapshot::SnapshotError,
/// };
///
/// /// Counts its requests, up to ten.
/// struct Counter(u8);
///
/// impl SaveModel for Counter {
///     type Snapshot = u8;
///     fn save(&self) -> u8 {
///         self.0
///     }
///     fn restore(&mut self, snapshot: &u8, _: SavedWith) -> Result<(), SnapshotError> {
///         if *snapshot > 10 {
///             return Err(SnapshotError::Model { at: 0 });
///         }
///         self.0 = *snapshot;
///         Ok(())
///     }
/// }
/// # impl DeviceConfig for Counter {
/// #     fn device_id(&self) -> u32 { 63 }
/// #     fn features(&self) -> Features { Features::RING }
/// #     fn queue_size_max(&self, queue: u16) -> u16 { if queue == 0 { 16 } else { 0 } }
/// # }
/// # impl DeviceModel for Counter {
/// #     fn reset(&mut self) { self.0 = 0; }
/// #     fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
/// #         self.0 = self.0.saturating_add(1).min(10);
/// #         Ok(Answer::Done { written: 0 })
/// #     }
/// # }
/// ```
pub trait SaveModel: DeviceModel {
    /// The state as a plain value. One that may outlive the program begins with a version.
    type Snapshot: Clone;

    /// The state between two polls.
    fn save(&self) -> Self::Snapshot;

    /// Takes a state that [`save`](Self::save) gave, and puts a back end where it was: it is to be as
    /// after [`negotiate`](crate::DeviceConfig::negotiate), and to have served nothing. Whatever it had
    /// in hand is served again from its start, before anything new of its queue, with other tokens.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing changed then, but for a back end that failed on the way: it is as
    /// after a reset.
    fn restore(&mut self, snapshot: &Self::Snapshot, with: SavedWith) -> Result<(), SnapshotError>;
}

/// What the device was that a model's state was saved with: a state that only a driver's requests
/// can make is refused where there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SavedWith {
    /// DRIVER_OK was accepted since the last reset.
    pub started: bool,
}

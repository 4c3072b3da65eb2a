//! Device models: the traits to implement, requests and answers.

use crate::{
    error::{DriverFault, HostFault},
    features::{Features, Offer},
    memory::{DriverMem, DriverRange},
    message::ReadyQueues,
    queue::QueueCheck,
    queue::{ChainError, ReadableChain, WritableChain},
    snapshot::SnapshotError,
};

/// What a driver can see of a device before DRIVER_OK: identity, features, queues and the device
/// configuration space.
///
/// Clauses: features-01..05, config-01..03, mmio-16, mmio-19, mmio-20, mmio-29.
pub trait DeviceConfig {
    /// Returns the device type, as numbered in the specification's "Device Types". 0 is a
    /// placeholder: the driver finds no device.
    fn device_id(&self) -> u32;

    /// Returns the vendor id. The specification assigns no values. The default is the ASCII text
    /// `side`, first letter in the lowest byte.
    fn vendor_id(&self) -> u32 {
        u32::from_le_bytes(*b"side")
    }

    /// Returns the features that the device wants to offer: bits of its device type, and a set of
    /// ring and transport features such as [`Features::RING`].
    ///
    /// Features that are not implemented are left out of the offer (see [`Features::offer`]).
    fn features(&self) -> Features;

    /// Returns the ring and transport features that the device does not work with. The default is
    /// none.
    ///
    /// Excluded features are not offered, even if a host adds them by [`Offer`]. An example is
    /// [`Features::IN_ORDER`] on a device that answers when an external event happens: an answer
    /// would wait for older answers that may never come.
    ///
    /// - Features in [`REQUIRED`](Features::REQUIRED) cannot be excluded.
    /// - The set must not change between two resets.
    /// - A saved state in which the driver accepted an excluded feature is not restored.
    /// - If features are negotiated elsewhere ([`Message::Ready`](crate::Message::Ready)), the host
    ///   must leave the excluded features out: [`offer`](Self::offer) does.
    fn excluded(&self) -> Features {
        Features::empty()
    }

    /// Returns the features to offer to a driver: those that the device
    /// [wants](Self::features), changed by the host, without those that it
    /// [excludes](Self::excluded). A transport of messages offers this set. It calls
    /// [`set_capacity`](Self::set_capacity) before. Do not implement this method.
    ///
    /// ```
    /// use virtside::{
    ///     DeviceConfig, Features, features::Offer, models::{Block, BlockOptions, blk::RamDisk},
    /// };
    /// let device = Block::new(RamDisk::new(vec![0; 4096]), BlockOptions::new(16));
    /// let offered = device.offer(Offer::AS_IS.without(Features::EVENT_IDX));
    /// assert!(offered.contains(Features::VERSION_1 | Features::INDIRECT_DESC));
    /// assert!(!offered.contains(Features::EVENT_IDX));
    /// assert_eq!(device.config_len(), 60);
    /// ```
    fn offer(&self, changes: Offer) -> Features {
        changes.without(self.excluded()).of(self.features())
    }

    /// Tells the model the engine's capacity, once, before the driver sees a value that depends on
    /// it.
    ///
    /// The engine has room for `queues` queues of `elements` elements each. Fields of the
    /// configuration space that depend on the number or size of queues must stay within this
    /// capacity. The engine itself limits the value of [`queue_size_max`](Self::queue_size_max).
    fn set_capacity(&mut self, queues: u16, elements: u16) {
        let _ = (queues, elements);
    }

    /// Returns the largest size of this queue in elements, or 0 if there is no such queue.
    ///
    /// The engine limits the value to its capacity and rounds it down to a power of two.
    fn queue_size_max(&self, queue: u16) -> u16;

    /// Returns the features that a driver must accept in addition to [`Features::REQUIRED`]. The
    /// default is none.
    ///
    /// The required features must be in the offer. If the driver does not accept all of them,
    /// FEATURES_OK stays clear and the refusal is
    /// [`FeaturesMissing`](crate::Refusal::FeaturesMissing). If features are negotiated elsewhere
    /// ([`Message::Ready`](crate::Message::Ready)), the host must enforce the set.
    fn required(&self) -> Features {
        Features::empty()
    }

    /// Accepts or declines the features that the driver chose.
    ///
    /// `features` is a subset of the offer and includes all [`required`](Self::required) features.
    /// If the model returns false, FEATURES_OK stays clear and the refusal is
    /// [`FeaturesDeclined`](crate::Refusal::FeaturesDeclined). The default returns true.
    fn negotiate(&mut self, features: Features) -> bool {
        let _ = features;
        true
    }

    /// Copies configuration bytes, in little-endian order, from `offset` on into `bytes`.
    ///
    /// Returns false if the configuration space ends before `bytes` is full. By default there is no
    /// configuration space.
    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let _ = (offset, bytes);
        false
    }

    /// Returns the length of the configuration space in bytes, at most 4,096.
    ///
    /// By default, the length is found by one [`read_config`](Self::read_config) for each byte.
    fn config_len(&self) -> u32 {
        (0..4096)
            .find(|&offset| !self.read_config(offset, &mut [0]))
            .unwrap_or(4096)
    }

    /// Returns whether a driver may write the field at `offset` while the device is not in use:
    /// before FEATURES_OK, and after FAILED.
    ///
    /// `offset` is in bytes from the start of the configuration space. A console's `emerg_wr` is
    /// such a field. The default returns false.
    ///
    /// | phase | a write reaches [`write_config`](Self::write_config) |
    /// |---|---|
    /// | `Reset`, `Negotiating`, `Failed` | if this method returns true for its first byte |
    /// | `SettingUp`, `Live` | always; this method is not called |
    /// | `Suspending`, `Suspended` | never (suspend-02) |
    ///
    /// A write that does not reach `write_config` is refused with
    /// [`ConfigReadOnly`](crate::Refusal::ConfigReadOnly).
    fn is_always_writable(&self, offset: u32) -> bool {
        let _ = offset;
        false
    }

    /// Writes configuration bytes from `offset` on: all of them or none.
    ///
    /// Returns false if the bytes cannot be written. The default returns false.
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        let _ = (offset, bytes);
        false
    }

    /// Returns the shared memory region with this id (`shmid`, SHMSel), if there is one (mmio-27,
    /// mmio-28).
    ///
    /// The device type defines the meaning of the ids. A region must contain neither control fields
    /// of the device nor streamed data (shm-01, shm-02).
    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        let _ = id;
        None
    }
}

/// Result of serving a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Answer {
    /// The request is answered. The first `written` device-writable bytes hold the answer.
    Done {
        /// Number of bytes, at most the chain's writable length.
        written: u32,
    },
    /// The request is not answered yet. The chain keeps its slot.
    ///
    /// The chain is served again, from its start, after `complete(token)` or
    /// `backend_ready(queue)`, or when [`due`](DeviceModel::due) returns its token.
    ///
    /// A queue may keep as many chains as there are [slots](crate::ChainSlot) for. A queue that
    /// keeps chains does not get the slots that are reserved for other queues, so a model may keep
    /// a chain for any length of time.
    Pending,
}

/// Decision of a model at DRIVER_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// The device starts.
    Accept,
    /// The device cannot start. DRIVER_OK and DEVICE_NEEDS_RESET are set.
    Refuse,
    /// A [`ReadyResponder`](crate::ReadyResponder) answers later. Until then the driver's write is
    /// not complete.
    Later,
}

/// One chain, as a device model sees it.
#[derive(Debug)]
pub struct Request<'a, M> {
    /// Number of the queue that the chain came from.
    pub queue: u16,
    /// Identifies the chain while it is pending.
    pub token: Token,
    /// Index of the head descriptor, for a [`DriverFault`] that names the chain.
    pub head: u16,
    /// Bytes that the driver sent.
    pub readable: ReadableChain<'a, M>,
    /// Space for the answer.
    pub writable: WritableChain<'a, M>,
    pub(crate) fault: Option<HostFault>,
}

impl<M: DriverMem> Request<'_, M> {
    /// Records a host fault. The model must still answer the request.
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

/// A device: its configuration, and how it serves a request.
///
/// A model is a page of safe code that needs no rings and no registers:
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
    /// Returns the device's own check of its queues, in addition to the checks that every queue
    /// gets.
    ///
    /// Called whenever queues are checked. The default accepts every queue.
    fn queue_check(&self) -> impl QueueCheck {
        ..
    }

    /// Decides whether the device starts with these features and queues.
    ///
    /// Each queue passed [`queue_check`](Self::queue_check). An engine makes this call at
    /// DRIVER_OK. For a device that is built of messages, the
    /// [`ReadyResponder`](crate::ReadyResponder) decides instead.
    ///
    /// The call is also made when a live device is restored. The queues that the driver has stopped
    /// since DRIVER_OK are then missing from `queues`.
    fn ready(&mut self, features: Features, queues: ReadyQueues<'_>) -> Start {
        let _ = (features, queues);
        Start::Accept
    }

    /// Called when the driver resets the device. Pending chains will not be completed.
    fn reset(&mut self) {}

    /// Called when the driver stops this queue, or the queue fails. Pending chains of this queue
    /// will not be completed.
    fn queue_stopped(&mut self, queue: u16) {
        let _ = queue;
    }

    /// Returns whether the model could serve a chain of this queue now.
    ///
    /// If false, chains are left in the ring, and a poll ends with
    /// [`Step::Blocked`](crate::Step::Blocked) if the queue was kicked. Every poll asks again; call
    /// `backend_ready` when polling is worthwhile. The default returns true.
    fn can_serve(&self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// Returns a pending chain that the model can answer now.
    ///
    /// `poll` serves that chain again, and repeats the call until the result is `None`. A token
    /// that is no longer pending counts as `None`.
    ///
    /// One poll makes at most `2 * budget + Q + 3` calls:
    ///
    /// - one before each chain and before each look into an empty queue, and another one if that
    ///   call returned a token or [`can_serve`](Self::can_serve) then returned false,
    /// - two more for each chain that became due only when [`drained`](Self::drained) was called
    ///   with every slot in use,
    /// - up to `Q + 3` more.
    fn due(&self) -> Option<Token> {
        None
    }

    /// Returns whether the model might answer the next chain of this queue with
    /// [`Answer::Pending`].
    ///
    /// Called if the queue has chains in hand and every free slot is reserved for another queue. If
    /// true, the next chain stays in the ring. If false, the next chain is served in a reserved
    /// slot, and the model must answer it at once. The default returns true.
    ///
    /// Not called with IN_ORDER, where an answered chain may still wait for its turn.
    fn may_keep(&self, queue: u16) -> bool {
        let _ = queue;
        true
    }

    /// Called when no further chain of this queue comes before its pending chains are answered.
    ///
    /// The queue is empty, no slot is left for the queue, or the device is being suspended. A model
    /// that holds an answer back until the next request completes the answer here. The call may be
    /// repeated.
    fn drained(&mut self, queue: u16) {
        let _ = queue;
    }

    /// Returns whether pending chains of this queue wait for an event that may never come, such as
    /// input.
    ///
    /// If true, the device is suspended with these chains in hand, and continues with them when it
    /// resumes. If false, a suspension waits until these chains are answered (suspend-11). The
    /// default returns false.
    fn may_sleep(&self, queue: u16) -> bool {
        let _ = queue;
        false
    }

    /// Serves one request.
    ///
    /// # Errors
    /// [`DriverFault`] if the driver broke the protocol. By default the queue stops and
    /// DEVICE_NEEDS_RESET is set; see [`FaultPolicy`](crate::error::FaultPolicy).
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault>;
}

/// Identifies a pending chain.
///
/// A token is stale after the chain is answered, and after its queue is stopped or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Token {
    pub(crate) slot: u16,
    pub(crate) serial: u32,
}

impl Token {
    /// Returns the number of the slot that holds the chain. No two pending chains of a device have
    /// the same slot. The slot of a stale token may hold another chain.
    #[must_use]
    pub const fn slot(self) -> u16 {
        self.slot
    }
}

/// Location of a shared memory region in the driver's address space.
///
/// Driver and device refer to the contents of a region by offsets from its start (shm-03).
/// [`at`](Self::at) checks an offset that came from the driver.
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
    /// Driver address of the first byte.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

impl SharedMemory {
    /// Returns the `len` bytes from `offset` on, or `None` if they are not within the region.
    #[must_use]
    pub fn at(&self, offset: u64, len: u32) -> Option<DriverRange> {
        let end = offset.checked_add(len.into())?;
        if end > self.len {
            return None;
        }
        DriverRange::new(self.base.checked_add(offset)?, len)
    }
}

/// A model whose state can be saved.
///
/// A saved state contains what the driver's requests changed, and nothing that the host configured.
/// Every model in [`models`](crate::models) implements this trait. Implement it for a model of your
/// own that keeps state between two requests:
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
    /// The state as a plain value. If another version of the program may read a stored value, the
    /// first field should be a version number.
    type Snapshot: Clone;

    /// Returns the current state. Called between two polls.
    fn save(&self) -> Self::Snapshot;

    /// Returns whether the model has no state from a driver, so that it can take a saved one.
    /// [`Engine::restore`](crate::Engine::restore) calls this before it changes anything.
    fn is_reset(&self) -> bool {
        true
    }

    /// Takes a state that [`save`](Self::save) returned, and puts the back end into that state.
    ///
    /// The caller has called [`negotiate`](crate::DeviceConfig::negotiate) before, and the model
    /// has served no request. Chains that were in hand in the saved state are served again from
    /// their start, with other tokens, before any new chain of their queue.
    ///
    /// # Errors
    /// [`SnapshotError`]. The model is then unchanged, unless its back end failed during the
    /// restore. In that case the model is as after a reset.
    fn restore(&mut self, snapshot: &Self::Snapshot, with: SavedWith) -> Result<(), SnapshotError>;
}

/// State of the device with which a model's state was saved.
///
/// If `started` is false, the driver has sent no request. The model should then refuse a state that
/// only requests can produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SavedWith {
    /// DRIVER_OK was set since the last reset.
    pub started: bool,
}

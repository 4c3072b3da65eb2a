//! The whole device: registers, queues and a model, stepped by two calls.
//!
//! [`Engine::access`] takes one register access of the driver. [`Engine::poll`] serves a bounded
//! number of chains. Neither call blocks or allocates, so an interrupt handler may make both.

mod access;
#[cfg(feature = "critical-section")]
mod cell;
mod snapshot;
mod view;

#[cfg(feature = "critical-section")]
pub use cell::EngineCell;

use crate::{
    device::{ChainSlot, Device, PutBackError, Quiesce, Step, TakenQueue},
    error::{DeviceError, Refusal},
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{DeviceModel, Token},
    num,
    shared::{Shared, SharedHandle},
    trace::{NoTrace, Trace},
    transport::{Phase, Transport},
};

/// A virtio-mmio device: model `D` over memory `M` with interrupt `I`, up to `Q` queues of up to
/// `N` elements.
///
/// `S` holds the chains that the device works on. A model that always answers at once needs
/// `[ChainSlot<N>; 1]`. A model that answers later needs an array or a `&mut [ChainSlot<N>]` with
/// at least one slot for each queue that the driver may use; see [`ChainSlot`]. `H` is the
/// reference to the [`Shared`] block: `&'static Shared<Q>`, or an `Arc`.
///
/// | call | accesses to the driver's memory, at most |
/// |---|---|
/// | [`access`](Self::access) | `Q` at DRIVER_OK; 1 when a queue that was reset is made ready; otherwise none |
/// | [`poll(b)`](Self::poll) | `b * (N + 5) + 2 * min(b, Q)` in rings, `b * (N + 1)` indirect descriptors, and the model's |
/// | [`complete`](Self::complete) | 4 in rings, and the model's |
/// | [`put_back`](Self::put_back) | 1 in rings |
/// | [`save`](Self::save), [`restore`](Self::restore) | none |
///
/// With IN_ORDER:
///
/// * A chain that was answered before its turn waits for older chains. `poll` and `complete` make
///   two more ring accesses for each waiting chain that they give back: for at most as many chains
///   as there are slots.
/// * `put_back` makes two more ring accesses, to publish chains that the owner gave back.
///
/// If the model answers DRIVER_OK with [`Start::Later`](crate::model::Start::Later), the `Q` ring
/// accesses of DRIVER_OK are made later, by the first call of [`finish`](Self::finish), `poll`,
/// `take_queue` or `save` after the [`ReadyResponder`](crate::ReadyResponder) has accepted.
///
/// ```
/// use virtside::{ChainSlot, Engine, Shared, memory::Ram, mmio::{Access, Reply}, models::Entropy};
/// static RAM: Ram<65536> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
/// let mut engine: Engine<_, _, _> =
///     Engine::new(Entropy::new(source), RAM.flat(0x8000_0000), (), [ChainSlot::new()], &SHARED);
/// assert_eq!(engine.access(Access::read(0)), Reply::Done(0x7472_6976));
/// assert_eq!(engine.access(Access::read(8)), Reply::Done(4));
/// ```
pub struct Engine<
    D,
    M: DriverMem,
    I,
    const Q: usize = 1,
    const N: usize = 16,
    S = [ChainSlot<N>; 1],
    H = &'static Shared<Q>,
    T = NoTrace,
> {
    model: D,
    device: Device<M, I, Q, N, H, T>,
    transport: Transport<Q>,
    slots: S,
}

impl<D, M: DriverMem, I, S, H, const Q: usize, const N: usize, T> core::fmt::Debug
    for Engine<D, M, I, Q, N, S, H, T>
{
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("phase", &self.transport.phase())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize> Engine<D, M, I, Q, N, S, H>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
{
    /// Creates an engine in reset.
    ///
    /// The compiler refuses slots for chains of another length than `N`, and a shared block for
    /// another number of queues than `Q`:
    ///
    /// ```compile_fail,E0308
    /// # use virtside::{ChainSlot, Engine, Shared, memory::Ram, models::Entropy};
    /// # static RAM: Ram<65536> = Ram::new();
    /// # static SHARED: Shared<1> = Shared::new();
    /// # let source = |bytes: &mut [u8]| Ok(bytes.len());
    /// let slots = [ChainSlot::<8>::new()];
    /// let _: Engine<_, _, _> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), slots, &SHARED);
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use virtside::{ChainSlot, Engine, Shared, memory::Ram, models::Entropy};
    /// # static RAM: Ram<65536> = Ram::new();
    /// # let source = |bytes: &mut [u8]| Ok(bytes.len());
    /// static SHARED: Shared<2> = Shared::new();
    /// let slots = [ChainSlot::<16>::new()];
    /// let _: Engine<_, _, _> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), slots, &SHARED);
    /// ```
    pub const fn new(model: D, mem: M, notify: I, slots: S, shared: H) -> Self {
        Self::traced(model, mem, notify, slots, shared, NoTrace)
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Creates an engine in reset with a trace sink. See [`new`](Engine::new).
    pub const fn traced(model: D, mem: M, notify: I, slots: S, shared: H, trace: T) -> Self {
        const {
            assert!(
                N.is_power_of_two() && N <= 32768,
                "a split queue holds 2^k elements, k <= 15"
            );
        }
        Self {
            model,
            device: Device::new(mem, notify, shared, trace),
            transport: Transport::new(num::clamp_u16(N)),
            slots,
        }
    }

    /// Creates an engine from a device that was set up by messages, and from the register block
    /// `transport` that produced the messages.
    ///
    /// The driver's write of DRIVER_OK may still be outstanding in `transport`. The
    /// [`ReadyResponder`](crate::ReadyResponder) that [`Configuring`](crate::Configuring) returned
    /// answers the write, and [`finish`](Self::finish) completes it.
    ///
    /// A [`FaultPolicy`](crate::error::FaultPolicy) may let the device continue without a queue
    /// that is refused at DRIVER_OK. QueueReady of such a queue reads 0 from now on. At most `Q`
    /// steps.
    ///
    /// ```
    /// use virtside::{models::Entropy, mmio::{Access, Reply, Transport}, ChainSlot, Configuring};
    /// use virtside::{
    ///     DeviceBuilder, Engine, Features, Message, Shared, error::DeviceError, memory::Ram,
    ///     setup::Progress,
    /// };
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let mut model = Entropy::new(|bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) });
    /// let mut transport = Transport::new(16);
    /// for value in [3, 11, 15] {
    /// #   let _ = transport.access(Access::write(0x24, 1), &mut model, &SHARED, &());
    /// #   let _ = transport.access(Access::write(0x20, 1), &mut model, &SHARED, &());
    ///     let _ = transport.access(Access::write(0x70, value), &mut model, &SHARED, &());
    /// }
    /// let message = transport.message().ok_or(DeviceError::UnexpectedEndOfStream)?;
    /// let mut configuring =
    ///     Configuring::<_, _, _>::new(DeviceBuilder::new(&SHARED), &.., RAM.flat(0));
    /// let Progress::Ready(device, responder) = configuring.step(message)? else {
    ///     panic!("not ready");
    /// };
    ///
    /// let mut engine = Engine::from_parts(model, device, transport, [ChainSlot::new()]);
    /// let ticket = engine.transport().ticket();
    /// assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
    /// responder.accept();
    /// assert_eq!(engine.finish(ticket), Reply::Done(0));
    /// assert_eq!(engine.features(), Features::VERSION_1);
    /// # Ok::<(), DeviceError>(())
    /// ```
    pub fn from_parts(
        model: D,
        device: Device<M, I, Q, N, H, T>,
        mut transport: Transport<Q>,
        slots: S,
    ) -> Self {
        for queue in 0..num::clamp_u16(Q) {
            if transport.ready(queue).is_some() && device.queue_config(queue).is_none() {
                transport.drop_queue(queue);
            }
        }
        Self {
            model,
            device,
            transport,
            slots,
        }
    }

    /// Returns the parts of the engine: the reverse of [`from_parts`](Self::from_parts).
    pub fn into_parts(self) -> (D, Device<M, I, Q, N, H, T>, Transport<Q>, S) {
        (self.model, self.device, self.transport, self.slots)
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Returns the features that the driver is offered.
    ///
    /// The offer is the model's [`features`](crate::DeviceConfig::features), changed by the host's
    /// [`Offer`](crate::features::Offer), without the features that the model
    /// [excludes](crate::DeviceConfig::excluded).
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, Engine, Features, Shared, features::Offer, memory::Ram, models::Entropy,
    /// };
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
    /// let mut engine: Engine<_, _, _> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::<16>::new()], &SHARED)
    ///         .with_offer(Offer::AS_IS.with(Features::IN_ORDER).without(Features::EVENT_IDX));
    /// assert!(engine.offer().contains(Features::IN_ORDER));
    /// assert!(!engine.offer().contains(Features::EVENT_IDX));
    /// ```
    pub fn offer(&mut self) -> Features {
        self.transport.offer(&mut self.model)
    }

    /// Serves up to `budget` chains. See [`Device::poll`].
    #[inline]
    pub fn poll(&mut self, budget: u16) -> Step {
        self.device
            .poll(&mut self.model, self.slots.as_mut(), budget)
    }

    /// Changes the model's configuration space, increments ConfigGeneration, and sends a
    /// configuration interrupt if the driver is live (config-04, notif-01, mmio-07).
    ///
    /// Reads of the driver return the new values at once, even while the device is suspended. A
    /// suspended device sends the interrupt when it resumes (suspend-06, suspend-07).
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, Engine, Shared, memory::Ram, mmio::Access,
    ///     models::{Block, BlockOptions, blk::RamDisk},
    /// };
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let model = Block::new(RamDisk::new(vec![0; 512]), BlockOptions::new(16));
    /// let mut engine: Engine<_, _, _> =
    ///     Engine::new(model, RAM.flat(0), (), [ChainSlot::new()], &SHARED);
    /// assert_eq!(engine.access(Access::read(0x100)).value(), Some(1)); // sectors
    /// engine.update_config(|model| *model.backend_mut() = RamDisk::new(vec![0; 1024]));
    /// assert_eq!(engine.access(Access::read(0x100)).value(), Some(2));
    /// ```
    pub fn update_config<R>(&mut self, change: impl FnOnce(&mut D) -> R) -> R {
        let result = change(&mut self.model);
        self.transport.increment_generation();
        self.device
            .config_changed(self.transport.phase() != Phase::Reset);
        result
    }

    /// Makes the next [`poll`](Self::poll) serve a queue again, because the back end has data or
    /// room for the queue. See [`Device::backend_ready`].
    pub fn backend_ready(&mut self, queue: u16) {
        self.device.backend_ready(queue, self.slots.as_mut());
    }

    /// Serves a pending chain again at once, because the back end has finished with the chain. See
    /// [`Device::complete`].
    ///
    /// # Errors
    /// [`Refusal::StaleToken`].
    pub fn complete(&mut self, token: Token) -> Result<(), Refusal> {
        self.device
            .complete(token, &mut self.model, self.slots.as_mut())
    }

    /// Answers a pending chain without asking the model. The chain's first `written`
    /// device-writable bytes hold the answer. See [`Device::complete_with`].
    ///
    /// ```
    /// use virtside::{DeviceModel, DriverMem, DriverNotify, Engine, Refusal, Token};
    /// /// A thread has stored 5 bytes of answer in the chain's first writable buffer.
    /// fn answered<D: DeviceModel, M: DriverMem, I: DriverNotify + Clone>(
    ///     engine: &mut Engine<D, M, I>,
    ///     token: Token,
    /// ) -> Result<(), Refusal> {
    ///     engine.complete_with(token, 5)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Device::complete_with`].
    pub fn complete_with(&mut self, token: Token, written: u32) -> Result<(), Refusal> {
        self.device
            .complete_with(token, written, self.slots.as_mut())
    }

    /// Translates every ring again after the memory has changed. Returns [`Quiesce::Done`] when no
    /// queue works on the old memory. See [`Device::memory_changed`].
    pub fn memory_changed(&mut self) -> Quiesce {
        self.device
            .memory_changed(&mut self.model, self.slots.as_mut())
    }

    /// Keeps a queue quiet for the host: takes no more chains of it, and finishes the chains in
    /// hand. See [`Device::quiesce`].
    pub fn quiesce(&mut self, queue: u16) -> Quiesce {
        self.device
            .quiesce(queue, &mut self.model, self.slots.as_mut())
    }

    /// Serves a queue again that [`quiesce`](Self::quiesce) has kept quiet.
    pub fn resume_queue(&mut self, queue: u16) {
        self.device.resume_queue(queue);
    }

    /// Moves a live queue out. See [`Device::take_queue`].
    ///
    /// # Errors
    /// As [`Device::take_queue`], and [`Refusal::NotNegotiated`] after
    /// [`without_take_queue`](Self::without_take_queue).
    pub fn take_queue(&mut self, queue: u16) -> Result<TakenQueue<M::Window, I, Q, N, H>, Refusal> {
        self.device.take_queue(queue)
    }

    /// Moves a taken queue back in. See [`Device::put_back`].
    ///
    /// # Errors
    /// As [`Device::put_back`].
    #[allow(clippy::type_complexity, reason = "a queue of this device")]
    pub fn put_back(
        &mut self,
        taken: TakenQueue<M::Window, I, Q, N, H>,
    ) -> Result<(), PutBackError<TakenQueue<M::Window, I, Q, N, H>>> {
        self.device.put_back(taken)
    }

    /// Sets DEVICE_NEEDS_RESET. See [`Device::require_reset`].
    pub fn require_reset(&mut self) {
        self.device.require_reset();
    }

    /// Kicks a queue on behalf of the host. See [`Device::notify_queue`].
    ///
    /// # Errors
    /// As [`Device::notify_queue`].
    pub fn notify_queue(&self, queue: u16) -> Result<(), DeviceError> {
        self.device.notify_queue(queue)
    }
}

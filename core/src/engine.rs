//! The whole device: registers, queues and a model, stepped by two calls.
//!
//! [`Engine::access`] takes one register access of the driver, [`Engine::poll`] serves a bounded
//! number of chains. Both return; nothing here blocks or allocates, so either may be called from an
//! interrupt handler.

#[cfg(feature = "critical-section")]
mod cell;
mod snapshot;

#[cfg(feature = "critical-section")]
pub use cell::EngineCell;

use crate::{
    device::{ChainSlot, Counters, Device, QueueState, Step, Taken, Unwanted},
    error::{DeviceError, DriverFault, FaultPolicy, HostFault, Refusal},
    features::{Features, Offer, built},
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{Message, QueueConfig},
    mmio::{Access, RegisterBlock},
    model::{DeviceModel, Start, Token},
    num,
    setup::ReadyResponder,
    shared::{Shared, SharedHandle, StartAnswer},
    trace::{Event, NoTrace, Trace},
    transport::{Outstanding, Phase, Reply, Ticket, Transport},
};

/// A virtio-mmio device: model `D` over memory `M` with interrupt `I`, up to `Q` queues of up to
/// `N` elements.
///
/// `S` holds the chains that the device works on: `[ChainSlot<N>; 1]` for a model that always
/// answers at once; for a model that answers later an array, or a `&mut [ChainSlot<N>]`, of at least
/// one slot for each queue that the driver may use. [`ChainSlot`] says how many are needed. `H` is
/// the way to the [`Shared`] block: `&'static Shared<Q>`, or an `Arc`.
///
/// | call | guest-memory accesses, at most |
/// |---|---|
/// | [`access`](Self::access) | `Q`, at DRIVER_OK; 1, where a queue that was reset is made ready; else none |
/// | [`poll(b)`](Self::poll) | `b * (N + 5) + 2 * min(b, Q)` in rings, `b * (N + 1)` indirect descriptors, and the model's |
/// | [`complete`](Self::complete) | 4 in rings, and the model's |
/// | [`put_back`](Self::put_back) | 1 in rings |
/// | [`save`](Self::save), [`restore`](Self::restore) | none |
///
/// With IN_ORDER two more in rings: of `poll` and `complete` for each chain that waited for its turn
/// and has it now, at most one for each slot; of `put_back` (as of
/// [`TakenQueue::flush`](crate::device::TakenQueue::flush)) for what the ring had not heard of.
///
/// If the model answered DRIVER_OK with [`Start::Later`], its `Q` accesses come with
/// [`finish`](Self::finish), `save` or the first `poll`, whichever is first.
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
    may_take: bool,
    /// Somebody has to answer DRIVER_OK, and nobody was asked yet.
    unanswered: bool,
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
    /// A device in reset.
    ///
    /// The slots hold chains of `N` buffers, and the shared block has `Q` queues:
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
    /// A device in reset. `trace` is told what the device does.
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
            may_take: true,
            unanswered: false,
        }
    }

    /// An engine around a device that was set up by messages: `transport` is the register block that
    /// made the messages, and the device's driver is the one behind it.
    ///
    /// DRIVER_OK may still be outstanding in `transport`. The [`ReadyResponder`] of the conversation
    /// answers it, and [`finish`](Self::finish) completes it.
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
    pub const fn from_parts(
        model: D,
        device: Device<M, I, Q, N, H, T>,
        transport: Transport<Q>,
        slots: S,
    ) -> Self {
        Self {
            model,
            device,
            transport,
            slots,
            may_take: true,
            unanswered: false,
        }
    }

    /// The reverse of [`from_parts`](Self::from_parts).
    pub fn into_parts(self) -> (D, Device<M, I, Q, N, H, T>, Transport<Q>, S) {
        (self.model, self.device, self.transport, self.slots)
    }
}

impl<D, M: DriverMem, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T> {
    /// The same device, with a changed offer: what depends on where it is, such as ACCESS_PLATFORM.
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, Engine, Features, Shared, features::Offer, memory::Ram, models::Entropy,
    /// };
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: Shared<1> = Shared::new();
    /// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
    /// let engine: Engine<_, _, _> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::<16>::new()], &SHARED)
    ///         .offering(Offer::AS_IS.with(Features::NOTIFICATION_DATA));
    /// # let _ = engine;
    /// ```
    #[must_use]
    pub fn offering(self, offer: Offer) -> Self {
        Self {
            transport: self.transport.offering(offer),
            ..self
        }
    }

    /// The same device, with another policy for drivers that break the protocol.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self {
            transport: self.transport.with_policy(policy),
            device: self.device.with_policy(policy),
            ..self
        }
    }

    /// For a transport that cannot withhold a reply: queues cannot be taken then, because a driver
    /// reuses a ring's memory as soon as its write completes.
    #[must_use]
    pub fn without_taking(self) -> Self {
        Self {
            may_take: false,
            ..self
        }
    }

    /// The model.
    pub const fn model(&self) -> &D {
        &self.model
    }

    /// The model, for what does not show in the configuration space; see
    /// [`update_config`](Self::update_config).
    pub const fn model_mut(&mut self) -> &mut D {
        &mut self.model
    }

    /// The queues, faults and counters.
    pub const fn device(&self) -> &Device<M, I, Q, N, H, T> {
        &self.device
    }

    /// The register block.
    pub const fn transport(&self) -> &Transport<Q> {
        &self.transport
    }

    /// What hears what the device does.
    pub const fn trace_mut(&mut self) -> &mut T {
        &mut self.device.trace
    }

    /// The driver's memory, to change it; then call [`memory_changed`](Self::memory_changed).
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.device.mem
    }

    /// Where the device is in its life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.transport.phase()
    }

    /// What was negotiated; empty before the driver is live.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.device.features()
    }

    /// The queues that the driver configured, lowest first.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.device.configured_queues()
    }

    /// Where a queue is.
    #[must_use]
    pub fn queue_state(&self, queue: u16) -> QueueState
    where
        H: SharedHandle<Q>,
    {
        self.device.queue_state(queue)
    }

    /// How the driver laid a queue out, if it did.
    #[must_use]
    pub fn queue_config(&self, queue: u16) -> Option<&QueueConfig> {
        self.device.queue_config(queue)
    }

    /// The misdeed that stopped a queue, until reset.
    #[must_use]
    pub fn driver_fault(&self, queue: u16) -> Option<DriverFault> {
        self.device.driver_fault(queue)
    }

    /// Why a chain of a queue that goes on was last given back unserved. See
    /// [`Device::last_refused`].
    #[must_use]
    pub fn last_refused(&self, queue: u16) -> Option<DriverFault> {
        self.device.last_refused(queue)
    }

    /// What of ours failed last, since this was last asked.
    pub fn take_host_fault(&mut self) -> Option<HostFault> {
        self.device.take_host_fault()
    }

    /// What was done since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.device.counters()
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
    /// What the driver is offered: what the model wants, as the host changed it ([`Offer`]), without
    /// what the model [excludes](crate::DeviceConfig::excluded).
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
    ///         .offering(Offer::AS_IS.with(Features::IN_ORDER).without(Features::EVENT_IDX));
    /// assert!(engine.offer().contains(Features::IN_ORDER));
    /// assert!(!engine.offer().contains(Features::EVENT_IDX));
    /// ```
    pub fn offer(&mut self) -> Features {
        self.transport.offer(&mut self.model)
    }

    /// Takes one register access of the driver.
    ///
    /// A kick is only noted: [`poll`](Self::poll) serves it.
    #[inline]
    pub fn access(&mut self, access: Access) -> Reply {
        let from = self.transport.phase();
        let shared: &Shared<Q> = &self.device.shared;
        let mut reply = self
            .transport
            .access(access, &mut self.model, shared, &self.device.notify);
        if let Reply::Pending(_) = reply {
            reply = self.execute();
        }
        self.device.trace.event(&Event::Access { access, reply });
        self.trace_phase(from);
        reply
    }

    #[inline(always)]
    fn trace_phase(&mut self, from: Phase) {
        let to = self.transport.phase();
        if from != to {
            self.device.trace.event(&Event::Phase { from, to });
        }
    }

    #[inline(never)]
    fn execute(&mut self) -> Reply {
        match self.transport.message() {
            Some(Message::ConfigureQueue(config))
                if built::RING_RESET && self.phase() == Phase::Live =>
            {
                let max = self.model.queue_size_max(config.queue);
                let verdict = self
                    .device
                    .enable_queue(&config, max, &self.model.queue_check())
                    .map_err(|error| error.refusal(config.queue));
                let reply = self.transport.settle(verdict, &self.device.shared);
                if verdict.is_err() {
                    // A driver does not read back whether it got what it asked for.
                    self.device.broke_protocol();
                }
                reply
            }
            Some(Message::ConfigureQueue(config)) => {
                let verdict = self.configure(&config);
                if verdict.is_ok() {
                    self.device.trace.event(&Event::QueueReady { config });
                }
                self.transport.settle(verdict, &self.device.shared)
            }
            Some(Message::Ready { features }) => self.driver_ready(features),
            _ => self.try_complete(),
        }
    }

    fn configure(&mut self, config: &QueueConfig) -> Result<(), Refusal> {
        let max = self.model.queue_size_max(config.queue);
        let features = self.transport.driver_features();
        let Device { table, mem, .. } = &mut self.device;
        table
            .configure(config, max, features, mem, &self.model.queue_check())
            .map_err(|error| error.refusal(config.queue))
    }

    // Its frame is not for every access to carry.
    #[inline(never)]
    fn driver_ready(&mut self, features: Features) -> Reply {
        let (model, transport) = (&self.model, &mut self.transport);
        let Device {
            table, mem, policy, ..
        } = &mut self.device;
        let goes_on = !policy.needs_reset();
        let max = |queue| model.queue_size_max(queue);
        let drops = |queue, unwanted: &Unwanted| {
            if goes_on {
                transport.drop_queue(queue, unwanted.refusal());
            }
            goes_on
        };
        let checked = table.check_again(features, max, mem, &model.queue_check(), drops);
        let start = match checked {
            Ok(()) => {
                self.device.features = features;
                self.model.ready(features, self.device.table.queues())
            }
            Err(unwanted) => {
                self.transport.record_refusal(unwanted.refusal());
                Start::Refuse
            }
        };
        let Device { shared, notify, .. } = &self.device;
        match start {
            Start::Accept => {
                shared.accept(shared.epoch());
            }
            Start::Refuse => shared.refuse(shared.epoch(), notify),
            Start::Later => self.unanswered = true,
        }
        self.try_complete()
    }

    fn new_responder(&self) -> ReadyResponder<I, Q, H> {
        ReadyResponder::new(self.device.shared.clone(), self.device.notify.clone())
    }

    /// The answer that the driver waits for, if the model said [`Start::Later`]; once for each
    /// DRIVER_OK.
    pub fn responder(&mut self) -> Option<ReadyResponder<I, Q, H>> {
        match self.transport.outstanding() {
            Some(Outstanding::Ready) if core::mem::take(&mut self.unanswered) => {
                Some(self.new_responder())
            }
            _ => None,
        }
    }

    /// Asks again whether an access that was [`Reply::Pending`] is complete. At most `Q` steps.
    pub fn finish(&mut self, ticket: Ticket) -> Reply {
        if self.transport.outstanding().is_none() || self.transport.ticket() != ticket {
            return Reply::Refused(Refusal::StaleTicket);
        }
        let from = self.transport.phase();
        let reply = self.try_complete();
        if !matches!(reply, Reply::Pending(_)) {
            self.device.trace.event(&Event::Completed { reply });
            self.trace_phase(from);
        }
        reply
    }

    /// Completes the outstanding access if it can be.
    fn try_complete(&mut self) -> Reply {
        let (device, model, slots) = (&mut self.device, &mut self.model, self.slots.as_mut());
        let done = match self.transport.outstanding() {
            Some(Outstanding::Stop(queue) | Outstanding::QueueReset { queue, .. }) => {
                device.stop_queue(queue, model, slots)
            }
            Some(Outstanding::Reset) => device.reset_all(model, slots),
            Some(Outstanding::Suspend { .. }) if built::SUSPEND => device.suspend(model, slots),
            Some(Outstanding::Resume) if built::SUSPEND => {
                let reply = self.transport.settle(Ok(()), &device.shared);
                device.resume();
                return reply;
            }
            Some(Outstanding::Ready) => match device.shared.answer() {
                StartAnswer::Accepted => device.start_if_live(),
                StartAnswer::Refused => {
                    return self
                        .transport
                        .settle(Err(Refusal::NotReady), &device.shared);
                }
                StartAnswer::Waiting => false,
            },
            _ => false,
        };
        if done {
            self.transport.settle(Ok(()), &device.shared)
        } else {
            self.transport.defer(&device.shared)
        }
    }

    /// Serves up to `budget` chains; see [`Device::poll`].
    #[inline]
    pub fn poll(&mut self, budget: u16) -> Step {
        self.device
            .poll(&mut self.model, self.slots.as_mut(), budget)
    }

    /// Changes the model where it shows in the configuration space: the generation moves on and, if
    /// the driver is live, a configuration interrupt follows (config-04, notif-01, mmio-07). While it
    /// is suspended, that is when it resumes (suspend-06, suspend-07); what it reads changes at once.
    pub fn update_config<R>(&mut self, change: impl FnOnce(&mut D) -> R) -> R {
        let result = change(&mut self.model);
        self.transport.bump_generation();
        self.device
            .config_changed(self.transport.phase() != Phase::Reset);
        result
    }

    /// The back end has something for this queue, or room again.
    pub fn backend_ready(&mut self, queue: u16) {
        self.device.backend_ready(queue, self.slots.as_mut());
    }

    /// Serves a pending chain again, now that its back end is done with it.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`]: see [`Device::complete`].
    pub fn complete(&mut self, token: Token) -> Result<(), Refusal> {
        self.device
            .complete(token, &mut self.model, self.slots.as_mut())
    }

    /// Answers a pending chain whose first `written` device-writable bytes hold the answer, without
    /// asking the model. See [`Device::complete_with`].
    ///
    /// ```
    /// use virtside::{Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request};
    /// # use virtside::testing::{Buffer, Registers, fake_queue};
    /// # use virtside::{ChainSlot, Engine, Shared, Token, memory::Ram};
    /// # static RAM: Ram<8192> = Ram::new();
    /// # static SHARED: Shared<1> = Shared::new();
    /// /// Leaves its requests to another thread.
    /// struct Queued(Option<Token>);
    /// # impl DeviceConfig for Queued {
    /// #     fn device_id(&self) -> u32 { 63 }
    /// #     fn features(&self) -> Features { Features::RING }
    /// #     fn queue_size_max(&self, queue: u16) -> u16 { if queue == 0 { 8 } else { 0 } }
    /// # }
    ///
    /// impl DeviceModel for Queued {
    ///     fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
    ///         self.0 = Some(request.token);
    ///         Ok(Answer::Pending)
    ///     }
    /// }
    /// # let slots = [ChainSlot::new()];
    /// # let mut engine: Engine<_, _, _, 1, 8, _, _> =
    /// #     Engine::new(Queued(None), RAM.flat(0), (), slots, &SHARED);
    /// # let mut driver = fake_queue(RAM.flat(0), 0, 8);
    /// # engine.bring_up(Features::VERSION_1, &[driver.config(0)]);
    /// # driver.send(0, &[Buffer::writable(0x1000, 16)]);
    /// # let _ = engine.kick(0);
    ///
    /// engine.poll(1);
    /// let token = engine.model().0.expect("a request");
    /// // The thread has stored 5 bytes of answer.
    /// engine.complete_with(token, 5)?;
    /// assert_eq!(driver.take_used(), Some((0, 5)));
    /// # Ok::<(), virtside::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn complete_with(&mut self, token: Token, written: u32) -> Result<(), Refusal> {
        self.device
            .complete_with(token, written, self.slots.as_mut())
    }

    /// The memory has changed; true when no queue works on the old one. See
    /// [`Device::memory_changed`].
    #[must_use = "false means: call again"]
    pub fn memory_changed(&mut self) -> bool {
        self.device
            .memory_changed(&mut self.model, self.slots.as_mut())
    }

    /// Moves a live queue out. See [`Device::take_queue`].
    ///
    /// # Errors
    /// As there, and [`Refusal::NotNegotiated`] after [`without_taking`](Self::without_taking).
    pub fn take_queue(&mut self, queue: u16) -> Result<Taken<M, I, Q, N, H>, Refusal> {
        if !self.may_take {
            return Err(Refusal::NotNegotiated);
        }
        self.device.take_queue(queue)
    }

    /// Moves a taken queue back in. See [`Device::put_back`].
    ///
    /// # Errors
    /// As there.
    #[allow(clippy::type_complexity, reason = "either the queue or the reason")]
    pub fn put_back(
        &mut self,
        taken: Taken<M, I, Q, N, H>,
    ) -> Result<(), Result<Taken<M, I, Q, N, H>, Refusal>> {
        self.device.put_back(taken)
    }

    /// Sets DEVICE_NEEDS_RESET. See [`Device::require_reset`].
    pub fn require_reset(&mut self) {
        self.device.require_reset();
    }

    /// The host kicks a queue itself. See [`Device::notify_queue`].
    ///
    /// # Errors
    /// As there.
    pub fn notify_queue(&self, queue: u16) -> Result<(), DeviceError> {
        self.device.notify_queue(queue)
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize, T> RegisterBlock
    for Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    fn access(&mut self, access: Access) -> Reply {
        Self::access(self, access)
    }
    fn finish(&mut self, ticket: Ticket) -> Reply {
        Self::finish(self, ticket)
    }
}

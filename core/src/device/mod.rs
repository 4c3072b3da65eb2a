//! A configured device: its queues, and what may be asked of them.

mod save;
mod serve;
mod slots;
mod suspend;
mod table;
mod taken;

pub use slots::{ChainSlot, Counters, Step};
pub use table::QueueState;
use table::QueueTable;
pub(crate) use table::Unwanted;
pub use taken::{Stop, TakenQueue};

use crate::{
    error::{DeviceError, DriverFault, FaultPolicy, HostFault, Refusal},
    features::{Features, built},
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{QueueConfig, ReadyQueues},
    model::DeviceModel,
    num,
    queue::check::QueueCheck,
    queue_set::{QueueBits, QueueSet},
    shared::{InterruptStatus, Shared, SharedHandle},
    snapshot::Suspension,
    trace::{Event, NoTrace, Trace},
};

/// The queue type that [`Device::take_queue`] moves out.
pub type Taken<M, I, const Q: usize = 1, const N: usize = 16, H = &'static Shared<Q>> =
    TakenQueue<<M as DriverMem>::Window, I, Q, N, H>;

/// A device with up to `Q` queues of up to `N` elements, over memory `M`, with interrupt `I`.
///
/// It comes from [`DeviceBuilder::build`](crate::DeviceBuilder::build), or lives inside an
/// [`Engine`](crate::Engine). It serves nothing before the driver is live.
///
/// ```
/// use virtside::{
///     Configuring, DeviceBuilder, Features, queue::Chain, testing::{Buffer, fake_queue},
/// };
/// use virtside::{Message, Shared, memory::Ram, setup::Progress};
/// static RAM: Ram<8192> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let mut driver = fake_queue(RAM.flat(0), 0, 8);
///
/// let builder = DeviceBuilder::new(&SHARED);
/// let mut configuring = Configuring::<_, _, _, 1, 8, _>::new(builder, &(0..1), RAM.flat(0));
/// let _ = configuring.step(Message::ConfigureQueue(driver.config(0)))?;
/// let Progress::Ready(mut device, responder) =
///     configuring.step(Message::Ready { features: Features::VERSION_1 })?
/// else {
///     panic!("not ready");
/// };
/// responder.accept();
///
/// driver.send(3, &[Buffer::writable(0x1000, 4)]);
/// device.notify_queue(0)?;
/// let mut queue = device.take_queue(0)?;
/// let mut chain = Chain::new();
/// assert!(queue.was_kicked());
/// assert_eq!(queue.pop(device.memory(), &mut chain), Ok(true));
/// queue.complete(&chain, 4)?;
/// assert!(queue.flush(), "the driver wants an interrupt");
/// assert_eq!(driver.take_used(), Some((3, 4)));
/// assert!(device.put_back(queue).is_ok());
/// # Ok::<(), virtside::error::DeviceError>(())
/// ```
pub struct Device<
    M: DriverMem,
    I,
    const Q: usize = 1,
    const N: usize = 16,
    H = &'static Shared<Q>,
    T = NoTrace,
> {
    pub(crate) mem: M,
    pub(crate) notify: I,
    pub(crate) shared: H,
    pub(crate) table: QueueTable<M::Window, Q, N>,
    pub(crate) features: Features,
    /// Queues that may have chains.
    notified: QueueBits<Q>,
    /// Where the round-robin goes on.
    turn: u16,
    /// The most queues that the driver had at once since it went live: a slot is kept for each.
    claims: u16,
    /// The chains in hand that are not the first of their queue.
    extra: u16,
    started: bool,
    /// The configuration changed under a driver that is not live, or is suspended: it hears of it
    /// when it is.
    changed: bool,
    suspension: Suspension,
    pub(crate) policy: FaultPolicy,
    /// Queues that the driver stops while their taken queues are still at work.
    stopping: QueueSet<Q>,
    host_fault: Option<HostFault>,
    counters: Counters,
    pub(crate) trace: T,
}

impl<M: DriverMem, I, H, const Q: usize, const N: usize, T> core::fmt::Debug
    for Device<M, I, Q, N, H, T>
{
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device")
            .field("features", &self.features)
            .field("configured", &self.table.configured())
            .field("notified", &self.notified)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl<M: DriverMem, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T> {
    pub(crate) const fn new(mem: M, notify: I, shared: H, trace: T) -> Self {
        Self {
            mem,
            notify,
            shared,
            table: QueueTable::new(),
            features: Features::empty(),
            notified: QueueBits::new(),
            turn: 0,
            claims: 0,
            extra: 0,
            started: false,
            changed: false,
            suspension: Suspension::Awake,
            policy: FaultPolicy::NeedsReset,
            stopping: QueueSet::new(),
            host_fault: None,
            counters: Counters {
                chains: 0,
                interrupts: 0,
                suppressed: 0,
                refused: 0,
            },
            trace,
        }
    }

    /// The same device, but `trace` hears what it does.
    #[must_use]
    pub fn with_trace<U: Trace>(self, trace: U) -> Device<M, I, Q, N, H, U> {
        Device {
            mem: self.mem,
            notify: self.notify,
            shared: self.shared,
            table: self.table,
            features: self.features,
            notified: self.notified,
            turn: self.turn,
            claims: self.claims,
            extra: self.extra,
            started: self.started,
            changed: self.changed,
            suspension: self.suspension,
            policy: self.policy,
            stopping: self.stopping,
            host_fault: self.host_fault,
            counters: self.counters,
            trace,
        }
    }

    /// The same device, with another policy for drivers that break the protocol.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self { policy, ..self }
    }

    /// What hears what the device does.
    pub const fn trace_mut(&mut self) -> &mut T {
        &mut self.trace
    }

    /// The queues that the driver configured, lowest first.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.table.configured().into_iter()
    }

    /// How the driver laid out the queues that it configured, as
    /// [`DeviceModel::ready`] is told.
    #[must_use]
    pub fn ready_queues(&self) -> ReadyQueues<'_> {
        self.table.queues()
    }

    /// What was negotiated; empty before.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// The driver's interrupt.
    #[must_use]
    pub const fn notify(&self) -> &I {
        &self.notify
    }

    /// The block shared with handlers and taken queues.
    #[must_use]
    pub const fn shared(&self) -> &H {
        &self.shared
    }

    /// The driver's memory.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.mem
    }

    /// Where a queue is.
    #[must_use]
    pub fn queue_state(&self, queue: u16) -> QueueState
    where
        H: SharedHandle<Q>,
    {
        match self.table.state(queue) {
            QueueState::Taken if self.shared.was_dropped(queue) => QueueState::Failed,
            state => state,
        }
    }

    /// How the driver laid a queue out, if it did.
    #[must_use]
    pub fn queue_config(&self, queue: u16) -> Option<&QueueConfig> {
        self.table.config(queue)
    }

    /// The misdeed that stopped a queue, until reset.
    #[must_use]
    pub fn driver_fault(&self, queue: u16) -> Option<DriverFault> {
        self.table.fault(queue, true)
    }

    /// Why a chain of a queue that goes on was last given back unserved
    /// ([`FaultPolicy::Refuse`]), until the queue stops. Of a taken queue: when it is put back.
    #[must_use]
    pub fn last_refused(&self, queue: u16) -> Option<DriverFault> {
        self.table.fault(queue, false)
    }

    /// What of ours failed last, since this was last asked.
    pub fn take_host_fault(&mut self) -> Option<HostFault> {
        self.host_fault.take()
    }

    /// What was done since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
}

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// The driver kicked this queue, or the host wants it looked at.
    ///
    /// # Errors
    /// [`DeviceError::InvalidQueue`] if it was not configured.
    pub fn notify_queue(&self, queue: u16) -> Result<(), DeviceError> {
        match self.queue_state(queue) {
            QueueState::Off | QueueState::Failed => Err(DeviceError::InvalidQueue(queue)),
            _ => {
                self.shared.ring(queue);
                Ok(())
            }
        }
    }

    /// The queues become live as soon as the driver is (one store to each used ring), and each
    /// counts as notified.
    pub(crate) fn start_if_live(&mut self) -> bool {
        if !self.shared.is_live() {
            return false;
        }
        if !self.started {
            self.started = true;
            self.table.start(self.shared.epoch());
            self.notified = QueueBits::of(self.table.configured());
            self.claim();
            if core::mem::take(&mut self.changed) {
                self.config_changed(true);
            }
        }
        true
    }

    /// From now on a slot is kept for each queue that is there. One that is stopped may come back.
    fn claim(&mut self) {
        if Q > 1 {
            let count = num::clamp_u16(self.table.configured().len());
            self.claims = self.claims.max(count);
        }
    }

    /// Back to before any configuration. Every taken queue must be quiet.
    fn reset(&mut self, slots: &mut [ChainSlot<N>]) {
        self.table.reset();
        self.features = Features::empty();
        self.notified.clear();
        self.turn = 0;
        self.claims = 0;
        self.extra = 0;
        self.started = false;
        self.changed = false;
        self.suspension = Suspension::Awake;
        self.stopping.clear();
        for slot in slots {
            slot.release();
        }
        self.shared.reset(&self.notify);
    }

    /// Moves a queue out, to be served on another thread or core, or in another handler. Its
    /// doorbell rings: the owner looks, and calls `enable_kicks` before it sleeps.
    ///
    /// # Errors
    /// [`Refusal::WrongPhase`] before the driver is live or while it is suspended,
    /// [`Refusal::QueueBusy`] while chains of it are pending, [`Refusal::QueueTaken`],
    /// [`Refusal::QueueNotReady`] (also while the driver stops it) or [`Refusal::NoSuchQueue`].
    pub fn take_queue(&mut self, queue: u16) -> Result<Taken<M, I, Q, N, H>, Refusal>
    where
        I: Clone,
    {
        if !self.start_if_live() || self.is_suspending() {
            return Err(Refusal::WrongPhase);
        }
        if self.is_stopping(queue) {
            return Err(Refusal::QueueNotReady { queue });
        }
        let (live, generation) = self.table.take(queue)?;
        self.notified.remove(queue);
        // What was kicked before is the new owner's to find.
        self.shared.ring(queue);
        Ok(TakenQueue::new(
            live,
            queue,
            self.of_life(generation),
            self.policy,
            self.shared.clone(),
            self.notify.clone(),
        ))
    }

    /// A queue's generation as its owner has it, and the other way round. The table of a device that
    /// is built anew counts from 0 again, the resets of the shared block go on.
    fn of_life(&self, generation: u32) -> u32 {
        // The two count from opposite ends, so that they do not make up for each other.
        generation ^ self.shared.epoch().reverse_bits()
    }

    /// Moves a taken queue back in; it counts as notified. Three translations, and what
    /// [`flush`](TakenQueue::flush) takes: one load; two stores with IN_ORDER.
    ///
    /// # Errors
    /// Gives the queue back while chains are in flight, or if it is another device's.
    /// [`Refusal::StaleToken`] if the queue was reset meanwhile, or its driver was at fault, or a chain
    /// of it was abandoned with IN_ORDER (DEVICE_NEEDS_RESET, unless the driver stops it): it is then
    /// gone, and need not be put back.
    #[allow(clippy::type_complexity, reason = "either the queue or the reason")]
    pub fn put_back(
        &mut self,
        taken: Taken<M, I, Q, N, H>,
    ) -> Result<(), Result<Taken<M, I, Q, N, H>, Refusal>> {
        if taken.in_flight() != 0 || !taken.shares(&self.shared) {
            return Err(Ok(taken));
        }
        let (count, last) = taken.refusals();
        let (queue, number, generation) = taken.dissolve();
        let generation = self.of_life(generation);
        self.counters.refused = self.counters.refused.wrapping_add(count);
        if let Some(fault) = last
            && self.table.is_out(number, generation)
        {
            self.table.refused(number, fault);
        }
        let queue = match queue {
            Ok(queue) => queue,
            Err(fault) => {
                if self.table.is_out(number, generation) {
                    self.table.stop_with(number, Some(fault));
                    self.trace.event(&Event::DriverFault {
                        queue: number,
                        fault,
                    });
                    self.broke_protocol();
                }
                return Err(Err(Refusal::StaleToken));
            }
        };
        let stuck = queue.is_stuck();
        self.table
            .put_back(number, generation, queue)
            .map_err(Err)?;
        if stuck {
            self.table.stop_with(number, None);
            // One that the driver stops goes no further anyway.
            if !self.is_stopping(number) {
                self.needs_reset();
            }
            return Err(Err(Refusal::StaleToken));
        }
        // The memory may have changed while it was out.
        if self.table.translate_one(number, &self.mem) {
            self.mark_notified(number);
        } else {
            self.ring_gone(number);
        }
        Ok(())
    }

    /// The memory has changed: rings are translated again, and a queue whose ring is gone stops
    /// (DEVICE_NEEDS_RESET). True when done; false while a taken queue still works on the old
    /// memory: it was asked to stop, so call again until its owner heard. A taken queue gets its
    /// new translation when it is put back.
    ///
    /// Nothing else may be asked of the device between the change and the first call. At most
    /// three translations for each queue.
    pub fn memory_changed<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> bool {
        let quiet = self.shared.stop_all();
        for queue in self.table.translate_again(&self.mem) {
            self.ring_gone(queue);
            self.discard_pending(queue, model, slots);
        }
        quiet
    }

    fn ring_gone(&mut self, queue: u16) {
        self.failed(HostFault::RingGone { queue });
        self.table.stop_with(queue, None);
        self.needs_reset();
    }

    /// Something of ours failed.
    fn failed(&mut self, fault: HostFault) {
        self.host_fault = Some(fault);
        self.trace.event(&Event::HostFault { fault });
    }

    /// A queue stops for good; its pending chains are forgotten.
    pub(crate) fn stop<D: DeviceModel>(
        &mut self,
        queue: u16,
        fault: Option<DriverFault>,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) {
        self.table.stop_with(queue, fault);
        self.discard_pending(queue, model, slots);
    }

    /// The driver stops this queue ([`Message::ResetQueue`](crate::Message)): true when none of its
    /// memory will be touched again. False while its taken queue works; it was asked to stop, so
    /// call again until its owner heard, and acknowledge then.
    #[must_use = "false means: call again"]
    pub fn stop_queue<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> bool {
        let quiet = self.shared.stop(queue);
        if quiet {
            if built::RING_RESET {
                self.stopping.remove(queue);
            }
            self.table.remove(queue);
            self.discard_pending(queue, model, slots);
            self.trace.event(&Event::QueueStopped { queue });
        } else if built::RING_RESET {
            // Even if it is put back, it does not go on.
            let _ = self.stopping.insert(queue);
        }
        quiet
    }

    /// The driver sets a queue up again after it was stopped
    /// ([`Message::ConfigureQueue`](crate::Message) after a queue reset): it is checked like any
    /// other, and live at once. `max` is the largest size that is allowed. `queue_check` is asked about
    /// every configured queue, as when the driver goes live. Three translations, `9 * Q` comparisons,
    /// `Q + 1` calls of `queue_check`, and one store to its device area.
    ///
    /// # Errors
    /// [`DeviceError::Refused`], which may name another queue that does not go together with this one,
    /// or what `queue_check` says of this one; nothing changed then. [`Refusal::WrongPhase`] if the
    /// device is not live, or suspended.
    pub fn enable_queue<C: QueueCheck + ?Sized>(
        &mut self,
        config: &QueueConfig,
        max: u16,
        queue_check: &C,
    ) -> Result<(), DeviceError> {
        if !self.start_if_live() || self.is_suspending() {
            return Err(Refusal::WrongPhase.into());
        }
        let (table, features) = (&mut self.table, self.features);
        table.lay_out(config, max, features, &self.mem)?;
        if let Err(unwanted) = table.check_wanted(features, queue_check, |_, _| false) {
            table.remove(config.queue);
            return Err(if unwanted.queue == Some(config.queue) {
                unwanted.error
            } else {
                unwanted.refusal().into()
            });
        }
        self.table.start(self.shared.epoch());
        self.claim();
        self.mark_notified(config.queue);
        self.trace.event(&Event::QueueReady { config: *config });
        Ok(())
    }

    /// The device cannot go on as the driver believes that it does: DEVICE_NEEDS_RESET, once with
    /// its configuration interrupt (status-03, status-04; held back while suspended). Nothing stops.
    pub fn require_reset(&mut self) {
        self.needs_reset();
    }

    /// The driver resets the device ([`Message::Reset`](crate::Message)): true when no memory of
    /// the driver will be touched again; the device then has no queues and is of no more use. False
    /// while taken queues work, as for [`stop_queue`](Self::stop_queue), or a
    /// [`ReadyResponder`](crate::ReadyResponder) is refusing.
    #[must_use = "false means: call again"]
    pub fn reset_all<D: DeviceModel>(&mut self, model: &mut D, slots: &mut [ChainSlot<N>]) -> bool {
        let quiet = self.shared.stop_all() && !self.shared.is_refusing();
        if quiet {
            self.reset(slots);
            model.reset();
        }
        quiet
    }

    /// The queue's pending chains and kicks are void.
    fn discard_pending<D: DeviceModel>(
        &mut self,
        queue: u16,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) {
        self.notified.remove(queue);
        let mut first = true;
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.release();
            if Q > 1 && !core::mem::take(&mut first) {
                self.extra = self.extra.saturating_sub(1);
            }
        }
        model.queue_stopped(queue);
    }

    /// The back end has something for this queue, or room again: ask the model once more, and
    /// serve its pending chains again.
    pub fn backend_ready(&mut self, queue: u16, slots: &mut [ChainSlot<N>]) {
        for slot in slots.iter_mut().filter(|slot| slot.is_of(queue)) {
            slot.again();
        }
        self.mark_notified(queue);
    }

    /// There may be chains in a queue, if it is here and to be served.
    fn mark_notified(&mut self, queue: u16) {
        if self.table.state(queue) == QueueState::Live && !self.is_stopping(queue) {
            self.notified.insert(queue);
        }
    }

    fn is_stopping(&self, queue: u16) -> bool {
        built::RING_RESET && self.stopping.contains(queue)
    }

    /// Changes the model where it shows to the driver, and announces that if the driver is live. (A
    /// transport has more to do: see [`Engine::update_config`](crate::Engine::update_config).)
    pub fn update_config<D: DeviceModel, R>(
        &mut self,
        model: &mut D,
        change: impl FnOnce(&mut D) -> R,
    ) -> R {
        let result = change(model);
        self.config_changed(false);
        result
    }

    /// Announces a configuration change if the driver is live (notif-01), or as soon as it is if it
    /// has `begun` to set up: it may have read what has changed.
    pub(crate) fn config_changed(&mut self, begun: bool) {
        if !self.shared.is_live() {
            self.changed |= begun;
        } else if self.is_suspended() {
            // suspend-06
            self.changed = true;
        } else {
            self.interrupt(InterruptStatus::CONFIG_CHANGE);
        }
    }

    /// The driver broke the protocol, or was refused a queue that it believes it has:
    /// [`require_reset`](Self::require_reset) if the [`FaultPolicy`] says so.
    pub fn broke_protocol(&mut self) {
        if self.policy.needs_reset() {
            self.needs_reset();
        }
    }

    fn needs_reset(&mut self) {
        let live = self.shared.is_live();
        if live && self.is_suspended() {
            self.changed |= !self.shared.needs_reset();
            self.shared.fail(false, &self.notify);
        } else if self.shared.fail(live, &self.notify) {
            let status = InterruptStatus::CONFIG_CHANGE;
            self.trace.event(&Event::Interrupt { status });
        }
    }

    fn interrupt(&mut self, status: InterruptStatus) {
        self.trace.event(&Event::Interrupt { status });
        self.shared.raise(status, &self.notify);
    }
}

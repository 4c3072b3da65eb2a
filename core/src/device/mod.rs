//! A device whose queues are set up: serving, stopping, suspending, saving and restoring them.
//!
//! [`Device`] is the part of a device that does not depend on the transport. An
//! [`Engine`](crate::Engine) puts a register block in front of a `Device`; a transport of messages
//! uses the `Device` directly.

mod complete;
mod queues;
mod restore;
mod save;
mod serve;
mod slots;
mod suspend;
mod table;
mod taken;

pub use queues::Quiesce;
pub(crate) use restore::RestoreFrom;
pub use slots::{ChainSlot, Counters, Step};
pub use table::QueueState;
use table::QueueTable;
pub(crate) use table::Unwanted;
pub use taken::{PutBackError, Stop, TakenQueue};

use crate::{
    error::{DeviceError, DriverFault, FaultPolicy, HostFault},
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{QueueConfig, ReadyQueues},
    model::DeviceModel,
    num,
    queue_set::{QueueBits, QueueSet},
    shared::{InterruptStatus, Shared, SharedHandle},
    snapshot::Suspension,
    trace::{Event, NoTrace, Trace},
};

/// A device with up to `Q` queues of up to `N` elements, over memory `M`, with interrupt `I`.
///
/// [`DeviceBuilder::build`](crate::DeviceBuilder::build) and
/// [`Configuring::step`](crate::Configuring::step) make a device; an [`Engine`](crate::Engine)
/// contains one. A device serves no chain before the driver is live.
///
/// ```
/// use virtside::{
///     Configuring, DeviceBuilder, Features, Message, QueueConfig, Shared, memory::Ram, queue::Chain,
///     setup::Progress,
/// };
/// static RAM: Ram<8192> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
///
/// let builder = DeviceBuilder::new(&SHARED);
/// let mut configuring = Configuring::<_, _, _, 1, 8, _>::new(builder, &(0..1), RAM.flat(0));
/// let queue = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x200, device: 0x300 };
/// let _ = configuring.step(Message::ConfigureQueue(queue))?;
/// let Progress::Ready(mut device, responder) =
///     configuring.step(Message::Ready { features: Features::VERSION_1 })?
/// else {
///     panic!("not ready");
/// };
/// responder.accept();
///
/// // A driver makes descriptor 3 available, 4 writable bytes at 0x1000, and kicks.
/// RAM.write(16 * 3, &[0, 0x10, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0]);
/// RAM.write(0x202, &[1, 0, 3, 0]);
/// device.notify_queue(0)?;
///
/// let mut queue = device.take_queue(0)?;
/// let mut chain = Chain::new();
/// assert!(queue.was_kicked());
/// assert_eq!(queue.pop(device.memory(), &mut chain), Ok(true));
/// queue.complete(&chain, 4)?;
/// assert!(queue.flush(), "the driver wants an interrupt");
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
    /// Where the round-robin continues.
    next_queue: u16,
    /// Slots that are reserved, one for each queue: the most queues that the driver had at once
    /// since it went live.
    reserved: u16,
    /// Chains in hand that are not the first of their queue.
    extra: u16,
    /// The queues were started for a live driver.
    started: bool,
    /// The configuration changed before the driver was live, or while the device was suspended. The
    /// driver is told when it goes live, or resumes.
    changed: bool,
    suspension: Suspension,
    pub(crate) policy: FaultPolicy,
    may_take: bool,
    /// DRIVER_OK needs an answer, and the responder was not given out yet.
    pub(crate) unanswered: bool,
    /// Queues that the driver stops while their owners are still at work.
    stopping: QueueSet<Q>,
    /// Queues that the host keeps quiet.
    quiesced: QueueSet<Q>,
    host_fault: Option<HostFault>,
    counters: Counters,
    /// The host polls without kicks.
    polling: bool,
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
            next_queue: 0,
            reserved: 0,
            extra: 0,
            started: false,
            changed: false,
            suspension: Suspension::Awake,
            policy: FaultPolicy::NeedsReset,
            may_take: true,
            unanswered: false,
            stopping: QueueSet::new(),
            quiesced: QueueSet::new(),
            host_fault: None,
            counters: Counters {
                chains: 0,
                interrupts: 0,
                suppressed: 0,
                rejected: 0,
            },
            polling: false,
            trace,
        }
    }

    /// Returns the same device with another trace sink.
    #[must_use]
    pub fn with_trace<U: Trace>(self, trace: U) -> Device<M, I, Q, N, H, U> {
        Device {
            mem: self.mem,
            notify: self.notify,
            shared: self.shared,
            table: self.table,
            features: self.features,
            notified: self.notified,
            next_queue: self.next_queue,
            reserved: self.reserved,
            extra: self.extra,
            started: self.started,
            changed: self.changed,
            suspension: self.suspension,
            policy: self.policy,
            may_take: self.may_take,
            unanswered: self.unanswered,
            stopping: self.stopping,
            quiesced: self.quiesced,
            host_fault: self.host_fault,
            counters: self.counters,
            polling: self.polling,
            trace,
        }
    }

    /// Sets whether the host polls without waiting for kicks. False by default.
    ///
    /// While true, a queue stays notified when it is empty, and its driver is told not to kick. A
    /// poll then returns [`Step::Blocked`] instead of [`Step::Idle`]. Before the host waits for a
    /// kick, it sets this to false and polls once more.
    ///
    /// ```
    /// # use virtside::{ChainSlot, Device, DeviceModel, DriverMem, DriverNotify, Shared, Step};
    /// /// Looks for chains a few times before it sleeps.
    /// fn serve<M: DriverMem, I: DriverNotify, D: DeviceModel>(
    ///     device: &mut Device<M, I, 1, 16, &Shared<1>>,
    ///     model: &mut D,
    ///     slots: &mut [ChainSlot<16>],
    /// ) -> Step {
    ///     device.set_polling(true);
    ///     for _ in 0..100 {
    ///         let _ = device.poll(model, slots, 64);
    ///     }
    ///     device.set_polling(false);
    ///     device.poll(model, slots, 64)
    /// }
    /// # let _ = serve::<virtside::FlatMem, (), virtside::models::Entropy<fn(&mut [u8]) -> Result<usize, virtside::models::EntropyError>>>;
    /// ```
    pub const fn set_polling(&mut self, polling: bool) {
        self.polling = polling;
    }

    /// Returns the same device with another policy for drivers that break the protocol.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Returns the same device with [`take_queue`](Self::take_queue) disabled. See
    /// [`Engine::without_take_queue`](crate::Engine::without_take_queue).
    #[must_use]
    pub fn without_take_queue(self) -> Self {
        Self {
            may_take: false,
            ..self
        }
    }

    /// Returns the trace sink.
    pub const fn trace_mut(&mut self) -> &mut T {
        &mut self.trace
    }

    /// Returns the queues that the driver configured, lowest number first. Taken and failed queues
    /// are included.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.table.configured().into_iter()
    }

    /// Returns the layout of the configured queues, as [`DeviceModel::ready`] receives it.
    #[must_use]
    pub fn ready_queues(&self) -> ReadyQueues<'_> {
        self.table.queues()
    }

    /// Returns the negotiated features; empty before the driver is live.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Returns the driver's interrupt.
    #[must_use]
    pub const fn notify(&self) -> &I {
        &self.notify
    }

    /// Returns the block that the device shares with handlers and taken queues.
    #[must_use]
    pub const fn shared(&self) -> &H {
        &self.shared
    }

    /// Returns the driver's memory.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.mem
    }

    /// Returns the driver's memory for a change, such as a region that is added or removed. Call
    /// [`memory_changed`](Self::memory_changed) directly after the change. The old memory must stay
    /// valid until that call returns [`Quiesce::Done`].
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.mem
    }

    /// Returns the driver's interrupt for a change, such as another eventfd for a queue.
    ///
    /// A taken queue has a clone of the interrupt from when it was taken, and a
    /// [`ReadyResponder`](crate::ReadyResponder) one from when it was made. Take the queue again
    /// after the change, or use an interrupt whose clones share what changes.
    pub const fn notify_mut(&mut self) -> &mut I {
        &mut self.notify
    }

    /// Returns the state of a queue.
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

    /// Returns the layout of a queue, if the driver configured it.
    #[must_use]
    pub fn queue_config(&self, queue: u16) -> Option<&QueueConfig> {
        self.table.config(queue)
    }

    /// Returns the protocol violation that stopped a queue. A reset of the queue or of the device
    /// clears it.
    #[must_use]
    pub fn driver_fault(&self, queue: u16) -> Option<DriverFault> {
        self.table.fault(queue, true)
    }

    /// Returns the fault of the chain that the queue rejected last ([`FaultPolicy::Reject`]);
    /// `None` if the queue has failed since. Rejections of a taken queue are included after the
    /// queue is put back.
    #[must_use]
    pub fn last_rejected(&self, queue: u16) -> Option<DriverFault> {
        self.table.fault(queue, false)
    }

    /// Takes the most recent host fault.
    pub fn take_host_fault(&mut self) -> Option<HostFault> {
        self.host_fault.take()
    }

    /// Returns the counters of the device's work. They start at 0 when the device is created.
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
    /// Kicks a queue on behalf of the driver or the host: the next poll looks into it.
    ///
    /// # Errors
    /// [`DeviceError::InvalidQueue`] if the queue is not configured, or has failed.
    pub fn notify_queue(&self, queue: u16) -> Result<(), DeviceError> {
        match self.queue_state(queue) {
            QueueState::Off | QueueState::Failed => Err(DeviceError::InvalidQueue(queue)),
            _ => {
                self.shared.ring(queue);
                Ok(())
            }
        }
    }

    /// Starts the queues once the driver is live, with one store to each used ring. Every queue
    /// counts as kicked. Returns whether the driver is live.
    pub(crate) fn start_if_live(&mut self) -> bool {
        if !self.shared.is_live() {
            return false;
        }
        if !self.started {
            self.started = true;
            self.table.start(self.shared.epoch());
            self.notified = QueueBits::of(self.table.configured());
            self.reserve_slots();
            if core::mem::take(&mut self.changed) {
                self.config_changed(true);
            }
        }
        true
    }

    /// Reserves a slot for each configured queue. A stopped queue keeps its slot, since the driver
    /// may set the queue up again.
    fn reserve_slots(&mut self) {
        if Q > 1 {
            let count = num::clamp_u16(self.table.configured().len());
            self.reserved = self.reserved.max(count);
        }
    }

    /// Returns the device to the state before any configuration. Every taken queue must be quiet.
    fn reset(&mut self, slots: &mut [ChainSlot<N>]) {
        self.table.reset();
        self.features = Features::empty();
        self.notified.clear();
        self.next_queue = 0;
        self.reserved = 0;
        self.extra = 0;
        self.started = false;
        self.changed = false;
        self.suspension = Suspension::Awake;
        self.stopping.clear();
        self.quiesced.clear();
        for slot in slots {
            slot.release();
        }
        self.shared.reset(&self.notify);
    }

    /// Sets DEVICE_NEEDS_RESET, and sends its configuration interrupt once (status-03, status-04).
    /// A suspended device sends the interrupt when it resumes. No queue stops.
    ///
    /// Call it when the device cannot go on in the way that the driver expects.
    pub fn require_reset(&mut self) {
        self.needs_reset();
    }

    /// Resets the device for the driver ([`Message::Reset`](crate::Message)). Returns
    /// [`Quiesce::Done`] when the device has no queues, and does not access the driver's memory.
    /// Acknowledge the message then.
    ///
    /// Returns [`Quiesce::Pending`] while the owner of a taken queue works, as
    /// [`stop_queue`](Self::stop_queue) does, or while another thread is inside
    /// [`ReadyResponder::refuse`](crate::ReadyResponder::refuse).
    pub fn reset_all<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Quiesce {
        let quiet = self.shared.stop_all() && !self.shared.is_refusing();
        if quiet {
            self.reset(slots);
            model.reset();
        }
        quiet.into()
    }

    /// Changes the model's configuration space, and sends a configuration interrupt if the driver
    /// is live. The device has no ConfigGeneration; behind a register block, use
    /// [`Engine::update_config`](crate::Engine::update_config), which increments that register.
    pub fn update_config<D: DeviceModel, R>(
        &mut self,
        model: &mut D,
        change: impl FnOnce(&mut D) -> R,
    ) -> R {
        let result = change(model);
        self.config_changed(false);
        result
    }

    /// Tells a live driver of a configuration change (notif-01). A driver that has `begun` its
    /// set-up is told when it goes live, since it may have read the old values.
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

    /// Applies the [`FaultPolicy`] to a fault that the transport found: sets DEVICE_NEEDS_RESET
    /// under [`FaultPolicy::NeedsReset`], and does nothing under another policy.
    ///
    /// A transport of messages calls this method when the driver broke the protocol, or when a
    /// queue was refused that the driver believes to be ready.
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

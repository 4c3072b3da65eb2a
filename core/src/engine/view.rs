//! What a host sees of an engine, and the options of an engine.

use super::Engine;
use crate::{
    device::{Counters, Device, QueueState},
    error::{DriverFault, FaultPolicy, HostFault},
    features::{Features, Offer},
    memory::DriverMem,
    message::QueueConfig,
    shared::SharedHandle,
    transport::{Phase, Transport},
};

impl<D, M: DriverMem, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T> {
    /// Returns the same engine with a changed offer, for features that depend on the platform, such
    /// as ACCESS_PLATFORM.
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
    ///         .with_offer(Offer::AS_IS.with(Features::NOTIFICATION_DATA));
    /// # let _ = engine;
    /// ```
    #[must_use]
    pub fn with_offer(self, offer: Offer) -> Self {
        Self {
            transport: self.transport.with_offer(offer),
            ..self
        }
    }

    /// Returns the same engine with another policy for drivers that break the protocol.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self {
            transport: self.transport.with_policy(policy),
            device: self.device.with_policy(policy),
            ..self
        }
    }

    /// Returns the same engine with [`take_queue`](Self::take_queue) disabled. A transport that
    /// cannot withhold a reply needs this.
    ///
    /// A driver may reuse a ring's memory as soon as its write to a stop or reset register
    /// completes. While the owner of a taken queue works on the ring, that write must not complete.
    #[must_use]
    pub fn without_take_queue(self) -> Self {
        Self {
            device: self.device.without_take_queue(),
            ..self
        }
    }

    /// Returns the model.
    pub const fn model(&self) -> &D {
        &self.model
    }

    /// Returns the model for changes outside the configuration space. For changes of the
    /// configuration space use [`update_config`](Self::update_config).
    pub const fn model_mut(&mut self) -> &mut D {
        &mut self.model
    }

    /// Returns the device behind the registers: its queues, faults and counters.
    pub const fn device(&self) -> &Device<M, I, Q, N, H, T> {
        &self.device
    }

    /// Returns the register block.
    pub const fn transport(&self) -> &Transport<Q> {
        &self.transport
    }

    /// Returns the trace sink.
    pub const fn trace_mut(&mut self) -> &mut T {
        &mut self.device.trace
    }

    /// Returns the driver's memory. After a change call [`memory_changed`](Self::memory_changed).
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.device.mem
    }

    /// Returns the driver's interrupt for a change. See [`Device::notify_mut`].
    pub const fn notify_mut(&mut self) -> &mut I {
        &mut self.device.notify
    }

    /// Returns the phase of the device.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.transport.phase()
    }

    /// Returns the negotiated features; empty before the driver is live.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.device.features()
    }

    /// Returns the queues that the driver configured, lowest number first. Taken and failed queues
    /// are included.
    pub fn configured_queues(&self) -> impl Iterator<Item = u16> + '_ {
        self.device.configured_queues()
    }

    /// Returns the state of a queue.
    #[must_use]
    pub fn queue_state(&self, queue: u16) -> QueueState
    where
        H: SharedHandle<Q>,
    {
        self.device.queue_state(queue)
    }

    /// Returns the layout of a queue, if the driver configured it.
    #[must_use]
    pub fn queue_config(&self, queue: u16) -> Option<&QueueConfig> {
        self.device.queue_config(queue)
    }

    /// Returns the protocol violation that stopped a queue. A reset of the queue or of the device
    /// clears it.
    #[must_use]
    pub fn driver_fault(&self, queue: u16) -> Option<DriverFault> {
        self.device.driver_fault(queue)
    }

    /// Returns the fault of the chain that a queue rejected last. See [`Device::last_rejected`].
    #[must_use]
    pub fn last_rejected(&self, queue: u16) -> Option<DriverFault> {
        self.device.last_rejected(queue)
    }

    /// Takes the most recent host fault.
    pub fn take_host_fault(&mut self) -> Option<HostFault> {
        self.device.take_host_fault()
    }

    /// Returns the counters of the device's work. They start at 0 when the engine is created.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.device.counters()
    }
}

//! Driver-visible registers of a device, independent of their layout on a bus.
//!
//! A [`Transport`] stores what a driver has written: status, features and queue registers. A
//! decoder such as [`mmio`](crate::mmio) translates register accesses into calls of the transport.
//! The calls check the phase (see the table in [`mmio`](crate::mmio)) and produce the same
//! [`Message`]s for every decoder.
//!
//! An access that produces a message is *outstanding* until the message is carried out or refused
//! ([`Transport::settle`]). Its reply is [`Reply::Pending`] meanwhile.

mod config;
mod notification;
mod queues;
mod reply;
mod snapshot;
mod status;

pub use notification::Notification;
pub use queues::Parameter;
use queues::Queues;
pub(crate) use reply::DONE;
pub use reply::{Reply, Ticket};
use status::Handshake;
pub use status::Phase;
pub use virtio_spec::DeviceStatus;

use crate::{
    error::{FaultPolicy, Refusal},
    features::{Offer, built},
    interrupt::DriverNotify,
    message::Message,
    model::{DeviceConfig, SharedMemory},
    shared::{InterruptStatus, Shared},
};

/// The reason why the driver's access is outstanding: the message that must be carried out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) enum Outstanding {
    Configure(u16),
    Stop(u16),
    /// Produced by a write of QueueReset, and again by each read of QueueReady or QueueReset until
    /// the queue reset is complete.
    QueueReset {
        queue: u16,
        reading: bool,
    },
    Ready,
    /// Produced by a write of SUSPEND, and again by each read of Status until the device is
    /// suspended.
    Suspend {
        reading: bool,
    },
    Resume,
    Reset,
}

/// The registers of a device with up to `Q` queues, independent of their layout.
///
/// An [`Engine`](crate::Engine) contains a transport. A host without an engine passes the
/// [`Message`]s of the transport to [`Configuring`](crate::Configuring), then to
/// [`Device`](crate::Device).
#[derive(Debug)]
pub struct Transport<const Q: usize> {
    handshake: Handshake,
    queues: Queues<Q>,
    /// Not changed by a reset, so that a value never repeats.
    generation: u32,
    /// Whether the model was told the capacity.
    capacity_told: bool,
    outstanding: Option<Outstanding>,
    ticket: u32,
    /// Largest queue size that the device supports, in elements.
    capacity: u16,
    offer: Offer,
    policy: FaultPolicy,
    shm_sel: u32,
}

impl<const Q: usize> Transport<Q> {
    /// Creates a register block in reset, for queues of up to `capacity` elements.
    #[must_use]
    pub const fn new(capacity: u16) -> Self {
        Self {
            handshake: Handshake::NEW,
            queues: Queues::new(),
            generation: 0,
            capacity_told: false,
            outstanding: None,
            ticket: 0,
            capacity,
            offer: Offer::AS_IS,
            policy: FaultPolicy::NeedsReset,
            shm_sel: 0,
        }
    }

    /// Sets which features the host adds to the offer or removes from it.
    #[must_use]
    pub const fn with_offer(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Sets the policy for protocol violations. The register block applies the policy to queues
    /// that fail their checks.
    #[must_use]
    pub const fn with_policy(mut self, policy: FaultPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Returns the policy for protocol violations.
    #[must_use]
    pub const fn policy(&self) -> FaultPolicy {
        self.policy
    }

    /// Returns the largest queue size that the device supports, in elements: the `N` of an
    /// [`Engine`](crate::Engine).
    #[must_use]
    pub const fn capacity(&self) -> u16 {
        self.capacity
    }

    pub(crate) const fn outstanding(&self) -> Option<Outstanding> {
        self.outstanding
    }

    /// Returns the ticket of the most recent [`Reply::Pending`].
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        Ticket(self.ticket)
    }

    fn expect(&mut self, outstanding: Outstanding) -> Reply {
        self.outstanding = Some(outstanding);
        self.ticket = self.ticket.wrapping_add(1);
        Reply::Pending(self.ticket())
    }

    /// Returns the message that must be carried out before the outstanding access completes, or
    /// `None` if no access is outstanding.
    ///
    /// When the message is carried out or refused, call [`settle`](Self::settle). To wait for it,
    /// call [`defer`](Self::defer).
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        Some(match self.outstanding? {
            Outstanding::Configure(queue) => Message::ConfigureQueue(self.queues.config(queue)?),
            Outstanding::Stop(queue) | Outstanding::QueueReset { queue, .. } => {
                Message::ResetQueue(queue)
            }
            Outstanding::Ready => Message::Ready {
                features: self.driver_features(),
            },
            Outstanding::Suspend { .. } => Message::Suspend,
            Outstanding::Resume => Message::Resume,
            Outstanding::Reset => Message::Reset,
        })
    }

    /// Returns the shared memory region that SHMSel selects, if there is one.
    pub fn shared_memory<C: DeviceConfig>(&self, config: &C) -> Option<SharedMemory> {
        config.shared_memory(self.shm_sel)
    }

    /// Selects a shared memory region.
    #[inline(always)]
    pub fn select_shared_memory(&mut self, id: u32) {
        self.shm_sel = id;
    }

    /// Selects a 32-bit word of the offered features.
    #[inline(always)]
    pub fn select_device_features(&mut self, word: u32) {
        self.handshake.device_features_sel = word;
    }

    /// Selects a 32-bit word of the accepted features.
    #[inline(always)]
    pub fn select_driver_features(&mut self, word: u32) {
        self.handshake.driver_features_sel = word;
    }

    /// Selects a queue.
    #[inline(always)]
    pub fn select_queue(&mut self, queue: u32) {
        self.queues.sel = queue;
    }

    /// Returns the configuration generation (mmio-07, config-04).
    #[inline(always)]
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Handles a write to InterruptACK: the driver has handled these interrupts.
    #[inline(always)]
    pub fn acknowledge<I: DriverNotify>(
        &self,
        bits: InterruptStatus,
        shared: &Shared<Q>,
        notify: &I,
    ) {
        // A suspended device sends no interrupt before it leaves its suspension (suspend-03).
        let raise_now = || !built::SUSPEND || self.phase() != Phase::Suspended;
        shared.acknowledge(bits, raise_now, notify);
    }

    /// Handles a read of Status.
    #[inline(always)]
    pub fn read_status(&mut self, shared: &Shared<Q>) -> Reply {
        if built::SUSPEND && self.phase() == Phase::Suspending {
            return self.expect(Outstanding::Suspend { reading: true });
        }
        Reply::Done(self.status(shared).bits().into())
    }

    /// Handles a read of QueueReady of the selected queue.
    #[inline(always)]
    pub fn read_queue_ready(&mut self) -> Reply {
        match self.resetting() {
            Some(queue) => self.ask_after_reset(queue),
            None => Reply::Done(self.is_ready().into()),
        }
    }

    /// Handles a read of QueueReset of the selected queue.
    #[inline(always)]
    pub fn read_queue_reset(&mut self) -> Reply {
        match self.resetting() {
            Some(queue) => self.ask_after_reset(queue),
            None => DONE,
        }
    }

    #[cold]
    fn ask_after_reset(&mut self, queue: u16) -> Reply {
        self.expect(Outstanding::QueueReset {
            queue,
            reading: true,
        })
    }

    /// Completes the outstanding access after its message was carried out or refused. Returns the
    /// reply to the driver.
    ///
    /// A message that stops a queue, or that suspends, resumes or resets the device cannot be
    /// refused: the registers change even if `verdict` is `Err`.
    pub fn settle(&mut self, verdict: Result<(), Refusal>, shared: &Shared<Q>) -> Reply {
        let Some(outstanding) = self.outstanding.take() else {
            return DONE;
        };
        match outstanding {
            Outstanding::Configure(queue) => self.queues.checked(queue, verdict),
            Outstanding::Stop(queue) => self.queues.stopped(queue),
            Outstanding::QueueReset { queue, .. } if built::RING_RESET => {
                self.queues.was_reset(queue);
            }
            Outstanding::Ready => {
                if let Err(why) = verdict
                    && why != Refusal::NotReady
                {
                    self.record_refusal(why);
                }
                self.go_live();
            }
            Outstanding::Suspend { reading } if built::SUSPEND => {
                self.suspended();
                if reading {
                    // Includes DEVICE_NEEDS_RESET of a fault during the suspension.
                    return Reply::Done(self.status(shared).bits().into());
                }
            }
            Outstanding::Resume if built::SUSPEND => self.resumed(),
            // `expect` is never called for a feature that is not built in.
            Outstanding::QueueReset { .. } | Outstanding::Suspend { .. } | Outstanding::Resume => {}
            Outstanding::Reset => self.abandon(),
        }
        match verdict {
            Ok(()) => DONE,
            Err(refusal) => refusal.into(),
        }
    }

    /// Handles a message that is not carried out yet. Returns the reply to the driver.
    ///
    /// - For a queue reset or a suspension, the access completes now. The driver polls QueueReset
    ///   or Status until the register shows the end, and each read produces the message again.
    /// - Any other access stays [`Reply::Pending`].
    pub fn defer(&mut self, shared: &Shared<Q>) -> Reply {
        match self.outstanding {
            Some(Outstanding::QueueReset { reading, .. }) if built::RING_RESET => {
                self.outstanding = None;
                Reply::Done(reading.into())
            }
            Some(Outstanding::Suspend { reading }) if built::SUSPEND => {
                self.outstanding = None;
                self.suspending();
                if reading {
                    Reply::Done(self.status(shared).bits().into())
                } else {
                    DONE
                }
            }
            _ => Reply::Pending(self.ticket()),
        }
    }
}

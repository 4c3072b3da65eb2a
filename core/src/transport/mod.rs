//! What every transport needs: status, features, queue registers, configuration, outstanding request.
//!
//! A [`Transport`] holds what a driver has written, in no particular layout. A decoder such as
//! [`mmio`](crate::mmio) turns accesses into calls of it, and the messages that come out are the same
//! for each. The calls check the phase; see the table in [`mmio`](crate::mmio).

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

/// What has to happen before the driver's write completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) enum Outstanding {
    Configure(u16),
    Stop(u16),
    /// QueueReset was written, or a register that tells of its progress is read.
    QueueReset {
        queue: u16,
        reading: bool,
    },
    Ready,
    /// SUSPEND was written, or Status is read to see how far it is.
    Suspend {
        reading: bool,
    },
    Resume,
    Reset,
}

/// The driver-visible registers of a device with up to `Q` queues, whatever their layout.
///
/// On its own it turns a driver's writes into [`Message`]s for a set-up conversation; an
/// [`Engine`](crate::Engine) has one inside.
#[derive(Debug)]
pub struct Transport<const Q: usize> {
    handshake: Handshake,
    queues: Queues<Q>,
    /// Lives on across a reset, so that it never repeats.
    generation: u32,
    /// The device was told how much room there is.
    capacity_told: bool,
    outstanding: Option<Outstanding>,
    ticket: u32,
    /// Largest queue that there is room for.
    capacity: u16,
    offer: Offer,
    policy: FaultPolicy,
    shm_sel: u32,
}

impl<const Q: usize> Transport<Q> {
    /// As after reset, for queues of up to `capacity` elements.
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

    /// The same register block, with a changed offer.
    #[must_use]
    pub const fn offering(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// The same register block, with another policy for queues that do not pass.
    #[must_use]
    pub const fn with_policy(mut self, policy: FaultPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What becomes of a driver that breaks the protocol.
    #[must_use]
    pub const fn policy(&self) -> FaultPolicy {
        self.policy
    }

    /// Largest queue that there is room for, in elements.
    #[must_use]
    pub const fn capacity(&self) -> u16 {
        self.capacity
    }

    pub(crate) const fn outstanding(&self) -> Option<Outstanding> {
        self.outstanding
    }

    /// Names the message that was not settled yet, for a [`Reply::Pending`].
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        Ticket(self.ticket)
    }

    fn expect(&mut self, outstanding: Outstanding) -> Reply {
        self.outstanding = Some(outstanding);
        self.ticket = self.ticket.wrapping_add(1);
        Reply::Pending(self.ticket())
    }

    /// What is to be done before the outstanding access completes, if one is: carry it out, then
    /// [`settle`](Self::settle).
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

    /// The shared memory region that SHMSel names, if there is one.
    pub fn shared_memory<C: DeviceConfig>(&self, config: &C) -> Option<SharedMemory> {
        config.shared_memory(self.shm_sel)
    }

    /// Selects a shared memory region.
    #[inline(always)]
    pub fn select_shared_memory(&mut self, id: u32) {
        self.shm_sel = id;
    }

    /// Selects a word of the offer.
    #[inline(always)]
    pub fn select_device_features(&mut self, word: u32) {
        self.handshake.device_features_sel = word;
    }

    /// Selects a word of what the driver accepts.
    #[inline(always)]
    pub fn select_driver_features(&mut self, word: u32) {
        self.handshake.driver_features_sel = word;
    }

    /// Selects a queue.
    #[inline(always)]
    pub fn select_queue(&mut self, queue: u32) {
        self.queues.sel = queue;
    }

    /// The configuration generation (mmio-07, config-04).
    #[inline(always)]
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The driver has handled these interrupts.
    #[inline(always)]
    pub fn acknowledge<I: DriverNotify>(
        &self,
        bits: InterruptStatus,
        shared: &Shared<Q>,
        notify: &I,
    ) {
        // suspend-03: a level line stays as it is, and an edge comes when the device leaves its suspension.
        let now = || !built::SUSPEND || self.phase() != Phase::Suspended;
        shared.acknowledge(bits, now, notify);
    }

    /// The driver reads Status.
    #[inline(always)]
    pub fn read_status(&mut self, shared: &Shared<Q>) -> Reply {
        if built::SUSPEND && self.phase() == Phase::Suspending {
            return self.expect(Outstanding::Suspend { reading: true });
        }
        Reply::Done(self.status(shared).bits().into())
    }

    /// The driver reads QueueReady of the selected queue.
    #[inline(always)]
    pub fn read_queue_ready(&mut self) -> Reply {
        match self.resetting() {
            Some(queue) => self.ask_after_reset(queue),
            None => Reply::Done(self.is_ready().into()),
        }
    }

    /// The driver reads QueueReset of the selected queue.
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

    /// The outstanding message was carried out, or refused; the driver's access completes with this
    /// reply. (Stopping a queue, suspending, resuming and a reset cannot be refused.)
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
                    self.not_wanted(why);
                }
                self.go_live();
            }
            Outstanding::Suspend { reading } if built::SUSPEND => {
                self.suspended();
                if reading {
                    // A fault on the way shows in it, too.
                    return Reply::Done(self.status(shared).bits().into());
                }
            }
            Outstanding::Resume if built::SUSPEND => self.resumed(),
            // What is not built in is not expected.
            Outstanding::QueueReset { .. } | Outstanding::Suspend { .. } | Outstanding::Resume => {}
            Outstanding::Reset => self.abandon(),
        }
        match verdict {
            Ok(()) => DONE,
            Err(refusal) => refusal.into(),
        }
    }

    /// The outstanding message takes its time. Where the driver looks again by itself (QueueReset and
    /// SUSPEND, which are complete when their registers say so), its access completes with this
    /// reply, and the next look brings the message again; any other stays [`Reply::Pending`].
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

//! The register block: accesses to their registers, and the messages that they turn into.

use super::{
    Access, Phase, Register, Reply, Ticket, access::DONE, queues::Queues, registers::at,
    status::Handshake,
};
use crate::{
    error::Refusal,
    features::{Offer, built},
    message::Message,
    model::DeviceConfig,
    notify::DriverNotify,
    num,
    policy::FaultPolicy,
    shared::{InterruptStatus, Shared},
    shm::SharedMemory,
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

/// The register block of a device with up to `Q` queues.
///
/// On its own it turns accesses into [`Message`]s for a set-up conversation; an
/// [`Engine`](crate::Engine) has one inside.
#[derive(Debug)]
pub struct Transport<const Q: usize> {
    pub(super) handshake: Handshake,
    pub(super) queues: Queues<Q>,
    /// Lives on across a reset, so that it never repeats.
    pub(super) generation: u32,
    /// The device was told how much room there is.
    pub(super) fitted: bool,
    outstanding: Option<Outstanding>,
    ticket: u32,
    /// Largest queue that there is room for.
    pub(super) capacity: u16,
    pub(super) offer: Offer,
    pub(super) policy: FaultPolicy,
    pub(super) shm_sel: u32,
}

#[cfg(feature = "defmt")]
impl<const Q: usize> defmt::Format for Transport<Q> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Transport {{ phase: {}, driver_features: {}, last_refusal: {}, outstanding: {} }}",
            self.phase(),
            self.driver_features(),
            self.last_refusal(),
            self.outstanding
        );
    }
}

impl<const Q: usize> Transport<Q> {
    /// As after reset, for queues of up to `capacity` elements.
    #[must_use]
    pub const fn new(capacity: u16) -> Self {
        Self {
            handshake: Handshake::NEW,
            queues: Queues::new(),
            generation: 0,
            fitted: false,
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

    pub(super) fn expect(&mut self, outstanding: Outstanding) -> Reply {
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

    /// Takes one access.
    ///
    /// [`Reply::Pending`] means that there is a [`message`](Self::message) to carry out first, and
    /// that no access is taken before. A kick rings the doorbell of `shared` and needs no message.
    #[inline(always)]
    pub fn access<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        access: Access,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        if self.outstanding.is_some() {
            return Reply::Busy;
        }
        match access {
            Access::Read { offset, width } => {
                if offset >= Register::CONFIG {
                    self.read_config(offset, width, config)
                } else if width == 4 {
                    self.read(offset, config, shared)
                } else {
                    Refusal::BadWidth { offset, width }.into()
                }
            }
            Access::Write {
                offset,
                width,
                value,
            } => {
                if offset >= Register::CONFIG {
                    self.write_config(offset, width, value, config)
                } else if width == 4 {
                    self.write(offset, num::low(value), config, shared, notify)
                } else {
                    Refusal::BadWidth { offset, width }.into()
                }
            }
        }
    }

    #[inline(always)]
    fn read<C: DeviceConfig>(&mut self, offset: u32, config: &mut C, shared: &Shared<Q>) -> Reply {
        let value = match offset {
            at::MAGIC_VALUE => u32::from_le_bytes(*b"virt"),
            at::VERSION => 2,
            at::DEVICE_ID => config.device_id(),
            at::VENDOR_ID => config.vendor_id(),
            at::DEVICE_FEATURES => self.offered(config),
            at::QUEUE_SIZE_MAX => self.queue_size_max(config),
            at::QUEUE_READY => match self.resetting() {
                Some(queue) => return self.ask_after_reset(queue),
                None => self.is_ready().into(),
            },
            at::INTERRUPT_STATUS => shared.interrupt_status().bits(),
            at::STATUS if built::SUSPEND && self.phase() == Phase::Suspending => {
                return self.expect(Outstanding::Suspend { reading: true });
            }
            at::STATUS => self.status(shared).bits().into(),
            at::CONFIG_GENERATION => self.generation,
            at::QUEUE_RESET => match self.resetting() {
                Some(queue) => return self.ask_after_reset(queue),
                None => 0,
            },
            at::SHM_LEN_LOW | at::SHM_LEN_HIGH | at::SHM_BASE_LOW | at::SHM_BASE_HIGH => {
                self.shared_memory(offset, config)
            }
            _ => return misplaced(offset, Refusal::WriteOnly { offset }),
        };
        Reply::Done(value.into())
    }

    #[inline(always)]
    fn write<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        match offset {
            at::DEVICE_FEATURES_SEL => self.handshake.device_features_sel = value,
            at::DRIVER_FEATURES_SEL => self.handshake.driver_features_sel = value,
            at::DRIVER_FEATURES => return self.accept_features(value),
            at::QUEUE_SEL => self.queues.sel = value,
            at::QUEUE_SIZE
            | at::QUEUE_DESC_LOW
            | at::QUEUE_DESC_HIGH
            | at::QUEUE_DRIVER_LOW
            | at::QUEUE_DRIVER_HIGH
            | at::QUEUE_DEVICE_LOW
            | at::QUEUE_DEVICE_HIGH => {
                return match self.parameter(offset, value, config) {
                    Ok(()) => DONE,
                    Err(refusal) => refusal.into(),
                };
            }
            at::QUEUE_READY => return self.queue_ready(offset, value, config),
            at::QUEUE_NOTIFY => return self.queue_notify(value, shared),
            at::INTERRUPT_ACK => {
                // suspend-03: a level line stays as it is, and an edge comes with the resume.
                let now = || !built::SUSPEND || self.phase() != Phase::Suspended;
                let bits = InterruptStatus::from_bits_truncate(value);
                shared.acknowledge(bits, now, notify);
            }
            at::STATUS => return self.write_status(offset, value, config, shared, notify),
            at::SHM_SEL => self.shm_sel = value,
            at::QUEUE_RESET => return self.queue_reset(offset, value, config),
            _ => return misplaced(offset, Refusal::ReadOnly { offset }),
        }
        DONE
    }

    #[inline(never)]
    fn shared_memory<C: DeviceConfig>(&self, offset: u32, config: &C) -> u32 {
        let Some(SharedMemory { base, len }) = config.shared_memory(self.shm_sel) else {
            return u32::MAX;
        };
        match offset {
            at::SHM_LEN_LOW => num::low(len),
            at::SHM_LEN_HIGH => num::high(len),
            at::SHM_BASE_LOW => num::low(base),
            _ => num::high(base),
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
            Outstanding::Ready => self.go_live(),
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

/// An access that no register takes: `refusal` if there is one, for the other direction.
#[cold]
#[inline(never)]
fn misplaced(offset: u32, refusal: Refusal) -> Reply {
    match Register::at(offset) {
        Some(_) => refusal.into(),
        None if offset & 3 == 0 => Refusal::NoSuchRegister { offset }.into(),
        None => Refusal::BadWidth { offset, width: 4 }.into(),
    }
}

//! Register accesses: each is decoded, carried out as a message, and answered.

use super::Engine;
use crate::{
    device::{ChainSlot, Device, Unwanted},
    error::Refusal,
    features::{Features, built},
    interrupt::DriverNotify,
    memory::DriverMem,
    message::{Message, QueueConfig},
    mmio::{Access, RegisterBlock},
    model::{DeviceModel, Start},
    setup::ReadyResponder,
    shared::{Shared, SharedHandle, StartAnswer},
    trace::{Event, Trace},
    transport::{Outstanding, Phase, Reply, Ticket},
};

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Takes one register access of the driver, and returns the reply to it.
    ///
    /// A write to QueueNotify only rings the doorbell: [`poll`](Self::poll) serves the queue.
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
    pub(super) fn trace_phase(&mut self, from: Phase) {
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
                self.configure_again(&config)
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

    // Kept out of line, so that other accesses need no stack for it.
    #[inline(never)]
    fn configure_again(&mut self, config: &QueueConfig) -> Reply {
        let max = self.model.queue_size_max(config.queue);
        let verdict = self
            .device
            .enable_queue(config, max, &self.model.queue_check())
            .map_err(|error| error.refusal(config.queue));
        let reply = self.transport.settle(verdict, &self.device.shared);
        if verdict.is_err() {
            // Drivers do not read QueueReady back after they wrote 1.
            self.device.broke_protocol();
        }
        reply
    }

    fn configure(&mut self, config: &QueueConfig) -> Result<(), Refusal> {
        let max = self.model.queue_size_max(config.queue);
        let features = self.transport.driver_features();
        let Device { table, mem, .. } = &mut self.device;
        table
            .configure(config, max, features, mem, &self.model.queue_check())
            .map_err(|error| error.refusal(config.queue))
    }

    // Kept out of line, so that other accesses need no stack for it.
    #[inline(never)]
    fn driver_ready(&mut self, features: Features) -> Reply {
        let (model, transport) = (&self.model, &mut self.transport);
        let Device {
            table,
            mem,
            policy,
            trace,
            ..
        } = &mut self.device;
        let continues = !policy.needs_reset();
        let max = |queue| model.queue_size_max(queue);
        let refused = |unwanted: &Unwanted| {
            let (queue, refusal) = (unwanted.queue, unwanted.refusal());
            transport.record_refusal(refusal);
            trace.event(&Event::QueueRefused { queue, refusal });
            if continues && let Some(queue) = queue {
                transport.drop_queue(queue);
            }
            continues
        };
        let start = if table.check_again(features, max, mem, &model.queue_check(), refused) {
            self.device.features = features;
            self.model.ready(features, self.device.table.queues())
        } else {
            Start::Refuse
        };
        let Device { shared, notify, .. } = &self.device;
        match start {
            Start::Accept => {
                shared.accept(shared.epoch());
            }
            Start::Refuse => shared.refuse(shared.epoch(), notify),
            Start::Later => self.device.unanswered = true,
        }
        self.try_complete()
    }

    fn new_responder(&self) -> ReadyResponder<I, Q, H> {
        ReadyResponder::new(self.device.shared.clone(), self.device.notify.clone())
    }

    /// Takes the responder that answers DRIVER_OK, if the model answered [`Start::Later`]. A second
    /// call for the same DRIVER_OK returns `None`.
    pub fn responder(&mut self) -> Option<ReadyResponder<I, Q, H>> {
        match self.transport.outstanding() {
            Some(Outstanding::Ready) if core::mem::take(&mut self.device.unanswered) => {
                Some(self.new_responder())
            }
            _ => None,
        }
    }

    /// Tries again to complete an access whose reply was [`Reply::Pending`].
    ///
    /// Returns [`Refusal::StaleTicket`] as the reply if `ticket` does not belong to the outstanding
    /// access. Worst case: `Q` ring accesses if the access is DRIVER_OK, otherwise none.
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

    /// Completes the outstanding access if its conditions hold, or defers it again.
    fn try_complete(&mut self) -> Reply {
        let (device, model, slots) = (&mut self.device, &mut self.model, self.slots.as_mut());
        let done = match self.transport.outstanding() {
            Some(Outstanding::Stop(queue) | Outstanding::QueueReset { queue, .. }) => {
                device.stop_queue(queue, model, slots).is_done()
            }
            Some(Outstanding::Reset) => device.reset_all(model, slots).is_done(),
            Some(Outstanding::Suspend { .. }) if built::SUSPEND => {
                device.suspend(model, slots).is_done()
            }
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

//! A device that came of a conversation, behind the register block that led it.

use virtside::{
    ChainSlot, Device, DeviceModel, DriverMem, DriverNotify, Message, Refusal, SharedHandle, Step,
    Token,
    mmio::{Access, RegisterBlock, Reply, Ticket, Transport},
};

use crate::serve::Served;

/// What [`MmioMessages::run`](super::MmioMessages::run) serves, as its observer sees it.
pub struct Running<'r, D, M: DriverMem, I, H, const Q: usize, const N: usize> {
    pub(super) transport: &'r mut Transport<Q>,
    pub(super) model: &'r mut D,
    pub(super) notify: &'r I,
    pub(super) shared: &'r H,
    pub(super) device: &'r mut Device<M, I, H, Q, N>,
    pub(super) slots: &'r mut [ChainSlot<N>],
    pub(super) outstanding: Option<Message>,
    pub(super) reset: bool,
}

impl<D, M: DriverMem, I, H, const Q: usize, const N: usize> std::fmt::Debug
    for Running<'_, D, M, I, H, Q, N>
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("device", &self.device)
            .field("outstanding", &self.outstanding)
            .finish_non_exhaustive()
    }
}

impl<D, M, I, H, const Q: usize, const N: usize> Running<'_, D, M, I, H, Q, N>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    /// The device.
    pub const fn device(&mut self) -> &mut Device<M, I, H, Q, N> {
        self.device
    }

    /// See [`Device::memory_changed`].
    #[must_use = "false means: call again"]
    pub fn memory_changed(&mut self) -> bool {
        self.device.memory_changed(self.model, self.slots)
    }

    /// See [`Engine::update_config`](virtside::Engine::update_config).
    pub fn update_config<R>(&mut self, change: impl FnOnce(&mut D) -> R) -> R {
        self.transport.bump_generation();
        self.device.update_config(self.model, change)
    }

    /// See [`Device::complete`].
    ///
    /// # Errors
    /// As there.
    pub fn complete(&mut self, token: Token) -> Result<(), Refusal> {
        self.device.complete(token, self.model, self.slots)
    }

    /// See [`Device::backend_ready`].
    pub fn backend_ready(&mut self, queue: u16) {
        self.device.backend_ready(queue, self.slots);
    }

    fn defer(&mut self) -> Reply {
        let reply = self.transport.defer(self.shared);
        if !matches!(reply, Reply::Pending(_)) {
            self.outstanding = None;
        }
        reply
    }

    /// Carries the outstanding message out if it can be.
    fn go_on(&mut self) -> Reply {
        let verdict = match self.outstanding {
            None => return Reply::Done(0),
            Some(Message::ConfigureQueue(config)) => {
                let max = self.model.queue_size_max(config.queue);
                let verdict = self
                    .device
                    .enable_queue(&config, max, &self.model.queue_check());
                if verdict.is_err() {
                    // A driver does not read back whether it got what it asked for.
                    self.device.broke_protocol();
                }
                verdict.map_err(|error| error.refusal(config.queue))
            }
            Some(Message::ResetQueue(queue)) => {
                if !self.device.stop_queue(queue, self.model, self.slots) {
                    return self.defer();
                }
                Ok(())
            }
            Some(Message::Suspend) => {
                if !self.device.suspend(self.model, self.slots) {
                    return self.defer();
                }
                Ok(())
            }
            Some(Message::Resume) => {
                self.outstanding = None;
                let reply = self.transport.settle(Ok(()), self.shared);
                self.device.resume();
                return reply;
            }
            Some(Message::Reset) => {
                if !self.device.reset_all(self.model, self.slots) {
                    return Reply::Pending(self.transport.ticket());
                }
                self.reset = true;
                Ok(())
            }
            // Set-up is over until a reset.
            Some(_) => Err(Refusal::WrongPhase),
        };
        self.outstanding = None;
        self.transport.settle(verdict, self.shared)
    }
}

impl<D, M, I, H, const Q: usize, const N: usize> RegisterBlock for Running<'_, D, M, I, H, Q, N>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    fn access(&mut self, access: Access) -> Reply {
        let reply = self
            .transport
            .access(access, self.model, self.shared, self.notify);
        if let Reply::Pending(_) = reply {
            self.outstanding = self.transport.message();
            return self.go_on();
        }
        reply
    }

    fn finish(&mut self, ticket: Ticket) -> Reply {
        if self.outstanding.is_none() || ticket != self.transport.ticket() {
            return Reply::Refused(Refusal::StaleTicket);
        }
        self.go_on()
    }
}

impl<D, M, I, H, const Q: usize, const N: usize> Served for Running<'_, D, M, I, H, Q, N>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    fn poll(&mut self, budget: u16) -> Step {
        self.device.poll(self.model, self.slots, budget)
    }

    fn is_over(&self) -> bool {
        self.reset
    }
}

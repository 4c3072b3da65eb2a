//! Messages out of register accesses.

use std::io;

use virtside::{
    ChainSlot, Device, DeviceModel, DriverMem, DriverNotify, Engine, Features, Message,
    QueueConfig, Refusal,
    error::{DeviceError, FaultPolicy},
    mmio::{Reply, Transport},
    shared::SharedHandle,
    trace::Trace,
};

use super::{MessageSource, MmioDevice};
use crate::access::{AccessSource, Event};

/// A virtio-mmio register block as a [`MessageSource`].
///
/// Plain register accesses it answers itself; one that amounts to a message is completed when the
/// message is acknowledged. After [`Message::Ready`], [`start`](Self::start) gives the device, whose
/// [`run`](MmioDevice::run) completes the driver's DRIVER_OK and serves it until the driver resets
/// it.
///
/// After a refusal, unless the policy is another, the rest of that conversation is refused as well,
/// until the driver resets. The reset is then the first message of the next conversation. `notify`
/// and `shared` have to be those of the [`DeviceBuilder`](virtside::DeviceBuilder).
#[derive(Debug)]
pub struct MmioMessages<S, D, I, H, const Q: usize> {
    source: S,
    model: D,
    notify: I,
    shared: H,
    transport: Transport<Q>,
    capacity: u16,
    /// Waits for its acknowledgement.
    asked: Option<Message>,
    /// Something was refused since the last reset.
    refused: bool,
    error: Option<io::Error>,
}

impl<S, D, I, H, const Q: usize> MmioMessages<S, D, I, H, Q> {
    /// A register block in reset, for queues of up to `capacity` elements (the device's `N`).
    pub const fn new(source: S, model: D, notify: I, shared: H, capacity: u16) -> Self {
        Self {
            source,
            model,
            notify,
            shared,
            transport: Transport::new(capacity),
            capacity,
            asked: None,
            refused: false,
            error: None,
        }
    }

    /// The register block of a device that was served, ready for the next conversation.
    pub(super) const fn of(
        source: S,
        model: D,
        notify: I,
        shared: H,
        transport: Transport<Q>,
    ) -> Self {
        Self {
            source,
            model,
            notify,
            shared,
            capacity: transport.capacity(),
            transport,
            asked: None,
            refused: false,
            error: None,
        }
    }

    /// The same register block, with another policy for queues that do not pass; the
    /// [`DeviceBuilder`](virtside::DeviceBuilder) has to have the same.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self {
            transport: self.transport.with_policy(policy),
            ..self
        }
    }

    /// The model.
    pub const fn model(&self) -> &D {
        &self.model
    }

    /// The register block.
    pub const fn transport(&self) -> &Transport<Q> {
        &self.transport
    }

    /// The source, for another register block to go on with.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Why the source failed, if the conversation ended for that.
    pub const fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}

impl<S, D, I, H, const Q: usize> MmioMessages<S, D, I, H, Q>
where
    S: AccessSource,
    D: DeviceModel,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    fn broken(&mut self, error: io::Error) -> DeviceError {
        self.error = Some(error);
        DeviceError::UnexpectedEndOfStream
    }

    fn complete(&mut self, reply: Reply) -> Result<(), DeviceError> {
        let done = self.source.complete(reply.bus_value().unwrap_or(0));
        done.map_err(|error| self.broken(error))
    }

    /// A larger queue than the register block promises is refused here: the builder only knows how
    /// much room there is.
    fn too_large(&self, config: &QueueConfig) -> Option<Refusal> {
        let queue = config.queue;
        let max = self.model.queue_size_max(queue).min(self.capacity);
        let size = config.size;
        (size > max.into()).then_some(Refusal::QueueSize { queue, size, max })
    }

    /// Answers what is no message for the conversation; the rest comes back.
    fn screen(&mut self, message: Message) -> Result<Option<Message>, DeviceError> {
        let verdict = match message {
            Message::Reset => {
                self.refused = false;
                self.model.reset();
                return Ok(Some(message));
            }
            Message::ResetQueue(_) if self.refused => Ok(()),
            _ if self.refused => Err(Refusal::NotReady),
            Message::ConfigureQueue(config) => match self.too_large(&config) {
                Some(refusal) => {
                    let error = DeviceError::BadQueueConfig(config.queue, refusal);
                    self.asked = Some(message);
                    self.acknowledge(Err(&error))?;
                    return if self.refused { Err(error) } else { Ok(None) };
                }
                None => return Ok(Some(message)),
            },
            _ => return Ok(Some(message)),
        };
        let reply = self.transport.settle(verdict, &self.shared);
        self.complete(reply)?;
        Ok(None)
    }
}

impl<S, D, I, H, const Q: usize> MessageSource for MmioMessages<S, D, I, H, Q>
where
    S: AccessSource,
    D: DeviceModel,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    fn next_message(&mut self) -> Result<Option<Message>, DeviceError> {
        if let Some(message) = self.asked {
            return Err(DeviceError::UnexpectedMessage(message));
        }
        loop {
            let access = match self.source.wait(None) {
                Ok(Event::Access(access)) => access,
                Ok(Event::Woken) => continue,
                Ok(Event::End) => return Ok(None),
                Err(error) => return Err(self.broken(error)),
            };
            let reply = self
                .transport
                .access(access, &mut self.model, &self.shared, &self.notify);
            match self.transport.message() {
                None => self.complete(reply)?,
                Some(message) => {
                    if let Some(message) = self.screen(message)? {
                        self.asked = Some(message);
                        return Ok(Some(message));
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, verdict: Result<(), &DeviceError>) -> Result<(), DeviceError> {
        let Some(message) = self.asked.take() else {
            return Ok(());
        };
        self.refused |= verdict.is_err() && self.transport.policy() == FaultPolicy::NeedsReset;
        let verdict = verdict.map_err(|error| refusal(error, message));
        let reply = self.transport.settle(verdict, &self.shared);
        self.complete(reply)
    }

    fn features(&self) -> Option<Features> {
        Some(self.transport.driver_features())
    }
}

/// What an error of the conversation is to the driver.
fn refusal(error: &DeviceError, message: Message) -> Refusal {
    match (error, message) {
        (_, Message::ConfigureQueue(QueueConfig { queue, .. })) => error.refusal(queue),
        (DeviceError::Refused(refusal) | DeviceError::BadQueueConfig(_, refusal), _) => *refusal,
        (DeviceError::InvalidQueue(queue), Message::Ready { .. }) => error.refusal(*queue),
        _ => Refusal::NotReady,
    }
}

impl<S, D, I, H, const Q: usize> MmioMessages<S, D, I, H, Q> {
    /// Puts together what the conversation made: the device, this register block, the model, and
    /// room for the chains that the device works on.
    ///
    /// The model is told that the driver is ready ([`DeviceModel::ready`]). What it says to that has
    /// no effect: the [`ReadyResponder`](virtside::ReadyResponder) answers the driver.
    pub fn start<M, C, T, const N: usize>(
        mut self,
        device: Device<M, I, Q, N, H, T>,
        slots: C,
    ) -> MmioDevice<S, Engine<D, M, I, Q, N, C, H, T>>
    where
        D: DeviceModel,
        M: DriverMem,
        C: AsMut<[ChainSlot<N>]>,
        I: DriverNotify + Clone,
        H: SharedHandle<Q>,
        T: Trace,
    {
        if let Some(Message::Ready { features }) = self.asked {
            let _ = self.model.ready(features, device.ready_queues());
        }
        let engine = Engine::from_parts(self.model, device, self.transport, slots);
        MmioDevice::new(self.source, engine)
    }
}

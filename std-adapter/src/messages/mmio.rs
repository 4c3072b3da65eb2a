//! Turns register accesses into messages.

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
/// A register access that does not amount to a message is completed at once. Any other access is
/// completed when its message is acknowledged.
///
/// After [`Message::Ready`], call [`start`](Self::start) to get the device. Its
/// [`run`](MmioDevice::run) completes the driver's write of DRIVER_OK, and then serves the device
/// until the driver resets it.
///
/// Under the default policy, every message after a refusal is refused as well, except those that
/// stop a queue. This ends when the driver resets the device. The reset is then the first message
/// of the next conversation.
///
/// `notify` and `shared` must be the ones that the [`DeviceBuilder`](virtside::DeviceBuilder) has.
#[derive(Debug)]
pub struct MmioMessages<S, D, I, H, const Q: usize> {
    source: S,
    model: D,
    notify: I,
    shared: H,
    transport: Transport<Q>,
    capacity: u16,
    /// The message that was returned and is not acknowledged yet.
    unacknowledged: Option<Message>,
    /// A message was refused since the last reset.
    refused: bool,
    error: Option<io::Error>,
}

impl<S, D, I, H, const Q: usize> MmioMessages<S, D, I, H, Q> {
    /// Creates a register block in reset, for queues of up to `capacity` elements (the device's
    /// `N`).
    pub const fn new(source: S, model: D, notify: I, shared: H, capacity: u16) -> Self {
        Self {
            source,
            model,
            notify,
            shared,
            transport: Transport::new(capacity),
            capacity,
            unacknowledged: None,
            refused: false,
            error: None,
        }
    }

    /// Reuses the register block of a device that was served.
    pub(super) const fn from_transport(
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
            unacknowledged: None,
            refused: false,
            error: None,
        }
    }

    /// Sets the policy for queues that fail their checks. The
    /// [`DeviceBuilder`](virtside::DeviceBuilder) must have the same policy.
    #[must_use]
    pub fn with_policy(self, policy: FaultPolicy) -> Self {
        Self {
            transport: self.transport.with_policy(policy),
            ..self
        }
    }

    /// Returns the model.
    pub const fn model(&self) -> &D {
        &self.model
    }

    /// Returns the register block.
    pub const fn transport(&self) -> &Transport<Q> {
        &self.transport
    }

    /// Returns the source, so that another register block can use it.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Takes the error of the source, if the conversation ended because the source failed.
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

    /// Returns a refusal if the queue is larger than its QueueSizeMax. The builder cannot check
    /// this: it only knows the capacity.
    fn too_large(&self, config: &QueueConfig) -> Option<Refusal> {
        let queue = config.queue;
        let max = self.model.queue_size_max(queue).min(self.capacity);
        let size = config.size;
        (size > max.into()).then_some(Refusal::QueueSize { queue, size, max })
    }

    /// Completes the access if its message is not for the conversation: any message but a reset
    /// after a refusal, or a queue that is too large. Returns any other message.
    fn filter(&mut self, message: Message) -> Result<Option<Message>, DeviceError> {
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
                    self.unacknowledged = Some(message);
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
        if let Some(message) = self.unacknowledged {
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
                    if let Some(message) = self.filter(message)? {
                        self.unacknowledged = Some(message);
                        return Ok(Some(message));
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, verdict: Result<(), &DeviceError>) -> Result<(), DeviceError> {
        let Some(message) = self.unacknowledged.take() else {
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

/// Converts an error of the conversation to the refusal that the driver gets.
fn refusal(error: &DeviceError, message: Message) -> Refusal {
    match (error, message) {
        (_, Message::ConfigureQueue(QueueConfig { queue, .. })) => error.refusal(queue),
        (DeviceError::Refused(refusal) | DeviceError::BadQueueConfig(_, refusal), _) => *refusal,
        (DeviceError::InvalidQueue(queue), Message::Ready { .. }) => error.refusal(*queue),
        _ => Refusal::NotReady,
    }
}

impl<S, D, I, H, const Q: usize> MmioMessages<S, D, I, H, Q> {
    /// Combines the device, this register block, the model and the chain slots into an
    /// [`MmioDevice`].
    ///
    /// Calls [`DeviceModel::ready`] of the model. The result has no effect, because the
    /// [`ReadyResponder`](virtside::ReadyResponder) answers the driver.
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
        if let Some(Message::Ready { features }) = self.unacknowledged {
            let _ = self.model.ready(features, device.ready_queues());
        }
        let engine = Engine::from_parts(self.model, device, self.transport, slots);
        MmioDevice::new(self.source, engine)
    }
}

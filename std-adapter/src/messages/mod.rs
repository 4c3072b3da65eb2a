//! The set-up conversation in messages, blocking.

mod device;
mod mmio;
#[cfg(test)]
mod tests;

pub use device::MmioDevice;
pub use mmio::MmioMessages;

use virtside::{
    Configuring, Device, DeviceBuilder, DriverMem, DriverNotify, Features, Message, QueueCheck,
    ReadyResponder, error::DeviceError, setup::Progress, shared::SharedHandle,
};

/// A blocking source of messages from a driver or a VMM.
pub trait MessageSource {
    /// Waits for the next message; `None` is the end of the stream.
    ///
    /// # Errors
    /// The conversation is over. [`DeviceError::UnexpectedEndOfStream`] if the stream broke.
    fn next_message(&mut self) -> Result<Option<Message>, DeviceError>;

    /// The last message was carried out, or refused. Until then its sender waits.
    ///
    /// # Errors
    /// [`DeviceError::UnexpectedEndOfStream`] if the stream broke.
    fn acknowledge(&mut self, verdict: Result<(), &DeviceError>) -> Result<(), DeviceError>;

    /// What the driver has accepted, where that is known before [`Message::Ready`] says it: a queue is
    /// then checked as what it will be, split or packed. Asked with each message. By default it is not
    /// known.
    fn features(&self) -> Option<Features> {
        None
    }
}

/// Leads the set-up conversation to its end: a device, and the answer that the driver waits for.
///
/// A queue message is acknowledged only after its checks passed, `queues` among them. The last
/// message, [`Message::Ready`], is not acknowledged here: the [`ReadyResponder`] answers it, and
/// until then the driver is told nothing.
///
/// ```
/// # use virtside::{Message, QueueConfig, error::DeviceError};
/// # struct Script(std::vec::IntoIter<Message>);
/// # impl virtside_std::MessageSource for Script {
/// #     fn next_message(&mut self) -> Result<Option<Message>, DeviceError> { Ok(self.0.next()) }
/// #     fn acknowledge(&mut self, _: Result<(), &DeviceError>) -> Result<(), DeviceError> { Ok(()) }
/// # }
/// use std::sync::Arc;
/// use virtside::{Device, DeviceBuilder, Features, FlatMem, Shared, memory::Ram};
/// use virtside_std::{CondvarNotify, config_builder_from_stream};
///
/// static RAM: Ram<4096> = Ram::new();
/// let shared = Arc::new(Shared::<2>::new());
/// let builder = DeviceBuilder::new(Arc::clone(&shared)).map_notify(|()| Ok(CondvarNotify::new()))?;
/// # let queue = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x200, device: 0x300 };
/// # let mut stream = Script(vec![
/// #     Message::ConfigureQueue(queue),
/// #     Message::Ready { features: Features::VERSION_1 },
/// # ].into_iter());
/// let (device, responder) = config_builder_from_stream(builder, &mut stream, &(0..2), RAM.flat(0))?;
/// let device: Device<FlatMem, _, 2, 16, _> = device;
/// assert!(device.configured_queues().eq([0]));
/// assert!(responder.accept());
/// # Ok::<(), DeviceError>(())
/// ```
///
/// # Errors
/// [`DeviceError::UnexpectedEndOfStream`] if there is no `Ready`. A refused queue or message ends
/// the conversation with its error, after its sender was told; with a
/// [`FaultPolicy`](virtside::error::FaultPolicy) other than the default the conversation goes on without it.
#[allow(clippy::type_complexity, reason = "a device and its responder")]
pub fn config_builder_from_stream<S, P, M, I, H, const Q: usize, const N: usize>(
    builder: DeviceBuilder<I, Q, H>,
    stream: &mut S,
    queues: &P,
    mem: M,
) -> Result<(Device<M, I, Q, N, H>, ReadyResponder<I, Q, H>), DeviceError>
where
    S: MessageSource + ?Sized,
    P: QueueCheck + ?Sized,
    M: DriverMem,
    I: DriverNotify + Clone,
    H: SharedHandle<Q>,
{
    let mut configuring = Configuring::new(builder, queues, mem);
    loop {
        let Some(message) = stream.next_message()? else {
            return Err(DeviceError::UnexpectedEndOfStream);
        };
        if let Some(features) = stream.features() {
            configuring = configuring.with_features(features);
        }
        match configuring.step(message) {
            Ok(Progress::Ready(device, responder)) => return Ok((device, responder)),
            Ok(_) => stream.acknowledge(Ok(()))?,
            Err(error) => {
                stream.acknowledge(Err(&error))?;
                if !configuring.goes_on() {
                    return Err(error);
                }
            }
        }
    }
}

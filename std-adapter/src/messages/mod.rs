//! Device set-up by a blocking stream of messages.

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
    /// Waits for the next message. Returns `None` at the end of the stream.
    ///
    /// # Errors
    /// An error that ends the conversation. [`DeviceError::UnexpectedEndOfStream`] if the stream
    /// failed.
    fn next_message(&mut self) -> Result<Option<Message>, DeviceError>;

    /// Tells the sender whether the last message was carried out or refused. The sender waits for
    /// this.
    ///
    /// # Errors
    /// [`DeviceError::UnexpectedEndOfStream`] if the stream failed.
    fn acknowledge(&mut self, verdict: Result<(), &DeviceError>) -> Result<(), DeviceError>;

    /// Returns the features that the driver has accepted, if they are known before
    /// [`Message::Ready`].
    ///
    /// Called for each message. With the features, each queue is checked for the negotiated ring
    /// format. The default is `None`, not known: each queue is checked as a split queue, and again
    /// with the features of [`Message::Ready`].
    fn features(&self) -> Option<Features> {
        None
    }
}

/// Reads messages until the driver is ready. Returns the device and the responder that answers the
/// driver.
///
/// A queue message is acknowledged after all its checks have passed, including the queue check
/// `queues`. The last message, [`Message::Ready`], is not acknowledged here. The driver waits until
/// the [`ReadyResponder`] answers it.
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
/// * [`DeviceError::UnexpectedEndOfStream`] if the stream ends before `Ready`.
/// * The error of a refused queue or message, after its sender was told. This error ends the
///   conversation under the default [`FaultPolicy`](virtside::error::FaultPolicy). Under any other
///   policy, the conversation continues without that queue or message.
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
                if !configuring.continues() {
                    return Err(error);
                }
            }
        }
    }
}

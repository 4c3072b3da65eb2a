//! The host's answer to DRIVER_OK.

use crate::{
    interrupt::DriverNotify,
    shared::{Shared, SharedHandle},
};

/// The pending answer to a driver's DRIVER_OK.
///
/// Until the host answers, the driver's write has not completed, and the device serves no chain.
/// Dropping the responder refuses.
///
/// ```
/// use virtside::{
///     Configuring, DeviceBuilder, Features, Message, Shared, interrupt::CountingNotify,
///     memory::Ram, setup::Progress,
/// };
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// static LINE: CountingNotify = CountingNotify::new();
/// let builder = DeviceBuilder::new(&SHARED).map_notify(|()| Ok(&LINE))?;
/// let mut configuring = Configuring::<_, _, _>::new(builder, &(0..1), RAM.flat(0));
/// match configuring.step(Message::Ready { features: Features::VERSION_1 })? {
///     Progress::Ready(_device, responder) => responder.refuse(),
///     other => panic!("{other:?}"),
/// }
/// assert!(SHARED.needs_reset() && !SHARED.is_live());
/// assert_eq!(LINE.asserted(), 1);
/// # Ok::<(), virtside::error::DeviceError>(())
/// ```
#[derive(Debug)]
#[must_use = "the driver waits for the answer; dropping it refuses"]
pub struct ReadyResponder<
    I: DriverNotify,
    const Q: usize = 1,
    H: SharedHandle<Q> = &'static Shared<Q>,
> {
    shared: H,
    notify: I,
    epoch: u32,
    given: bool,
}

impl<I: DriverNotify, H: SharedHandle<Q>, const Q: usize> ReadyResponder<I, Q, H> {
    pub(crate) fn new(shared: H, notify: I) -> Self {
        Self {
            epoch: shared.epoch(),
            shared,
            notify,
            given: false,
        }
    }

    /// Starts the device. Every queue counts as kicked. Returns false if the driver has reset the
    /// device in the meantime, or another responder has answered.
    pub fn accept(mut self) -> bool {
        self.given = true;
        self.shared.accept(self.epoch)
    }

    /// Refuses to start the device: sets DEVICE_NEEDS_RESET and sends a configuration interrupt.
    pub fn refuse(mut self) {
        self.deny();
    }

    fn deny(&mut self) {
        self.given = true;
        self.shared.refuse(self.epoch, &self.notify);
    }
}

impl<I: DriverNotify, H: SharedHandle<Q>, const Q: usize> Drop for ReadyResponder<I, Q, H> {
    fn drop(&mut self) {
        if !self.given {
            self.deny();
        }
    }
}

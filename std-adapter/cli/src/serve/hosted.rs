//! A device of any model and any size.

use std::{
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use virtside::{Features, features::Offer};
use virtside_std::{
    Ended,
    vhost_user::{VhostUserDevice, VhostUserError},
};
use vmm_sys_util::eventfd::EventFd;

use super::{
    stats::Meter,
    watched::{Watch, Watched},
};

/// A device, ready for a front end.
pub(super) trait Hosted: Send {
    /// Serves one front end until it leaves, or until the device is to stop.
    ///
    /// # Errors
    /// [`VhostUserError`]; the next front end can be served.
    fn serve(&mut self, front_end: UnixStream) -> Result<Ended, VhostUserError>;

    /// Called at the end, without a front end: makes everything durable.
    ///
    /// # Errors
    /// What is not durable, and why.
    fn finish(&mut self) -> Result<(), String>;
}

/// What every device has, whatever its model.
pub(super) struct Context {
    pub(super) name: String,
    /// Becomes readable when the device is to stop.
    pub(super) stop: EventFd,
    /// Counts the requests.
    pub(super) meter: Option<Meter>,
    /// Each request is written to the log.
    pub(super) traced: bool,
    /// Packed rings are not offered.
    pub(super) no_packed: bool,
}

/// A descriptor that wakes a device.
struct Wake(Box<dyn AsRawFd + Send>);

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A model, and how it is served.
pub(super) struct Plan<D> {
    model: D,
    context: Context,
    withheld: Features,
    spin: Duration,
    slots: usize,
    wakes: Vec<Wake>,
}

impl<D: Watch + Send + 'static> Plan<D> {
    pub(super) fn new(context: Context, model: D) -> Self {
        Self {
            model,
            context,
            withheld: Features::empty(),
            spin: Duration::ZERO,
            slots: 1,
            wakes: Vec::new(),
        }
    }

    /// Leaves out these features of the device type.
    pub(super) fn without(self, withheld: Features) -> Self {
        Self { withheld, ..self }
    }

    /// Looks for requests for this long before sleeping.
    pub(super) fn with_spin(self, spin: Duration) -> Self {
        Self { spin, ..self }
    }

    /// Sets how many requests are in hand at once. The default is 1.
    pub(super) fn with_slots(self, slots: usize) -> Self {
        Self { slots, ..self }
    }

    /// Looks for answers whenever this descriptor becomes readable.
    pub(super) fn with_wake(mut self, wake: impl AsRawFd + Send + 'static) -> Self {
        self.wakes.push(Wake(Box::new(wake)));
        self
    }

    /// Makes a device of up to `Q` queues with up to `N` elements. The model may have fewer.
    pub(super) fn sized<const Q: usize, const N: usize>(self) -> Box<dyn Hosted> {
        let Context {
            name,
            stop,
            meter,
            traced,
            no_packed,
        } = self.context;
        let mut offer = Offer::AS_IS;
        if no_packed {
            offer = offer.without(Features::RING_PACKED);
        }
        let model = Watched::new(name, self.model, self.withheld)
            .with_meter(meter)
            .with_trace(traced);
        let device: VhostUserDevice<_, Q, N> = VhostUserDevice::new(model, self.slots)
            .with_offer(offer)
            .with_spin(self.spin)
            .with_stop(stop);
        let wakes = self.wakes.into_iter();
        let device = wakes.fold(device, VhostUserDevice::with_wake);
        Box::new(Sized(device))
    }
}

struct Sized<D, const Q: usize, const N: usize>(VhostUserDevice<Watched<D>, Q, N>);

impl<D: Watch + Send, const Q: usize, const N: usize> Hosted for Sized<D, Q, N> {
    fn serve(&mut self, front_end: UnixStream) -> Result<Ended, VhostUserError> {
        let served = self.0.serve(front_end);
        self.0.model_mut().front_end_left();
        served
    }

    fn finish(&mut self) -> Result<(), String> {
        self.0.model_mut().finish()
    }
}

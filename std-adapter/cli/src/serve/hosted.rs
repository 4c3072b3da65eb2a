//! A device of any model and any size.

use std::{os::unix::net::UnixStream, time::Duration};

use virtside::{DeviceModel, Features};
use virtside_std::vhost_user::{VhostUserDevice, VhostUserError};

use super::watched::Watched;

/// A device, ready for a front end.
pub(super) trait Hosted: Send {
    /// Serves one front end until it leaves.
    ///
    /// # Errors
    /// [`VhostUserError`]; the next front end can be served.
    fn serve(&mut self, front_end: UnixStream) -> Result<(), VhostUserError>;

    /// Called at the end, without a front end: makes everything durable.
    ///
    /// # Errors
    /// What is not durable, and why.
    fn finish(&mut self) -> Result<(), String>;
}

/// What a device of any size needs.
pub(super) struct Model<D> {
    pub(super) model: D,
    /// Features of the device type that are not offered.
    pub(super) withheld: Features,
    pub(super) spin: Duration,
    /// Number of chains that are in hand at once.
    pub(super) slots: usize,
    /// Called at the end.
    pub(super) finish: fn(&mut D) -> Result<(), String>,
}

struct Sized<D, const Q: usize, const N: usize> {
    device: VhostUserDevice<Watched<D>, Q, N>,
    finish: fn(&mut D) -> Result<(), String>,
}

impl<D: DeviceModel + Send + 'static> Model<D> {
    /// Makes a device of up to `Q` queues with up to `N` elements. The model may have fewer.
    pub(super) fn sized<const Q: usize, const N: usize>(self) -> Box<dyn Hosted> {
        let model = Watched::new(self.model).without(self.withheld);
        let device: VhostUserDevice<_, Q, N> =
            VhostUserDevice::new(model, self.slots).with_spin(self.spin);
        Box::new(Sized {
            device,
            finish: self.finish,
        })
    }
}

impl<D: DeviceModel + Send, const Q: usize, const N: usize> Hosted for Sized<D, Q, N> {
    fn serve(&mut self, front_end: UnixStream) -> Result<(), VhostUserError> {
        self.device.serve(front_end).map(|_| ())
    }

    fn finish(&mut self) -> Result<(), String> {
        (self.finish)(self.device.model_mut().model_mut())
    }
}

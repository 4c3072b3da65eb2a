//! Options of a hosted device.

use std::{fmt, io, time::Duration};

use virtside::{Refusal, mmio::Access};

use super::HostedDevice;
use crate::serve::Served;

pub(super) type OnRefused = Box<dyn Fn(Access, Refusal) + Send + Sync>;

/// Options of a [`HostedDevice`].
///
/// ```
/// use std::time::Duration;
/// use virtside_std::HostedOptions;
///
/// let options = HostedOptions::new()
///     .with_name("disk")
///     .with_spin(Duration::from_micros(50))
///     .with_on_refused(|access, why| eprintln!("{access:?}: {why}"));
/// ```
#[derive(Default)]
pub struct HostedOptions {
    name: Option<String>,
    spin: Duration,
    on_refused: Option<OnRefused>,
}

impl fmt::Debug for HostedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedOptions")
            .field("name", &self.name)
            .field("spin", &self.spin)
            .finish_non_exhaustive()
    }
}

impl HostedOptions {
    /// Returns the default options: the worker does not spin, and no one is told of refused
    /// accesses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the worker thread. The default name is `virtside`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets the worker look for chains for this long before it sleeps. A request in that time needs
    /// no wake-up. The worker uses a whole core meanwhile, so do not use this option on one core.
    #[must_use]
    pub fn with_spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Calls a closure for each refused access, in the thread that made the access, without the
    /// lock.
    #[must_use]
    pub fn with_on_refused(
        mut self,
        on_refused: impl Fn(Access, Refusal) + Send + Sync + 'static,
    ) -> Self {
        self.on_refused = Some(Box::new(on_refused));
        self
    }

    /// Starts a worker thread that serves `device`.
    ///
    /// # Errors
    /// The system has no more threads or descriptors. The device is dropped.
    pub fn start<T: Served + Send + 'static>(self, device: T) -> io::Result<HostedDevice<T>> {
        let name = self.name.unwrap_or_else(|| "virtside".into());
        HostedDevice::start(device, name, self.spin, self.on_refused)
    }
}

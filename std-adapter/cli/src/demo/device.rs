//! A device that runs the blocking loop in its own thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use virtside::{
    ChainSlot, DeviceModel, Engine, Features, QueueConfig, Shared,
    device::Counters,
    features::Offer,
    mmio::{Access, Phase, Reply},
};
use virtside_std::{
    CondvarNotify, Observer, VmMem,
    channel::{self, DriverPort},
    serve,
};
use vm_memory::GuestMemoryMmap;

use super::trace::TracePrinter;
use crate::failure::{Failure, Result};

/// Maximum queue size, in elements.
pub(crate) const QUEUE_MAX: u16 = 64;

const N: usize = 64;

type DeviceEngine<D> = Engine<D, VmMem, CondvarNotify, 1, N, [ChainSlot<N>; 1], Arc<Shared<1>>>;

/// The final counters of a device.
pub(crate) struct DeviceReport {
    pub(crate) name: &'static str,
    pub(crate) counters: Counters,
    pub(crate) accesses: u64,
}

/// The driver's side of a device: registers and an interrupt line.
pub(crate) struct DriverSide {
    pub(crate) port: DriverPort,
    pub(crate) line: CondvarNotify,
}

/// The features and queues that a driver has set up.
pub(crate) struct SetUp {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
    pub(crate) features: Features,
    pub(crate) queues: Vec<QueueConfig>,
}

/// A device with its running thread.
pub(crate) struct RunningDevice {
    name: &'static str,
    port: DriverPort,
    line: CondvarNotify,
    shared: Arc<Shared<1>>,
    accesses: Arc<AtomicU64>,
    thread: JoinHandle<Result<Counters>>,
}

/// Counts the accesses, prints them with `--trace`, and reports the set-up when the device is live.
struct AccessObserver {
    name: &'static str,
    accesses: Arc<AtomicU64>,
    /// Set with `--trace`.
    printer: Option<TracePrinter>,
    /// Taken when the set-up is reported.
    ready: Option<mpsc::Sender<SetUp>>,
}

impl<D: DeviceModel> Observer<DeviceEngine<D>> for AccessObserver {
    fn accessed(&mut self, engine: &DeviceEngine<D>, access: Access, reply: Reply) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        if let Some(printer) = &mut self.printer {
            printer.show(access, reply);
        }
        if engine.phase() == Phase::Live
            && let Some(ready) = self.ready.take()
        {
            let queues = engine.configured_queues();
            // The device continues even if nobody receives the report.
            let _ = ready.send(SetUp {
                name: self.name,
                id: engine.model().device_id(),
                features: engine.features(),
                queues: queues
                    .filter_map(|queue| engine.queue_config(queue).copied())
                    .collect(),
            });
        }
    }

    fn stops(&mut self) -> bool {
        self.printer.as_ref().is_some_and(TracePrinter::has_failed)
    }
}

/// Everything that is needed to start a device.
pub(crate) struct DevicePlan<D> {
    pub(crate) name: &'static str,
    pub(crate) model: D,
    pub(crate) offer: Offer,
    /// Set with `--trace`.
    pub(crate) printer: Option<TracePrinter>,
    pub(crate) ready: mpsc::Sender<SetUp>,
    /// Called at the end: returns the error of the back end, if any.
    pub(crate) backend_error: fn(&mut D) -> Option<String>,
}

impl RunningDevice {
    pub(crate) fn new<D: DeviceModel + Send + 'static>(
        plan: DevicePlan<D>,
        memory: &GuestMemoryMmap,
    ) -> Result<Self> {
        let DevicePlan {
            name,
            model,
            offer,
            printer,
            ready,
            backend_error,
        } = plan;
        let (port, mut source) = channel::channel();
        let line = CondvarNotify::new();
        let shared = Arc::new(Shared::new());
        let accesses = Arc::new(AtomicU64::new(0));
        let mut engine = DeviceEngine::new(
            model,
            VmMem::new(memory),
            line.clone(),
            [ChainSlot::new()],
            Arc::clone(&shared),
        )
        .with_offer(offer);
        let mut observer = AccessObserver {
            name,
            accesses: Arc::clone(&accesses),
            printer,
            ready: Some(ready),
        };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            serve(&mut engine, &mut source, &mut observer)?;
            if let Some(error) = observer.printer.as_mut().and_then(TracePrinter::take_error) {
                return Err(Failure::Output(error));
            }
            match backend_error(engine.model_mut()) {
                Some(why) => Err(Failure::Work(why)),
                None => Ok(engine.counters()),
            }
        })?;
        Ok(Self {
            name,
            port,
            line,
            shared,
            accesses,
            thread,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the driver's side of the device.
    pub(crate) fn side(&self) -> DriverSide {
        DriverSide {
            port: self.port.clone(),
            line: self.line.clone(),
        }
    }

    pub(crate) fn accesses(&self) -> u64 {
        self.accesses.load(Ordering::Relaxed)
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.shared.needs_reset()
    }

    /// Drops the last port, which ends the stream once the driver is gone too. Waits until the loop
    /// has returned.
    pub(crate) fn join(self) -> Result<DeviceReport> {
        drop(self.port);
        let counters = match self.thread.join() {
            Ok(counters) => counters?,
            Err(_) => {
                return Err(Failure::Work(format!(
                    "the device thread {} panicked",
                    self.name
                )));
            }
        };
        Ok(DeviceReport {
            name: self.name,
            counters,
            accesses: self.accesses.load(Ordering::Relaxed),
        })
    }
}

//! A device in a thread of its own, behind the blocking loop.

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

use crate::{
    failure::{Failure, Result},
    screen::Screen,
};

/// Elements of the largest queue.
pub(crate) const QUEUE_MAX: u16 = 64;

const N: usize = 64;

type Machine<D> = Engine<D, VmMem, CondvarNotify, 1, N, [ChainSlot<N>; 1], Arc<Shared<1>>>;

/// What a device thread leaves behind.
pub(crate) struct Served {
    pub(crate) name: &'static str,
    pub(crate) counters: Counters,
    pub(crate) accesses: u64,
}

/// A device, as its driver has it: registers and an interrupt line.
pub(crate) struct Side {
    pub(crate) port: DriverPort,
    pub(crate) line: CondvarNotify,
}

/// What a driver set up.
pub(crate) struct SetUp {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
    pub(crate) features: Features,
    pub(crate) queues: Vec<QueueConfig>,
}

/// A device that runs.
pub(crate) struct Spawned {
    name: &'static str,
    port: DriverPort,
    line: CondvarNotify,
    shared: Arc<Shared<1>>,
    accesses: Arc<AtomicU64>,
    thread: JoinHandle<Result<Counters>>,
}

/// Counts accesses, shows them, and tells when the driver is ready.
struct Watch {
    name: &'static str,
    accesses: Arc<AtomicU64>,
    /// With `--trace`.
    screen: Option<Screen>,
    /// Until it was told.
    ready: Option<mpsc::Sender<SetUp>>,
}

impl<D: DeviceModel> Observer<Machine<D>> for Watch {
    fn accessed(&mut self, machine: &Machine<D>, access: Access, reply: Reply) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        if let Some(screen) = &mut self.screen {
            screen.show(access, reply);
        }
        if machine.phase() == Phase::Live
            && let Some(ready) = self.ready.take()
        {
            let queues = machine.configured_queues();
            // Nobody to be told is no reason to stop.
            let _ = ready.send(SetUp {
                name: self.name,
                id: machine.model().device_id(),
                features: machine.features(),
                queues: queues
                    .filter_map(|queue| machine.queue_config(queue).copied())
                    .collect(),
            });
        }
    }

    fn stops(&mut self) -> bool {
        self.screen.as_ref().is_some_and(Screen::has_failed)
    }
}

/// A model and what is known of it.
pub(crate) struct Plan<D> {
    pub(crate) name: &'static str,
    pub(crate) model: D,
    pub(crate) offer: Offer,
    /// With `--trace`.
    pub(crate) screen: Option<Screen>,
    pub(crate) ready: mpsc::Sender<SetUp>,
    /// Asked at the end: what failed behind the model.
    pub(crate) trouble: fn(&mut D) -> Option<String>,
}

impl Spawned {
    pub(crate) fn new<D: DeviceModel + Send + 'static>(
        plan: Plan<D>,
        memory: &GuestMemoryMmap,
    ) -> Result<Self> {
        let Plan {
            name,
            model,
            offer,
            screen,
            ready,
            trouble,
        } = plan;
        let (port, mut source) = channel::channel();
        let line = CondvarNotify::new();
        let shared = Arc::new(Shared::new());
        let accesses = Arc::new(AtomicU64::new(0));
        let mut machine = Machine::new(
            model,
            VmMem::new(memory),
            line.clone(),
            [ChainSlot::new()],
            Arc::clone(&shared),
        )
        .offering(offer);
        let mut watch = Watch {
            name,
            accesses: Arc::clone(&accesses),
            screen,
            ready: Some(ready),
        };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            serve(&mut machine, &mut source, &mut watch)?;
            if let Some(error) = watch.screen.as_mut().and_then(Screen::take_error) {
                return Err(Failure::Output(error));
            }
            match trouble(machine.model_mut()) {
                Some(why) => Err(Failure::Work(why)),
                None => Ok(machine.counters()),
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

    /// A driver's side of it.
    pub(crate) fn side(&self) -> Side {
        Side {
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

    /// Ends the stream once the driver is gone, and waits for the loop to return.
    pub(crate) fn join(self) -> Result<Served> {
        drop(self.port);
        let counters = match self.thread.join() {
            Ok(counters) => counters?,
            Err(_) => {
                return Err(Failure::Work(format!(
                    "the thread of {} panicked",
                    self.name
                )));
            }
        };
        Ok(Served {
            name: self.name,
            counters,
            accesses: self.accesses.load(Ordering::Relaxed),
        })
    }
}

//! A device in a thread of its own, behind the blocking loop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use virtside::{
    ChainSlot, Counters, DeviceModel, Engine, Offer, Shared,
    mmio::{Access, Reply},
};
use virtside_std::{
    CondvarNotify, Observer, VmMem,
    channel::{self, DriverPort},
    serve,
};
use vm_memory::GuestMemoryMmap;

use super::{Result, screen::Screen};

/// Elements of the largest queue.
pub(crate) const QUEUE_MAX: u16 = 64;

const N: usize = 64;

pub(crate) type Machine<D> =
    Engine<D, VmMem, CondvarNotify, [ChainSlot<N>; 1], Arc<Shared<1>>, 1, N>;

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

/// A device that runs.
pub(crate) struct Spawned {
    name: &'static str,
    port: DriverPort,
    line: CondvarNotify,
    shared: Arc<Shared<1>>,
    accesses: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<Counters>>,
}

/// Counts accesses, and shows them.
struct Watch {
    accesses: Arc<AtomicU64>,
    screen: Screen,
}

impl<D: DeviceModel> Observer<Machine<D>> for Watch {
    fn accessed(&mut self, machine: &Machine<D>, access: Access, reply: Reply) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        self.screen.show(machine, access, reply);
    }
}

impl Spawned {
    pub(crate) fn new<D: DeviceModel + Send + 'static>(
        name: &'static str,
        model: D,
        offer: Offer,
        memory: &GuestMemoryMmap,
        screen: Screen,
    ) -> Result<Self> {
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
            accesses: Arc::clone(&accesses),
            screen,
        };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            serve(&mut machine, &mut source, &mut watch)?;
            Ok(machine.counters())
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

    /// Whether the loop returned, which it does not while there is a port.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the stream, and waits for the loop to return.
    pub(crate) fn join(self) -> Result<Served> {
        drop(self.port);
        let counters = match self.thread.join() {
            Ok(counters) => counters?,
            Err(_) => return Err(format!("the thread of {} panicked", self.name).into()),
        };
        Ok(Served {
            name: self.name,
            counters,
            accesses: self.accesses.load(Ordering::Relaxed),
        })
    }
}

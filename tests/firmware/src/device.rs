//! The device side. All of it except [`init`] runs in the doorbell's interrupt handler.

mod back_ends;

use virtside::{
    ChainSlot, DeviceModel, DriverNotify, Engine, EngineCell, Shared, Step,
    mmio::{
        Access, Phase, RegisterBlock, Reply, Ticket,
        mailbox::{Mailbox, MailboxServer},
    },
    models::{
        Block, BlockOptions, Console, Entropy, I2c,
        blk::RamDisk,
        console::{ConsolePort, ConsoleSize, receiveq},
    },
    trace::{DefmtTrace, NoTrace, Trace},
};

use back_ends::{Echo, Pool, Sensor};

use crate::{
    measure::{self, Stack, Timed},
    platform,
    shared::{BASE, COMMON},
};

/// Elements of the largest queue.
const SIZE: usize = 16;
/// Chains that one interrupt serves for each device. The next interrupt serves the others.
const BUDGET: u16 = 4;
/// Bytes of the disk.
const DISK: usize = 64 << 10;

/// The driver's interrupt.
#[derive(Clone, Copy, Debug)]
struct Line;

impl DriverNotify for Line {
    #[inline]
    fn assert(&self) {
        platform::raise_interrupt();
        measure::raised();
    }
}

type TheEngine<D, const Q: usize, const S: usize, T = NoTrace> =
    Engine<D, Timed, Line, Q, SIZE, [ChainSlot<SIZE>; S], &'static Shared<Q>, T>;

/// A device, and the mailbox of its register accesses.
struct Station<D, const Q: usize, const S: usize, T = NoTrace> {
    name: &'static str,
    engine: TheEngine<D, Q, S, T>,
    server: MailboxServer<'static>,
    /// Tends the back end after chains were served; returns whether more chains can be served now.
    tend: fn(&mut TheEngine<D, Q, S, T>) -> bool,
    /// Whether the last poll used up its budget.
    more: bool,
    /// The phase that was last reported.
    phase: Phase,
    access_stack: Stack,
    poll_stack: Stack,
}

impl<D: DeviceModel, const Q: usize, const S: usize, T: Trace> Station<D, Q, S, T> {
    const fn new(
        name: &'static str,
        model: D,
        trace: T,
        mailbox: &'static Mailbox,
        shared: &'static Shared<Q>,
        tend: fn(&mut TheEngine<D, Q, S, T>) -> bool,
    ) -> Self {
        Self {
            name,
            engine: Engine::traced(
                model,
                Timed(COMMON.ram.flat(BASE)),
                Line,
                [const { ChainSlot::new() }; S],
                shared,
                trace,
            ),
            server: MailboxServer::new(mailbox),
            tend,
            more: false,
            phase: Phase::Reset,
            access_stack: Stack::new(),
            poll_stack: Stack::new(),
        }
    }
}

impl<D: DeviceModel, const Q: usize, const S: usize, T: Trace> Station<D, Q, S, T> {
    /// Handles one register access and serves some chains; returns whether there is more to do.
    fn step(&mut self) -> bool {
        let mut watched = Watched {
            engine: &mut self.engine,
            stack: &self.access_stack,
        };
        if !self.server.step(&mut watched) && !self.more {
            return false;
        }
        let step = self.poll_stack.of(|| self.engine.poll(BUDGET));
        self.more = step == Step::More || (self.tend)(&mut self.engine);
        if self.phase != self.engine.phase() {
            self.report();
        }
        self.more
    }

    #[inline(never)]
    fn report(&mut self) {
        self.phase = self.engine.phase();
        defmt::info!("device {=str}: {}", self.name, self.phase);
        if self.phase == Phase::Reset {
            defmt::info!(
                "device {=str}: {=u32} chains, {=u32} interrupts, {=u32} not wanted",
                self.name,
                self.engine.counters().chains,
                self.engine.counters().interrupts,
                self.engine.counters().suppressed
            );
            defmt::info!(
                "measured: {=str}, stack of access {=u32} bytes, of poll {=u32}",
                self.name,
                self.access_stack.most(),
                self.poll_stack.most()
            );
        }
        if self.phase != Phase::Live {
            return;
        }
        defmt::info!("device {=str}: {}", self.name, self.engine.features());
        for queue in self.engine.configured_queues() {
            let state = self.engine.queue_state(queue);
            let size = self
                .engine
                .queue_config(queue)
                .map_or(0, |config| config.size);
            defmt::info!(
                "device {=str}: queue {=u16} of {=u32}, {}",
                self.name,
                queue,
                size,
                state
            );
        }
    }
}

/// An engine whose stack use is measured.
struct Watched<'e, D, const Q: usize, const S: usize, T> {
    engine: &'e mut TheEngine<D, Q, S, T>,
    stack: &'e Stack,
}

impl<D: DeviceModel, const Q: usize, const S: usize, T: Trace> RegisterBlock
    for Watched<'_, D, Q, S, T>
{
    #[inline]
    fn access(&mut self, access: Access) -> Reply {
        self.stack.of(|| self.engine.access(access))
    }
    #[inline]
    fn finish(&mut self, ticket: Ticket) -> Reply {
        self.engine.finish(ticket)
    }
}

static ENTROPY_SHARED: Shared<1> = Shared::new();
static ENTROPY: EngineCell<Station<Entropy<Pool>, 1, 1>> = EngineCell::new(Station::new(
    "entropy",
    Entropy::new(Pool::new()),
    NoTrace,
    &COMMON.entropy,
    &ENTROPY_SHARED,
    |_| false,
));

static BLOCK_SHARED: Shared<1> = Shared::new();
static BLOCK: EngineCell<Station<Block<RamDisk<[u8; DISK]>>, 1, 1>> =
    EngineCell::new(Station::new(
        "block",
        Block::new(RamDisk::new([0; DISK]), BlockOptions::new(16)),
        NoTrace,
        &COMMON.block,
        &BLOCK_SHARED,
        |_| false,
    ));

static CONSOLE_SHARED: Shared<2> = Shared::new();
static CONSOLE: EngineCell<Station<Console<Echo>, 2, 3>> = EngineCell::new(Station::new(
    "console",
    Console::new(Echo::new()),
    NoTrace,
    &COMMON.console,
    &CONSOLE_SHARED,
    |engine| {
        let input = |engine: &TheEngine<Console<Echo>, 2, 3>| {
            engine
                .model()
                .port(0)
                .is_some_and(|port| port.io().has_input())
        };
        if !input(engine) {
            return false;
        }
        engine.backend_ready(receiveq(0));
        // The remaining output waits for a buffer and its kick.
        engine.poll(BUDGET) == Step::More
    },
));

static I2C_SHARED: Shared<1> = Shared::new();
static I2C: EngineCell<Station<I2c<Sensor, 32>, 1, 1, DefmtTrace>> = EngineCell::new(Station::new(
    "i2c",
    I2c::new(Sensor::new()),
    DefmtTrace("i2c"),
    &COMMON.i2c,
    &I2C_SHARED,
    |_| false,
));

/// Sets up the parts that no constant can express. Must run before the first doorbell.
pub fn init() {
    CONSOLE.with(|station| {
        station.engine.update_config(|console| {
            if let Some(port) = console.port_mut(0) {
                port.resize(ConsoleSize { cols: 80, rows: 25 });
            }
        });
    });
}

/// The doorbell's interrupt handler: steps every device.
pub fn doorbell() {
    let more = [
        ENTROPY.with(Station::step),
        BLOCK.with(Station::step),
        CONSOLE.with(Station::step),
        I2C.with(Station::step),
    ];
    if more.contains(&Some(true)) {
        platform::ring_doorbell();
    }
}

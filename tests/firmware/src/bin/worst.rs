//! Measures the most instructions and stack that each call of a handler takes.
//!
//! It measures one engine with one queue at a time. The fake driver runs in the same context,
//! because calls are measured, and not the two sides. Each engine has a minimal back end: one byte
//! of entropy for each request, no interrupt controller, and RAM in one region.
#![no_std]
#![no_main]

#[path = "../ending.rs"]
mod ending;

use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m_rt::entry;
// Prints the transcript.
use defmt_semihosting as _;
use embedded_hal::digital::{ErrorType, OutputPin};
use firmware::{
    measure::{self, Scale, Stack},
    platform,
};
use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, DriverNotify, Engine,
    EngineCell, Features, FlatMem, Request, Shared, Step, Token,
    device::{Stop, TakenQueue},
    interrupt::IrqLine,
    memory::Ram,
    mmio::{
        Access, Reply,
        mailbox::{Mailbox, MailboxServer},
    },
    model::{SaveModel, SavedWith},
    models::{Block, BlockOptions, Entropy, EntropyError, EntropySource, blk::RamDisk},
    queue::Chain,
    snapshot::{EngineSnapshot, SnapshotError},
    testing::{Buffer, FakeDriver, Layout, NEXT, Registers, WRITE},
};

/// Elements of the queue, and segments of the longest chain.
const SIZE: usize = 16;
const ELEMENTS: u16 = 16;

const BASE: u64 = 0x8000_0000;
/// Addresses of a driver's buffer and of an indirect table.
const DATA: u64 = BASE + 0x1000;
const TABLE: u64 = BASE + 0x2000;

static RAM: Ram<0x3000> = Ram::new();
static SHARED: Shared<1> = Shared::new();
static MAILBOX: Mailbox = Mailbox::new();
static CELL: EngineCell<u32> = EngineCell::new(0);
static LINE: IrqLine<Pin> = IrqLine::new(Pin);
static LEVEL: AtomicU32 = AtomicU32::new(0);

/// A pin whose level is one word of memory.
struct Pin;

impl ErrorType for Pin {
    type Error = core::convert::Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Self::Error> {
        LEVEL.store(0, Ordering::Relaxed);
        Ok(())
    }
    fn set_high(&mut self) -> Result<(), Self::Error> {
        LEVEL.store(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A source of one byte per request, when it is `ready`.
struct Source {
    ready: bool,
}

impl EntropySource for Source {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        if self.ready {
            Ok(bytes.len().min(1))
        } else {
            Err(EntropyError::NotReady)
        }
    }
}

/// The entropy device with a record of its last request.
struct RecordingEntropy {
    entropy: Entropy<Source>,
    token: Option<Token>,
}

impl RecordingEntropy {
    fn ready(&mut self, ready: bool) {
        self.entropy.source_mut().ready = ready;
    }
}

impl DeviceConfig for RecordingEntropy {
    fn device_id(&self) -> u32 {
        self.entropy.device_id()
    }
    fn features(&self) -> Features {
        self.entropy.features()
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        self.entropy.queue_size_max(queue)
    }
}

impl SaveModel for RecordingEntropy {
    type Snapshot = ();
    fn save(&self) {}
    fn restore(&mut self, (): &(), _: SavedWith) -> Result<(), SnapshotError> {
        Ok(())
    }
}

impl DeviceModel for RecordingEntropy {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        self.token = Some(request.token);
        self.entropy.serve(request)
    }
}

/// A call, and its maximum.
#[derive(Clone, Copy)]
struct Row {
    call: &'static str,
    instructions: u32,
    stack: u32,
}

/// The measurements so far.
struct Table {
    scale: Scale,
    /// Ticks and stack that the instruments take by themselves.
    nothing: (u32, u32),
    rows: [Option<Row>; 48],
}

impl Table {
    fn new() -> Self {
        let mut table = Self {
            scale: Scale::measure(),
            nothing: (0, 0),
            rows: [None; 48],
        };
        measure::paint(true);
        let ((), ticks, stack) = table.watch(|| ());
        table.nothing = (ticks, stack);
        table
    }

    fn watch<R>(&self, work: impl FnOnce() -> R) -> (R, u32, u32) {
        let stack = Stack::new();
        let (result, ticks) = stack.of(|| measure::time(work));
        (result, ticks, stack.most())
    }

    /// Measures `work` as one case of this call.
    fn of<R>(&mut self, call: &'static str, work: impl FnOnce() -> R) -> R {
        let (result, ticks, stack) = self.watch(work);
        self.note(Row {
            call,
            instructions: self
                .scale
                .instructions(ticks.saturating_sub(self.nothing.0)),
            stack: stack.saturating_sub(self.nothing.1),
        });
        result
    }

    #[inline(never)]
    fn note(&mut self, new: Row) {
        let is_its = |row: &&mut Option<Row>| row.is_none_or(|row| row.call == new.call);
        let place = self.rows.iter_mut().find(is_its);
        let place = place.expect("the table has room for the call");
        let before = place.unwrap_or(new);
        *place = Some(Row {
            call: new.call,
            instructions: new.instructions.max(before.instructions),
            stack: new.stack.max(before.stack),
        });
    }

    /// Not inlined, so that the access is not a constant.
    #[inline(never)]
    fn access<D: DeviceModel>(
        &mut self,
        call: &'static str,
        engine: &mut TheEngine<D>,
        access: Access,
    ) -> Reply {
        self.of(call, || engine.access(access))
    }

    #[inline(never)]
    fn store<D: DeviceModel>(
        &mut self,
        call: &'static str,
        engine: &mut TheEngine<D>,
        offset: u32,
        value: u32,
    ) -> Reply {
        self.access(call, engine, Access::write(offset, value))
    }

    #[inline(never)]
    fn poll<D: DeviceModel>(
        &mut self,
        call: &'static str,
        engine: &mut TheEngine<D>,
        budget: u16,
    ) -> Step {
        self.of(call, || engine.poll(budget))
    }
}

type TheEngine<D> = Engine<D, FlatMem, (), 1, SIZE, [ChainSlot<SIZE>; 1], &'static Shared<1>>;

fn engine<D: DeviceModel>(model: D) -> TheEngine<D> {
    Engine::new(model, RAM.flat(BASE), (), [ChainSlot::new()], &SHARED)
}

fn driver() -> FakeDriver<FlatMem> {
    FakeDriver::new(RAM.flat(BASE), Layout::packed_at(BASE, ELEMENTS))
}

/// A live device with an empty queue that it has polled.
fn live<D: DeviceModel>(engine: &mut TheEngine<D>, features: Features) -> FakeDriver<FlatMem> {
    let driver = driver();
    assert!(engine.bring_up(features, &[driver.config(0)]));
    assert_eq!(engine.poll(9), Step::Idle);
    driver
}

const WITH_EVENTS: Features = Features::RING;
const WITHOUT_EVENTS: Features = Features::RING.difference(Features::EVENT_IDX);

/// The descriptors of a chain.
#[derive(Clone, Copy)]
enum Shape {
    Single,
    /// All descriptors of the queue.
    Longest,
    /// An indirect table of the same length.
    Indirect,
    /// All descriptors of the queue, the last of which refers to a table of one descriptor.
    Mixed,
    /// A chain without an end.
    Loop,
    /// A table without an end.
    LoopInTable,
}

/// Sends this number of chains, and kicks the queue.
fn send(driver: &mut FakeDriver<FlatMem>, shape: Shape, chains: u16) {
    for at in 0..ELEMENTS {
        let last = at + 1 == ELEMENTS && !matches!(shape, Shape::Loop);
        let flags = if last { WRITE } else { WRITE | NEXT };
        driver.write_desc(at, (DATA, 1), flags, (at + 1) % ELEMENTS);
    }
    if let Shape::Mixed = shape {
        driver.write_indirect(ELEMENTS - 1, TABLE, &[Buffer::writable(DATA, 1)]);
    }
    for head in 0..chains {
        match shape {
            Shape::Single => driver.write_chain(head, &[Buffer::writable(DATA, 1)]),
            Shape::Indirect | Shape::LoopInTable => {
                driver.write_indirect(head, TABLE, &[Buffer::writable(DATA, 1); SIZE]);
            }
            _ => {}
        }
        driver.offer(head);
    }
    if let Shape::LoopInTable = shape {
        let last = TABLE + 16 * u64::from(ELEMENTS - 1);
        driver.write_desc_at(last, (DATA, 1), WRITE | NEXT, 0);
    }
    driver.publish();
    SHARED.doorbell().ring(0);
}

/// From reset to live, and each write of Status.
fn set_up<D: DeviceModel>(table: &mut Table, engine: &mut TheEngine<D>, features: Features) {
    let driver = driver();
    assert!(engine.negotiate(features));
    let _ = engine.store(0x70, 0);
    let _ = engine.store(0x70, 3);
    for word in 0..4 {
        let _ = engine.store(0x24, word);
        let _ = engine.store(0x20, features.word(word));
    }
    let reply = table.store("Engine::access: Status := FEATURES_OK", engine, 0x70, 0xb);
    assert_eq!(reply, Reply::Done(0));
    engine.lay_out(&driver.config(0));
    let ready = "Engine::access: QueueReady := 1, all checks";
    assert_eq!(table.store(ready, engine, 0x44, 1), Reply::Done(0));
    let stop = "Engine::access: QueueReady := 0";
    assert_eq!(table.store(stop, engine, 0x44, 0), Reply::Done(0));
    assert_eq!(table.store(ready, engine, 0x44, 1), Reply::Done(0));
    let reply = table.store(
        "Engine::access: Status := DRIVER_OK, all checks again",
        engine,
        0x70,
        0xf,
    );
    assert_eq!(reply, Reply::Done(0));
    for value in [0, 1, u32::MAX] {
        let _ = table.store("Engine::access: QueueNotify", engine, 0x50, value);
    }
    let _ = engine.poll(1);
    assert_eq!(table.store(stop, engine, 0x44, 0), Reply::Done(0));
    let reset = "Engine::access: Status := 0";
    assert_eq!(table.store(reset, engine, 0x70, 0), Reply::Done(0));
}

/// The registers that [`set_up`] does not access, and the configuration space, in each phase.
fn registers<D: DeviceModel>(table: &mut Table, engine: &mut TheEngine<D>, features: Features) {
    let driver = driver();
    for phase in 0..3 {
        let again = |engine: &mut TheEngine<D>| match phase {
            0 => {
                let _ = engine.store(0x70, 0);
                let _ = engine.store(0x70, 3);
            }
            1 => {
                assert!(engine.negotiate(features));
                let _ = engine.store(0x30, 0);
            }
            _ => assert!(engine.bring_up(features, &[driver.config(0)])),
        };
        again(engine);
        for offset in (0..0x100).step_by(4) {
            for width in [1, 4] {
                let access = Access::Read { offset, width };
                let _ = table.access("Engine::access: read of any register", engine, access);
            }
        }
        for offset in (0..0x100).step_by(4) {
            if matches!(offset, 0x44 | 0x50 | 0x70) {
                continue;
            }
            for (width, value) in [(1, 0), (4, 0), (4, 1), (4, u64::MAX)] {
                let access = Access::Write {
                    offset,
                    width,
                    value,
                };
                let _ = table.access(
                    "Engine::access: write of a register not listed here",
                    engine,
                    access,
                );
                // The write may have selected another queue.
                let _ = engine.store(0x30, 0);
            }
        }
        // The driver gives up.
        let _ = table.store(
            "Engine::access: write of a register not listed here",
            engine,
            0x70,
            0x8f,
        );
        again(engine);
        for at in 0..0x60 {
            for width in [1, 2, 4, 8] {
                let offset = 0x100 + at;
                let access = Access::Read { offset, width };
                let _ = table.access("Engine::access: read of configuration", engine, access);
                let access = Access::Write {
                    offset,
                    width,
                    value: 0,
                };
                let _ = table.access("Engine::access: write of configuration", engine, access);
            }
        }
    }
}

const IN_TABLE: &str = "Engine::poll(1): a chain of 16 in an indirect table";

/// Polls, with different contents of the queue.
fn polls(table: &mut Table, engine: &mut TheEngine<RecordingEntropy>, features: Features) {
    live(engine, features);
    table.poll("Engine::poll(1): no kick", engine, 1);
    SHARED.doorbell().ring(0);
    table.poll("Engine::poll(1): a kick, but an empty ring", engine, 1);
    for (call, shape) in [
        ("Engine::poll(1): a chain of 1", Shape::Single),
        ("Engine::poll(1): a chain of 16", Shape::Longest),
        (IN_TABLE, Shape::Indirect),
        (IN_TABLE, Shape::Mixed),
    ] {
        let mut driver = live(engine, features);
        send(&mut driver, shape, 1);
        assert_eq!(table.poll(call, engine, 1), Step::More);
        assert_eq!(driver.take_used(), Some((0, 1)));
    }
    for shape in [Shape::Loop, Shape::LoopInTable] {
        let mut driver = live(engine, features);
        send(&mut driver, shape, 1);
        table.poll("Engine::poll(1): a chain with no end", engine, 1);
        assert!(SHARED.needs_reset());
    }
    for shape in [Shape::Longest, Shape::Indirect, Shape::Mixed] {
        let mut driver = live(engine, features);
        send(&mut driver, shape, 4);
        let call = "Engine::poll(4): four of the largest chains";
        assert_eq!(table.poll(call, engine, 4), Step::More);
        assert_eq!(driver.used_idx(), 4);
    }
}

/// A chain that waits for its back end.
fn pending(table: &mut Table, engine: &mut TheEngine<RecordingEntropy>, features: Features) {
    let wait = |engine: &mut TheEngine<RecordingEntropy>| {
        engine.model_mut().ready(false);
        let mut driver = live(engine, features);
        send(&mut driver, Shape::Indirect, 1);
        assert_ne!(engine.poll(1), Step::Idle);
        engine.model_mut().ready(true);
        driver
    };
    let mut driver = wait(engine);
    let token = engine.model().token.expect("there was a request");
    let done = table.of("Engine::complete", || engine.complete(black_box(token)));
    assert_eq!((done, driver.take_used()), (Ok(()), Some((0, 1))));

    let _ = wait(engine);
    table.of("Engine::backend_ready", || {
        engine.backend_ready(black_box(0))
    });
    let _ = table.of("Engine::memory_changed", || engine.memory_changed());
    let _ = wait(engine);
    let _ = table.store("Engine::access: Status := 0", engine, 0x70, 0);
}

/// A queue that is taken and put back.
fn taken(table: &mut Table, engine: &mut TheEngine<RecordingEntropy>, features: Features) {
    let mut driver = live(engine, features);
    let queue = table.of("Engine::take_queue", || engine.take_queue(black_box(0)));
    let Ok(mut queue) = queue else {
        panic!("queue 0 is not live");
    };
    let mut chain = Chain::new();
    for shape in [Shape::Longest, Shape::Indirect, Shape::Mixed] {
        send(&mut driver, shape, 1);
        assert_eq!(pop(table, &mut queue, engine, &mut chain), Ok(true));
        let given = table.of("TakenQueue::complete", || queue.complete(&chain, 1));
        assert!(given.is_ok());
        driver.set_used_event(driver.used_idx().wrapping_sub(1));
        table.of("TakenQueue::flush", || queue.flush());
    }
    let _ = table.of("TakenQueue::enable_kicks", || queue.enable_kicks());
    let back = table.of("Engine::put_back", || engine.put_back(queue).is_ok());
    assert!(back);

    let Ok(mut queue) = engine.take_queue(0) else {
        panic!("queue 0 cannot be taken");
    };
    send(&mut driver, Shape::Indirect, 1);
    assert_eq!(pop(table, &mut queue, engine, &mut chain), Ok(true));
    let reset = table.store("Engine::access: Status := 0", engine, 0x70, 0);
    let Reply::Pending(ticket) = reset else {
        panic!("the reset did not wait for the queue");
    };
    // The queue's owner learns of the reset, gives back its chain, and stops.
    assert_eq!(pop(table, &mut queue, engine, &mut chain), Err(Stop::Asked));
    let given = table.of("TakenQueue::complete", || queue.complete(&chain, 1));
    assert!(given.is_ok());
    let done = table.of("Engine::finish", || engine.finish(black_box(ticket)));
    assert_eq!(done, Reply::Done(0));

    for shape in [Shape::Loop, Shape::LoopInTable] {
        let mut driver = live(engine, features);
        let Ok(mut queue) = engine.take_queue(0) else {
            panic!("queue 0 is not live");
        };
        send(&mut driver, shape, 1);
        assert!(pop(table, &mut queue, engine, &mut chain).is_err());
    }
}

/// A queue reset, a suspension, and saving and restoring a state, with a chain in flight where
/// possible.
fn suspension(table: &mut Table, engine: &mut TheEngine<RecordingEntropy>, features: Features) {
    let suspend = "Engine::access: Status := SUSPEND";
    for hold in [false, true] {
        let mut driver = live(engine, features);
        engine.model_mut().ready(!hold);
        send(&mut driver, Shape::Longest, 1);
        let _ = engine.poll(1);
        let _ = table.store(suspend, engine, 0x70, 0x1f);
        let _ = table.access(
            "Engine::access: read of any register",
            engine,
            Access::read(0x70),
        );
        engine.model_mut().ready(true);
        if hold {
            let token = engine.model().token.expect("there was a request");
            assert!(engine.complete(token).is_ok());
            assert_eq!(engine.load(0x70), 0x1b);
        }
        let _ = table.access(
            "Engine::access: read of any register",
            engine,
            Access::read(0x70),
        );
        engine.update_config(|_| ());
        let resume = "Engine::access: Status := DRIVER_OK, to resume";
        assert_eq!(table.store(resume, engine, 0x70, 0x1f), Reply::Done(0));
        assert_eq!(engine.load(0x70), 0xf);

        engine.model_mut().ready(!hold);
        driver = live(engine, features);
        send(&mut driver, Shape::Longest, 1);
        let _ = engine.poll(1);
        let _ = engine.store(0x30, 0);
        let reset = "Engine::access: QueueReset := 1";
        assert_eq!(table.store(reset, engine, 0xc0, 1), Reply::Done(0));
        assert_eq!(engine.load(0xc0), 0);
        engine.model_mut().ready(true);
    }
    engine.model_mut().ready(false);
    let mut driver = live(engine, features);
    send(&mut driver, Shape::Longest, 1);
    let _ = engine.poll(1);
    let state: Result<EngineSnapshot<(), 1, SIZE, 1>, _> =
        table.of("Engine::save", || engine.save());
    let Ok(state) = state else {
        panic!("a queue is taken");
    };
    assert_eq!(state.device.chains.len(), 1);
    let _ = engine.store(0x70, 0);
    let taken = table.of("Engine::restore", || engine.restore(&state));
    assert!(taken.is_ok());
    let _ = engine.store(0x70, 0);
    engine.model_mut().ready(true);
}

type TheQueue = TakenQueue<<FlatMem as DriverMem>::Window, (), 1, SIZE, &'static Shared<1>>;

fn pop(
    table: &mut Table,
    queue: &mut TheQueue,
    engine: &TheEngine<RecordingEntropy>,
    chain: &mut Chain<SIZE>,
) -> Result<bool, Stop> {
    let memory = engine.device().memory();
    table.of("TakenQueue::pop", || queue.pop(memory, chain))
}

/// Calls that need no engine, and calls around an engine.
fn around(table: &mut Table, engine: &mut TheEngine<RecordingEntropy>) {
    live(engine, WITH_EVENTS);
    table.of("Doorbell::ring", || SHARED.doorbell().ring(black_box(0)));
    let (mut live, mut needs_reset) = (false, true);
    table.of("Shared::is_live", || live = SHARED.is_live());
    table.of("Shared::needs_reset", || {
        needs_reset = SHARED.needs_reset();
    });
    assert!(live && !needs_reset);
    let done = table.of("Engine::notify_queue", || engine.notify_queue(black_box(0)));
    assert!(done.is_ok());
    table.of("Engine::update_config", || {
        engine.update_config(|model| model.token = None);
    });
    // If nobody else knew the cells, the compiler would assume that they are never borrowed.
    let (cell, line) = (black_box(&CELL), black_box(&LINE));
    table.of("EngineCell::with: an empty closure", || cell.with(|_| ()));
    table.of("IrqLine::assert: a pin of one store", || line.assert());
    assert_eq!(LEVEL.load(Ordering::Relaxed), 1);
    let mut server = MailboxServer::new(&MAILBOX);
    let request = MAILBOX.ask(Access::read(0));
    table.of("MailboxServer::step: a read", || server.step(engine));
    assert_eq!(MAILBOX.answer(request), Some(0x7472_6976));
}

#[entry]
fn main() -> ! {
    platform::init();
    let mut table = Table::new();
    let mut entropy = engine(RecordingEntropy {
        entropy: Entropy::new(Source { ready: true }).with_limit(1),
        token: None,
    });
    around(&mut table, &mut entropy);
    set_up(&mut table, &mut entropy, Features::RING);
    registers(&mut table, &mut entropy, Features::RING);
    for features in [WITH_EVENTS, WITHOUT_EVENTS] {
        polls(&mut table, &mut entropy, features);
        pending(&mut table, &mut entropy, features);
        taken(&mut table, &mut entropy, features);
        suspension(&mut table, &mut entropy, features);
    }
    let _ = entropy.store(0x70, 0);

    // The block device has the most features and configuration.
    let disk = RamDisk::new([0; 512]);
    let mut block = engine(Block::new(disk, BlockOptions::new(ELEMENTS)));
    let offered = block.offered().difference(Features::RING_PACKED);
    set_up(&mut table, &mut block, offered);
    registers(&mut table, &mut block, offered);

    for row in table.rows.iter().flatten() {
        defmt::info!(
            "measured: {=str}, instructions {=u32}, stack {=u32}",
            row.call,
            row.instructions,
            row.stack
        );
    }
    ending::exit(Ok(()))
}

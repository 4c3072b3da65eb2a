//! The events that a device writes to its trace sink.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use virtside::{
    ChainSlot, DeviceModel, DriverFault, Engine, EngineCell, Features, FlatMem, HostFault, Refusal,
    Shared,
    interrupt::CountingNotify,
    mmio::{Access, Phase, Reply},
    models::Entropy,
    shared::InterruptStatus,
    testing::{Buffer, FakeDriver, Registers},
    trace::{Event, Level, LogTrace, Trace},
};
use virtside_tests::{
    BASE, CountingSource, DATA, N, Q, TestRam, config, driver, reg,
    rings::{Plan, RecordingModel},
};

/// A trace sink that records events.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Trace for Recorder {
    fn event(&mut self, event: &Event) {
        self.0.lock().unwrap().push(*event);
    }
}

impl Recorder {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Takes all events except register accesses.
    fn take_rest(&self) -> Vec<Event> {
        let mut events = self.take();
        events.retain(|event| !matches!(event, Event::Access { .. }));
        events
    }

    fn lines(&self) -> Vec<String> {
        self.take().iter().map(Event::to_string).collect()
    }
}

type Traced<D, T> =
    Engine<D, FlatMem, &'static CountingNotify, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>, T>;

fn traced<D: DeviceModel, T: Trace>(model: D, trace: T) -> (Traced<D, T>, TestRam) {
    let ram = virtside_tests::ram();
    let line: &'static CountingNotify = Box::leak(Box::default());
    let slots = vec![const { ChainSlot::new() }; 2];
    let shared = Arc::new(Shared::new());
    let engine = Engine::traced(model, ram.flat(BASE), line, slots, shared, trace);
    (engine, ram)
}

/// A live recording model with an empty record.
fn live(
    plan: Plan,
) -> (
    Traced<RecordingModel, Recorder>,
    FakeDriver<FlatMem>,
    Recorder,
) {
    let record = Recorder::default();
    let (mut engine, ram) = traced(RecordingModel::new(plan), record.clone());
    let driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    engine.poll(8);
    record.take();
    (engine, driver, record)
}

#[test]
fn a_set_up_conversation_can_be_read() {
    let record = Recorder::default();
    let entropy = Entropy::new(CountingSource::default());
    let (mut engine, _) = traced(entropy, record.clone());
    let _ = engine.load(reg::MAGIC_VALUE);
    let _ = engine.negotiate(Features::VERSION_1);
    let _ = engine.configure(&config(0));
    let _ = engine.go_live();
    let lines = record.lines();
    let expected = [
        "MagicValue = 0x74726976",
        "Status := 0x0",
        "Status := 0x3",
        "phase: Reset -> Negotiating",
        "DriverFeaturesSel := 0x0",
        "DriverFeatures := 0x0",
        "DriverFeaturesSel := 0x1",
        "DriverFeatures := 0x1",
        "DriverFeaturesSel := 0x2",
        "DriverFeatures := 0x0",
        "DriverFeaturesSel := 0x3",
        "DriverFeatures := 0x0",
        "Status := 0xb",
        "phase: Negotiating -> SettingUp",
        "Status = 0xb",
        "QueueSel := 0x0",
        "QueueSize := 0x10",
        "QueueDescLow := 0x80000000",
        "QueueDescHigh := 0x0",
        "QueueDriverLow := 0x80000100",
        "QueueDriverHigh := 0x0",
        "QueueDeviceLow := 0x80000128",
        "QueueDeviceHigh := 0x0",
        "queue 0 is ready: 16 elements, descriptors at 0x80000000, driver area at 0x80000100, \
         device area at 0x80000128",
        "QueueReady := 0x1",
        "Status := 0xf",
        "phase: SettingUp -> Live",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn refused_accesses_say_why() {
    let record = Recorder::default();
    let (mut engine, _) = traced(RecordingModel::new(Plan::Wait), record.clone());
    let mut odd = config(0);
    odd.size = 3;
    assert!(engine.negotiate(Features::VERSION_1));
    record.take();
    let _ = engine.configure(&odd);
    let refused = record.take().pop().expect("the last access");
    let (queue, size, max) = (0, 3, 16);
    let why = Refusal::QueueSize { queue, size, max };
    let (access, reply) = (Access::write(reg::QUEUE_READY, 1), Reply::Refused(why));
    assert_eq!(refused, Event::Access { access, reply });
    assert_eq!(refused.level(), Level::Fault);
    let _ = engine.load(0x1000);
    let _ = engine.load(0x0f4);
    let nowhere = "0x0f4: refused, there is no register at offset 0xf4";
    let outside = "Config+3840: refused, the configuration space ends before an access of 4 bytes at offset 0x1000";
    assert_eq!(record.lines(), [outside, nowhere]);
}

#[test]
fn a_chain_is_traced_from_pop_to_interrupt() {
    let (mut engine, mut driver, record) = live(Plan::Fill(7));
    driver.send(5, &[Buffer::readable(DATA, 3), Buffer::writable(DATA, 9)]);
    let _ = engine.kick(0);
    engine.poll(8);
    let expected = [
        Event::Popped {
            queue: 0,
            head: 5,
            readable: 3,
            writable: 9,
            next_avail: 1,
        },
        Event::Used {
            queue: 0,
            head: 5,
            written: 9,
        },
        Event::Interrupt {
            status: InterruptStatus::USED_BUFFER,
        },
    ];
    assert_eq!(record.take_rest(), expected);
    // A chain that waits has an event.
    engine.model_mut().plan = Plan::Wait;
    driver.send(1, &[Buffer::writable(DATA, 1)]);
    let _ = engine.kick(0);
    engine.poll(8);
    let token = engine.model().seen[1].token;
    let waits = Event::Pending { queue: 0, token };
    assert_eq!(record.take_rest()[1..], [waits]);
}

#[test]
fn faults_are_traced_with_the_interrupt_that_follows() {
    let (mut engine, driver, record) = live(Plan::Fill(7));
    driver.set_avail_idx(100);
    let _ = engine.kick(0);
    engine.poll(8);
    let (idx, next) = (100, 0);
    let fault = DriverFault::AvailIndexJump { idx, next };
    let status = InterruptStatus::CONFIG_CHANGE;
    let expected = [
        Event::DriverFault { queue: 0, fault },
        Event::Interrupt { status },
    ];
    assert_eq!(record.take_rest(), expected);

    let fault = HostFault::Backend;
    let (mut engine, mut driver, record) = live(Plan::Fail(fault));
    driver.send(0, &[Buffer::writable(DATA, 1)]);
    let _ = engine.kick(0);
    engine.poll(8);
    assert!(record.take_rest().contains(&Event::HostFault { fault }));
}

#[test]
fn a_stop_and_a_reset_are_traced() {
    let (mut engine, _, record) = live(Plan::Fill(7));
    let _ = engine.store(reg::QUEUE_SEL, 0);
    let _ = engine.store(reg::QUEUE_READY, 0);
    let _ = engine.store(reg::STATUS, 0);
    let (from, to) = (Phase::Live, Phase::Reset);
    let expected = [Event::QueueStopped { queue: 0 }, Event::Phase { from, to }];
    assert_eq!(record.take_rest(), expected);
}

/// A live device that holds no chain, for a driver with these features.
fn idle() -> (Traced<RecordingModel, Recorder>, Recorder) {
    let record = Recorder::default();
    let (mut engine, _) = traced(RecordingModel::new(Plan::Fill(7)), record.clone());
    let features = Features::VERSION_1 | Features::RING_RESET | Features::SUSPEND;
    assert!(engine.bring_up(features, &[config(0)]));
    engine.poll(8);
    record.take();
    (engine, record)
}

#[test]
fn suspension_and_resume_are_traced_with_a_held_back_change() {
    let (mut engine, record) = idle();
    let _ = engine.store(reg::STATUS, 0x1f);
    let phase = |from, to| Event::Phase { from, to };
    let suspended = [phase(Phase::Live, Phase::Suspended)];
    assert_eq!(record.take_rest(), suspended);
    engine.update_config(|_| ());
    assert_eq!(record.take_rest(), []);
    let _ = engine.store(reg::STATUS, 0x1f);
    let status = InterruptStatus::CONFIG_CHANGE;
    let resumed = [
        Event::Interrupt { status },
        phase(Phase::Suspended, Phase::Live),
    ];
    assert_eq!(record.take_rest(), resumed);
}

#[test]
fn a_slow_suspension_is_traced_step_by_step() {
    let (mut engine, record) = idle();
    let queue = engine.take_queue(0).expect("the queue is there");
    let _ = engine.store(reg::STATUS, 0x1f);
    let _ = engine.load(reg::STATUS);
    drop(queue);
    let _ = engine.load(reg::STATUS);
    let expected = [
        "Status := 0x1f",
        "phase: Live -> Suspending",
        "Status = 0xf",
        "Status = 0x1b",
        "phase: Suspending -> Suspended",
    ];
    assert_eq!(record.lines(), expected);
}

#[test]
fn a_queue_reset_and_its_effects_are_traced() {
    let (mut engine, record) = idle();
    let queue = engine.take_queue(0).expect("the queue is there");
    let _ = engine.store(reg::QUEUE_SEL, 0);
    let _ = engine.store(reg::QUEUE_RESET, 1);
    let _ = engine.load(reg::QUEUE_RESET);
    drop(queue);
    let _ = engine.load(reg::QUEUE_RESET);
    let expected = [
        "QueueSel := 0x0",
        "QueueReset := 0x1",
        "QueueReset = 0x1",
        "queue 0 is stopped",
        "QueueReset = 0x0",
    ];
    assert_eq!(record.lines(), expected);
    let _ = engine.configure(&config(0));
    let ready = Event::QueueReady { config: config(0) };
    assert_eq!(record.take_rest(), [ready]);
    // A refused queue reset has an event, together with the interrupt that follows.
    let _ = engine.store(reg::QUEUE_RESET, 1);
    record.take();
    let mut odd = config(0);
    odd.size = 3;
    let _ = engine.configure(&odd);
    let status = InterruptStatus::CONFIG_CHANGE;
    assert_eq!(record.take_rest(), [Event::Interrupt { status }]);
}

#[test]
fn an_access_that_waits_is_traced_when_it_is_complete() {
    let (mut engine, _, record) = live(Plan::Fill(7));
    let queue = engine.take_queue(0).expect("the queue is there");
    let reply = engine.store(reg::STATUS, 0);
    let Reply::Pending(ticket) = reply else {
        panic!("the queue is taken");
    };
    drop(queue);
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    let access = Access::write(reg::STATUS, 0);
    let (from, to) = (Phase::Live, Phase::Reset);
    let expected = [
        Event::Access { access, reply },
        Event::Completed {
            reply: Reply::Done(0),
        },
        Event::Phase { from, to },
    ];
    assert_eq!(record.take(), expected);
}

/// Counts the log records of each level.
struct Levels([AtomicU32; 5]);

impl log::Log for Levels {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        assert_eq!(record.target(), "virtside");
        assert!(record.args().to_string().starts_with("disk0: "));
        self.0[record.level() as usize - 1].fetch_add(1, Ordering::Relaxed);
    }
    fn flush(&self) {}
}

static LEVELS: Levels = Levels([const { AtomicU32::new(0) }; 5]);

#[test]
fn each_event_is_logged_at_its_level() {
    log::set_logger(&LEVELS).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let (mut engine, ram) = traced(RecordingModel::new(Plan::Fill(1)), LogTrace("disk0"));
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    driver.send(0, &[Buffer::writable(DATA, 1)]);
    engine.poll(8);
    driver.set_avail_idx(100);
    let _ = engine.kick(0);
    engine.poll(8);
    let count = |level: log::Level| LEVELS.0[level as usize - 1].load(Ordering::Relaxed);
    assert_eq!(count(log::Level::Error), 0);
    assert_eq!(count(log::Level::Warn), 1, "the fault");
    assert_eq!(count(log::Level::Info), 4, "three phases and a queue");
    assert!(count(log::Level::Debug) > 20, "the accesses");
    assert_eq!(count(log::Level::Trace), 4, "a chain and two interrupts");
}

#[test]
fn a_cell_lets_one_thread_in_at_a_time() {
    type Device = Traced<Entropy<CountingSource>, virtside::trace::NoTrace>;
    let (engine, _) = traced(
        Entropy::new(CountingSource::default()),
        virtside::trace::NoTrace,
    );
    let cell: EngineCell<Device> = EngineCell::new(engine);
    let seen = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let version = cell.with(|engine| engine.load(reg::VERSION));
                    seen.fetch_add(
                        version.expect("no other thread is inside"),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    assert_eq!(seen.into_inner(), 2 * 4 * 1000);
    assert_eq!(cell.with(|_| cell.with(|_| ())), Some(None));
    assert_eq!(cell.into_inner().phase(), Phase::Reset);
}

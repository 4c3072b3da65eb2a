//! `ReadyResponder`: nothing happens before its answer; each answer has its own effect.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use virtside::{
    Answer, ChainSlot, Configuring, Device, DeviceBuilder, DeviceConfig, DeviceModel, DriverFault,
    DriverMem, DriverNotify, Features, FlatMem, Message, ReadyResponder, Refusal, Request, Shared,
    Step,
    device::QueueState,
    error::DeviceError,
    mmio::{Access, Reply},
    model::Start,
    setup::Progress,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, DATA, Line, N, Q, SIZE, TestRam, config, driver, ram, reg,
    rings::{Plan, RecordingModel, shot},
    test_engine,
};

type Handle = Arc<Shared<Q>>;

/// A ready device without an answer, its responder, and a driver that has sent a chain.
struct Waiting {
    device: Device<FlatMem, Line, Q, N, Handle>,
    responder: Option<ReadyResponder<Line, Q, Handle>>,
    shared: Handle,
    line: Line,
    ram: TestRam,
    driver: FakeDriver<FlatMem>,
    model: RecordingModel,
    slots: [ChainSlot<N>; 2],
}

impl Waiting {
    fn new() -> Self {
        let (line, ram): (Line, _) = (Box::leak(Box::default()), ram());
        let shared = Arc::new(Shared::new());
        let builder = DeviceBuilder::new(shared.clone())
            .map_notify(|()| Ok(line))
            .expect("the interrupt is mapped");
        let mem = ram.flat(BASE);
        let mut conversation = virtside::Configuring::<_, _, _, Q, N, _>::new(builder, &.., mem);
        let mut driver = driver(ram, 1);
        driver.send(0, &[Buffer::writable(DATA, 3)]);
        let configure = Message::ConfigureQueue(config(1));
        assert!(matches!(
            conversation.step(configure),
            Ok(Progress::Configured(1))
        ));
        let ready = conversation.step(Message::Ready {
            features: Features::VERSION_1,
        });
        let Ok(Progress::Ready(device, responder)) = ready else {
            panic!("the device is not ready");
        };
        Self {
            device,
            responder: Some(responder),
            shared,
            line,
            ram,
            driver,
            model: RecordingModel::new(Plan::Fill(7)),
            slots: [ChainSlot::new(), ChainSlot::new()],
        }
    }

    fn poll(&mut self) -> Step {
        self.device.poll(&mut self.model, &mut self.slots, 9)
    }

    fn answer(&mut self) -> ReadyResponder<Line, Q, Handle> {
        self.responder.take().expect("the responder is used once")
    }
}

#[test]
fn the_device_is_silent_until_it_is_accepted() {
    let mut waiting = Waiting::new();
    let before = shot(waiting.ram);
    waiting.shared.doorbell().ring(1);
    assert_eq!(waiting.device.notify_queue(1), Ok(()));
    assert_eq!(waiting.poll(), Step::Idle);
    assert!(waiting.device.take_queue(1).is_err());
    assert!(waiting.model.seen.is_empty());
    assert_eq!(shot(waiting.ram), before);
    assert_eq!(
        (waiting.line.asserted(), waiting.shared.is_live()),
        (0, false)
    );
    assert_eq!(waiting.device.queue_state(1), QueueState::Ready);
}

#[test]
fn acceptance_counts_as_a_kick_of_every_queue() {
    let mut waiting = Waiting::new();
    assert!(waiting.answer().accept());
    assert!(waiting.shared.is_live() && !waiting.shared.needs_reset());
    // No driver kicked.
    assert_eq!(waiting.poll(), Step::Idle);
    assert_eq!(waiting.driver.take_used(), Some((0, 3)));
    assert_eq!(waiting.line.asserted(), 1);
    assert_eq!(waiting.device.queue_state(1), QueueState::Live);
}

#[test]
fn refusal_tells_the_driver_to_reset() {
    let mut waiting = Waiting::new();
    waiting.answer().refuse();
    assert!(waiting.shared.needs_reset() && !waiting.shared.is_live());
    assert_eq!(waiting.line.asserted(), 1);
    assert_eq!(waiting.shared.interrupt_status().bits(), 2);
    assert_eq!(waiting.poll(), Step::Idle);
    assert!(waiting.model.seen.is_empty());
}

#[test]
fn dropping_it_refuses() {
    let mut waiting = Waiting::new();
    drop(waiting.answer());
    assert!(waiting.shared.needs_reset() && !waiting.shared.is_live());
    assert_eq!(
        (
            waiting.line.asserted(),
            waiting.shared.interrupt_status().bits()
        ),
        (1, 2)
    );
    assert_eq!(waiting.poll(), Step::Idle);
    assert!(waiting.model.seen.is_empty());
}

#[test]
fn an_answer_from_before_a_reset_is_void() {
    for accept in [true, false] {
        let mut waiting = Waiting::new();
        let responder = waiting.answer();
        assert!(
            waiting
                .device
                .reset_all(&mut waiting.model, &mut waiting.slots)
                .is_done()
        );
        assert_eq!(waiting.model.resets, 1);
        if accept {
            assert!(!responder.accept());
        } else {
            responder.refuse();
        }
        assert!(!waiting.shared.is_live() && !waiting.shared.needs_reset());
        assert_eq!((waiting.line.asserted(), waiting.poll()), (0, Step::Idle));
    }
}

/// A device that answers DRIVER_OK like this.
struct Starting(Start);

impl DeviceConfig for Starting {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl DeviceModel for Starting {
    fn ready(&mut self, features: Features, _: virtside::message::ReadyQueues<'_>) -> Start {
        assert_eq!(features, Features::VERSION_1);
        self.0
    }
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Done { written: 0 })
    }
}

/// A device that was asked to start, the reply, and a driver that has sent a chain.
fn started(
    start: Start,
) -> (
    virtside_tests::TestEngine<Starting>,
    Reply,
    FakeDriver<FlatMem>,
) {
    let (mut engine, ram) = test_engine(Starting(start), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    let mut driver = driver(ram, 0);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    driver.send(0, &[Buffer::writable(DATA, 1)]);
    let reply = engine.go_live();
    (engine, reply, driver)
}

#[test]
fn a_model_that_accepts_is_live_at_once() {
    let (mut engine, reply, driver) = started(Start::Accept);
    assert_eq!((reply, engine.load(reg::STATUS)), (Reply::Done(0), 0xf));
    assert!(engine.responder().is_none());
    assert_eq!((engine.poll(9), driver.used_idx()), (Step::Idle, 1));
}

#[test]
fn a_model_that_refuses_needs_a_reset() {
    let (mut engine, reply, driver) = started(Start::Refuse);
    assert_eq!(
        (reply, engine.load(reg::STATUS)),
        (Reply::Refused(Refusal::NotReady), 0x4f)
    );
    assert_eq!(
        (
            engine.load(reg::INTERRUPT_STATUS),
            engine.device().notify().asserted()
        ),
        (2, 1)
    );
    assert_eq!((engine.poll(9), driver.used_idx()), (Step::Idle, 0));
}

#[test]
fn a_model_that_answers_later_holds_the_driver_s_write_back() {
    for accept in [true, false] {
        let (mut engine, reply, driver) = started(Start::Later);
        let Reply::Pending(ticket) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(engine.access(Access::read(reg::STATUS)), Reply::Busy);
        assert_eq!(engine.finish(ticket), Reply::Pending(ticket));
        assert_eq!((engine.poll(9), driver.used_idx()), (Step::Idle, 0));
        let responder = engine.responder().expect("the driver waits");
        let (done, status) = if accept {
            assert!(responder.accept());
            (Reply::Done(0), 0xf)
        } else {
            responder.refuse();
            (Reply::Refused(Refusal::NotReady), 0x4f)
        };
        assert!(engine.responder().is_none());
        assert_eq!(engine.finish(ticket), done);
        assert_eq!(engine.finish(ticket), Reply::Refused(Refusal::StaleTicket));
        assert_eq!(engine.load(reg::STATUS), status);
        assert_eq!(engine.poll(9), Step::Idle);
        assert_eq!(driver.used_idx(), u16::from(accept));
    }
}

#[test]
fn a_device_of_messages_knows_which_queues_can_be_kicked() {
    let mut waiting = Waiting::new();
    for queue in [0, 2, 3, 4, u16::MAX] {
        let error = Err(DeviceError::InvalidQueue(queue));
        assert_eq!(waiting.device.notify_queue(queue), error);
    }
    assert!(waiting.answer().accept());
    waiting.poll();
    waiting.driver.send(1, &[Buffer::writable(DATA, 4)]);
    assert_eq!(waiting.poll(), Step::Idle, "no driver kicked");
    assert_eq!(waiting.device.notify_queue(1), Ok(()));
    assert_eq!(waiting.poll(), Step::Idle);
    assert_eq!(waiting.model.heads(), [0, 1]);
}

/// An interrupt line whose `assert` waits for the test at its start and at its end.
#[derive(Clone)]
struct Slow(Arc<[Barrier; 2]>);

impl DriverNotify for Slow {
    fn assert(&self) {
        self.0.iter().for_each(|barrier| _ = barrier.wait());
    }
}

#[test]
fn a_reset_waits_for_a_refusal_in_progress() {
    let (shared, ram) = (Arc::new(Shared::new()), ram());
    let line = Slow(Arc::new([Barrier::new(2), Barrier::new(2)]));
    let builder = DeviceBuilder::new(Arc::clone(&shared)).map_notify(|()| Ok(line.clone()));
    let mem = ram.flat(BASE);
    let mut conversation = Configuring::<_, _, _, Q, N, _>::new(builder.expect("a line"), &.., mem);
    let features = Features::VERSION_1;
    let Ok(Progress::Ready(mut device, responder)) = conversation.step(Message::Ready { features })
    else {
        panic!("the device is not ready");
    };
    let (mut model, mut slots) = (RecordingModel::new(Plan::Wait), [ChainSlot::new()]);
    let refusal = thread::spawn(|| responder.refuse());
    let [begun, ends] = &*line.0;
    begun.wait();
    // The interrupt would come after the reset.
    let early = device.reset_all(&mut model, &mut slots).is_done();
    ends.wait();
    refusal.join().expect("the thread does not panic");
    assert!(!early, "the reset is done before the interrupt");
    assert!(device.reset_all(&mut model, &mut slots).is_done());
    assert!(!shared.needs_reset() && shared.interrupt_status().is_empty());
}

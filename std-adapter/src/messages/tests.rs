use std::{sync::Arc, thread};

use virtside::{
    ChainSlot, DeviceBuilder, Engine, Features, FlatMem, Message, QueueConfig, Refusal, Shared,
    error::DeviceError,
    memory::Ram,
    mmio::{Access, Reply},
    models::Entropy,
    queue::QueueCheckFn,
    snapshot::{EngineSnapshot, SnapshotError},
};

use super::*;
use crate::{
    CondvarNotify, Ended,
    access::{AccessSource, Event},
    channel::{ChannelSource, DriverPort, channel},
    serve::Observer,
};

const QUEUE: QueueConfig = QueueConfig {
    queue: 0,
    size: 8,
    desc: 0,
    driver: 0x200,
    device: 0x300,
};

/// A source that takes messages from a list, and records the acknowledgements.
#[derive(Default)]
struct Script {
    messages: Vec<Message>,
    acknowledged: Vec<bool>,
}

impl MessageSource for Script {
    fn next_message(&mut self) -> Result<Option<Message>, DeviceError> {
        let some = !self.messages.is_empty();
        Ok(some.then(|| self.messages.remove(0)))
    }
    fn acknowledge(&mut self, verdict: Result<(), &DeviceError>) -> Result<(), DeviceError> {
        self.acknowledged.push(verdict.is_ok());
        Ok(())
    }
}

type Built = (
    Device<FlatMem, (), 2, 16, Arc<Shared<2>>>,
    ReadyResponder<(), 2, Arc<Shared<2>>>,
);

fn build(
    stream: &mut impl MessageSource,
    queues: &(impl QueueCheck + ?Sized),
) -> Result<Built, DeviceError> {
    static RAM: Ram<8192> = Ram::new();
    let builder = DeviceBuilder::new(Arc::new(Shared::new()));
    config_builder_from_stream(builder, stream, queues, RAM.flat(0))
}

#[test]
fn the_end_of_the_stream_before_ready_is_unexpected() {
    for messages in [vec![], vec![Message::ConfigureQueue(QUEUE)]] {
        let mut stream = Script {
            messages,
            ..Script::default()
        };
        let error = build(&mut stream, &..).unwrap_err();
        assert_eq!(error, DeviceError::UnexpectedEndOfStream);
    }
}

#[test]
fn a_queue_is_acknowledged_after_its_checks_and_ready_is_not() {
    let mut stream = Script {
        messages: vec![
            Message::ConfigureQueue(QUEUE),
            Message::Ready {
                features: Features::VERSION_1,
            },
        ],
        ..Script::default()
    };
    let (device, responder) = build(&mut stream, &[0][..]).unwrap();
    assert!(device.configured_queues().eq([0]));
    assert_eq!(stream.acknowledged, [true]);
    assert!(!device.shared().is_live());
    assert!(responder.accept());
    assert!(device.shared().is_live());
}

#[test]
fn a_refused_queue_ends_the_conversation_after_its_answer() {
    let bad_size = QueueConfig { size: 7, ..QUEUE };
    for (config, error) in [
        (
            bad_size,
            DeviceError::BadQueueConfig(
                0,
                Refusal::QueueSize {
                    queue: 0,
                    size: 7,
                    max: 16,
                },
            ),
        ),
        (
            QueueConfig { queue: 1, ..QUEUE },
            DeviceError::InvalidQueue(1),
        ),
    ] {
        let mut stream = Script {
            messages: vec![Message::ConfigureQueue(config), Message::Reset],
            ..Script::default()
        };
        assert_eq!(build(&mut stream, &[0][..]).unwrap_err(), error);
        assert_eq!(stream.acknowledged, [false]);
    }
}

/// Writes the registers that a driver writes before DRIVER_OK, for a queue of `size` elements.
fn set_up(port: &DriverPort, size: u64) {
    for (offset, value) in [
        (0x70, 0),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 0xb),
        (0x30, 0),
        (0x38, size),
        (0x80, 0),
        (0x90, 0x200),
        (0xa0, 0x300),
        (0x44, 1),
    ] {
        port.write(offset, 4, value).unwrap();
    }
}

type Fill = fn(&mut [u8]) -> Result<usize, virtside::models::EntropyError>;

type Messages = MmioMessages<ChannelSource, Entropy<Fill>, CondvarNotify, Arc<Shared<1>>, 1>;

type Served =
    Engine<Entropy<Fill>, FlatMem, CondvarNotify, 1, 16, [ChainSlot<16>; 1], Arc<Shared<1>>>;

fn fives(bytes: &mut [u8]) -> Result<usize, virtside::models::EntropyError> {
    bytes.fill(5);
    Ok(bytes.len())
}

fn entropy() -> (DriverPort, Messages, Arc<Shared<1>>, CondvarNotify) {
    let (port, source) = channel();
    let (messages, shared, line) = entropy_over(source);
    (port, messages, shared, line)
}

fn entropy_over(source: ChannelSource) -> (Messages, Arc<Shared<1>>, CondvarNotify) {
    let (shared, line) = (Arc::new(Shared::new()), CondvarNotify::new());
    let model = Entropy::new(fives as Fill);
    let messages = MmioMessages::new(source, model, line.clone(), Arc::clone(&shared), 16);
    (messages, shared, line)
}

type Conversed = (
    Device<FlatMem, CondvarNotify, 1, 16, Arc<Shared<1>>>,
    ReadyResponder<CondvarNotify, 1, Arc<Shared<1>>>,
);

fn converse(
    messages: &mut Messages,
    shared: &Arc<Shared<1>>,
    line: &CondvarNotify,
    ram: &'static Ram<8192>,
    queues: &(impl QueueCheck + ?Sized),
) -> Result<Conversed, DeviceError> {
    let line = line.clone();
    let builder = DeviceBuilder::new(Arc::clone(shared)).map_notify(|()| Ok(line))?;
    config_builder_from_stream(builder, messages, queues, ram.flat(0))
}

#[test]
fn a_driver_that_leaves_during_set_up_is_an_unexpected_end() {
    static RAM: Ram<8192> = Ram::new();
    let (port, mut messages, shared, line) = entropy();
    let driver = thread::spawn(move || set_up(&port, 8));
    let result = converse(&mut messages, &shared, &line, &RAM, &..);
    assert_eq!(result.unwrap_err(), DeviceError::UnexpectedEndOfStream);
    assert!(messages.take_error().is_none());
    driver.join().unwrap();
}

#[test]
fn a_device_set_up_over_registers_works_and_restarts() {
    static RAM: Ram<8192> = Ram::new();
    let (port, mut messages, shared, line) = entropy();
    let driver = thread::spawn(move || {
        for round in 0..2u8 {
            RAM.write(0, &[0; 8192]);
            set_up(&port, 8);
            assert_eq!(port.read(0x44, 4), Ok(1));
            port.write(0x70, 4, 0xf).unwrap();
            assert_eq!(port.read(0x70, 4), Ok(0xf));
            // A writable buffer of 6 bytes at 0x1000: descriptor, ring entry, index.
            RAM.write(0, &0x1000_u64.to_le_bytes());
            RAM.write(8, &[6, 0, 0, 0, 2, 0]);
            RAM.write(0x202, &[1, 0]);
            port.write(0x50, 4, 0).unwrap();
            while port.read(0x60, 4) == Ok(0) {}
            port.write(0x64, 4, 1).unwrap();
            let mut bytes = [round; 8];
            RAM.read(0x1000, &mut bytes);
            assert_eq!(bytes, [5, 5, 5, 5, 5, 5, 0, 0]);
            port.write(0x44, 4, 0).unwrap();
            assert_eq!(port.read(0x44, 4), Ok(0));
            if round == 0 {
                port.write(0x70, 4, 0).unwrap();
                assert_eq!(port.read(0x70, 4), Ok(0));
            }
        }
    });
    for ended in [Ended::Reset, Ended::Stream] {
        let built = converse(&mut messages, &shared, &line, &RAM, &..);
        let (device, responder) = built.unwrap();
        let late = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(2));
            responder.accept()
        });
        let mut device = messages.start(device, [ChainSlot::new()]);
        assert_eq!(device.run(&mut ()).unwrap(), ended);
        assert!(late.join().unwrap());
        assert_eq!(device.engine().counters().chains, 1);
        messages = device.into_messages();
    }
    driver.join().unwrap();
}

#[test]
fn a_refusal_over_registers_lasts_until_reset() {
    static RAM: Ram<8192> = Ram::new();
    let (port, mut messages, shared, line) = entropy();
    let driver = thread::spawn(move || {
        for size in [32, 8, 8] {
            set_up(&port, size);
            // Refused again, because the conversation has ended.
            port.write(0x38, 4, 8).unwrap();
            port.write(0x44, 4, 1).unwrap();
            if port.read(0x44, 4) == Ok(1) {
                port.write(0x70, 4, 0xf).unwrap();
                return port.read(0x70, 4);
            }
            // DRIVER_OK sets DEVICE_NEEDS_RESET and sends an interrupt; a reset clears both.
            port.write(0x70, 4, 0xf).unwrap();
            assert_eq!(port.read(0x70, 4), Ok(0x4f));
            assert_eq!(port.read(0x60, 4), Ok(2));
        }
        Ok(0)
    });
    let too_large = Refusal::QueueSize {
        queue: 0,
        size: 32,
        max: 16,
    };
    let error = converse(&mut messages, &shared, &line, &RAM, &..).unwrap_err();
    assert_eq!(error, DeviceError::BadQueueConfig(0, too_large));
    let nothing = QueueCheckFn(|queue, _: &mut dyn Iterator<Item = u16>| {
        Err::<(), _>(DeviceError::InvalidQueue(queue))
    });
    let error = converse(&mut messages, &shared, &line, &RAM, &nothing).unwrap_err();
    assert_eq!(error, DeviceError::InvalidQueue(0));
    let (device, responder) = converse(&mut messages, &shared, &line, &RAM, &..).unwrap();
    assert!(responder.accept());
    let ended = messages.start(device, [ChainSlot::new()]).run(&mut ());
    assert_eq!(ended.unwrap(), Ended::Stream);
    assert_eq!(driver.join().unwrap(), Ok(0xf));
}

#[test]
fn a_refused_start_shows_needs_reset() {
    static RAM: Ram<8192> = Ram::new();
    let (port, mut messages, shared, line) = entropy();
    let driver = thread::spawn(move || {
        set_up(&port, 8);
        port.write(0x70, 4, 0xf).unwrap();
        let status = port.read(0x70, 4);
        port.write(0x70, 4, 0).unwrap();
        (status, port.read(0x70, 4))
    });
    let (device, responder) = converse(&mut messages, &shared, &line, &RAM, &..).unwrap();
    responder.refuse();
    let mut device = messages.start(device, [ChainSlot::new()]);
    assert_eq!(device.run(&mut ()).unwrap(), Ended::Reset);
    let mut messages = device.into_messages();
    assert!(converse(&mut messages, &shared, &line, &RAM, &..).is_err());
    assert_eq!(driver.join().unwrap(), (Ok(0x4f), Ok(0)));
}

/// A source whose `wait` fails.
struct Broken;

impl AccessSource for Broken {
    fn wait(&mut self, _: Option<std::time::Duration>) -> std::io::Result<Event> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn complete(&mut self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_source_that_fails_ends_the_stream_and_keeps_the_reason() {
    let model = Entropy::new(|bytes: &mut [u8]| Ok(bytes.len()));
    let shared = Arc::new(Shared::<2>::new());
    let mut messages = MmioMessages::new(Broken, model, (), shared, 16);
    let error = build(&mut messages, &..).unwrap_err();
    assert_eq!(error, DeviceError::UnexpectedEndOfStream);
    let reason = messages.take_error().map(|error| error.kind());
    assert_eq!(reason, Some(std::io::ErrorKind::BrokenPipe));
}

#[test]
fn a_saved_device_continues_in_another_register_block() {
    static RAM: Ram<8192> = Ram::new();
    type State = EngineSnapshot<(), 1, 16, 2>;

    /// Leaves the loop after this many accesses.
    struct After(u32);
    impl<E: ?Sized> Observer<E> for After {
        fn accessed(&mut self, _: &E, _: Access, _: Reply) {
            self.0 -= 1;
        }
        fn stops(&mut self) -> bool {
            self.0 == 0
        }
    }

    let (port, mut there, shared, line) = entropy();
    let driver = thread::spawn(move || {
        set_up(&port, 8);
        port.write(0x70, 4, 0xf).unwrap();
        for round in 0..4u8 {
            RAM.write(0x1000, &[round; 8]);
            RAM.write(0, &0x1000_u64.to_le_bytes());
            RAM.write(8, &[6, 0, 0, 0, 2, 0]);
            RAM.write(0x202, &[round + 1, 0]);
            port.write(0x50, 4, 0).unwrap();
            while port.read(0x60, 4) == Ok(0) {}
            port.write(0x64, 4, 1).unwrap();
            let mut bytes = [0; 8];
            RAM.read(0x1000, &mut bytes);
            assert_eq!(bytes, [5, 5, 5, 5, 5, 5, round, round]);
        }
        assert_eq!(port.read(0x70, 4), Ok(0xf));
        port
    });
    let (device, responder) = converse(&mut there, &shared, &line, &RAM, &..).unwrap();
    let mut device = there.start(device, [ChainSlot::new()]);
    // The write of DRIVER_OK is not answered yet.
    let early: Result<State, _> = device.engine_mut().save();
    assert_eq!(early.unwrap_err(), Refusal::WrongPhase);
    responder.accept();
    assert_eq!(device.run(&mut After(3)).unwrap(), Ended::Left);
    let (source, mut before) = device.into_parts();
    let state: State = before.save().unwrap();

    // The driver keeps its channel, and does not notice the change.
    let fresh = || {
        let model = Entropy::new(fives as Fill);
        let slots = [ChainSlot::new()];
        Engine::new(
            model,
            RAM.flat(0),
            line.clone(),
            slots,
            Arc::new(Shared::new()),
        )
    };
    let mut other = state.clone();
    other.registers.queues[0].size = 4;
    let refused = fresh().restore(&other);
    assert_eq!(refused, Err(SnapshotError::Positions { queue: 0 }));
    let mut after = fresh();
    after.restore(&state).unwrap();
    let mut device: MmioDevice<_, Served> = MmioDevice::new(source, after);
    let stop = thread::spawn(move || drop(driver.join().unwrap()));
    assert_eq!(device.run(&mut ()).unwrap(), Ended::Stream);
    stop.join().unwrap();
    let after = device.engine();
    assert!(before.counters().chains + after.counters().chains == 4);
    assert!(after.counters().chains > 0);
}

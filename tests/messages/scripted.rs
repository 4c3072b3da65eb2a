//! A device that was set up by messages, behind registers that a test accesses one by one.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, sync::Arc, time::Duration};

use virtside::{
    ChainSlot, DeviceBuilder, DeviceModel, Engine, Features, FlatMem, QueueConfig, Shared,
    mmio::{Access, Phase, Reply},
    testing::Registers,
};
use virtside_std::{
    AccessSource, Ended, Event, MmioDevice, MmioMessages, Observer, config_builder_from_stream,
};

use virtside_tests::{BASE, Line, N, Q, TestRam};

/// The accesses that a driver will make, and their replies.
#[derive(Clone, Debug, Default)]
pub struct Script(Rc<RefCell<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    accesses: VecDeque<Access>,
    replies: Vec<u64>,
}

impl Script {
    /// Adds accesses.
    pub fn extend(&self, accesses: impl IntoIterator<Item = Access>) {
        self.0.borrow_mut().accesses.extend(accesses);
    }

    /// Takes the replies since the last call.
    pub fn replies(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.borrow_mut().replies)
    }
}

impl AccessSource for Script {
    fn wait(&mut self, _: Option<Duration>) -> io::Result<Event> {
        let next = self.0.borrow_mut().accesses.pop_front();
        Ok(next.map_or(Event::End, Event::Access))
    }
    fn complete(&mut self, value: u64) -> io::Result<()> {
        self.0.borrow_mut().replies.push(value);
        Ok(())
    }
}

/// Records accesses; every access counts as done.
pub struct Recorder(pub Vec<Access>);

impl Registers for Recorder {
    fn reach(&mut self, access: Access) -> Reply {
        self.0.push(access);
        Reply::Done(8)
    }
}

/// The engine that [`ScriptedDevice::run`] serves.
pub type Served<D> = Engine<D, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// Calls a function before each poll of the queues.
struct Act<F>(F);

impl<D, F> Observer<Served<D>> for Act<F>
where
    D: DeviceModel,
    F: FnMut(&mut Served<D>),
{
    fn before_poll(&mut self, served: &mut Served<D>) {
        (self.0)(served);
    }
}

/// A live device that is driven by a script of register accesses.
#[derive(Debug)]
pub struct ScriptedDevice<D> {
    script: Script,
    device: MmioDevice<Script, Served<D>>,
}

impl<D: DeviceModel> ScriptedDevice<D> {
    /// Brings a device up from reset to live.
    pub fn new(model: D, ram: TestRam, features: Features, queues: &[QueueConfig]) -> Self {
        let script = Script::default();
        let mut recorder = Recorder(Vec::new());
        let _ = recorder.bring_up(features, queues);
        script.extend(recorder.0);
        let line: Line = Box::leak(Box::default());
        let shared = Arc::new(Shared::new());
        let builder = DeviceBuilder::new(Arc::clone(&shared))
            .map_notify(|()| Ok(line))
            .expect("an interrupt");
        let mut messages = MmioMessages::new(script.clone(), model, line, shared, N as u16);
        let (device, responder) =
            config_builder_from_stream(builder, &mut messages, &.., ram.flat(BASE))
                .expect("a device");
        responder.accept();
        let mut device = Self {
            script,
            device: messages.start(device, vec![const { ChainSlot::new() }; 4]),
        };
        // DRIVER_OK completes during this call.
        let _ = device.run(&[], |_| {});
        device
    }

    /// Serves these accesses and returns their replies. `act` is called after each access was
    /// answered, and whenever an access has to wait.
    pub fn run(&mut self, accesses: &[Access], act: impl FnMut(&mut Served<D>)) -> Vec<u64> {
        let _ = self.script.replies();
        self.script.extend(accesses.iter().copied());
        let ended = self.device.run(&mut Act(act));
        assert!(matches!(ended, Ok(Ended::Stream | Ended::Reset)));
        self.script.replies()
    }

    /// A 32-bit load.
    pub fn load(&mut self, offset: u32) -> u64 {
        self.run(&[Access::read(offset)], |_| {})[0]
    }

    /// A 32-bit store.
    pub fn store(&mut self, offset: u32, value: u32) {
        let _ = self.run(&[Access::write(offset, value)], |_| {});
    }

    /// Lays a queue out and writes QueueReady = 1.
    pub fn configure(&mut self, config: &QueueConfig) {
        let mut recorder = Recorder(Vec::new());
        let _ = recorder.configure(config);
        let _ = self.run(&recorder.0, |_| {});
    }

    /// The device.
    pub const fn engine(&mut self) -> &mut Served<D> {
        self.device.engine_mut()
    }

    /// The device's phase.
    pub const fn phase(&self) -> Phase {
        self.device.engine().phase()
    }

    /// The model.
    pub const fn model(&self) -> &D {
        self.device.engine().model()
    }
}

//! A device that is set up by messages made from register accesses.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, sync::Arc, time::Duration};

use virtside::{
    ChainSlot, DeviceBuilder, DeviceModel, DriverFault, Engine, Features, FlatMem, HostFault,
    QueueConfig, Shared,
    mmio::{Access, Reply},
    testing::Registers,
};
use virtside_std::{
    AccessSource, Event, MmioDevice, MmioMessages, Observer, config_builder_from_stream,
};
use virtside_tests::{
    BASE, Line, N, TestRam,
    differential::{DifferentialRig, Machine, line, slots},
    in_order::Format,
    reg,
};

/// The accesses that the driver will make.
#[derive(Clone, Debug, Default)]
struct Script(Rc<RefCell<VecDeque<Access>>>);

impl AccessSource for Script {
    fn wait(&mut self, _: Option<Duration>) -> io::Result<Event> {
        let next = self.0.borrow_mut().pop_front();
        Ok(next.map_or(Event::End, Event::Access))
    }
    fn complete(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Records accesses; every access counts as done.
struct Recorder(Vec<Access>);

impl Registers for Recorder {
    fn reach(&mut self, access: Access) -> Reply {
        self.0.push(access);
        Reply::Done(8)
    }
}

/// Adds a device with packed rings, unless IN_ORDER is tested: a conversation cannot offer more
/// than the model does.
pub fn join_conversation<D, T, const Q: usize>(rig: &mut DifferentialRig<D, T>, model: D)
where
    D: DeviceModel + 'static,
    T: PartialEq + std::fmt::Debug,
{
    if rig.features().contains(Features::IN_ORDER) {
        return;
    }
    rig.join("packed, in a conversation", Format::Packed, |ram| {
        Box::new(Conversation::<D, Q>::new(model, ram))
    });
}

struct Once<'a, D> {
    act: &'a mut dyn FnMut(&mut D),
    ready: &'a [u16],
    done: bool,
}

type Served<D, const Q: usize> = Engine<D, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;
type Messages<D, const Q: usize> = MmioMessages<Script, D, Line, Arc<Shared<Q>>, Q>;

impl<D: DeviceModel, const Q: usize> Observer<Served<D, Q>> for Once<'_, D> {
    fn before_poll(&mut self, served: &mut Served<D, Q>) {
        if !std::mem::replace(&mut self.done, true) {
            served.update_config(|model| (self.act)(model));
            for queue in self.ready {
                served.backend_ready(*queue);
            }
        }
    }
}

/// A device of messages that were made of register accesses.
#[derive(Debug)]
pub struct Conversation<D, const Q: usize> {
    script: Script,
    /// The messages until the first conversation.
    messages: Option<Messages<D, Q>>,
    line: Line,
    shared: Arc<Shared<Q>>,
    /// The device from the first conversation on.
    device: Option<MmioDevice<Script, Served<D, Q>>>,
    ram: TestRam,
}

impl<D: DeviceModel, const Q: usize> Conversation<D, Q> {
    /// A device in reset.
    pub fn new(model: D, ram: TestRam) -> Self {
        let (script, line, shared) = (Script::default(), line(), Arc::new(Shared::new()));
        let capacity = N as u16;
        let messages =
            MmioMessages::new(script.clone(), model, line, Arc::clone(&shared), capacity);
        Self {
            script,
            messages: Some(messages),
            line,
            shared,
            device: None,
            ram,
        }
    }

    /// Makes these accesses. `act` is called after the first one. A few more loads follow, so that
    /// the queues get as many polls as they need.
    fn run(&mut self, accesses: &[Access], act: &mut dyn FnMut(&mut D), ready: &[u16]) {
        let Some(device) = &mut self.device else {
            return;
        };
        let mut script = self.script.0.borrow_mut();
        script.extend(accesses);
        script.extend([Access::read(reg::STATUS); 4]);
        drop(script);
        let done = false;
        let ended = device.run(&mut Once { act, ready, done });
        assert!(ended.is_ok());
    }
}

impl<D: DeviceModel, const Q: usize> Machine<D> for Conversation<D, Q> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        if self.device.is_some() {
            self.run(&[Access::write(reg::STATUS, 0)], &mut |_| {}, &[]);
            self.script.0.borrow_mut().clear();
        }
        let mut recorder = Recorder(Vec::new());
        let _ = recorder.bring_up(features, queues);
        self.script.0.borrow_mut().extend(recorder.0);
        let line = self.line;
        let builder = DeviceBuilder::new(Arc::clone(&self.shared))
            .map_notify(|()| Ok(line))
            .expect("an interrupt");
        let mem = self.ram.flat(BASE);
        let again = self.device.take().map(MmioDevice::into_messages);
        let mut messages = again
            .or_else(|| self.messages.take())
            .expect("the messages");
        let (device, responder) =
            config_builder_from_stream(builder, &mut messages, &.., mem).expect("a device");
        assert!(responder.accept());
        self.device = Some(messages.start(device, slots()));
        self.run(&[], &mut |_| {}, &[]);
    }
    fn kick(&mut self, queues: &[u16]) {
        let kick = |queue: &u16| Access::write(reg::QUEUE_NOTIFY, (*queue).into());
        let kicks: Vec<_> = queues.iter().map(kick).collect();
        self.run(&kicks, &mut |_| {}, &[]);
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut D), ready: &[u16]) {
        self.run(&[], act, ready);
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        self.device.as_ref()?.engine().driver_fault(queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        self.device.as_mut()?.engine_mut().take_host_fault()
    }
}

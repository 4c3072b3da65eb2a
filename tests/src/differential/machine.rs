//! Three transports to one model: an engine, an engine behind a mailbox, and messages.

use std::sync::Arc;

use crate::{BASE, BUDGET, Line, N, TestRam};
use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, DeviceModel, DriverFault, Engine, Features,
    FlatMem, HostFault, Message, QueueConfig, Shared, Step,
    error::FaultPolicy,
    features::Offer,
    mmio::{
        Access, Reply,
        mailbox::{Mailbox, MailboxServer},
    },
    setup::Progress,
    testing::Registers,
};

/// Chains that a machine can hold at once.
const SLOTS: usize = 8;

/// A device behind any transport, which a differential test drives.
pub trait Machine<D> {
    /// Goes from reset to live.
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]);
    /// Kicks these queues, and serves all chains.
    fn kick(&mut self, queues: &[u16]);
    /// Changes the model, reports these queues ready, and serves all chains.
    fn act(&mut self, act: &mut dyn FnMut(&mut D), ready: &[u16]);
    /// Returns the fault that stopped a queue.
    fn fault(&self, queue: u16) -> Option<DriverFault>;
    /// Takes the most recent host fault.
    fn host_fault(&mut self) -> Option<HostFault>;
}

type Direct<D, const Q: usize> = Engine<D, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// Allocates the chain slots of one machine.
pub fn slots() -> Vec<ChainSlot<N>> {
    (0..SLOTS).map(|_| ChainSlot::new()).collect()
}

/// Allocates an interrupt line.
pub fn line() -> Line {
    Box::leak(Box::default())
}

/// The features that the machines offer in addition to the model's.
pub fn offer() -> Offer {
    Offer::AS_IS.with(Features::RING_PACKED | Features::IN_ORDER)
}

/// Makes an engine that is accessed directly through its registers.
pub fn direct<D: DeviceModel, const Q: usize>(
    model: D,
    ram: TestRam,
    policy: FaultPolicy,
) -> Direct<D, Q> {
    Engine::new(
        model,
        ram.flat(BASE),
        line(),
        slots(),
        Arc::new(Shared::new()),
    )
    .with_offer(offer())
    .with_policy(policy)
}

/// Polls until no queue makes progress. A chain of one queue may unblock a queue that was polled
/// earlier.
fn settle<T>(this: &mut T, mut poll: impl FnMut(&mut T) -> (Step, u32)) {
    let mut before = None;
    for _ in 0..10_000 {
        let (step, chains) = poll(this);
        if step != Step::More && before == Some(chains) {
            return;
        }
        before = Some(chains);
    }
    panic!("the device always finds more to do");
}

impl<D: DeviceModel, const Q: usize> Machine<D> for Direct<D, Q> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        assert!(Registers::bring_up(self, features, queues));
    }
    fn kick(&mut self, queues: &[u16]) {
        for queue in queues {
            assert_eq!(Registers::kick(self, *queue), Reply::Done(0));
        }
        settle(self, |this| (this.poll(BUDGET), this.counters().chains));
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut D), ready: &[u16]) {
        act(self.model_mut());
        for queue in ready {
            self.backend_ready(*queue);
        }
        settle(self, |this| (this.poll(BUDGET), this.counters().chains));
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        self.driver_fault(queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        self.take_host_fault()
    }
}

/// An engine behind a mailbox.
#[derive(Debug)]
pub struct MailboxMachine<D, const Q: usize> {
    engine: Direct<D, Q>,
    mailbox: &'static Mailbox,
    server: MailboxServer<'static>,
}

impl<D: DeviceModel, const Q: usize> MailboxMachine<D, Q> {
    /// Makes the machine in reset.
    pub fn new(model: D, ram: TestRam) -> Self {
        let mailbox: &Mailbox = Box::leak(Box::default());
        Self {
            engine: direct(model, ram, FaultPolicy::default()),
            mailbox,
            server: MailboxServer::new(mailbox),
        }
    }
}

impl<D: DeviceModel, const Q: usize> Registers for MailboxMachine<D, Q> {
    fn reach(&mut self, access: Access) -> Reply {
        let request = self.mailbox.ask(access);
        assert!(self.server.step(&mut self.engine));
        let value = self.mailbox.answer(request);
        Reply::Done(value.expect("an answer"))
    }
}

impl<D: DeviceModel, const Q: usize> Machine<D> for MailboxMachine<D, Q> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        assert!(Registers::bring_up(self, features, queues));
    }
    fn kick(&mut self, queues: &[u16]) {
        for queue in queues {
            let _ = Registers::kick(self, *queue);
        }
        Machine::kick(&mut self.engine, &[]);
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut D), ready: &[u16]) {
        self.engine.act(act, ready);
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        self.engine.driver_fault(queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        self.engine.take_host_fault()
    }
}

/// The device of [`MessageMachine`], which does not own its model.
pub type MessageDevice<const Q: usize> = Device<FlatMem, Line, Q, N, Arc<Shared<Q>>>;

/// A device that is set up by messages.
#[derive(Debug)]
pub struct MessageMachine<D, const Q: usize> {
    model: D,
    device: Option<MessageDevice<Q>>,
    slots: Vec<ChainSlot<N>>,
    ram: TestRam,
}

impl<D: DeviceModel, const Q: usize> MessageMachine<D, Q> {
    /// Makes the machine before its first message.
    pub fn new(model: D, ram: TestRam) -> Self {
        Self {
            model,
            device: None,
            slots: slots(),
            ram,
        }
    }

    fn settle(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        settle(device, |device| {
            let step = device.poll(&mut self.model, &mut self.slots, BUDGET);
            (step, device.counters().chains)
        });
    }
}

impl<D: DeviceModel, const Q: usize> Machine<D> for MessageMachine<D, Q> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        if let Some(mut old) = self.device.take() {
            assert!(old.reset_all(&mut self.model, &mut self.slots).is_done());
        }
        assert!(self.model.negotiate(features));
        let builder = DeviceBuilder::new(Arc::new(Shared::new()))
            .map_notify(|()| Ok(line()))
            .expect("an interrupt");
        let mem = self.ram.flat(BASE);
        let mut conversation =
            Configuring::<_, _, _, Q, N, _>::new(builder, &.., mem).with_features(features);
        for config in queues {
            let progress = conversation.step(Message::ConfigureQueue(*config));
            assert!(matches!(progress, Ok(Progress::Configured(_))));
        }
        let Ok(Progress::Ready(device, responder)) = conversation.step(Message::Ready { features })
        else {
            panic!("the device is not ready");
        };
        assert!(responder.accept());
        self.device = Some(device);
    }
    fn kick(&mut self, queues: &[u16]) {
        if let Some(device) = &self.device {
            for queue in queues {
                assert_eq!(device.notify_queue(*queue), Ok(()));
            }
        }
        self.settle();
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut D), ready: &[u16]) {
        act(&mut self.model);
        if let Some(device) = &mut self.device {
            for queue in ready {
                device.backend_ready(*queue, &mut self.slots);
            }
        }
        self.settle();
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        self.device.as_ref()?.driver_fault(queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        self.device.as_mut()?.take_host_fault()
    }
}

//! Random sequences of actions by driver, back end and host, with a save and a restore at any
//! moment: each request is answered once, and a restored device has the state that was saved.

use proptest::{collection::vec, prelude::*};
use virtside::{
    Features, Step,
    error::FaultPolicy,
    mmio::{Phase, Reply},
    queue::Chain,
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, N, TestEngine, TestRam,
    probe::{Check, Probe},
    reg,
};

use crate::support::{Client, fresh, model, move_device, rings};

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(bool, bool),
    Poll(u16),
    Hold(bool),
    /// Completes a chain that the model holds.
    Complete(usize),
    Reap,
    Change,
    Suspend,
    Resume,
    /// Resets the queue, if nothing is in flight, and sets it up again.
    ResetQueue,
    /// Takes the queue, serves it and puts it back.
    Take,
    Carry,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>()).prop_map(|(indirect, kick)| Act::Send(indirect, kick)),
        4 => (1u16..5).prop_map(Act::Poll),
        2 => any::<bool>().prop_map(Act::Hold),
        4 => (0usize..8).prop_map(Act::Complete),
        3 => Just(Act::Reap),
        1 => Just(Act::Change),
        1 => Just(Act::Suspend),
        2 => Just(Act::Resume),
        1 => Just(Act::ResetQueue),
        1 => Just(Act::Take),
        4 => Just(Act::Carry),
    ]
}

struct World {
    engine: Option<TestEngine<Probe>>,
    client: Client,
    features: Features,
    ram: TestRam,
    /// Requests that earlier clients got answers to.
    answered: u32,
}

impl World {
    fn new(features: Features) -> Self {
        let ram = virtside_tests::ram();
        let mut engine = fresh(ram, model(features));
        let client = Client::new(ram, 0, features);
        assert!(engine.bring_up(features, &[client.config()]));
        Self {
            engine: Some(engine),
            client,
            features,
            ram,
            answered: 0,
        }
    }

    fn engine(&mut self) -> &mut TestEngine<Probe> {
        self.engine.as_mut().expect("an engine")
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send(indirect, kick) => {
                if self.client.send(indirect) && kick {
                    let _ = self.engine().kick(0);
                }
            }
            Act::Poll(budget) => {
                let _ = self.engine().poll(budget);
            }
            Act::Hold(holds) => self.engine().model_mut().holds = holds,
            Act::Complete(at) => {
                let held = self.engine().model().held.clone();
                if !held.is_empty() {
                    self.engine()
                        .complete(held[at % held.len()])
                        .expect("the chain is pending");
                }
            }
            Act::Reap => {
                let pending = self.engine().load(reg::INTERRUPT_STATUS);
                let _ = self.engine().store(reg::INTERRUPT_ACK, pending);
                self.client.reap();
            }
            Act::Change => self.engine().update_config(|model| model.space[0] ^= 1),
            Act::Suspend => {
                let _ = self.engine().store(reg::STATUS, 15 | 16);
            }
            Act::Resume => self.resume(),
            Act::ResetQueue => self.set_up_again(),
            Act::Take => self.take_and_serve(),
            Act::Carry => {
                let engine = self.engine.take().expect("an engine");
                self.engine = Some(move_device(engine, self.ram));
            }
        }
    }

    fn resume(&mut self) {
        let _ = self.engine().load(reg::STATUS);
        if self.engine().phase() == Phase::Suspended {
            assert_eq!(self.engine().store(reg::STATUS, 15), Reply::Done(0));
        }
    }

    fn set_up_again(&mut self) {
        self.client.reap();
        if self.client.in_flight() != 0 || self.engine().phase() != Phase::Live {
            return;
        }
        let _ = self.engine().store(reg::QUEUE_SEL, 0);
        assert_eq!(self.engine().store(reg::QUEUE_RESET, 1), Reply::Done(0));
        assert_eq!(self.engine().load(reg::QUEUE_RESET), 0);
        self.answered += self.client.answered;
        self.client = Client::new(self.ram, 0, self.features);
        let config = self.client.config();
        assert_eq!(self.engine().configure(&config), Reply::Done(0));
    }

    fn take_and_serve(&mut self) {
        let mem = self.ram.flat(BASE);
        let Ok(mut taken) = self.engine().take_queue(0) else {
            return;
        };
        let mut chain = Chain::<N>::new();
        while taken.pop(&mem, &mut chain).expect("the driver is good") {
            let mut bytes = vec![0; chain.readable_len() as usize];
            embedded_io::Read::read_exact(&mut chain.readable(&mem), &mut bytes).expect("bytes");
            embedded_io::Write::write_all(&mut chain.writable(&mem), &bytes).expect("room");
            let len = chain.readable_len() as u32;
            taken.complete(&chain, len).expect("the chain is in flight");
        }
        assert!(self.engine().save::<8>().is_err(), "the queue is taken");
        assert!(self.engine().put_back(taken).is_ok());
    }

    /// Completes every request.
    fn end(&mut self) {
        self.engine().model_mut().holds = false;
        for _ in 0..3 {
            self.engine().backend_ready(0);
            let _ = virtside_tests::drain(self.engine());
            self.resume();
        }
        let _ = self.engine().kick(0);
        assert_eq!(virtside_tests::drain(self.engine()), Step::Idle);
        self.client.reap();
        assert_eq!(self.client.in_flight(), 0, "each request was answered");
        assert_eq!(self.client.answered, self.client.sent);
        assert_eq!(self.engine().driver_fault(0), None);
        assert_eq!(self.engine().poll(BUDGET), Step::Idle);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_driver_does_not_notice_restores(which in 0..rings().len(), acts in vec(act(), 0..80)) {
        let mut world = World::new(rings()[which]);
        for act in acts {
            world.act(act);
        }
        world.end();
    }

    /// Random accesses at the offsets of registers: every state that results can be saved and
    /// restored.
    #[test]
    fn any_accesses(accesses in vec((0usize..28, 0u32..18, any::<u32>()), 0..60)) {
        const OFFSETS: [u32; 28] = [
            reg::STATUS, reg::STATUS, reg::STATUS, reg::QUEUE_READY, reg::QUEUE_READY,
            reg::QUEUE_RESET, reg::QUEUE_SEL, reg::QUEUE_SEL, reg::QUEUE_SIZE, reg::QUEUE_DESC_LOW,
            reg::QUEUE_DRIVER_LOW, reg::QUEUE_DEVICE_LOW, reg::QUEUE_DESC_HIGH,
            reg::QUEUE_DRIVER_HIGH, reg::QUEUE_DEVICE_HIGH, reg::DRIVER_FEATURES,
            reg::DRIVER_FEATURES, reg::DRIVER_FEATURES_SEL, reg::DEVICE_FEATURES_SEL,
            reg::INTERRUPT_ACK, reg::QUEUE_NOTIFY, reg::SHM_SEL, reg::CONFIG, reg::STATUS,
            reg::QUEUE_READY, reg::STATUS, reg::QUEUE_SEL, reg::QUEUE_SIZE,
        ];
        let ram = virtside_tests::ram();
        let mut engine = fresh(ram, model(Features::RING));
        for (at, kind, value) in accesses {
            let offset = OFFSETS[at];
            let place = virtside_tests::layout(u16::from(value as u8 & 3));
            // Mostly a value that a driver would write to that register.
            let value = match (kind, offset) {
                (0, _) => value,
                (1, _) => value & 0xff,
                (2, reg::STATUS) => 0,
                (_, reg::STATUS) => [1, 3, 11, 15, 15, 31, 143, 27][value as usize % 8],
                (_, reg::QUEUE_DESC_LOW) => place.desc as u32,
                (_, reg::QUEUE_DRIVER_LOW) => place.driver as u32,
                (_, reg::QUEUE_DEVICE_LOW) => place.device as u32,
                (_, reg::QUEUE_SIZE) => 1 << (value & 3),
                (_, reg::QUEUE_DESC_HIGH | reg::QUEUE_DRIVER_HIGH | reg::QUEUE_DEVICE_HIGH) => 0,
                (3..8, reg::DRIVER_FEATURES) => Features::RING.word(value & 1),
                (_, reg::DRIVER_FEATURES_SEL) => value % 3,
                _ => value & 3,
            };
            let _ = engine.store(offset, value);
            if kind == 17 {
                let _ = engine.poll(BUDGET);
            }
            engine = move_device(engine, ram);
        }
    }
    /// A driver that makes queues ready before it accepts features, and a model that checks queues
    /// by both: every state that results can be saved and restored.
    #[test]
    fn any_set_up(
        policy in 0usize..3,
        smaller in any::<bool>(),
        needy in (0u16..4, 0usize..SETS.len()),
        turns in vec(set_up_step(), 0..30),
    ) {
        let ram = virtside_tests::ram();
        let model = Probe {
            wishes: Features::ALL_RINGS,
            sizes: [16, 16, 8, 4],
            sizes_negotiated: smaller.then_some([16, 2, 8, 0]),
            check: Check {
                needs: vec![(needy.0, SETS[needy.1])],
                no_larger: vec![(1, 0), (0, 2)],
                ..Check::default()
            },
            ..Probe::default()
        };
        let policies = [FaultPolicy::Reject, FaultPolicy::StopQueue, FaultPolicy::NeedsReset];
        let mut engine = fresh(ram, model).with_policy(policies[policy]);
        for set_up_step in turns {
            set_up_step.take(&mut engine);
            engine = move_device(engine, ram);
        }
    }
}

/// Features that a driver may accept in addition to VERSION_1.
const SETS: [Features; 5] = [
    Features::VERSION_1,
    Features::EVENT_IDX,
    Features::INDIRECT_DESC,
    Features::RING_PACKED,
    Features::RING,
];

/// What a driver does during set-up, sensible or not.
#[derive(Clone, Copy, Debug)]
enum SetUpStep {
    /// Makes a queue of this size ready; the last field moves its driver area.
    Configure(u16, u32, u64),
    Accept(usize),
    Status(u32),
    Stop(u16),
    Reset(u16),
    Poll,
}

fn set_up_step() -> impl Strategy<Value = SetUpStep> {
    let sizes = prop_oneof![Just(2u32), Just(4), Just(8), Just(16), Just(3)];
    prop_oneof![
        5 => (0u16..4, sizes, 0u64..2).prop_map(|(queue, size, off)| SetUpStep::Configure(queue, size, 2 * off)),
        4 => (0..SETS.len()).prop_map(SetUpStep::Accept),
        5 => prop_oneof![Just(3u32), Just(11), Just(15), Just(15), Just(31), Just(0)].prop_map(SetUpStep::Status),
        1 => (0u16..4).prop_map(SetUpStep::Stop),
        2 => (0u16..4).prop_map(SetUpStep::Reset),
        1 => Just(SetUpStep::Poll),
    ]
}

impl SetUpStep {
    fn take(self, engine: &mut TestEngine<Probe>) {
        match self {
            Self::Configure(queue, size, off) => {
                let mut config = virtside_tests::config(queue);
                config.size = size;
                config.driver += off;
                // Behind every position of the driver area.
                config.device += 0x40;
                let _ = engine.configure(&config);
            }
            Self::Accept(which) => {
                for word in 0..2 {
                    let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
                    let features = SETS[which] | Features::VERSION_1;
                    let _ = engine.store(reg::DRIVER_FEATURES, features.word(word));
                }
            }
            Self::Status(status) => {
                let _ = engine.store(reg::STATUS, status);
            }
            Self::Stop(queue) | Self::Reset(queue) => {
                let _ = engine.store(reg::QUEUE_SEL, queue.into());
                let reset = matches!(self, Self::Reset(_));
                let (offset, value) = if reset {
                    (reg::QUEUE_RESET, 1)
                } else {
                    (reg::QUEUE_READY, 0)
                };
                let _ = engine.store(offset, value);
            }
            Self::Poll => {
                let _ = engine.poll(BUDGET);
            }
        }
    }
}

//! The console device: two ports, with a host side that opens, closes and fails at random.

use virtio_spec::console::F;
use virtside::{
    Features,
    model::SaveModel,
    models::{
        Console, ConsoleError,
        console::{CONTROL_RECEIVEQ, CONTROL_TRANSMITQ, ConsoleSize, Port, receiveq, transmitq},
    },
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    models::console::*,
    random::Random,
};

use crate::{
    ModelCase,
    case::{RigOf, Versioned},
};

const PORTS: usize = 2;

#[derive(Clone)]
pub struct Case {
    /// Ports fail, or are sometimes not ready.
    troubled: bool,
    /// The driver has not opened port 0 since it went live.
    fresh: bool,
    sent: u64,
    messages: usize,
    input: usize,
}

type Model = Console<RecordingPort, PORTS>;
/// For each port: output, the opened ends, and the input left. Then the number of ignored control
/// messages.
type Seen = (Vec<(Vec<u8>, Vec<bool>, usize)>, u32);

fn message(random: &mut Random) -> Vec<u8> {
    let port = random.of(&[0, 0, 0, 1, 1, 1, 2, u32::MAX]);
    let event = random.of(&[
        DEVICE_READY,
        PORT_READY,
        PORT_READY,
        OPEN,
        OPEN,
        OPEN,
        ADD,
        99,
    ]);
    let value = random.of(&[1, 1, 1, 1, 0, 2]);
    control(port, event, value)
}

impl Case {
    /// Does something as the host, and names the queues that have work afterwards.
    fn host(&self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        let at = random.below(2) as u16;
        let (kind, count) = (random.below(9), random.below(200) as usize);
        let trouble = random.of(&[
            Some(ConsoleError::Failed),
            Some(ConsoleError::NotReady),
            None,
        ]);
        let trouble = trouble.filter(|_| self.troubled);
        let act = |model: &mut Model| {
            let port = model.port_mut(at).expect("a port");
            match kind {
                0..3 => port.io_mut().input.extend(vec![count as u8; count]),
                3 => port.io_mut().trouble = vec![trouble; 2],
                4 => port.io_mut().room = count,
                5 => port.set_open(count % 3 != 0),
                6 => port.resize(ConsoleSize { cols: 80, rows: at }),
                7 => port.unplug(),
                _ => port.plug(),
            }
            if kind > 4 {
                port.io_mut().room = usize::MAX;
            }
        };
        rig.act(act, &[receiveq(at), transmitq(at), CONTROL_RECEIVEQ])
    }

    /// Takes messages as the driver, and opens port 0.
    fn open(&self, rig: &mut RigOf<Self>) {
        for (port, event) in [(0, DEVICE_READY), (0, PORT_READY), (0, OPEN)] {
            let at = DATA + 0xf00;
            rig.write(at, &control(port, event, 1));
            for (queue, buffer) in [
                (CONTROL_TRANSMITQ, Buffer::readable(at, 8)),
                (CONTROL_RECEIVEQ, Buffer::writable(at + 16, 64)),
            ] {
                rig.send(queue, &[buffer], Form::Direct);
                assert!(matches!(rig.kick(&[queue]), Outcome::Given(_)));
            }
        }
    }
}

impl ModelCase for Case {
    type Model = Model;
    type Seen = Seen;

    const STEPS: u32 = 120;
    const REPEATS: bool = true;

    fn all() -> Vec<(Self, u64)> {
        let case = Self {
            troubled: true,
            fresh: true,
            sent: 0,
            messages: 0,
            input: 0,
        };
        vec![(case, 0x5bd1_e995_1234_5677)]
    }
    fn model(&self) -> Model {
        let size = ConsoleSize { cols: 1, rows: 2 };
        Console::with_ports([
            Port::new(RecordingPort::new()).console().with_size(size),
            Port::new(RecordingPort::new()).with_name("org.example.a"),
        ])
        .with_limit(150)
    }
    fn features(&self) -> Features {
        feature(F::MULTIPORT) | feature(F::SIZE)
    }
    fn queues(&self) -> u16 {
        6
    }
    fn observe(model: &mut Model) -> Seen {
        let ports = (0..PORTS as u16).map(|port| {
            let recording = model.port_mut(port).expect("a port").io_mut();
            let opened = std::mem::take(&mut recording.opened);
            (
                std::mem::take(&mut recording.output),
                opened,
                recording.input.len(),
            )
        });
        (ports.collect(), model.ignored())
    }

    fn begin(&mut self, rig: &mut RigOf<Self>) {
        rig.write(DATA, &[UNTOUCHED; ROOM]);
        (self.fresh, self.sent) = (true, 0);
    }
    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        if std::mem::take(&mut self.fresh) {
            self.open(rig);
        }
        let outcome = if random.once_in(4) {
            self.host(rig, random)
        } else {
            // Only one queue at a time: the order in which a device polls several queues is not
            // specified. Buffers of one queue may overlap, those of two do not.
            let queue = random.below(6) as u16;
            for _ in 0..=random.below(3) {
                let at = DATA + 0x280 * u64::from(queue) + 0x40 * (self.sent % 6);
                self.sent += 1;
                let mut buffers = match queue {
                    CONTROL_TRANSMITQ => {
                        rig.write(at, &message(random));
                        random.cut(at, 8, false)
                    }
                    CONTROL_RECEIVEQ => random.cut(at, 24, true),
                    queue if queue % 2 == 0 => {
                        let len = random.of(&[1, 5, 63, 64, 65, 200]);
                        random.cut(at, len, true)
                    }
                    _ => {
                        let len = random.of(&[1, 5, 63, 64, 65, 200]);
                        rig.write(at, &[random.below(256) as u8; 40]);
                        random.cut(at, len, false)
                    }
                };
                if random.once_in(20) {
                    random.spoil(&mut buffers);
                }
                let form = random.form(rig.features(), &buffers);
                rig.offer(queue, &buffers, form);
            }
            rig.kick(&[queue])
        };
        if let Outcome::Given(given) = &outcome {
            let got = |queues: &[u16]| -> usize {
                let got = given.iter().filter(|given| queues.contains(&given.queue));
                got.filter(|given| given.len != 0).count()
            };
            self.messages += got(&[CONTROL_RECEIVEQ]);
            self.input += got(&[receiveq(0), receiveq(1)]);
        }
        outcome
    }
    fn cure(&mut self, rig: &mut RigOf<Self>) {
        self.fresh = true;
        rig.act(
            |model| {
                for port in 0..PORTS as u16 {
                    let port = model.port_mut(port).expect("a port");
                    port.io_mut().room = usize::MAX;
                    port.io_mut().trouble.clear();
                    port.plug();
                    port.set_open(true);
                }
            },
            &[],
        );
        rig.send(transmitq(0), &[Buffer::readable(DATA, 4)], Form::Direct);
        let outcome = rig.kick(&[transmitq(0)]);
        assert!(matches!(outcome, Outcome::Given(given) if given.len() == 1));
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        let (messages, input) = (self.messages, self.input);
        assert!(
            given > 800 && messages > 60 && input > 60 && faults > 25,
            "{given} given, {messages} messages, {input} with input, {faults} faults"
        );
    }

    fn scenario(&self) -> Vec<Chain> {
        let tell = |at: u64, event| {
            let buffers = vec![Buffer::readable(at, 8)];
            (CONTROL_TRANSMITQ, buffers, vec![(at, control(0, event, 1))])
        };
        let hear = |at| (CONTROL_RECEIVEQ, vec![Buffer::writable(at, 40)], vec![]);
        let at = REQUESTS;
        vec![
            (0, vec![Buffer::writable(at + 0x80, 9)], vec![]),
            (
                1,
                vec![Buffer::readable(at, 4), Buffer::readable(at + 9, 70)],
                vec![],
            ),
            tell(at + 0x28, DEVICE_READY),
            hear(at + 0x100),
            tell(at + 0x20, PORT_READY),
            tell(at + 0x30, OPEN),
            hear(at + 0x40),
        ]
    }
    fn scenario_model(&self) -> Model {
        let mut recording = RecordingPort::new();
        // More input than a driver can read.
        recording.input.extend(std::iter::repeat_n(7, 300_000));
        Console::with_ports([
            Port::new(recording).console(),
            Port::new(RecordingPort::new()),
        ])
    }

    fn without_trouble(self) -> Self {
        Self {
            troubled: false,
            ..self
        }
    }
    fn successor(&self, old: &Model) -> Model {
        let mut model = self.model();
        for (was, at) in old.save().ports.iter().zip(0..) {
            let port = model.port_mut(at).expect("a port");
            if let Some(size) = was.size {
                port.resize(size);
            }
            if !was.plugged {
                port.unplug();
            }
            port.set_open(was.open);
        }
        model
    }
    fn swap_back_ends(one: &mut Model, other: &mut Model) {
        for port in 0..PORTS as u16 {
            let one = one.port_mut(port).expect("a port").io_mut();
            std::mem::swap(one, other.port_mut(port).expect("a port").io_mut());
        }
    }
    fn observe_restored(model: &mut Model) -> Seen {
        // A snapshot does not contain the number of ignored messages.
        (Self::observe(model).0, 0)
    }
}

impl Versioned for Case {
    fn version(state: &mut <Model as SaveModel>::Snapshot) -> &mut u16 {
        &mut state.version
    }
}

//! A port that records what it receives, and a driver of all console queues.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{BASE, BUDGET, DATA, Line, N, TestRam, config, driver, ram, reg};
use virtio_spec::console::F;
use virtside::{
    ChainSlot, Engine, Features, FlatMem, HostFault, Shared, Step,
    mmio::Access,
    models::{
        Console, ConsoleError, ConsolePort,
        console::{CONTROL_RECEIVEQ, CONTROL_TRANSMITQ, Port},
    },
    testing::{Buffer, FakeDriver, Registers},
};

/// Number of queues: enough for three ports.
pub const Q: usize = 8;

pub const DEVICE_READY: u16 = 0;
pub const ADD: u16 = 1;
pub const REMOVE: u16 = 2;
pub const PORT_READY: u16 = 3;
pub const CONSOLE: u16 = 4;
pub const RESIZE: u16 = 5;
pub const OPEN: u16 = 6;
pub const NAME: u16 = 7;

/// Initial byte of every buffer that the device may write.
pub const UNTOUCHED: u8 = 0xee;

/// A port that records its output.
#[derive(Debug)]
pub struct RecordingPort {
    /// Bytes for the driver to read.
    pub input: VecDeque<u8>,
    /// Bytes that the driver wrote.
    pub output: Vec<u8>,
    /// Bytes that the port still accepts.
    pub room: usize,
    /// The most bytes that the port accepts in one call.
    pub piece: usize,
    /// What `has_input` returns, if not the truth.
    pub claims: Option<bool>,
    /// Errors for the next calls, one each; `None` lets a call succeed.
    pub trouble: Vec<Option<ConsoleError>>,
    pub emergencies: Vec<u8>,
    pub opened: Vec<bool>,
}

impl RecordingPort {
    pub fn new() -> Self {
        Self {
            input: VecDeque::new(),
            output: Vec::new(),
            room: usize::MAX,
            piece: usize::MAX,
            claims: None,
            trouble: Vec::new(),
            emergencies: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn trouble(&mut self) -> Result<(), ConsoleError> {
        if self.trouble.is_empty() {
            return Ok(());
        }
        self.trouble.remove(0).map_or(Ok(()), Err)
    }
}

impl ConsolePort for RecordingPort {
    fn has_input(&self) -> bool {
        self.claims.unwrap_or(!self.input.is_empty())
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        self.trouble()?;
        let count = bytes.len().min(self.input.len()).min(self.piece);
        for (place, byte) in bytes.iter_mut().zip(self.input.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        assert!(!bytes.is_empty());
        self.trouble()?;
        if self.room == 0 {
            return Err(ConsoleError::NotReady);
        }
        let count = bytes.len().min(self.room).min(self.piece);
        self.room -= count;
        self.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn emergency(&mut self, byte: u8) {
        self.emergencies.push(byte);
    }
    fn driver_open(&mut self, open: bool) {
        self.opened.push(open);
    }
}

pub type Machine<T, const P: usize> =
    Engine<Console<T, P>, FlatMem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// Makes a console device in reset.
pub fn machine<T: ConsolePort, const P: usize>(
    console: Console<T, P>,
    ram: TestRam,
) -> Machine<T, P> {
    let line: Line = Box::leak(Box::default());
    let slots = (0..=2 * P).map(|_| ChainSlot::new()).collect();
    Engine::new(
        console,
        ram.flat(BASE),
        line,
        slots,
        Arc::new(Shared::new()),
    )
}

/// A feature bit of the console device.
pub fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

/// A live console device of `P` ports, and its driver.
#[derive(Debug)]
pub struct ConsoleRig<const P: usize = 1, T: ConsolePort = RecordingPort> {
    pub machine: Machine<T, P>,
    pub queues: Vec<FakeDriver<FlatMem>>,
    pub ram: TestRam,
    next: u16,
    /// Queue and head of each chain that this rig offered and has not taken back.
    flying: BTreeSet<(u16, u16)>,
}

impl ConsoleRig {
    /// Makes a rig with one port.
    pub fn new() -> Self {
        Self::with(
            Console::new(RecordingPort::new()),
            Features::from_bits(u128::MAX),
        )
    }
}

impl ConsoleRig<3> {
    /// Makes a rig with the ports of [`three`]. The driver is ready for control messages, and has
    /// received none.
    pub fn three() -> Self {
        let mut rig = Self::over(three());
        rig.tell(0, DEVICE_READY, 1);
        rig
    }

    /// Makes a rig with the ports of [`three`]. The driver knows all ports, and has opened them.
    pub fn three_open() -> Self {
        let mut rig = Self::three();
        rig.messages();
        for port in 0..3 {
            rig.tell(port, PORT_READY, 1);
            rig.tell(port, OPEN, 1);
        }
        rig.messages();
        rig
    }
}

/// Three ports: a console, a port with a name, and a plain port.
pub fn three() -> Console<RecordingPort, 3> {
    Console::with_ports([
        Port::new(RecordingPort::new()).console(),
        Port::new(RecordingPort::new()).with_name("org.example.a"),
        Port::new(RecordingPort::new()),
    ])
}

impl<const P: usize, T: ConsolePort> ConsoleRig<P, T> {
    /// Negotiates all features that the device offers.
    pub fn over(console: Console<T, P>) -> Self {
        Self::with(console, Features::from_bits(u128::MAX))
    }

    /// Negotiates the offered features that are in `wanted`.
    pub fn with(console: Console<T, P>, wanted: Features) -> Self {
        let ram = ram();
        let mut machine = machine(console, ram);
        let features = crate::split_offer(&mut machine).intersection(wanted | Features::VERSION_1);
        let queues = if features.contains(feature(F::MULTIPORT)) {
            2 * P + 2
        } else {
            2
        };
        let mut rig = Self {
            machine,
            queues: Vec::new(),
            ram,
            next: 0,
            flying: BTreeSet::new(),
        };
        rig.bring_up(features, queues as u16);
        rig
    }

    fn bring_up(&mut self, features: Features, queues: u16) {
        self.queues = (0..queues).map(|queue| driver(self.ram, queue)).collect();
        let configs: Vec<_> = (0..queues).map(config).collect();
        assert!(self.machine.bring_up(features, &configs));
        self.next = 0;
        self.flying.clear();
    }

    /// Resets the device and brings it up again with clean rings.
    pub fn restart(&mut self) {
        let features = self.machine.features();
        let _ = self.machine.store(reg::STATUS, 0);
        self.bring_up(features, self.queues.len() as u16);
    }

    pub fn port(&mut self, port: u16) -> &mut Port<T> {
        self.machine
            .model_mut()
            .port_mut(port)
            .expect("the port exists")
    }

    /// Polls until nothing is left to do. Panics if that takes forever.
    pub fn settle(&mut self) -> Step {
        for _ in 0..1000 {
            let before = self.machine.counters().chains;
            let step = self.machine.poll(BUDGET);
            // A chain of one queue may unblock a queue that was polled earlier.
            if step != Step::More && self.machine.counters().chains == before {
                return step;
            }
        }
        panic!("the device always finds more to do");
    }

    /// Address of the buffer of a chain.
    pub fn at(queue: u16, head: u16) -> u64 {
        DATA + 0x4000 * u64::from(queue) + 0x400 * u64::from(head)
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.queues[0].read(addr, &mut bytes);
        bytes
    }

    /// Returns an unused head, provided that the driver takes back what the device returns.
    fn head(&mut self, queue: u16) -> u16 {
        for _ in 0..16 {
            self.next = (self.next + 1) % 16;
            if self.flying.insert((queue, self.next)) {
                break;
            }
        }
        self.next
    }

    pub fn kick(&mut self, queue: u16) -> Step {
        let _ = self.machine.kick(queue);
        self.settle()
    }

    /// Offers a buffer of this length, and serves.
    pub fn offer(&mut self, queue: u16, room: u32) -> Step {
        let head = self.head(queue);
        let at = Self::at(queue, head);
        self.queues[usize::from(queue)].write(at, &[UNTOUCHED; 0x400]);
        self.queues[usize::from(queue)].send(head, &[Buffer::writable(at, room)]);
        self.kick(queue)
    }

    /// Sends these bytes, and serves.
    pub fn send(&mut self, queue: u16, bytes: &[u8]) -> Step {
        let head = self.head(queue);
        let at = Self::at(queue, head);
        self.queues[usize::from(queue)].write(at, bytes);
        self.queues[usize::from(queue)].send(head, &[Buffer::readable(at, bytes.len() as u32)]);
        self.kick(queue)
    }

    /// Takes the next buffer that came back; returns the bytes that the device wrote to it.
    #[track_caller]
    pub fn got(&mut self, queue: u16) -> Option<Vec<u8>> {
        let (head, used) = self.queues[usize::from(queue)].take_used()?;
        self.flying.remove(&(queue, head as u16));
        let bytes = self.bytes(Self::at(queue, head as u16), used as usize + 1);
        assert_eq!(
            bytes[used as usize], UNTOUCHED,
            "nothing is written behind the used length"
        );
        Some(bytes[..used as usize].to_vec())
    }

    /// Returns whether the next transmit buffer came back.
    #[track_caller]
    pub fn sent(&mut self, queue: u16) -> bool {
        match self.queues[usize::from(queue)].take_used() {
            Some((head, used)) => {
                self.flying.remove(&(queue, head as u16));
                assert_eq!(used, 0, "nothing is written to a transmitq");
                true
            }
            None => false,
        }
    }

    /// Sends a control message, whose buffer must come back.
    #[track_caller]
    pub fn tell(&mut self, port: u32, event: u16, value: u16) {
        self.send(CONTROL_TRANSMITQ, &control(port, event, value));
        assert!(self.sent(CONTROL_TRANSMITQ));
    }

    /// Offers a buffer for a control message; returns the message, if there is one.
    #[track_caller]
    pub fn next_message(&mut self) -> Option<(u32, u16, u16, Vec<u8>)> {
        let bytes = match self.got(CONTROL_RECEIVEQ) {
            Some(bytes) => bytes,
            None => {
                // If the last buffer was not used, it is still in the ring.
                if self.queues[2].next_avail() == self.queues[2].used_idx() {
                    self.offer(CONTROL_RECEIVEQ, 0x100);
                } else {
                    self.machine.backend_ready(CONTROL_RECEIVEQ);
                    self.settle();
                }
                self.got(CONTROL_RECEIVEQ)?
            }
        };
        let (header, tail) = bytes.split_at(8);
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let port = u32::from(word(0)) | u32::from(word(2)) << 16;
        Some((port, word(4), word(6), tail.to_vec()))
    }

    /// Takes all control messages of the device: port, event, value.
    #[track_caller]
    pub fn messages(&mut self) -> Vec<(u32, u16, u16)> {
        std::iter::from_fn(|| {
            self.next_message()
                .map(|(port, event, value, _)| (port, event, value))
        })
        .collect()
    }

    pub fn host_fault(&mut self) -> Option<HostFault> {
        self.machine.take_host_fault()
    }

    /// Reads bytes of the configuration space.
    pub fn config<const L: usize>(&mut self, offset: u32) -> [u8; L] {
        std::array::from_fn(|at| {
            let access = Access::Read {
                offset: reg::CONFIG + offset + at as u32,
                width: 1,
            };
            self.machine.reach(access).value().expect("a reply") as u8
        })
    }
}

impl<const P: usize> ConsoleRig<P> {
    pub fn io(&mut self, port: u16) -> &mut RecordingPort {
        self.port(port).io_mut()
    }

    /// Lets input arrive at a port.
    pub fn arrive(&mut self, port: u16, bytes: &[u8]) -> Step {
        self.io(port).input.extend(bytes);
        self.machine
            .backend_ready(virtside::models::console::receiveq(port));
        self.settle()
    }

    /// Takes what the driver wrote to a port since the last call.
    pub fn written(&mut self, port: u16) -> Vec<u8> {
        std::mem::take(&mut self.io(port).output)
    }

    /// Lets the port accept this many more bytes.
    pub fn drain(&mut self, port: u16, room: usize) -> Step {
        self.io(port).room = room;
        self.machine
            .backend_ready(virtside::models::console::transmitq(port));
        self.settle()
    }
}

/// A control message, as the driver writes it.
pub fn control(port: u32, event: u16, value: u16) -> Vec<u8> {
    [
        &port.to_le_bytes()[..],
        &event.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat()
}

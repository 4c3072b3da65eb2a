//! A bank of lines that records its calls, and a gpio driver.

use crate::{DATA, TestEngine, TestRam, config, driver, reg, rings::settle, test_engine};
use virtside::{
    DriverFault, Features, FlatMem, HostFault, Step,
    models::gpio::{Abilities, Direction, Gpio, GpioError, GpioLines, Trigger},
    testing::{Buffer, FakeDriver, Registers},
};

pub const NAMES: u16 = 1;
pub const GET_DIRECTION: u16 = 2;
pub const SET_DIRECTION: u16 = 3;
pub const GET_VALUE: u16 = 4;
pub const SET_VALUE: u16 = 5;
pub const IRQ_TYPE: u16 = 6;

pub const NONE: u32 = 0;
pub const OUT: u32 = 1;
pub const IN: u32 = 2;

pub const RISING: u32 = 1;
pub const FALLING: u32 = 2;
pub const BOTH: u32 = 3;
pub const HIGH: u32 = 4;
pub const LOW: u32 = 8;

/// Every interrupt type, and whether it is an edge.
pub const TYPES: [(u32, Trigger, bool); 5] = [
    (RISING, Trigger::RisingEdge, true),
    (FALLING, Trigger::FallingEdge, true),
    (BOTH, Trigger::BothEdges, true),
    (HIGH, Trigger::HighLevel, false),
    (LOW, Trigger::LowLevel, false),
];

pub const OK: u8 = 0;
pub const ERR: u8 = 1;
pub const INVALID: u8 = 0;
pub const VALID: u8 = 1;

/// `VIRTIO_GPIO_F_IRQ`
pub const IRQ: Features = Features::from_bits(1);

/// An output without other abilities.
pub const LED: u16 = 0;
/// An input with interrupts.
pub const BUTTON: u16 = 1;
/// A line with every ability.
pub const WIRE: u16 = 2;
/// An input without interrupts.
pub const JUMPER: u16 = 3;
/// Number of lines.
pub const L: usize = 4;

/// Address of requests and their answers.
pub const REQUEST: u64 = DATA;
pub const ANSWER: u64 = DATA + 0x100;
/// Address of the eventq buffers of line 0. Those of the other lines follow.
pub const EVENTS: u64 = DATA + 0x1000;

/// Initial byte of every buffer that the device may write.
pub const UNTOUCHED: u8 = 0xee;

/// A call of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Direction(u16, Direction, Option<bool>),
    Level(u16),
    Drive(u16, bool),
    Trigger(u16, Option<Trigger>),
}

/// A bank that records its calls.
#[derive(Debug)]
pub struct Bank {
    pub abilities: [Abilities; L],
    pub levels: [bool; L],
    pub calls: Vec<Call>,
    /// Errors for the next calls, one each; `None` lets a call succeed.
    pub trouble: Vec<Option<GpioError>>,
    pub count: u16,
}

impl Bank {
    pub fn new() -> Self {
        Self {
            abilities: [
                Abilities::OUTPUT,
                Abilities::INPUT | Abilities::INTERRUPT,
                Abilities::all(),
                Abilities::INPUT,
            ],
            levels: [false; L],
            calls: Vec::new(),
            trouble: Vec::new(),
            count: L as u16,
        }
    }

    fn called(&mut self, call: Call) -> Result<(), GpioError> {
        self.calls.push(call);
        if self.trouble.is_empty() {
            return Ok(());
        }
        self.trouble.remove(0).map_or(Ok(()), Err)
    }
}

impl GpioLines for Bank {
    fn count(&self) -> u16 {
        self.count
    }
    fn abilities(&self, line: u16) -> Abilities {
        self.abilities[usize::from(line)]
    }
    fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
        high: Option<bool>,
    ) -> Result<(), GpioError> {
        self.called(Call::Direction(line, direction, high))?;
        if let Some(high) = high {
            self.levels[usize::from(line)] = high;
        }
        Ok(())
    }
    fn level(&mut self, line: u16) -> Result<bool, GpioError> {
        self.called(Call::Level(line))?;
        Ok(self.levels[usize::from(line)])
    }
    fn drive(&mut self, line: u16, high: bool) -> Result<(), GpioError> {
        self.called(Call::Drive(line, high))?;
        self.levels[usize::from(line)] = high;
        Ok(())
    }
    fn set_trigger(&mut self, line: u16, trigger: Option<Trigger>) -> Result<(), GpioError> {
        self.called(Call::Trigger(line, trigger))
    }
}

/// A live gpio device over any bank, and its driver.
#[derive(Debug)]
pub struct Board<B: GpioLines = Bank, const LINES: usize = L> {
    pub engine: TestEngine<Gpio<B, LINES>>,
    pub requests: FakeDriver<FlatMem>,
    pub events: FakeDriver<FlatMem>,
    pub ram: TestRam,
}

impl Board {
    /// Makes a board with the usual bank, without line names.
    pub fn new() -> Self {
        Self::over(Gpio::new(Bank::new()))
    }

    pub fn bank(&mut self) -> &mut Bank {
        self.engine.model_mut().lines_mut()
    }

    /// Takes the calls of the bank since the last call of this function.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.bank().calls)
    }

    /// Changes the level of a line, without a notification.
    pub fn set_level(&mut self, line: u16, high: bool) {
        self.bank().levels[usize::from(line)] = high;
    }
}

impl<B: GpioLines, const LINES: usize> Board<B, LINES> {
    /// Negotiates all features that the device offers.
    pub fn over(gpio: Gpio<B, LINES>) -> Self {
        Self::with(gpio, Features::from_bits(u128::MAX))
    }

    /// Negotiates the offered features that are in `wanted`.
    pub fn with(gpio: Gpio<B, LINES>, wanted: Features) -> Self {
        Self::with_slots(gpio, wanted, 8)
    }

    /// Like [`with`](Self::with), with this number of chain slots.
    pub fn with_slots(gpio: Gpio<B, LINES>, wanted: Features, slots: usize) -> Self {
        let (mut engine, ram) = test_engine(gpio, slots);
        let features = crate::split_offer(&mut engine).intersection(wanted | Features::VERSION_1);
        let mut board = Self {
            requests: driver(ram, 0),
            events: driver(ram, 1),
            engine,
            ram,
        };
        board.bring_up(features);
        board
    }

    fn bring_up(&mut self, features: Features) {
        let queues = [config(0), config(1)];
        let count = if features.contains(IRQ) { 2 } else { 1 };
        assert!(self.engine.bring_up(features, &queues[..count]));
    }

    /// Resets the device and brings it up again with clean rings.
    pub fn restart(&mut self) {
        let _ = self.engine.store(reg::STATUS, 0);
        self.requests = driver(self.ram, 0);
        self.events = driver(self.ram, 1);
        let features = crate::split_offer(&mut self.engine);
        self.bring_up(features);
    }

    /// Polls until nothing is left to do.
    pub fn settle(&mut self) -> Step {
        settle(&mut self.engine)
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.requests.read(addr, &mut bytes);
        bytes
    }

    /// Sends a chain on the requestq; returns the used length, or `None` if it was not returned.
    pub fn send(&mut self, buffers: &[Buffer]) -> Option<u32> {
        self.requests.send(0, buffers);
        let _ = self.engine.kick(0);
        self.settle();
        let (head, used) = self.requests.take_used()?;
        assert_eq!(head, 0);
        Some(used)
    }

    pub fn write_request(&self, kind: u16, line: u16, value: u32) {
        self.requests.write(REQUEST, &request(kind, line, value));
        self.requests.write(ANSWER, &[UNTOUCHED; 64]);
    }

    /// Sends a request; returns its whole answer: status and value.
    #[track_caller]
    pub fn ask(&mut self, kind: u16, line: u16, value: u32) -> (u8, u8) {
        self.write_request(kind, line, value);
        let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 2)];
        assert_eq!(self.send(&buffers), Some(2), "the device fills the answer");
        let answer = self.bytes(ANSWER, 3);
        assert_eq!(answer[2], UNTOUCHED);
        (answer[0], answer[1])
    }

    /// Sends a request that must succeed with this value.
    #[track_caller]
    pub fn does(&mut self, kind: u16, line: u16, value: u32) -> u8 {
        let (status, value) = self.ask(kind, line, value);
        assert_eq!(status, OK);
        value
    }

    /// Sends a request that must fail as the driver's mistake.
    #[track_caller]
    pub fn refuses(&mut self, kind: u16, line: u16, value: u32) {
        let faults = self.engine.take_host_fault();
        assert_eq!(self.ask(kind, line, value), (ERR, 0));
        assert_eq!(
            self.engine.take_host_fault(),
            None,
            "the driver is at fault"
        );
        assert_eq!(faults, None);
    }

    /// Offers the eventq buffer of a line, and serves. The head is twice the line's number.
    pub fn listen(&mut self, line: u16) -> Step {
        self.offer(2 * line, line);
        let _ = self.engine.kick(1);
        self.settle()
    }

    /// Offers an eventq buffer with this head for a line, without a kick.
    pub fn offer(&mut self, head: u16, line: u16) {
        let at = EVENTS + 0x10 * u64::from(head);
        self.events.write(at, &line.to_le_bytes());
        self.events.write(at + 8, &[UNTOUCHED; 2]);
        self.events.send(
            head,
            &[Buffer::readable(at, 2), Buffer::writable(at + 8, 1)],
        );
    }

    /// Takes the next eventq buffer that came back; returns its head and its status.
    #[track_caller]
    pub fn event(&mut self) -> Option<(u16, u8)> {
        let (head, used) = self.events.take_used()?;
        assert_eq!(used, 1, "only the status is written");
        let status = self.bytes(EVENTS + 0x10 * u64::from(head) + 8, 2);
        assert_eq!(status[1], UNTOUCHED);
        Some((head as u16, status[0]))
    }

    /// Takes the next event, which must be of this line.
    #[track_caller]
    pub fn heard(&mut self, line: u16) -> Option<u8> {
        let (head, status) = self.event()?;
        assert_eq!(head, 2 * line);
        Some(status)
    }

    /// Raises the interrupt of a line.
    pub fn fire(&mut self, line: u16) {
        self.engine.model_mut().interrupt(line);
        self.settle();
    }

    pub fn host_fault(&mut self) -> Option<HostFault> {
        self.engine.take_host_fault()
    }

    pub fn fault(&self, queue: u16) -> Option<DriverFault> {
        self.engine.driver_fault(queue)
    }

    /// Reads bytes of the configuration space.
    pub fn config<const N: usize>(&mut self, offset: u32) -> [u8; N] {
        std::array::from_fn(|at| {
            let access = virtside::mmio::Access::Read {
                offset: reg::CONFIG + offset + at as u32,
                width: 1,
            };
            self.engine.reach(access).value().expect("a reply") as u8
        })
    }
}

/// A request, as the driver writes it.
pub fn request(kind: u16, line: u16, value: u32) -> Vec<u8> {
    [
        &kind.to_le_bytes()[..],
        &line.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat()
}

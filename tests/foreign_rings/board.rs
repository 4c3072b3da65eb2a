//! The device and its connections to a driver: registers, kicks and an interrupt line.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, DriverNotify, Engine,
    Features, Request, Shared, Step, Token,
    mmio::Access,
    models::{Block, BlockOptions, blk::RamDisk},
};
use virtside_std::{EventFdNotify, VmMem};
use vm_memory::GuestMemoryMmap;

use crate::traffic::{AREAS, SECTORS};
use virtside_tests::{random::Random, reg};

/// Elements of the largest queue.
pub const N: usize = 64;

/// When and in which order the disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// At once.
    AtOnce,
    /// Some at once, some later, but never before an older request.
    InTurn,
    /// Some at once, some later, in any order.
    InAnyOrder,
    /// Like `InAnyOrder`, and each answer reports one byte less than it wrote ("The device MAY
    /// write more than len bytes"; drivers of split rings ignore the length). With IN_ORDER such a
    /// request cannot be skipped, because its length would be missing: each has its own used
    /// element.
    Short,
    /// Like `InAnyOrder`, and one answer in eight is one byte short, which ends its batch.
    SometimesShort,
}

impl Answers {
    /// Whether younger requests are answered before older ones.
    pub fn are_mixed(self) -> bool {
        !matches!(self, Self::AtOnce | Self::InTurn)
    }
}

/// A disk with ring features that the test chooses.
#[derive(Clone, Debug)]
pub struct Offering {
    disk: Block<RamDisk<Vec<u8>>>,
    ring: Features,
    answers: Answers,
    /// Requests without an answer, oldest first.
    held: Vec<Token>,
    /// A request that the disk has just answered.
    done: Option<Token>,
    random: Random,
    /// Requests that were answered while an older one waited.
    overtook: usize,
    /// Requests that were answered with one byte less than was written.
    short: usize,
}

impl DeviceConfig for Offering {
    fn device_id(&self) -> u32 {
        self.disk.device_id()
    }
    fn features(&self) -> Features {
        self.disk.features().difference(Features::ALL_RINGS) | self.ring
    }
    fn set_capacity(&mut self, queues: u16, elements: u16) {
        self.disk.set_capacity(queues, elements);
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        self.disk.queue_size_max(queue)
    }
    fn negotiate(&mut self, features: Features) -> bool {
        self.disk.negotiate(features)
    }
    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        self.disk.read_config(offset, bytes)
    }
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        self.disk.write_config(offset, bytes)
    }
}

impl DeviceModel for Offering {
    fn reset(&mut self) {
        self.disk.reset();
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        if self.done != Some(request.token) {
            let later = match self.answers {
                Answers::AtOnce => false,
                Answers::InTurn => !self.held.is_empty() || self.random.index(2) == 0,
                _ => self.random.index(2) == 0,
            };
            if later {
                self.held.push(request.token);
                return Ok(Answer::Pending);
            }
            self.overtook += usize::from(!self.held.is_empty());
        }
        let mut answer = self.disk.serve(request)?;
        let is_short = match self.answers {
            Answers::Short => true,
            Answers::SometimesShort => self.random.index(8) == 0,
            _ => false,
        };
        if is_short && let Answer::Done { written } = &mut answer {
            *written -= 1;
            self.short += 1;
        }
        Ok(answer)
    }
}

/// An interrupt line with a level. It also signals an eventfd, if the driver waits for one.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<Wire>);

#[derive(Debug, Default)]
struct Wire {
    high: AtomicBool,
    raised: AtomicU64,
    call: OnceLock<EventFdNotify>,
}

impl Line {
    pub fn is_high(&self) -> bool {
        self.0.high.load(Ordering::Acquire)
    }
    /// How often the interrupt was raised.
    pub fn raised(&self) -> u64 {
        self.0.raised.load(Ordering::Acquire)
    }
    pub fn connect(&self, call: EventFdNotify) {
        self.0.call.set(call).expect("the line is connected once");
    }
}

impl DriverNotify for Line {
    fn assert(&self) {
        self.0.raised.fetch_add(1, Ordering::AcqRel);
        self.0.high.store(true, Ordering::Release);
        if let Some(call) = self.0.call.get() {
            call.assert();
        }
    }
    fn deassert(&self) {
        self.0.high.store(false, Ordering::Release);
    }
}

pub type TestEngine = Engine<Offering, VmMem, Line, 1, N, [ChainSlot<N>; AREAS], Arc<Shared<1>>>;

/// The device without a driver. It runs only when the driver kicked it, until a poll reports that
/// nothing is left, or while requests wait for an answer.
#[derive(Debug)]
pub struct Board {
    pub engine: TestEngine,
    pub line: Line,
    /// The driver's kicks.
    pub kicks: u64,
    runs: bool,
}

impl Board {
    /// A disk in reset that offers these ring features.
    pub fn new(ring: Features, answers: Answers, memory: &GuestMemoryMmap) -> Self {
        let disk = RamDisk::new(vec![0; SECTORS * 512]);
        let disk = Block::new(disk, BlockOptions::new(N as u16));
        let line = Line::default();
        Self {
            engine: Engine::new(
                Offering {
                    disk,
                    ring,
                    answers,
                    held: Vec::new(),
                    done: None,
                    random: Random::new(0xd1b5_4a32_d192_ed03),
                    overtook: 0,
                    short: 0,
                },
                VmMem::new(memory),
                line.clone(),
                [const { ChainSlot::new() }; AREAS],
                Arc::new(Shared::new()),
            ),
            line,
            kicks: 0,
            runs: false,
        }
    }

    /// The features that the driver accepted, and IN_ORDER if it is offered: the board accepts it
    /// for a driver that does not know it. IN_ORDER binds only the device, as long as every batch
    /// has one request: see [`Answers`].
    pub fn accepted_for(&mut self, accepted: u64) -> u64 {
        let in_order = self.engine.offer().intersection(Features::IN_ORDER);
        accepted | in_order.bits() as u64
    }

    /// Asserts that these ring features were accepted, and no others.
    pub fn assert_accepted(&self, ring: Features) {
        let accepted = self.engine.features();
        let of_rings = accepted.intersection(Features::ALL_RINGS | Features::IN_ORDER);
        assert_eq!(of_rings, ring, "accepted features: {accepted:?}");
    }

    /// Executes a register access; returns the value of a load.
    pub fn access(&mut self, access: Access) -> u64 {
        match access {
            Access::Write {
                offset: reg::QUEUE_NOTIFY,
                ..
            } => {
                self.kicks += 1;
                self.runs = true;
            }
            // At DRIVER_OK every queue counts as kicked.
            Access::Write {
                offset: reg::STATUS,
                ..
            } => self.runs = true,
            _ => {}
        }
        let reply = self.engine.access(access);
        reply
            .bus_value()
            .unwrap_or_else(|| panic!("{access:?}: {reply:?}"))
    }

    pub fn write(&mut self, offset: u32, value: u32) {
        self.access(Access::write(offset, value));
    }

    pub fn read(&mut self, offset: u32) -> u32 {
        self.access(Access::read(offset)) as u32
    }

    /// Whether the device has a reason to run.
    pub fn is_runnable(&self) -> bool {
        self.runs || self.waits()
    }

    fn waits(&self) -> bool {
        !self.engine.model().held.is_empty()
    }

    /// Serves up to `budget` chains.
    pub fn run(&mut self, budget: u16) {
        self.runs = match self.engine.poll(budget) {
            Step::More => true,
            Step::Idle => false,
            Step::Blocked => {
                assert!(self.waits(), "the device polls without a reason");
                false
            }
        };
    }

    /// Does one of the steps that the device has a reason for.
    pub fn step(&mut self, random: &mut Random) {
        if self.runs && (!self.waits() || random.index(2) == 0) {
            // Two requests served in one poll would form a batch.
            let in_order = self.engine.features().contains(Features::IN_ORDER);
            let one = in_order && self.engine.model().answers == Answers::InTurn;
            let budget = if one { 1 } else { 1 + random.index(8) };
            self.run(budget as u16);
        } else if self.waits() {
            self.finish(random);
        }
    }

    /// Answers a request that waits.
    fn finish(&mut self, random: &mut Random) {
        let disk = self.engine.model_mut();
        let which = if disk.answers.are_mixed() {
            random.index(disk.held.len())
        } else {
            0
        };
        disk.overtook += usize::from(which != 0);
        let token = disk.held.remove(which);
        disk.done = Some(token);
        self.engine.complete(token).expect("the request waits");
    }

    /// Requests that were answered with one byte less than was written.
    pub fn short(&self) -> usize {
        self.engine.model().short
    }

    /// Requests that were answered while an older one waited; asserts that they are many, or none.
    pub fn overtook(&self, requests: usize) -> usize {
        let Offering {
            answers, overtook, ..
        } = self.engine.model();
        assert_eq!(*overtook > requests / 8, answers.are_mixed(), "{overtook}");
        *overtook
    }

    /// Reads and acknowledges InterruptStatus, as an interrupt handler does before it reads the
    /// used ring.
    pub fn acknowledge(&mut self) {
        let pending = self.read(reg::INTERRUPT_STATUS);
        assert_eq!(pending, 1, "only used buffers are pending");
        self.write(reg::INTERRUPT_ACK, pending);
        assert!(
            !self.line.is_high(),
            "the line is low after the acknowledge"
        );
    }

    /// Asserts that every request was served and that the disk holds what was written.
    pub fn check(&mut self, chains: usize, disk: &[u8]) {
        assert_eq!(self.engine.driver_fault(0), None);
        assert_eq!(self.engine.take_host_fault(), None);
        assert_eq!(self.engine.counters().chains, chains as u32);
        assert!(
            self.engine.model().disk.backend().bytes() == disk,
            "the disk holds what the driver wrote"
        );
    }
}

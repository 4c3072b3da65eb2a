//! For tests of VIRTIO_F_IN_ORDER: a driver of either ring format that reads batches as the
//! specification says, and a device that answers when and how the test says.

use std::collections::{HashMap, VecDeque};

#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, FlatMem, QueueConfig,
    Refusal, Request, Step, Token,
    error::FaultPolicy,
    features::Offer,
    testing::{Buffer, FakeDriver, Layout, NEXT, Registers, WRITE},
};

use crate::{BASE, DATA, Q, SIZE, TestEngine, TestRam, engine_over, ram, rings::settle};

/// A ring format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Without RING_PACKED.
    Split,
    /// With RING_PACKED.
    #[cfg(feature = "packed")]
    Packed,
}

/// The formats that are built in.
pub const FORMATS: &[Format] = &[
    Format::Split,
    #[cfg(feature = "packed")]
    Format::Packed,
];

impl Format {
    /// The features that a driver of this format negotiates, in addition to IN_ORDER.
    pub fn features(self) -> Features {
        match self {
            Self::Split => Features::VERSION_1,
            #[cfg(feature = "packed")]
            Self::Packed => Features::VERSION_1 | Features::RING_PACKED,
        }
    }
}

/// A chain that the driver made available and has not got back.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Chains that the driver sent before it.
    number: usize,
    id: u16,
    slots: u16,
    room: u32,
}

/// A chain that the driver got back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Chains that the driver sent before it.
    pub number: usize,
    /// The used length, as the driver takes it.
    pub len: u32,
    /// Whether the chain had no used entry of its own.
    pub skipped: bool,
}

impl Given {
    /// A chain with its own used entry, of this length.
    pub fn entry(number: usize, len: u32) -> Self {
        let skipped = false;
        Self {
            number,
            len,
            skipped,
        }
    }

    /// A chain of this length without a used entry.
    pub fn skipped(number: usize, len: u32) -> Self {
        let skipped = true;
        Self {
            number,
            len,
            skipped,
        }
    }
}

#[derive(Debug)]
enum Ring<M> {
    Split {
        driver: FakeDriver<M>,
        /// The next descriptor. With IN_ORDER a driver uses the table as a ring.
        free: u16,
        used: u16,
    },
    #[cfg(feature = "packed")]
    Packed(PackedDriver<M>),
}

/// A driver of one queue that negotiated IN_ORDER.
#[derive(Debug)]
pub struct InOrderDriver<M = FlatMem> {
    ring: Ring<M>,
    queue: u16,
    size: u16,
    sent: VecDeque<Sent>,
    numbers: usize,
}

impl InOrderDriver {
    /// Makes a driver of queue `queue`, and zeroes the ring.
    pub fn new(ram: TestRam, format: Format, queue: u16, size: u16) -> Self {
        Self::over(ram.flat(BASE), format, queue, size)
    }
}

impl<M: DriverMem> InOrderDriver<M> {
    /// Makes a driver in any memory that starts at [`BASE`].
    pub fn over(mem: M, format: Format, queue: u16, size: u16) -> Self {
        let start = BASE + 0x1000 * u64::from(queue);
        let ring = match format {
            Format::Split => Ring::Split {
                driver: FakeDriver::new(mem, Layout::packed_at(start, size)),
                free: 0,
                used: 0,
            },
            #[cfg(feature = "packed")]
            Format::Packed => Ring::Packed(PackedDriver::new(mem, start, size)),
        };
        Self {
            ring,
            queue,
            size,
            sent: VecDeque::new(),
            numbers: 0,
        }
    }

    /// The configuration that the driver sends to the device.
    pub fn config(&self) -> QueueConfig {
        match &self.ring {
            Ring::Split { driver, .. } => driver.config(self.queue),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(self.queue),
        }
    }

    /// Returns the split ring.
    pub fn split(&mut self) -> &mut FakeDriver<M> {
        match &mut self.ring {
            Ring::Split { driver, .. } => driver,
            #[cfg(feature = "packed")]
            Ring::Packed(_) => panic!("the ring is packed"),
        }
    }

    /// Returns the packed ring.
    #[cfg(feature = "packed")]
    pub fn packed(&mut self) -> &mut PackedDriver<M> {
        match &mut self.ring {
            Ring::Packed(driver) => driver,
            Ring::Split { .. } => panic!("the ring is split"),
        }
    }

    /// Descriptors that the device does not have.
    pub fn free(&self) -> u16 {
        self.size - self.sent.iter().map(|sent| sent.slots).sum::<u16>()
    }

    /// Chains that the device has.
    pub fn outstanding(&self) -> usize {
        self.sent.len()
    }

    /// Makes a chain of these buffers available; returns its number.
    pub fn send(&mut self, buffers: &[Buffer]) -> usize {
        let slots = buffers.len() as u16;
        assert!(slots <= self.free(), "the driver has no room");
        let number = self.numbers;
        let id = match &mut self.ring {
            Ring::Split { driver, free, .. } => {
                let head = *free;
                for (at, buffer) in (1..).zip(buffers) {
                    let index = *free;
                    *free = (index + 1) % self.size;
                    let next = if at == slots { 0 } else { NEXT };
                    let write = if buffer.writable { WRITE } else { 0 };
                    driver.write_desc(index, (buffer.addr, buffer.len), write | next, *free);
                }
                driver.offer(head);
                driver.publish();
                head
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                // Any id is valid. These ids differ for 65536 chains.
                let id = (number as u16).wrapping_mul(0x9e37);
                driver.send(id, buffers);
                id
            }
        };
        let room = buffers.iter().filter(|buffer| buffer.writable);
        self.sent.push_back(Sent {
            number,
            id,
            slots,
            room: room.map(|buffer| buffer.len).sum(),
        });
        self.numbers += 1;
        number
    }

    /// Makes a chain of one writable descriptor of this length available; returns its number.
    pub fn room(&mut self, len: u32) -> usize {
        let at = DATA + 0x2000 * u64::from(self.queue) + 0x100 * (self.numbers % 16) as u64;
        self.send(&[Buffer::writable(at, len)])
    }

    /// Makes the same chain available in a split ring, with a NEXT that leads outside the table.
    pub fn broken(&mut self) -> usize {
        let size = self.size;
        let head = match &self.ring {
            Ring::Split { free, .. } => *free,
            #[cfg(feature = "packed")]
            Ring::Packed(_) => panic!("the ring is packed"),
        };
        let number = self.room(4);
        self.split().write_desc(head, (DATA, 4), NEXT | WRITE, size);
        number
    }

    /// Takes the next batch: all chains up to the one that the used entry names. Returns `None` if
    /// there is no entry. Chains without an entry are taken as full.
    pub fn take_batch(&mut self) -> Option<Vec<Given>> {
        let (id, len, ahead) = match &mut self.ring {
            Ring::Split { driver, used, .. } => {
                let ahead = driver.used_idx().wrapping_sub(*used);
                if ahead == 0 {
                    return None;
                }
                let (id, len) = driver.used_entry(*used);
                (u16::try_from(id).expect("an id of 16 bits"), len, ahead)
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                let (id, len, write) = driver.take_used(0)?;
                assert_eq!(
                    write,
                    len != 0,
                    "WRITE is set if and only if the length is not 0"
                );
                (id, len, u16::MAX)
            }
        };
        let last = self.sent.iter().position(|sent| sent.id == id);
        let last = last.unwrap_or_else(|| panic!("the device does not have chain {id}"));
        assert!(
            last < usize::from(ahead),
            "the used index does not reach chain {id}, {last} chains ahead"
        );
        let batch: Vec<Sent> = self.sent.drain(..=last).collect();
        match &mut self.ring {
            Ring::Split { used, .. } => *used = used.wrapping_add(batch.len() as u16),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                driver.take_used(batch.iter().map(|sent| sent.slots).sum());
            }
        }
        let given = |(at, sent): (usize, &Sent)| {
            let skipped = at != last;
            Given {
                number: sent.number,
                len: if skipped { sent.room } else { len },
                skipped,
            }
        };
        Some(batch.iter().enumerate().map(given).collect())
    }

    /// Takes all chains that the device returned.
    pub fn take(&mut self) -> Vec<Given> {
        std::iter::from_fn(|| self.take_batch()).flatten().collect()
    }

    /// Takes the numbers of all chains that the device returned.
    pub fn numbers(&mut self) -> Vec<usize> {
        self.take().iter().map(|given| given.number).collect()
    }
}

/// A chain that a [`Holder`] received.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Queue number.
    pub queue: u16,
    /// Chains of its queue that came before it.
    pub number: usize,
    /// Writable bytes.
    pub room: u32,
    /// The chain's token while it is pending.
    pub token: Token,
}

/// What a [`Holder`] answers to a new chain: a used length, or `None` to keep the chain.
type Choice = Box<dyn FnMut(&Asked) -> Option<u32>>;

/// A device that keeps chains until the test has an answer for them.
pub struct Holder {
    /// Decides about each new chain.
    pub choice: Choice,
    /// Each new chain, once, unless the test cleared the list.
    pub asked: Vec<Asked>,
    /// Chains of each queue since the queue was set up.
    came: [usize; Q],
    /// Used lengths of kept chains, for the next time they are served.
    pub answers: HashMap<Token, u32>,
    /// The chains that [`DeviceModel::due`] returns.
    pub due: VecDeque<Token>,
    /// The driver is at fault in the chain of this number, in any queue.
    pub blames: Option<(usize, DriverFault)>,
    /// Whether chains may stay pending while the device is suspended.
    pub sleeps: bool,
}

impl Holder {
    /// Makes a device that keeps every chain.
    pub fn new() -> Self {
        Self {
            choice: Box::new(|_| None),
            asked: Vec::new(),
            came: [0; Q],
            answers: HashMap::new(),
            due: VecDeque::new(),
            blames: None,
            sleeps: false,
        }
    }

    /// Returns the chain of this number of a queue.
    #[track_caller]
    pub fn chain(&self, queue: u16, number: usize) -> Asked {
        let of = |asked: &&Asked| asked.queue == queue && asked.number == number;
        *self.asked.iter().find(of).expect("the chain came")
    }
}

impl Default for Holder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder").finish_non_exhaustive()
    }
}

impl DeviceConfig for Holder {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if usize::from(queue) < Q { u16::MAX } else { 0 }
    }
}

crate::keeps_nothing!(Holder);

impl DeviceModel for Holder {
    fn due(&self) -> Option<Token> {
        self.due.front().copied()
    }

    fn reset(&mut self) {
        self.came = [0; Q];
        self.asked.clear();
    }

    fn queue_stopped(&mut self, queue: u16) {
        self.came[usize::from(queue)] = 0;
        self.asked.retain(|asked| asked.queue != queue);
    }

    fn may_sleep(&self, _: u16) -> bool {
        self.sleeps
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let (queue, token) = (request.queue, request.token);
        self.due.retain(|due| *due != token);
        let answer = if self.asked.iter().any(|asked| asked.token == token) {
            self.answers.get(&token).copied()
        } else {
            let came = &mut self.came[usize::from(queue)];
            let number = *came;
            *came += 1;
            let asked = Asked {
                queue,
                number,
                room: u32::try_from(request.writable.remaining()).expect("less than 4 GiB"),
                token,
            };
            if let Some((bad, fault)) = self.blames
                && bad == number
            {
                return Err(fault);
            }
            self.asked.push(asked);
            (self.choice)(&asked)
        };
        Ok(answer.map_or(Answer::Pending, |written| Answer::Done { written }))
    }
}

/// A live [`Holder`], and a driver for each queue.
#[derive(Debug)]
pub struct HolderRig {
    /// The device.
    pub engine: TestEngine<Holder>,
    /// One driver for each queue.
    pub drivers: Vec<InOrderDriver>,
    /// All memory, from [`BASE`] on.
    pub ram: TestRam,
    format: Format,
    features: Features,
}

impl HolderRig {
    /// With IN_ORDER and these features, one queue of 16 and 16 chain slots.
    pub fn new(format: Format, features: Features) -> Self {
        Self::with(format, features | Features::IN_ORDER, 1, SIZE, 16)
    }

    /// Like [`new`](Self::new), with a queue of this size.
    pub fn sized(format: Format, features: Features, size: u16) -> Self {
        Self::with(format, features | Features::IN_ORDER, 1, size, 16)
    }

    /// With these features and those of the format, this number of queues of this size, and this
    /// number of slots.
    pub fn with(format: Format, features: Features, queues: u16, size: u16, slots: usize) -> Self {
        let ram = ram();
        let offer = Offer::AS_IS.with(Features::IN_ORDER | format.features());
        let engine = engine_over(Holder::new(), ram.flat(BASE), slots).with_offer(offer);
        Self::over(engine, ram, format, features, queues, size)
    }

    /// Like [`new`](Self::new), with a fault policy that rejects a bad chain alone.
    pub fn rejecting(format: Format, features: Features) -> Self {
        let ram = ram();
        let offer = Offer::AS_IS.with(Features::IN_ORDER | format.features());
        let engine = engine_over(Holder::new(), ram.flat(BASE), 16).with_offer(offer);
        let engine = engine.with_policy(FaultPolicy::Reject);
        Self::over(engine, ram, format, features | Features::IN_ORDER, 1, SIZE)
    }

    fn over(
        engine: TestEngine<Holder>,
        ram: TestRam,
        format: Format,
        features: Features,
        queues: u16,
        size: u16,
    ) -> Self {
        let mut rig = Self {
            engine,
            drivers: Vec::new(),
            ram,
            format,
            features: features | format.features(),
        };
        rig.restart(queues, size);
        rig
    }

    /// Replaces the device by a new one in reset with this number of slots, over the same memory.
    pub fn renew(&mut self, slots: usize) {
        let offer = Offer::AS_IS.with(Features::IN_ORDER | self.format.features());
        self.engine = engine_over(Holder::new(), self.ram.flat(BASE), slots).with_offer(offer);
    }

    /// Goes from reset to live, with fresh rings.
    pub fn restart(&mut self, queues: u16, size: u16) {
        let driver = |queue| InOrderDriver::new(self.ram, self.format, queue, size);
        self.drivers = (0..queues).map(driver).collect();
        let configs: Vec<_> = self.drivers.iter().map(InOrderDriver::config).collect();
        assert!(
            self.engine.bring_up(self.features, &configs),
            "the driver went live"
        );
    }

    /// Sets how the device answers new chains.
    pub fn choose(&mut self, choice: impl FnMut(&Asked) -> Option<u32> + 'static) {
        self.engine.model_mut().choice = Box::new(choice);
    }

    /// Lets the device fill every new chain.
    pub fn fill(&mut self) {
        self.choose(|asked| Some(asked.room));
    }

    /// Returns the driver of queue 0.
    pub fn driver(&mut self) -> &mut InOrderDriver {
        &mut self.drivers[0]
    }

    /// Sends chains of these lengths on queue 0, and polls until nothing is left to do.
    pub fn send(&mut self, rooms: &[u32]) -> Step {
        for room in rooms {
            self.driver().room(*room);
        }
        self.kick(0)
    }

    /// Kicks a queue, and polls until nothing is left to do.
    pub fn kick(&mut self, queue: u16) -> Step {
        let _ = self.engine.kick(queue);
        settle(&mut self.engine)
    }

    /// Lets the device answer a chain of a queue with this used length.
    pub fn answer_of(&mut self, queue: u16, number: usize, written: u32) -> Result<(), Refusal> {
        let token = self.engine.model().chain(queue, number).token;
        self.engine.model_mut().answers.insert(token, written);
        self.engine.complete(token)
    }

    /// Lets the device answer a chain of queue 0 with this used length.
    #[track_caller]
    pub fn answer(&mut self, number: usize, written: u32) {
        assert_eq!(self.answer_of(0, number, written), Ok(()));
    }

    /// Returns the token of a chain of queue 0.
    pub fn token(&self, number: usize) -> Token {
        self.engine.model().chain(0, number).token
    }

    /// Takes the chains that came back on queue 0.
    pub fn take(&mut self) -> Vec<Given> {
        self.driver().take()
    }

    /// Counts the interrupts since the device was made.
    pub fn interrupts(&self) -> u32 {
        self.engine.device().notify().asserted()
    }
}

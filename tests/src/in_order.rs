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

/// The format of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Without RING_PACKED.
    Split,
    /// With it.
    #[cfg(feature = "packed")]
    Packed,
}

/// Those that are built in.
pub const FORMATS: &[Format] = &[
    Format::Split,
    #[cfg(feature = "packed")]
    Format::Packed,
];

impl Format {
    /// What a driver negotiates for it, beside IN_ORDER.
    pub fn features(self) -> Features {
        match self {
            Self::Split => Features::VERSION_1,
            #[cfg(feature = "packed")]
            Self::Packed => Features::VERSION_1 | Features::RING_PACKED,
        }
    }
}

/// A chain that the driver made available and did not get back.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// How many came before it.
    number: usize,
    id: u16,
    slots: u16,
    room: u32,
}

/// A chain that the driver got back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// How many the driver sent before it.
    pub number: usize,
    /// What the driver takes for the length.
    pub len: u32,
    /// There was no used entry of its own.
    pub skipped: bool,
}

impl Given {
    /// One that has an entry, with this length.
    pub fn entry(number: usize, len: u32) -> Self {
        let skipped = false;
        Self {
            number,
            len,
            skipped,
        }
    }

    /// One of this length without an entry.
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
        /// The next descriptor: with IN_ORDER a driver takes them round the table.
        free: u16,
        used: u16,
    },
    #[cfg(feature = "packed")]
    Packed(PackedDriver<M>),
}

/// A driver that negotiated IN_ORDER, at one queue.
#[derive(Debug)]
pub struct InOrderDriver<M = FlatMem> {
    ring: Ring<M>,
    queue: u16,
    size: u16,
    sent: VecDeque<Sent>,
    numbers: usize,
}

impl InOrderDriver {
    /// Zeroes the ring of queue `queue`.
    pub fn new(ram: TestRam, format: Format, queue: u16, size: u16) -> Self {
        Self::over(ram.flat(BASE), format, queue, size)
    }
}

impl<M: DriverMem> InOrderDriver<M> {
    /// The same in any memory from [`BASE`] on.
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

    /// As the driver tells the device.
    pub fn config(&self) -> QueueConfig {
        match &self.ring {
            Ring::Split { driver, .. } => driver.config(self.queue),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(self.queue),
        }
    }

    /// The split ring.
    pub fn split(&mut self) -> &mut FakeDriver<M> {
        match &mut self.ring {
            Ring::Split { driver, .. } => driver,
            #[cfg(feature = "packed")]
            Ring::Packed(_) => panic!("it is packed"),
        }
    }

    /// The packed ring.
    #[cfg(feature = "packed")]
    pub fn packed(&mut self) -> &mut PackedDriver<M> {
        match &mut self.ring {
            Ring::Packed(driver) => driver,
            Ring::Split { .. } => panic!("it is split"),
        }
    }

    /// Descriptors that are not with the device.
    pub fn free(&self) -> u16 {
        self.size - self.sent.iter().map(|sent| sent.slots).sum::<u16>()
    }

    /// Chains that the device has.
    pub fn outstanding(&self) -> usize {
        self.sent.len()
    }

    /// Makes a chain of these buffers available; its number.
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
                // Any id is legal; these differ for 65536 chains.
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

    /// Makes a chain of one descriptor with so much room available; its number.
    pub fn room(&mut self, len: u32) -> usize {
        let at = DATA + 0x2000 * u64::from(self.queue) + 0x100 * (self.numbers % 16) as u64;
        self.send(&[Buffer::writable(at, len)])
    }

    /// The same of a split ring, but what would be its next descriptor is not there.
    pub fn broken(&mut self) -> usize {
        let size = self.size;
        let head = match &self.ring {
            Ring::Split { free, .. } => *free,
            #[cfg(feature = "packed")]
            Ring::Packed(_) => panic!("it is packed"),
        };
        let number = self.room(4);
        self.split().write_desc(head, (DATA, 4), NEXT | WRITE, size);
        number
    }

    /// The next batch, which is all chains up to the one that its entry names; `None` if there is
    /// none. What was skipped is taken as full.
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
                assert_eq!(write, len != 0, "WRITE says whether something was written");
                (id, len, u16::MAX)
            }
        };
        let last = self.sent.iter().position(|sent| sent.id == id);
        let last = last.unwrap_or_else(|| panic!("{id} is not with the device"));
        assert!(
            last < usize::from(ahead),
            "the index is not as far as {id}, which is {last} chains on"
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

    /// All that came back.
    pub fn take(&mut self) -> Vec<Given> {
        std::iter::from_fn(|| self.take_batch()).flatten().collect()
    }

    /// The numbers of all that came back.
    pub fn numbers(&mut self) -> Vec<usize> {
        self.take().iter().map(|given| given.number).collect()
    }
}

/// A chain that a [`Holder`] was sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Queue number.
    pub queue: u16,
    /// How many chains of its queue came before it.
    pub number: usize,
    /// Writable bytes.
    pub room: u32,
    /// Its name while it is pending.
    pub token: Token,
}

/// What a [`Holder`] answers to a chain that comes: so many bytes, or nothing yet.
type Choice = Box<dyn FnMut(&Asked) -> Option<u32>>;

/// A device that keeps chains until the test has an answer to them.
pub struct Holder {
    /// What it does with a new chain.
    pub choice: Choice,
    /// Each chain that came, once, unless the test forgot it.
    pub asked: Vec<Asked>,
    /// Chains that came, of each queue since it was set up.
    came: [usize; Q],
    /// Bytes to answer kept chains with, when they are served again.
    pub answers: HashMap<Token, u32>,
    /// What it calls due.
    pub due: VecDeque<Token>,
    /// The chain of this number is at fault, in any queue.
    pub blames: Option<(usize, DriverFault)>,
    /// Whether its chains may wait while the device is suspended.
    pub sleeps: bool,
}

impl Holder {
    /// Keeps every chain.
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

    /// The chain of this number of a queue.
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

/// A live [`Holder`], and a driver at each of its queues.
#[derive(Debug)]
pub struct HolderRig {
    /// The device.
    pub engine: TestEngine<Holder>,
    /// One for each queue.
    pub drivers: Vec<InOrderDriver>,
    /// All memory, from [`BASE`] on.
    pub ram: TestRam,
    format: Format,
    features: Features,
}

impl HolderRig {
    /// IN_ORDER and these features, one queue of 16, and slots for 16 chains.
    pub fn new(format: Format, features: Features) -> Self {
        Self::with(format, features | Features::IN_ORDER, 1, SIZE, 16)
    }

    /// The same with a queue of this size.
    pub fn sized(format: Format, features: Features, size: u16) -> Self {
        Self::with(format, features | Features::IN_ORDER, 1, size, 16)
    }

    /// These features beside those of the format, so many queues of this size, and so many slots.
    pub fn with(format: Format, features: Features, queues: u16, size: u16, slots: usize) -> Self {
        let ram = ram();
        let offer = Offer::AS_IS.with(Features::IN_ORDER | format.features());
        let engine = engine_over(Holder::new(), ram.flat(BASE), slots).with_offer(offer);
        Self::over(engine, ram, format, features, queues, size)
    }

    /// As [`new`](Self::new), where broken chains are refused alone.
    pub fn refusing(format: Format, features: Features) -> Self {
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

    /// Another device in reset, with so many slots, over the same memory.
    pub fn renew(&mut self, slots: usize) {
        let offer = Offer::AS_IS.with(Features::IN_ORDER | self.format.features());
        self.engine = engine_over(Holder::new(), self.ram.flat(BASE), slots).with_offer(offer);
    }

    /// From reset to live, with fresh rings.
    pub fn restart(&mut self, queues: u16, size: u16) {
        let driver = |queue| InOrderDriver::new(self.ram, self.format, queue, size);
        self.drivers = (0..queues).map(driver).collect();
        let configs: Vec<_> = self.drivers.iter().map(InOrderDriver::config).collect();
        assert!(
            self.engine.bring_up(self.features, &configs),
            "the driver went live"
        );
    }

    /// What the device makes of new chains.
    pub fn choose(&mut self, choice: impl FnMut(&Asked) -> Option<u32> + 'static) {
        self.engine.model_mut().choice = Box::new(choice);
    }

    /// Every new chain is filled.
    pub fn fill(&mut self) {
        self.choose(|asked| Some(asked.room));
    }

    /// The driver of queue 0.
    pub fn driver(&mut self) -> &mut InOrderDriver {
        &mut self.drivers[0]
    }

    /// Sends chains with so much room on queue 0, and polls until there is nothing left to do.
    pub fn send(&mut self, rooms: &[u32]) -> Step {
        for room in rooms {
            self.driver().room(*room);
        }
        self.kick(0)
    }

    /// Kicks a queue and polls until there is nothing left to do.
    pub fn kick(&mut self, queue: u16) -> Step {
        let _ = self.engine.kick(queue);
        settle(&mut self.engine)
    }

    /// The device has an answer of so many bytes to a chain of a queue.
    pub fn answer_of(&mut self, queue: u16, number: usize, written: u32) -> Result<(), Refusal> {
        let token = self.engine.model().chain(queue, number).token;
        self.engine.model_mut().answers.insert(token, written);
        self.engine.complete(token)
    }

    /// The same of queue 0.
    #[track_caller]
    pub fn answer(&mut self, number: usize, written: u32) {
        assert_eq!(self.answer_of(0, number, written), Ok(()));
    }

    /// The name of a chain of queue 0.
    pub fn token(&self, number: usize) -> Token {
        self.engine.model().chain(0, number).token
    }

    /// What came back on queue 0.
    pub fn take(&mut self) -> Vec<Given> {
        self.driver().take()
    }

    /// Interrupts since the device was made.
    pub fn interrupts(&self) -> u32 {
        self.engine.device().notify().asserted()
    }
}

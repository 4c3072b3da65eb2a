//! A device whose every choice is the test's. It records the calls of its methods.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, FlatMem, QueueCheck,
    QueueConfig, Refusal, Request, Step, Token,
    device::{Counters, QueueState},
    error::DeviceError,
    message::ReadyQueues,
    mmio::{Phase, Reply},
    model::{SharedMemory, Start},
    shared::InterruptStatus,
    testing::{Buffer, FakeDriver, Registers},
};

use crate::{BUDGET, DATA, Q, TestEngine, TestRam, reg, test_engine};

/// A call of a [`Probe`]'s method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// FEATURES_OK.
    Negotiate(Features),
    /// DRIVER_OK.
    Ready(Features),
    /// Status = 0.
    Reset,
    /// A queue stopped.
    Stopped(u16),
    /// A chain of this queue was served.
    Served(u16),
}

/// The queue check of a [`Probe`].
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Queues that the check refuses.
    pub unwanted: Vec<u16>,
    /// Queues that the check accepts only with these features.
    pub needs: Vec<(u16, Features)>,
    /// Queues that the check accepts only together with this other queue.
    pub beside: Vec<(u16, u16)>,
    /// Queues that must not be larger than this other queue.
    pub no_larger: Vec<(u16, u16)>,
    /// Queues without which the device does not start.
    pub needed: Vec<u16>,
    /// Size of the aligned window in which all rings have to begin; 0 for no limit.
    pub window: u64,
}

impl QueueCheck for Check {
    type Error = DeviceError;

    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        let existing: Vec<u16> = existing.collect();
        let lonely = |&(one, other): &(u16, u16)| one == queue && !existing.contains(&other);
        if self.unwanted.contains(&queue) || self.beside.iter().any(lonely) {
            return Err(DeviceError::InvalidQueue(queue));
        }
        Ok(())
    }

    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        existing: impl Iterator<Item = &'a QueueConfig> + Clone,
    ) -> Result<(), DeviceError> {
        let queue = config.queue;
        let lacks =
            |&(which, needed): &(u16, Features)| which == queue && !features.contains(needed);
        let too_large = |&(one, other): &(u16, u16)| {
            let mut others = existing.clone();
            one == queue && others.any(|it| it.queue == other && it.size < config.size)
        };
        if self.needs.iter().any(lacks) || self.no_larger.iter().any(too_large) {
            return Err(DeviceError::InvalidQueue(queue));
        }
        self.check_queue(queue, existing.map(|other| other.queue))
    }

    fn check_ready<'a>(
        &self,
        queues: impl Iterator<Item = &'a QueueConfig> + Clone,
        _: Features,
    ) -> Result<(), DeviceError> {
        let there = |needed: &u16| queues.clone().any(|config| config.queue == *needed);
        let mut places = queues.clone().flat_map(|config| {
            let areas = [config.desc, config.driver, config.device];
            areas.map(|start| start.checked_div(self.window))
        });
        let first = places.next();
        if self.needed.iter().all(there) && places.all(|place| Some(place) == first) {
            Ok(())
        } else {
            Err(Refusal::QueueSet.into())
        }
    }
}

/// A device that echoes requests, and otherwise does as the test says.
#[derive(Clone, Debug)]
pub struct Probe {
    /// DeviceID.
    pub id: u32,
    /// Features that it asks to offer.
    pub wishes: Features,
    /// Features that it excludes.
    pub excludes: Features,
    /// Size of each queue; 0 for none.
    pub sizes: [u16; Q],
    /// Sizes from FEATURES_OK on, if they differ.
    pub sizes_negotiated: Option<[u16; Q]>,
    /// Whether it accepts the driver's features.
    pub agrees: bool,
    /// Its answer at DRIVER_OK.
    pub start: Start,
    /// Whether it keeps chains until the test completes them.
    pub holds: bool,
    /// Queues whose chains may stay pending while the device is suspended.
    pub sleepers: Vec<u16>,
    /// Queues whose chains it cannot serve now.
    pub unready: Vec<u16>,
    /// Its shared memory regions, by id.
    pub regions: Vec<(u32, SharedMemory)>,
    /// The fault that it finds in each chain.
    pub blames: Option<DriverFault>,
    /// The configuration space.
    pub space: Vec<u8>,
    /// Bytes of the space that the driver may write.
    pub writable: core::ops::Range<usize>,
    /// Whether the driver may write them in any phase.
    pub always: bool,
    /// Its queue check.
    pub check: Check,
    /// Tokens of the chains that it keeps.
    pub held: Vec<Token>,
    /// Calls so far.
    pub log: Vec<Event>,
    /// Whether it accepted the driver's features.
    pub negotiated: bool,
    /// The queues of the last DRIVER_OK.
    pub started_with: Vec<QueueConfig>,
}

impl Default for Probe {
    /// Has queues 0 and 1 of up to 16, queue 2 of up to 8, no queue 3, and 12 bytes of
    /// configuration.
    fn default() -> Self {
        Self {
            id: 63,
            wishes: Features::RING,
            excludes: Features::empty(),
            sizes: [16, 16, 8, 0],
            sizes_negotiated: None,
            agrees: true,
            start: Start::Accept,
            holds: false,
            sleepers: Vec::new(),
            unready: Vec::new(),
            regions: Vec::new(),
            blames: None,
            space: (1..=12).collect(),
            writable: 0..0,
            always: false,
            check: Check::default(),
            held: Vec::new(),
            log: Vec::new(),
            negotiated: false,
            started_with: Vec::new(),
        }
    }
}

impl Probe {
    /// Counts a call.
    pub fn count(&self, event: Event) -> usize {
        self.log.iter().filter(|&&noted| noted == event).count()
    }
}

impl DeviceConfig for Probe {
    fn device_id(&self) -> u32 {
        self.id
    }

    fn features(&self) -> Features {
        self.wishes
    }

    fn excluded(&self) -> Features {
        self.excludes
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        let sizes = match self.sizes_negotiated {
            Some(sizes) if self.negotiated => sizes,
            _ => self.sizes,
        };
        sizes.get(usize::from(queue)).copied().unwrap_or(0)
    }

    fn negotiate(&mut self, features: Features) -> bool {
        self.log.push(Event::Negotiate(features));
        self.negotiated = self.agrees;
        self.agrees
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let part = self.space.get(offset as usize..);
        match part.and_then(|part| part.get(..bytes.len())) {
            Some(part) => {
                bytes.copy_from_slice(part);
                true
            }
            None => false,
        }
    }

    fn is_always_writable(&self, _: u32) -> bool {
        self.always
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        let start = offset as usize;
        let Some(end) = start.checked_add(bytes.len()) else {
            return false;
        };
        if start < self.writable.start || end > self.writable.end {
            return false;
        }
        self.space[start..end].copy_from_slice(bytes);
        true
    }

    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        let found = self.regions.iter().find(|(region, _)| *region == id);
        found.map(|(_, memory)| *memory)
    }
}

crate::keeps_nothing!(Probe);

impl DeviceModel for Probe {
    fn queue_check(&self) -> impl QueueCheck {
        self.check.clone()
    }

    fn ready(&mut self, features: Features, queues: ReadyQueues<'_>) -> Start {
        self.started_with = queues.iter().copied().collect();
        self.log.push(Event::Ready(features));
        self.start
    }

    fn reset(&mut self) {
        self.log.push(Event::Reset);
        self.negotiated = false;
        self.held.clear();
    }

    fn queue_stopped(&mut self, queue: u16) {
        self.log.push(Event::Stopped(queue));
    }

    fn can_serve(&self, queue: u16) -> bool {
        !self.unready.contains(&queue)
    }

    fn may_sleep(&self, queue: u16) -> bool {
        self.sleepers.contains(&queue)
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        self.log.push(Event::Served(request.queue));
        if let Some(fault) = self.blames {
            return Err(fault);
        }
        let token = request.token;
        if self.holds && !self.held.contains(&token) {
            self.held.push(token);
            return Ok(Answer::Pending);
        }
        self.held.retain(|&held| held != token);
        while let (Ok(Some(from)), Ok(Some(to))) = (
            request.readable.view(u32::MAX),
            request.writable.view(u32::MAX),
        ) {
            let mut bytes = vec![0; from.len().min(to.len())];
            from.copy_to(&mut bytes);
            to.copy_from(&bytes);
            request.readable.skip(bytes.len() as u32);
            request.writable.commit(bytes.len() as u32);
        }
        Ok(Answer::Done {
            written: request.writable.written(),
        })
    }
}

/// Makes a device in reset with four chain slots, and its memory.
pub fn probe() -> (TestEngine<Probe>, TestRam) {
    test_engine(Probe::default(), 4)
}

/// State that a refused access must not change. Reading it accesses no register.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub status: u8,
    pub phase: Phase,
    pub accepted: Features,
    pub features: Features,
    pub queues: Vec<(QueueState, Option<QueueConfig>)>,
    pub interrupts: InterruptStatus,
    pub raised: u32,
    pub high: bool,
    pub counters: Counters,
}

/// Reads that state from the host's side.
pub fn seen<D: DeviceModel, M: DriverMem>(engine: &TestEngine<D, M>) -> Seen {
    let device = engine.device();
    Seen {
        status: engine.transport().status(device.shared()).bits(),
        phase: engine.phase(),
        accepted: engine.transport().driver_features(),
        features: engine.features(),
        queues: (0..Q as u16)
            .map(|queue| {
                (
                    engine.queue_state(queue),
                    engine.queue_config(queue).copied(),
                )
            })
            .collect(),
        interrupts: device.shared().interrupt_status(),
        raised: device.notify().asserted(),
        high: device.notify().is_high(),
        counters: engine.counters(),
    }
}

/// Reads QueueReady of a queue, as the driver does.
pub fn ready(engine: &mut impl Registers, queue: u16) -> u32 {
    assert_eq!(engine.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    engine.load(reg::QUEUE_READY)
}

/// Reads InterruptStatus, as the driver does.
pub fn pending(engine: &mut impl Registers) -> u32 {
    engine.load(reg::INTERRUPT_STATUS)
}

/// Makes a request of `text` available on queue `queue`, without a kick; returns its head.
pub fn publish(driver: &mut FakeDriver<FlatMem>, queue: u16, text: &[u8]) -> u16 {
    let head = (driver.next_avail() * 2) % driver.layout().size;
    let at = DATA + 0x2000 * u64::from(queue) + 0x100 * u64::from(head);
    driver.write(at, text);
    driver.write(at + 0x80, &[0; 0x80]);
    let len = text.len() as u32;
    driver.send(
        head,
        &[
            Buffer::readable(at, len),
            Buffer::writable(at + 0x80, len + 1),
        ],
    );
    head
}

/// Returns the device's answer to a request of [`publish`], if there is one.
pub fn answer(driver: &mut FakeDriver<FlatMem>, queue: u16) -> Option<Vec<u8>> {
    let (head, len) = driver.take_used()?;
    let at = DATA + 0x2000 * u64::from(queue) + 0x100 * u64::from(head) + 0x80;
    let mut bytes = vec![0; len as usize];
    driver.read(at, &mut bytes);
    Some(bytes)
}

/// Resets queue `queue` by its register; returns the reply to QueueReset = 1.
pub fn reset_queue(engine: &mut impl Registers, queue: u16) -> Reply {
    assert_eq!(engine.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    engine.store(reg::QUEUE_RESET, 1)
}

/// Sends a request, and asserts that the queue answers it and notifies the driver.
#[track_caller]
pub fn assert_works<M: DriverMem>(
    engine: &mut TestEngine<Probe, M>,
    driver: &mut FakeDriver<FlatMem>,
    queue: u16,
) {
    let text = format!("request {}", driver.next_avail());
    let raised = engine.device().notify().asserted();
    publish(driver, queue, text.as_bytes());
    assert_eq!(engine.kick(queue), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(driver, queue).as_deref(), Some(text.as_bytes()));
    assert_eq!(pending(engine) & 1, 1, "the used buffer was announced");
    assert_eq!(engine.device().notify().asserted(), raised + 1);
}

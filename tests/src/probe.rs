//! A device whose every choice is the test's, and which notes what it is asked.

use virtside::{
    Answer, Counters, DeviceConfig, DeviceError, DeviceModel, DriverFault, DriverMem, Features,
    FlatMem, InterruptStatus, QueueCheck, QueueConfig, QueueState, Request, SharedMemory, Start,
    Step, Token,
    mmio::{Phase, Reply},
    testing::{Buffer, FakeDriver, Registers},
};

use crate::{BUDGET, DATA, Guest, Q, TestRam, guest, reg};

/// What a [`Probe`] was told or asked.
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

/// A policy on queues.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Queues that are not wanted.
    pub unwanted: Vec<u16>,
    /// Queues that are wanted only with these features.
    pub needs: Vec<(u16, Features)>,
    /// Queues that are wanted only beside this one.
    pub after: Vec<(u16, u16)>,
}

impl QueueCheck for Policy {
    type Error = DeviceError;

    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        let existing: Vec<u16> = existing.collect();
        let lonely = |&(late, early): &(u16, u16)| late == queue && !existing.contains(&early);
        if self.unwanted.contains(&queue) || self.after.iter().any(lonely) {
            return Err(DeviceError::InvalidQueue(queue));
        }
        Ok(())
    }

    fn check_config(
        &self,
        config: &QueueConfig,
        features: Features,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        let queue = config.queue;
        let lacks =
            |&(which, needed): &(u16, Features)| which == queue && !features.contains(needed);
        if self.needs.iter().any(lacks) {
            return Err(DeviceError::InvalidQueue(queue));
        }
        self.check_queue(queue, existing)
    }
}

/// A device that sends back what it is sent, and otherwise does as the test says.
#[derive(Clone, Debug)]
pub struct Probe {
    /// DeviceID.
    pub id: u32,
    /// What it would like to offer.
    pub wishes: Features,
    /// What it does not work with.
    pub excludes: Features,
    /// Size of each queue; 0 for none.
    pub sizes: [u16; Q],
    /// The same from FEATURES_OK on, if that makes a difference.
    pub sizes_negotiated: Option<[u16; Q]>,
    /// Whether it takes the driver's features.
    pub agrees: bool,
    /// What it says at DRIVER_OK.
    pub start: Start,
    /// Whether it keeps chains until they are completed.
    pub holds: bool,
    /// Queues whose chains may be pending while it is suspended.
    pub sleepers: Vec<u16>,
    /// Queues whose chains it cannot serve now.
    pub unready: Vec<u16>,
    /// Its shared memory regions, by id.
    pub regions: Vec<(u32, SharedMemory)>,
    /// What it finds wrong with each chain.
    pub blames: Option<DriverFault>,
    /// The configuration space.
    pub space: Vec<u8>,
    /// What of it the driver may write.
    pub writable: core::ops::Range<usize>,
    /// Whether that is so in any phase.
    pub always: bool,
    /// Which queues it wants.
    pub policy: Policy,
    /// Chains that it keeps.
    pub held: Vec<Token>,
    /// What happened so far.
    pub log: Vec<Event>,
    /// Whether it took the driver's features.
    pub negotiated: bool,
}

impl Default for Probe {
    /// Queues 0 and 1 of up to 16, queue 2 of up to 8, no queue 3, 12 bytes of configuration.
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
            policy: Policy::default(),
            held: Vec::new(),
            log: Vec::new(),
            negotiated: false,
        }
    }
}

impl Probe {
    /// How often something happened.
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

impl DeviceModel for Probe {
    fn queue_check(&self) -> impl QueueCheck {
        self.policy.clone()
    }

    fn ready(&mut self, features: Features) -> Start {
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

/// A device that may hold four chains, in reset, and its memory.
pub fn probe() -> (Guest<Probe>, TestRam) {
    guest(Probe::default(), 4)
}

/// All that a refused access must leave as it was. Nothing is accessed to see it.
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

/// What there is to see from the host's side.
pub fn seen<D: DeviceModel, M: DriverMem>(guest: &Guest<D, M>) -> Seen {
    let device = guest.device();
    Seen {
        status: guest.transport().status(device.shared()).bits(),
        phase: guest.phase(),
        accepted: guest.transport().driver_features(),
        features: guest.features(),
        queues: (0..Q as u16)
            .map(|queue| (guest.queue_state(queue), guest.queue_config(queue).copied()))
            .collect(),
        interrupts: device.shared().interrupt_status(),
        raised: device.notify().asserted(),
        high: device.notify().is_high(),
        counters: guest.counters(),
    }
}

/// QueueReady of a queue, as the driver reads it.
pub fn ready(guest: &mut impl Registers, queue: u16) -> u32 {
    assert_eq!(guest.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    guest.load(reg::QUEUE_READY)
}

/// InterruptStatus, as the driver reads it.
pub fn pending(guest: &mut impl Registers) -> u32 {
    guest.load(reg::INTERRUPT_STATUS)
}

/// Makes a request of `text` available on queue `queue` without a kick; gives its head.
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

/// What the device answered to a request published with [`publish`], if it did.
pub fn answer(driver: &mut FakeDriver<FlatMem>, queue: u16) -> Option<Vec<u8>> {
    let (head, len) = driver.take_used()?;
    let at = DATA + 0x2000 * u64::from(queue) + 0x100 * u64::from(head) + 0x80;
    let mut bytes = vec![0; len as usize];
    driver.read(at, &mut bytes);
    Some(bytes)
}

/// Resets queue `queue` by its register; the answer to QueueReset = 1.
pub fn reset_queue(guest: &mut impl Registers, queue: u16) -> Reply {
    assert_eq!(guest.store(reg::QUEUE_SEL, queue.into()), Reply::Done(0));
    guest.store(reg::QUEUE_RESET, 1)
}

/// A request and its answer: the queue works, and announces it.
#[track_caller]
pub fn assert_works<M: DriverMem>(
    guest: &mut Guest<Probe, M>,
    driver: &mut FakeDriver<FlatMem>,
    queue: u16,
) {
    let text = format!("request {}", driver.next_avail());
    let raised = guest.device().notify().asserted();
    publish(driver, queue, text.as_bytes());
    assert_eq!(guest.kick(queue), Reply::Done(0));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(answer(driver, queue).as_deref(), Some(text.as_bytes()));
    assert_eq!(pending(guest) & 1, 1, "the used buffer was announced");
    assert_eq!(guest.device().notify().asserted(), raised + 1);
}

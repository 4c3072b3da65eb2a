//! A driver that must not notice a restore, and checks for what it could notice.

use std::collections::BTreeMap;

#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    Features, FlatMem, QueueConfig,
    mmio::{Phase, Reply},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{BASE, DATA, N, Q, TestEngine, TestRam, engine_over, probe::Probe, reg};

/// Chains that a snapshot in these tests has room for.
pub const P: usize = 8;
/// Chains that a device in these tests has slots for.
pub const SLOTS: usize = 8;

pub type State = EngineSnapshot<(), Q, N, P>;

/// Features that a device in these tests may offer.
pub const ALL: Features = Features::RING.union(Features::IN_ORDER);

/// A model that offers what a driver with `features` needs.
pub fn model(features: Features) -> Probe {
    Probe {
        wishes: ALL | features,
        ..Probe::default()
    }
}

/// A device in reset over this memory.
pub fn fresh(ram: TestRam, model: Probe) -> TestEngine<Probe> {
    engine_over(model, ram.flat(BASE), SLOTS)
}

/// A model that offers the same features and holds no chain.
pub fn replacement(engine: &TestEngine<Probe>) -> Probe {
    Probe {
        held: Vec::new(),
        log: Vec::new(),
        negotiated: false,
        ..engine.model().clone()
    }
}

#[track_caller]
pub fn save(engine: &mut TestEngine<Probe>) -> State {
    engine.save().expect("the device can be saved")
}

/// Saves the device and restores it in another engine over the same memory. Asserts that memory and
/// everything visible are unchanged.
#[track_caller]
pub fn move_device(mut engine: TestEngine<Probe>, ram: TestRam) -> TestEngine<Probe> {
    let before = virtside_tests::rings::shot(ram);
    let state = save(&mut engine);
    let model = replacement(&engine);
    let mut next = fresh(ram, model).with_policy(engine.transport().policy());
    next.restore(&state).expect("the snapshot is valid");
    assert!(
        virtside_tests::rings::shot(ram) == before,
        "save and restore do not touch driver memory"
    );
    assert_same(&state, &save(&mut next));
    assert_eq!(next.phase(), engine.phase());
    assert_eq!(next.features(), engine.features());
    let (line, high) = (next.device().notify(), engine.device().notify().is_high());
    if engine.phase() == Phase::Suspended {
        assert_eq!(line.asserted(), 0, "no interrupt before the first poll");
    } else {
        assert_eq!(line.is_high(), high, "the line keeps its level");
    }
    for queue in 0..Q as u16 {
        assert_eq!(next.queue_config(queue), engine.queue_config(queue));
    }
    assert_eq!(
        registers(&mut next),
        registers(&mut engine),
        "the registers read the same"
    );
    assert_eq!(next.take_host_fault(), None);
    restore_selectors(&mut next, &state);
    next
}

/// Asserts that the second snapshot, taken after a restore of the first, is equal to it.
#[track_caller]
pub fn assert_same(state: &State, again: &State) {
    let mut again = again.clone();
    assert_ne!(
        again.registers.generation, state.registers.generation,
        "ConfigGeneration changes across a restore"
    );
    again.registers.generation = state.registers.generation;
    assert_eq!(again, *state);
}

/// Everything that the driver can read, except ConfigGeneration.
pub fn registers(engine: &mut TestEngine<Probe>) -> Vec<(u32, u32, u32)> {
    let mut seen = Vec::new();
    let mut look = |engine: &mut TestEngine<Probe>, under: u32, offset: u32| {
        seen.push((under, offset, engine.load(offset)));
    };
    // The registers of the current selection first.
    let plain = [
        reg::MAGIC_VALUE,
        reg::VERSION,
        reg::DEVICE_ID,
        reg::VENDOR_ID,
        reg::DEVICE_FEATURES,
        reg::QUEUE_SIZE_MAX,
        reg::QUEUE_READY,
        reg::INTERRUPT_STATUS,
        reg::STATUS,
        reg::QUEUE_RESET,
        reg::SHM_LEN_LOW,
        reg::SHM_BASE_HIGH,
        reg::CONFIG,
        reg::CONFIG + 8,
    ];
    for offset in plain {
        look(engine, u32::MAX, offset);
    }
    for queue in 0..=Q as u32 {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        for offset in [reg::QUEUE_SIZE_MAX, reg::QUEUE_READY, reg::QUEUE_RESET] {
            look(engine, queue, offset);
        }
    }
    for word in 0..5 {
        let _ = engine.store(reg::DEVICE_FEATURES_SEL, word);
        look(engine, word, reg::DEVICE_FEATURES);
    }
    seen
}

fn restore_selectors(engine: &mut TestEngine<Probe>, state: &State) {
    let _ = engine.store(reg::QUEUE_SEL, state.registers.queue_sel);
    let _ = engine.store(
        reg::DEVICE_FEATURES_SEL,
        state.registers.device_features_sel,
    );
}

/// Asserts that a restore is refused with this error, and that the device works afterwards.
#[track_caller]
pub fn assert_refused(ram: TestRam, model: Probe, state: &State, why: SnapshotError) {
    let before = virtside_tests::rings::shot(ram);
    let mut engine = fresh(ram, model);
    assert_eq!(engine.restore(state), Err(why));
    assert!(virtside_tests::rings::shot(ram) == before);
    assert_in_reset(&mut engine);
}

/// Asserts that the device is in its initial state.
#[track_caller]
pub fn assert_in_reset(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.phase(), Phase::Reset);
    assert_eq!(engine.load(reg::STATUS), 0);
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 0);
    assert!(!engine.device().notify().is_high());
    assert_eq!(engine.configured_queues().count(), 0);
    assert_eq!(engine.features(), Features::empty());
    assert_eq!(engine.transport().driver_features(), Features::empty());
    assert_eq!(engine.transport().last_refusal(), None);
    assert!(!engine.device().shared().is_live());
    let state = save(engine);
    assert!(state.device.chains.is_empty() && state.device.queues.is_empty());
    for latch in &state.registers.queues {
        assert_eq!(*latch, virtside::snapshot::QueueRegisters::default());
    }
}

/// The driver's side of a ring in either format.
pub enum Ring {
    Split(FakeDriver<FlatMem>),
    #[cfg(feature = "packed")]
    Packed(PackedDriver<FlatMem>),
}

/// A driver that counts its requests: each must be answered once, with the bytes that it sent.
pub struct Client {
    pub ring: Ring,
    queue: u16,
    features: Features,
    in_flight_by_id: BTreeMap<u16, InFlight>,
    /// Ids in the order in which they were sent.
    order: Vec<u16>,
    pub sent: u32,
    pub answered: u32,
    /// Requests whose chains the device was told to abandon.
    pub abandoned: u32,
}

struct InFlight {
    text: Vec<u8>,
    #[cfg(feature = "packed")]
    slots: u16,
}

/// Bytes of a request's area.
const AREA: u64 = 0x100;

impl Client {
    /// A driver of queue `queue` with zeroed rings; packed if the features say so.
    pub fn new(ram: TestRam, queue: u16, features: Features) -> Self {
        #[cfg(feature = "packed")]
        let ring = if features.contains(Features::RING_PACKED) {
            // A packed ring's size need not be a power of two.
            let start = virtside_tests::layout(queue).desc;
            Ring::Packed(PackedDriver::new(ram.flat(BASE), start, 13))
        } else {
            Ring::Split(virtside_tests::driver(ram, queue))
        };
        #[cfg(not(feature = "packed"))]
        let ring = Ring::Split(virtside_tests::driver(ram, queue));
        Self {
            ring,
            queue,
            features,
            in_flight_by_id: BTreeMap::new(),
            order: Vec::new(),
            sent: 0,
            answered: 0,
            abandoned: 0,
        }
    }

    pub fn config(&self) -> QueueConfig {
        match &self.ring {
            Ring::Split(driver) => driver.config(self.queue),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(self.queue),
        }
    }

    /// The driver of a split ring.
    #[track_caller]
    pub fn split(&self) -> &FakeDriver<FlatMem> {
        match &self.ring {
            Ring::Split(driver) => driver,
            #[cfg(feature = "packed")]
            Ring::Packed(_) => panic!("a packed ring"),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight_by_id.len()
    }

    fn area(&self, id: u16) -> u64 {
        DATA + 0x2000 * u64::from(self.queue) + AREA * u64::from(id)
    }

    /// Makes a request of two buffers, or of one indirect descriptor, available without a kick;
    /// false if there is no room.
    pub fn send(&mut self, indirect: bool) -> bool {
        let indirect = indirect && self.features.contains(Features::INDIRECT_DESC);
        // Six requests of two descriptors fit into either ring.
        let Some(id) = (0..6).find(|id| !self.in_flight_by_id.contains_key(id)) else {
            return false;
        };
        let text = format!("request {} of queue {}", self.sent, self.queue).into_bytes();
        let at = self.area(id);
        let len = text.len() as u32;
        let room = len + self.sent % 2;
        let buffers = [Buffer::readable(at, len), Buffer::writable(at + 0x80, room)];
        let table = at + 0xc0;
        match &mut self.ring {
            Ring::Split(driver) => {
                driver.write(at, &text);
                driver.write(at + 0x80, &[0; 0x40]);
                if indirect {
                    driver.write_indirect(id * 2, table, &buffers);
                    driver.offer(id * 2);
                    driver.publish();
                } else {
                    driver.send(id * 2, &buffers);
                }
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                driver.write(at, &text);
                driver.write(at + 0x80, &[0; 0x40]);
                if indirect {
                    driver.send_indirect(name(id), table, &buffers, 0);
                } else {
                    driver.send(name(id), &buffers);
                }
            }
        }
        let in_flight_by_id = InFlight {
            text,
            #[cfg(feature = "packed")]
            slots: if indirect { 1 } else { 2 },
        };
        self.in_flight_by_id.insert(id, in_flight_by_id);
        self.order.push(id);
        self.sent += 1;
        true
    }

    /// Expects no answer to the oldest request in flight; its descriptors do not come back.
    pub fn abandon_oldest(&mut self) {
        self.abandoned += 1;
    }

    /// Takes all answers, and checks that each is in flight, has the right bytes, and is in order
    /// with IN_ORDER.
    #[track_caller]
    pub fn reap(&mut self) -> usize {
        let in_order = self.features.contains(Features::IN_ORDER);
        let mut count = 0;
        loop {
            let Some((id, len)) = self.take() else {
                return count;
            };
            if in_order {
                // With IN_ORDER, an element also stands for all full chains before it.
                while let Some(first) = self.order.first().copied()
                    && first != id
                {
                    self.finish(first, None);
                    count += 1;
                }
            }
            self.finish(id, Some(len));
            count += 1;
        }
    }

    /// The next used element: id and length.
    fn take(&mut self) -> Option<(u16, u32)> {
        match &mut self.ring {
            Ring::Split(driver) => {
                let in_order = self.features.contains(Features::IN_ORDER);
                let (head, len) = if in_order {
                    take_batch(driver, self.answered as u16)?
                } else {
                    driver.take_used()?
                };
                assert!(head % 2 == 0 && head < 12, "head {head} was never sent");
                Some((head as u16 / 2, len))
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                // The id says how far to advance: read the element first, then take it.
                let (id, ..) = driver.clone().take_used(1)?;
                let id = (0..6)
                    .find(|it| name(*it) == id)
                    .expect("an id that was sent");
                let in_order = self.features.contains(Features::IN_ORDER);
                let passed = |at: &u16| self.in_flight_by_id[at].slots;
                let slots = if in_order {
                    let upto = self.order.iter().position(|it| *it == id);
                    self.order[..=upto.expect("in flight")]
                        .iter()
                        .map(passed)
                        .sum()
                } else {
                    self.in_flight_by_id.get(&id).expect("in flight").slots
                };
                let (_, len, _) = driver.take_used(slots)?;
                Some((id, len))
            }
        }
    }

    #[track_caller]
    fn finish(&mut self, id: u16, len: Option<u32>) {
        let in_flight_by_id = self.in_flight_by_id.remove(&id);
        let InFlight { text, .. } =
            in_flight_by_id.expect("an answer to a request that is not in flight");
        self.order.retain(|it| *it != id);
        assert!(len.is_none_or(|len| len as usize == text.len()));
        let mut bytes = vec![0; text.len()];
        let at = self.area(id) + 0x80;
        match &self.ring {
            Ring::Split(driver) => driver.read(at, &mut bytes),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.read(at, &mut bytes),
        };
        assert_eq!(bytes, text, "the answer belongs to its request");
        self.answered += 1;
    }

    /// Sends requests, kicks, and gets answers.
    #[track_caller]
    pub fn assert_works(&mut self, engine: &mut TestEngine<Probe>) {
        let before = self.answered;
        assert!(self.send(false));
        assert_eq!(engine.kick(self.queue), Reply::Done(0));
        let _ = virtside_tests::drain(engine);
        self.reap();
        assert!(self.answered > before, "a request was answered");
        assert_eq!(self.in_flight(), self.abandoned as usize);
    }
}

/// The next used element, for a driver that only knows the number of answered requests: with
/// IN_ORDER, a batch's element is in the position of the batch's first chain.
fn take_batch(driver: &mut FakeDriver<FlatMem>, answered: u16) -> Option<(u32, u32)> {
    (driver.used_idx() != answered).then(|| driver.used_entry(answered))
}

/// The packed ring's id of a request, an arbitrary number.
#[cfg(feature = "packed")]
fn name(id: u16) -> u16 {
    id.wrapping_mul(0x2801).wrapping_add(0x7ffe)
}

/// Ring formats, and features that change how a ring is read.
pub fn rings() -> Vec<Features> {
    let mut formats = vec![Features::VERSION_1];
    if cfg!(feature = "packed") {
        formats.push(Features::VERSION_1 | Features::RING_PACKED);
    }
    let mut sets = Vec::new();
    for format in formats {
        for order in [Features::empty(), Features::IN_ORDER] {
            for event in [Features::empty(), Features::EVENT_IDX] {
                let rest = Features::INDIRECT_DESC | Features::RING_RESET | Features::SUSPEND;
                sets.push(format | order | event | rest);
            }
        }
    }
    sets
}

/// A live device with these features, and a client of its queue 0.
#[track_caller]
pub fn live(features: Features) -> (TestEngine<Probe>, Client, TestRam) {
    let ram = virtside_tests::ram();
    let mut engine = fresh(ram, model(features));
    let client = Client::new(ram, 0, features);
    assert!(
        engine.bring_up(features, &[client.config()]),
        "the device is live"
    );
    (engine, client, ram)
}

//! The code that the fuzz targets run. Each function is named after its target, accepts any bytes,
//! and asserts the invariants that hold whatever a driver does.
//!
//! The targets of cargo-fuzz call these functions with the inputs of the fuzzer.
//! `tests/fuzz_corpus` replays the corpora through the same functions, on stable Rust and without a
//! fuzzer.

mod snapshot;
mod vhost_user;

pub use snapshot::snapshot;
pub use vhost_user::vhost_user;

use virtio_spec::DeviceStatus;
use virtside::{
    ChainSlot, DriverMem, Engine, Features, FlatMem, QueueConfig, Shared, Step,
    device::QueueState,
    features::Offer,
    interrupt::CountingNotify,
    memory::Ram,
    mmio::Access,
    models::{Block, BlockOptions, blk::RamDisk},
    testing::{Buffer, FakeDriver, Layout, Registers, Shift, ShiftingMem},
    transport::{Phase, Reply},
};

/// The memory of one fuzz run.
pub type FuzzRam = Ram<16384>;

/// Maximum queue size, in elements.
const N: usize = 8;
/// Number of queues.
const Q: usize = 2;
/// The driver's address of the first byte of memory.
const BASE: u64 = 0x1_0000;
/// Maximum number of chains in one poll.
const BUDGET: u16 = 16;
/// Length of the memory at [`BASE`] that contains all rings, in bytes.
const RINGS: usize = 0x400;
/// Capacity of the disk, in sectors.
const SECTORS: usize = 8;

type Disk = Block<RamDisk<[u8; SECTORS * 512]>>;
type Fuzzed<'a, M> = Engine<Disk, M, &'a CountingNotify, Q, N, [ChainSlot<N>; 2], &'a Shared<Q>>;

/// The fuzz input, read from the front. After its end, it reads as zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }
    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

fn disk() -> Disk {
    Block::new(
        RamDisk::new([0x5a; SECTORS * 512]),
        BlockOptions::new(N as u16).with_queues(2).with_id("fuzz"),
    )
}

fn engine<'a, M: DriverMem>(
    mem: M,
    line: &'a CountingNotify,
    shared: &'a Shared<Q>,
) -> Fuzzed<'a, M> {
    let more = Features::RING_PACKED
        .union(Features::IN_ORDER)
        .union(Features::NOTIFICATION_DATA);
    Engine::new(disk(), mem, line, [const { ChainSlot::new() }; 2], shared)
        .with_offer(Offer::AS_IS.with(more))
}

fn layout(queue: u16) -> Layout {
    Layout::packed_at(
        BASE.wrapping_add(u64::from(queue).wrapping_mul(0x200)),
        N as u16,
    )
}

fn zero(ram: &'static FuzzRam) {
    for at in (0..16384).step_by(64) {
        ram.write(at, &[0; 64]);
    }
}

/// Offsets of registers, and some offsets that have no register.
const OFFSETS: [u32; 40] = [
    0x00,
    0x04,
    0x08,
    0x0c,
    0x10,
    0x14,
    0x20,
    0x24,
    0x30,
    0x34,
    0x38,
    0x44,
    0x50,
    0x60,
    0x64,
    0x70,
    0x80,
    0x84,
    0x90,
    0x94,
    0xa0,
    0xa4,
    0xac,
    0xb0,
    0xb4,
    0xb8,
    0xbc,
    0xc0,
    0xfc,
    0x100,
    0x104,
    0x120,
    0x122,
    0x138,
    0x139,
    0x13c,
    0x02,
    0x71,
    0x18,
    0xffff_fffc,
];

/// Returns an access of a driver that knows the register offsets, but no rules.
fn random_access(input: &mut Input<'_>) -> Access {
    let kind = input.byte();
    let offset = OFFSETS
        .get(usize::from(input.byte()) % 40)
        .copied()
        .unwrap_or(0);
    let width = match kind & 0x0f {
        0 => 1,
        1 => 2,
        2 => 8,
        3 => input.byte(),
        _ => 4,
    };
    if kind & 0x80 == 0 {
        return Access::Read { offset, width };
    }
    let value = match kind & 0x70 {
        0x00 => u64::from(input.word()),
        0x10 => u64::from(input.byte()),
        0x20 => 0,
        0x30 => 1,
        // A valid value for the register.
        0x40 => match offset {
            0x70 => 0xf,
            0x38 => 8,
            0x80 => BASE & 0xffff_ffff,
            0x90 => layout(0).driver & 0xffff_ffff,
            0xa0 => layout(0).device & 0xffff_ffff,
            _ => u64::from(input.byte() & 3),
        },
        _ => u64::from(input.half()),
    };
    Access::Write {
        offset,
        width,
        value,
    }
}

/// Returns whether DRIVER_OK was accepted and the device was not reset or given up since.
fn is_alive(phase: Phase) -> bool {
    matches!(phase, Phase::Live | Phase::Suspending | Phase::Suspended)
}

/// Asserts the invariants that hold between any two steps.
fn check<M: DriverMem>(engine: &mut Fuzzed<'_, M>, shared: &Shared<Q>) {
    let status = engine.transport().status(shared);
    let phase = engine.phase();
    let is_live = is_alive(phase);
    if phase != Phase::Failed {
        let ok = status.contains(DeviceStatus::DRIVER_OK);
        assert_eq!(ok, matches!(phase, Phase::Live | Phase::Suspending));
        let suspended = status.contains(DeviceStatus::SUSPEND);
        assert_eq!(suspended, phase == Phase::Suspended);
    }
    assert!(!is_live || status.contains(DeviceStatus::FEATURES_OK));
    assert!(is_live || !shared.is_live());
    // A level line follows InterruptStatus.
    assert_eq!(
        engine.device().notify().is_high(),
        !shared.interrupt_status().is_empty()
    );
    // The memory is always mapped and the disk never fails. A host fault would mean that the device
    // used an unchecked address.
    assert_eq!(engine.take_host_fault(), None);
    for queue in 0..Q as u16 {
        let state = engine.queue_state(queue);
        assert!(is_live || state != QueueState::Live || phase == Phase::Failed);
        if let Some(config) = engine.queue_config(queue) {
            // Before FEATURES_OK, the ring format is not known.
            let packed = engine
                .transport()
                .driver_features()
                .contains(Features::RING_PACKED);
            assert!(config.size != 0 && config.size <= 8);
            assert!(packed || !is_live || config.size.is_power_of_two());
        }
        if engine.driver_fault(queue).is_some() {
            assert_eq!(state, QueueState::Failed);
            assert!(status.contains(DeviceStatus::DEVICE_NEEDS_RESET));
        }
    }
}

fn configs<M: DriverMem>(engine: &Fuzzed<'_, M>) -> [Option<QueueConfig>; 2] {
    [
        engine.queue_config(0).copied(),
        engine.queue_config(1).copied(),
    ]
}

/// Makes register accesses in any order, with a poll after each access.
///
/// # Panics
/// If an invariant does not hold.
pub fn registers(ram: &'static FuzzRam, data: &[u8]) {
    zero(ram);
    let (line, shared) = (CountingNotify::new(), Shared::new());
    let mut engine = engine(ram.flat(BASE), &line, &shared);
    let mut input = Input(data);
    while !input.is_empty() {
        let access = random_access(&mut input);
        let before = configs(&engine);
        let (phase, status) = (engine.phase(), engine.transport().status(&shared));
        let reply = engine.access(access);
        // No queue is taken, so every access gets its reply at once.
        assert!(
            reply.bus_value().is_some(),
            "{access:?} was answered {reply:?}"
        );
        let may_configure = matches!(
            access,
            Access::Write {
                offset: 0x44 | 0x70 | 0xc0,
                ..
            }
        );
        assert!(
            may_configure || configs(&engine) == before,
            "{access:?} changed a queue"
        );
        if is_alive(phase) && !matches!(access, Access::Write { offset: 0x70, .. }) {
            // A live queue can only stop. It can return after a queue reset.
            let may_return = matches!(access, Access::Write { offset: 0x44, .. })
                && engine.features().contains(Features::RING_RESET);
            for (was, is) in before.iter().zip(configs(&engine)) {
                assert!(is.is_none() || is == *was || (was.is_none() && may_return));
            }
        }
        if (matches!(access, Access::Read { .. }) || reply.refusal().is_some())
            && !matches!(access, Access::Write { offset: 0x70, .. })
        {
            assert_eq!(configs(&engine), before);
        }
        let is = engine.transport().status(&shared);
        match access {
            Access::Write {
                offset: 0x70,
                width: 4,
                value,
            } if value as u32 != 0 => {
                let both = DeviceStatus::DRIVER_OK | DeviceStatus::SUSPEND;
                let may_clear = engine.features().contains(Features::SUSPEND) && is_alive(phase);
                let cleared = status.difference(is);
                assert!(cleared.is_empty() || (may_clear && both.contains(cleared)));
            }
            // The re-enabling of a queue was refused: only DEVICE_NEEDS_RESET may change.
            Access::Write { offset: 0x44, .. } if is_alive(phase) && reply.refusal().is_some() => {
                assert_eq!(
                    is.difference(DeviceStatus::DEVICE_NEEDS_RESET),
                    status.difference(DeviceStatus::DEVICE_NEEDS_RESET)
                );
            }
            // A device reset.
            Access::Write {
                offset: 0x70,
                width: 4,
                ..
            } => {
                assert_eq!((is, engine.phase()), (DeviceStatus::empty(), Phase::Reset));
                assert_eq!(configs(&engine), [None; 2]);
                assert!(shared.interrupt_status().is_empty());
            }
            _ => assert_eq!((is, engine.phase()), (status, phase)),
        }
        check(&mut engine, &shared);
        let rings = digest(ram, RINGS);
        let _ = engine.poll(BUDGET);
        assert!(engine.phase() == Phase::Live || digest(ram, RINGS) == rings);
        check(&mut engine, &shared);
    }
    reset_and_work(&mut engine, ram);
}

/// Returns a digest of the first `len` bytes, to detect changes.
fn digest(ram: &'static FuzzRam, len: usize) -> u64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    let mut bytes = [0; 64];
    for at in (0..len).step_by(64) {
        ram.read(at, &mut bytes);
        for word in bytes.chunks_exact(8) {
            let word = <[u8; 8]>::try_from(word).unwrap_or_default();
            sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01b3);
        }
    }
    sum
}

/// Resets the device, and asserts that a clean set-up and one request work after it.
fn reset_and_work(engine: &mut Fuzzed<'_, FlatMem>, ram: &'static FuzzRam) {
    assert_eq!(engine.store(0x70, 0), Reply::Done(0));
    assert_eq!(engine.status(), DeviceStatus::empty());
    assert_eq!(engine.phase(), Phase::Reset);
    assert!(engine.configured_queues().next().is_none());
    zero(ram);
    let mut driver = FakeDriver::new(ram.flat(BASE), layout(0));
    assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));
    let data = BASE.wrapping_add(0x2000);
    // GET_ID
    driver.write(data, &[8, 0, 0, 0]);
    driver.send(
        3,
        &[
            Buffer::readable(data, 16),
            Buffer::writable(data.wrapping_add(0x100), 20),
            Buffer::writable(data.wrapping_add(0x200), 1),
        ],
    );
    assert_eq!(engine.kick(0), Reply::Done(0));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(driver.take_used(), Some((3, 21)));
}

/// Polls a live device with split rings, whose memory (rings included) comes from the input.
///
/// # Panics
/// If an invariant does not hold.
pub fn split_ring(ram: &'static FuzzRam, data: &[u8]) {
    ring(ram, data, Features::VERSION_1);
}

/// Polls a live device with packed rings, whose memory (rings included) comes from the input.
///
/// # Panics
/// If an invariant does not hold.
#[cfg(feature = "packed")]
pub fn packed_ring(ram: &'static FuzzRam, data: &[u8]) {
    let features = Features::VERSION_1.union(Features::RING_PACKED);
    ring(ram, data, features);
}

fn ring(ram: &'static FuzzRam, data: &[u8], mut features: Features) {
    zero(ram);
    let (line, shared) = (CountingNotify::new(), Shared::new());
    let mut engine = engine(ram.flat(BASE), &line, &shared);
    let mut input = Input(data);
    let wanted = input.byte();
    for (bit, feature) in [
        (1, Features::EVENT_IDX),
        (2, Features::INDIRECT_DESC),
        (4, Features::IN_ORDER),
    ] {
        if wanted & bit != 0 {
            features = features.union(feature);
        }
    }
    assert!(engine.bring_up(features, &[layout(0).config(0)]));
    let mut last_used: u16 = 0;
    while !input.is_empty() {
        // The input of one round: up to 255 bytes for memory, at any offset.
        let (at, len) = (input.half(), input.byte());
        let at = usize::from(at) % 16384;
        for place in 0..usize::from(len) {
            if input.is_empty() {
                break;
            }
            ram.write(at.wrapping_add(place), &[input.byte()]);
        }
        let _ = engine.kick(0);
        let failed = engine.driver_fault(0).is_some();
        let before = if failed { digest(ram, 16384) } else { 0 };
        let interrupts = line.asserted();
        let step = engine.poll(BUDGET);
        // One used element for each chain, and at most the budget.
        let used = engine.counters().chains as u16;
        assert!(used.wrapping_sub(last_used) <= BUDGET);
        // At most one interrupt for the batch, and one for a driver fault.
        let sent = line.asserted().wrapping_sub(interrupts);
        assert!(sent <= 2 && (sent < 2 || engine.driver_fault(0).is_some()));
        if failed {
            assert_eq!((digest(ram, 16384), sent, used), (before, 0, last_used));
            assert_eq!(step, Step::Idle);
        }
        last_used = used;
        check(&mut engine, &shared);
    }
    reset_and_work(&mut engine, ram);
}

/// Runs a live device with any register accesses and any rings, over memory that changes between
/// two loads.
///
/// # Panics
/// If an invariant does not hold.
pub fn shifting(ram: &'static FuzzRam, data: &[u8]) {
    zero(ram);
    let (line, shared) = (CountingNotify::new(), Shared::new());
    let mut input = Input(data);
    let split = usize::from(input.half()).min(input.0.len());
    let (script, rest) = input.0.split_at(split);
    let shift = Shift::new(script, BASE);
    let mut engine = engine(ShiftingMem::new(ram.flat(BASE), &shift), &line, &shared);
    let mut driver = FakeDriver::new(ram.flat(BASE), layout(0));
    assert!(
        engine.bring_up(Features::RING, &[layout(0).config(0), layout(1).config(1)])
            || engine.bring_up(Features::RING, &[layout(0).config(0)])
    );
    let mut input = Input(rest);
    while !input.is_empty() {
        match input.byte() & 3 {
            0 => {
                let _ = engine.access(random_access(&mut input));
            }
            1 => {
                let at = usize::from(input.half()) % 16384;
                ram.write(at, &input.word().to_le_bytes());
            }
            _ => {
                let data = BASE.wrapping_add(0x2000);
                let head = u16::from(input.byte() & 7);
                driver.write(data, &[input.byte() & 15]);
                driver.send(
                    head,
                    &[
                        Buffer::readable(data, 16),
                        Buffer::writable(data.wrapping_add(0x200), u32::from(input.half())),
                        Buffer::writable(data.wrapping_add(0x100), 1),
                    ],
                );
                let _ = engine.kick(u16::from(input.byte() & 1));
            }
        }
        let _ = engine.poll(BUDGET);
        check(&mut engine, &shared);
    }
    assert_eq!(engine.store(0x70, 0), Reply::Done(0));
    assert_eq!(engine.status(), DeviceStatus::empty());
    let before = digest(ram, 16384);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(digest(ram, 16384), before);
}

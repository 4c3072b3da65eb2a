//! The device's process is killed during its work, and another process continues from the state in
//! a file: each request is answered once and executed once.
//!
//! The driver is in the test's process and does not notice. Driver memory and disk are files.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
};

#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    QueueConfig, Request, Shared, Step, Token,
    mmio::{Access, Reply},
    models::{Block, BlockOptions},
    snapshot::EngineSnapshot,
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_std::{FileDisk, VmMem};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::tempdir::TempDir;

use super::children::{FOLDER, start};
use virtside_tests::{random::Random, reg};

pub const BASE: u64 = 0x8000_0000;
pub const BYTES: u64 = 1 << 16;
const SECTORS: usize = 64;
pub const N: usize = 16;
/// Requests of three descriptors in flight at one time: as many as fit into a ring.
const AREAS: usize = 5;

pub fn memory(folder: &Path) -> VmMem {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(folder.join("memory"));
    let file = file.expect("the memory");
    let range = (
        GuestAddress(BASE),
        BYTES as usize,
        Some(FileOffset::new(file, 0)),
    );
    let mapped =
        GuestMemoryMmap::<()>::from_ranges_with_files([range]).expect("the memory is mapped");
    VmMem::new(&mapped)
}

// The device's side.

/// A slow disk that logs each request when it executes it.
struct Slow {
    disk: Block<FileDisk>,
    ring: Features,
    log: File,
    held: Vec<Token>,
    /// The chain to answer in this poll.
    due: Option<Token>,
    random: Random,
}

impl DeviceConfig for Slow {
    fn device_id(&self) -> u32 {
        self.disk.device_id()
    }
    fn features(&self) -> Features {
        self.disk.features() | self.ring
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        self.disk.queue_size_max(queue)
    }
    fn negotiate(&mut self, features: Features) -> bool {
        self.disk.negotiate(features)
    }
}

virtside_tests::keeps_nothing!(Slow);

impl DeviceModel for Slow {
    fn reset(&mut self) {
        self.disk.reset();
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let token = request.token;
        if self.due != Some(token) && self.random.index(3) != 0 {
            self.held.push(token);
            return Ok(Answer::Pending);
        }
        // The driver numbers its requests in the four bytes that the specification reserves.
        let mut header = [0; 16];
        let view = request
            .readable
            .view(16)
            .expect("memory")
            .expect("a header");
        assert_eq!(view.copy_to(&mut header), 16);
        self.log
            .write_all(&header[4..8])
            .expect("the request is logged");
        self.disk.serve(request)
    }
}

type Device = Engine<Slow, VmMem, (), 1, N, [ChainSlot<N>; AREAS], Arc<Shared<1>>>;
type State = EngineSnapshot<(), 1, N, AREAS>;

/// What the driver's process asks the device's process for.
const LOAD: u64 = 0;
const STORE: u64 = 1;
const POLL: u64 = 2;
const FINISH: u64 = 3;
const SAVE: u64 = 4;

/// The device's process, which the tests below start; not a test of its own.
#[test]
#[ignore = "the device's process, which the tests of processes start"]
fn the_device() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("started by a test"));
    let disk = FileDisk::open(folder.join("disk")).expect("the disk");
    let log = OpenOptions::new().append(true).open(folder.join("log"));
    let mut model = Slow {
        disk: Block::new(disk, BlockOptions::new(N as u16)),
        ring: Features::RING | Features::IN_ORDER,
        log: log.expect("the log"),
        held: Vec::new(),
        due: None,
        random: Random::new(0x9e37_79b9 ^ u64::from(std::process::id())),
    };
    if cfg!(feature = "packed") {
        model.ring = model.ring | Features::RING_PACKED;
    }
    let slots = [const { ChainSlot::new() }; AREAS];
    let mut device: Device = Engine::new(model, memory(&folder), (), slots, Arc::default());
    if let Ok(bytes) = std::fs::read(folder.join("state")) {
        let state: State = postcard::from_bytes(&bytes).expect("a state");
        device.restore(&state).expect("the snapshot is valid");
    }
    let mut wire = UnixStream::connect(folder.join("wire")).expect("the driver");
    let mut asked = [0; 24];
    while wire.read_exact(&mut asked).is_ok() {
        let word = |at: usize| u64::from_le_bytes(asked[at..at + 8].try_into().expect("a word"));
        let (what, one, two) = (word(0), word(8), word(16));
        let answer = match what {
            LOAD => device.load(one as u32).into(),
            STORE => match device.access(Access::write(one as u32, two as u32)) {
                Reply::Done(_) => 0,
                other => panic!("{other:?}"),
            },
            POLL => u64::from(device.poll(one as u16) == Step::More),
            FINISH => {
                let held = device.model().held.len();
                if held != 0 {
                    let token = device.model_mut().held.swap_remove(one as usize % held);
                    device.model_mut().due = Some(token);
                    device.complete(token).expect("the chain is pending");
                    device.model_mut().due = None;
                }
                held as u64
            }
            SAVE => {
                let state: State = device.save().expect("the device can be saved");
                let bytes = postcard::to_stdvec(&state).expect("bytes");
                std::fs::write(folder.join("state"), bytes).expect("the state");
                state.device.chains.len() as u64
            }
            other => panic!("{other}"),
        };
        wire.write_all(&answer.to_le_bytes())
            .expect("the driver receives");
    }
}

/// The device's process, as the driver sees it.
struct Remote {
    child: Child,
    wire: UnixStream,
}

impl Remote {
    fn start(folder: &Path, listener: &UnixListener) -> Self {
        let (child, wire) = start("processes::the_device", folder, listener);
        Self { child, wire }
    }

    fn ask(&mut self, what: u64, one: u64, two: u64) -> u64 {
        let words = [what, one, two].map(u64::to_le_bytes);
        self.wire
            .write_all(words.as_flattened())
            .expect("the device receives");
        let mut answer = [0; 8];
        self.wire
            .read_exact(&mut answer)
            .expect("the device answers");
        u64::from_le_bytes(answer)
    }

    /// Kills the process.
    fn kill(mut self) {
        self.child.kill().expect("the child is killed");
        self.child.wait().expect("the child has ended");
    }
}

impl Registers for Remote {
    fn reach(&mut self, access: Access) -> Reply {
        Reply::Done(match access {
            Access::Read { offset, .. } => self.ask(LOAD, offset.into(), 0),
            Access::Write { offset, value, .. } => self.ask(STORE, offset.into(), value),
        })
    }
}

// The driver's side.

enum Ring {
    Split(FakeDriver<VmMem>),
    #[cfg(feature = "packed")]
    Packed(PackedDriver<VmMem>),
}

struct InFlight {
    number: u32,
    writes: bool,
    sector: usize,
    count: usize,
}

struct Driver {
    ring: Ring,
    mem: FakeDriver<VmMem>,
    features: Features,
    in_flight: BTreeMap<usize, InFlight>,
    /// Areas in the order in which they were sent.
    order: Vec<usize>,
    disk: Vec<u8>,
    sent: u32,
    /// How often each request was answered.
    answers: Vec<u32>,
}

/// Bytes of an area: header, data, status.
const AREA: u64 = 0x800;
const DATA: u64 = BASE + 0x4000;

impl Driver {
    fn new(mem: VmMem, features: Features) -> Self {
        let layout = Layout::packed_at(BASE, N as u16);
        let bytes = FakeDriver::new(mem.clone(), layout);
        #[cfg(feature = "packed")]
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(PackedDriver::new(mem, BASE, N as u16))
        } else {
            Ring::Split(FakeDriver::new(mem, layout))
        };
        #[cfg(not(feature = "packed"))]
        let ring = Ring::Split(FakeDriver::new(mem, layout));
        Self {
            ring,
            mem: bytes,
            features,
            in_flight: BTreeMap::new(),
            order: Vec::new(),
            disk: vec![0; SECTORS * 512],
            sent: 0,
            answers: Vec::new(),
        }
    }

    fn config(&self) -> QueueConfig {
        match &self.ring {
            Ring::Split(driver) => driver.config(0),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(0),
        }
    }

    /// Sends a request, if there is room for one that conflicts with no request in flight.
    fn send(&mut self, random: &mut Random) {
        let Some(area) = (0..AREAS).find(|area| !self.in_flight.contains_key(area)) else {
            return;
        };
        let (writes, count) = (random.index(2) == 0, 1 + random.index(2));
        let sector = random.index(SECTORS - count);
        let conflicts = |it: &InFlight| {
            (it.writes || writes) && it.sector < sector + count && sector < it.sector + it.count
        };
        if self.in_flight.values().any(conflicts) {
            return;
        }
        let (at, len) = (DATA + AREA * area as u64, 512 * count);
        let mut header = [0; 16];
        header[0] = u8::from(writes);
        header[4..8].copy_from_slice(&self.sent.to_le_bytes());
        header[8..].copy_from_slice(&(sector as u64).to_le_bytes());
        self.mem.write(at, &header);
        self.mem.write(at + 0x700, &[0xff]);
        let data: Vec<u8> = (0..len).map(|_| random.index(256) as u8).collect();
        self.mem.write(at + 0x100, &data);
        if writes {
            self.disk[sector * 512..][..len].copy_from_slice(&data);
        }
        let buffers = [
            Buffer::readable(at, 16),
            Buffer {
                addr: at + 0x100,
                len: len as u32,
                writable: !writes,
            },
            Buffer::writable(at + 0x700, 1),
        ];
        match &mut self.ring {
            Ring::Split(driver) => driver.send(area as u16 * 3, &buffers),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.send(0x7000 + area as u16, &buffers),
        }
        let number = self.sent;
        self.in_flight.insert(
            area,
            InFlight {
                number,
                writes,
                sector,
                count,
            },
        );
        self.order.push(area);
        self.sent += 1;
        self.answers.push(0);
    }

    /// Takes used elements; with IN_ORDER one element may stand for several.
    fn reap(&mut self) -> usize {
        let before = self.in_flight.len();
        let in_order = self.features.contains(Features::IN_ORDER);
        while let Some(area) = self.peek() {
            let at = self.order.iter().position(|it| *it == area);
            let at = at.expect("an answer to a request that is not in flight");
            let done: Vec<usize> = if in_order {
                self.order.drain(..=at).collect()
            } else {
                vec![self.order.remove(at)]
            };
            #[cfg(feature = "packed")]
            if let Ring::Packed(driver) = &mut self.ring {
                driver.take_used(3 * done.len() as u16);
            }
            for area in done {
                self.finish(area);
            }
        }
        before - self.in_flight.len()
    }

    fn peek(&self) -> Option<usize> {
        match &self.ring {
            Ring::Split(driver) => {
                let taken: u32 = self.answers.iter().sum();
                let (head, _) =
                    (driver.used_idx() != taken as u16).then(|| driver.used_entry(taken as u16))?;
                Some(head as usize / 3)
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                let (id, ..) = driver.clone().take_used(1)?;
                Some(usize::from(id - 0x7000))
            }
        }
    }

    fn finish(&mut self, area: usize) {
        let in_flight = self
            .in_flight
            .remove(&area)
            .expect("the request is in flight");
        self.answers[in_flight.number as usize] += 1;
        let at = DATA + AREA * area as u64;
        let mut status = [0];
        self.mem.read(at + 0x700, &mut status);
        assert_eq!(status, [0], "request {} succeeded", in_flight.number);
        let mut data = vec![0; in_flight.count * 512];
        self.mem.read(at + 0x100, &mut data);
        assert!(
            data == self.disk[in_flight.sector * 512..][..data.len()],
            "request {}: the right data",
            in_flight.number
        );
    }
}

/// Sends a number of requests, to several processes in turn.
fn run(features: Features, seed: u64) {
    let requests: u32 = match std::env::var("ROUNDTRIPS") {
        Ok(count) => count.parse().expect("ROUNDTRIPS is a number"),
        Err(_) => 400,
    };
    let folder = TempDir::new().expect("a folder");
    let folder = folder.as_path();
    for (name, len) in [
        ("memory", BYTES),
        ("disk", SECTORS as u64 * 512),
        ("log", 0),
    ] {
        let file = File::create(folder.join(name)).expect("a file");
        file.set_len(len).expect("its length");
    }
    let listener = UnixListener::bind(folder.join("wire")).expect("a socket");
    let mut driver = Driver::new(memory(folder), features);
    let mut device = Remote::start(folder, &listener);
    assert!(
        device.bring_up(features, &[driver.config()]),
        "the device is live"
    );
    let mut random = Random::new(seed);
    let (mut processes, mut carried) = (1, 0);
    while driver.sent < requests || !driver.in_flight.is_empty() {
        match random.index(16) {
            0..6 if driver.sent < requests => {
                for _ in 0..=random.index(3) {
                    driver.send(&mut random);
                }
                if random.index(4) != 0 {
                    let _ = device.kick(0);
                }
            }
            0..6 => {
                let _ = device.kick(0);
            }
            6..9 => {
                device.ask(POLL, 1 + random.index(4) as u64, 0);
            }
            9..12 => {
                device.ask(FINISH, random.index(AREAS) as u64, 0);
            }
            12..15 => {
                let pending = device.load(reg::INTERRUPT_STATUS);
                let _ = device.store(reg::INTERRUPT_ACK, pending);
                driver.reap();
            }
            _ => {
                carried += device.ask(SAVE, 0, 0);
                device.kill();
                processes += 1;
                device = Remote::start(folder, &listener);
            }
        }
    }
    device.kill();
    assert_eq!(driver.answers, vec![1; driver.sent as usize]);
    assert!(driver.sent >= requests);
    let disk = std::fs::read(folder.join("disk")).expect("the disk");
    assert!(disk == driver.disk, "the disk holds what was written");
    let log = std::fs::read(folder.join("log")).expect("the log");
    let mut done: Vec<u32> = (log.chunks(4))
        .map(|word| u32::from_le_bytes(word.try_into().expect("a word")))
        .collect();
    done.sort_unstable();
    assert!(
        done.into_iter().eq(0..driver.sent),
        "each request was executed once"
    );
    assert!(
        processes > 5 && carried > 5,
        "{processes} processes, {carried} requests"
    );
    println!("{features:?}: {processes} processes, {carried} requests carried over");
}

fn each_set(format: Features) {
    let all = format | Features::EVENT_IDX | Features::IN_ORDER;
    for (features, seed) in [
        (format, 1),
        (format | Features::EVENT_IDX, 2),
        (format | Features::IN_ORDER, 3),
        (all, 4),
    ] {
        run(features, seed);
    }
}

#[test]
fn a_new_process_continues_with_a_split_ring() {
    each_set(Features::VERSION_1);
}

#[cfg(feature = "packed")]
#[test]
fn a_new_process_continues_with_a_packed_ring() {
    each_set(Features::VERSION_1 | Features::RING_PACKED);
}

//! Compares virtside with `virtio-queue`: both serve 64 chains of three descriptors. Each chain is
//! popped, walked and given back, followed by the question whether to interrupt. EVENT_IDX is
//! negotiated.
//!
//! `cargo bench -p virtside-tests --bench split_ring` prints instructions per chain (callgrind's
//! counts, which are the same from run to run) and the ratio of wall-clock times. The cases are one
//! region of memory, and four regions whose hits repeat or alternate. The bench also does the work
//! on a packed ring, with `--features packed`. `virtio-queue` has no packed ring, so its split ring
//! is the comparison. The last lines are the instructions of single register accesses, and the
//! shared-memory accesses of one chain.
//! `--features packed`.

use std::{
    hint::black_box,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use virtio_queue::{Queue, QueueT};
#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    ChainSlot, Device, DeviceBuilder, DriverMem, Engine, Features, FlatMem, Message, QueueConfig,
    Shared,
    device::TakenQueue,
    memory::Ram,
    mmio::Access,
    models::Entropy,
    queue::Chain,
    testing::{Buffer, CountingMem, Counts, FakeDriver, Layout, Registers},
};
use virtside_std::VmMem;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const CHAINS: u16 = 64;
const SIZE: u16 = 256;
const N: usize = 256;
const MIB: u64 = 1 << 20;

/// The regions that hold the buffers of a chain.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// One region of memory.
    One,
    /// Four regions, with all buffers in the same region.
    Same,
    /// Four regions, with each buffer in another region than the one before.
    Other,
}

const PLACES: [(&str, Place); 3] = [
    ("one region", Place::One),
    ("four regions, hits repeat", Place::Same),
    ("four regions, hits alternate", Place::Other),
];

fn memory(place: Place) -> GuestMemoryMmap {
    let regions: Vec<_> = match place {
        Place::One => vec![(GuestAddress(0), 4 * MIB as usize)],
        _ => (0..4)
            .map(|at| (GuestAddress(at * 4 * MIB), MIB as usize))
            .collect(),
    };
    GuestMemoryMmap::from_ranges(&regions).expect("memory")
}

/// Buffer `at` of a chain.
fn buffer(place: Place, chain: u16, at: u16) -> u64 {
    let offset = 0x4_0000 + u64::from(chain * 4 + at) * 512;
    match place {
        Place::One => offset,
        Place::Same => 3 * 4 * MIB + offset,
        Place::Other => u64::from((chain + at) % 4) * 4 * MIB + offset,
    }
}

/// Makes 64 chains available, and asks for one interrupt for all.
trait Publish {
    fn publish(&mut self);
}

fn buffers(place: Place, chain: u16) -> [Buffer; 3] {
    [
        Buffer::readable(buffer(place, chain, 0), 16),
        Buffer::readable(buffer(place, chain, 1), 512),
        Buffer::writable(buffer(place, chain, 2), 1),
    ]
}

/// The driver's end of a packed ring.
#[cfg(feature = "packed")]
struct Packed<M> {
    fake: PackedDriver<M>,
    place: Place,
}

#[cfg(feature = "packed")]
impl<M: DriverMem> Publish for Packed<M> {
    fn publish(&mut self) {
        for chain in 0..CHAINS {
            let (slot, wrap) = self.fake.next_avail();
            self.fake.set_suppression(slot | u16::from(wrap) << 15, 2);
            self.fake.send(chain, &buffers(self.place, chain));
        }
    }
}

/// The driver's end. It makes the same 64 chains available again and again.
struct Driver<M> {
    fake: FakeDriver<M>,
}

impl<M: DriverMem> Driver<M> {
    fn new(mem: M, place: Place) -> Self {
        let fake = FakeDriver::new(mem, Layout::packed_at(0, SIZE));
        for chain in 0..CHAINS {
            fake.write_chain(chain * 3, &buffers(place, chain));
        }
        Self { fake }
    }
}

impl<M: DriverMem> Publish for Driver<M> {
    fn publish(&mut self) {
        for chain in 0..CHAINS {
            self.fake.offer(chain * 3);
        }
        // The driver asks for one interrupt, for the last chain.
        self.fake
            .set_used_event(self.fake.next_avail().wrapping_sub(1));
        self.fake.publish();
    }
}

type VirtsideQueue<'s, M> = TakenQueue<<M as DriverMem>::Window, (), 1, N, &'s Shared<1>>;

fn virtside_queue<'s, M: DriverMem + Clone>(
    mem: &M,
    shared: &'s Shared<1>,
    config: QueueConfig,
    features: Features,
) -> VirtsideQueue<'s, M> {
    let mut device: Device<M, (), 1, N, &Shared<1>> = {
        let builder = DeviceBuilder::new(shared);
        let mut configuring =
            virtside::Configuring::new(builder, &(0..1), mem.clone()).with_features(features);
        let _ = configuring
            .step(Message::ConfigureQueue(config))
            .expect("queue");
        match configuring.step(Message::Ready { features }) {
            Ok(virtside::setup::Progress::Ready(device, responder)) => {
                responder.accept();
                device
            }
            other => panic!("{other:?}"),
        }
    };
    device.take_queue(0).expect("taken")
}

/// The format is only known at run time.
#[inline(never)]
fn measured_virtside<M: DriverMem>(
    queue: &mut VirtsideQueue<'_, M>,
    mem: &M,
    chain: &mut Chain<N>,
) -> (u64, u32) {
    let (mut sum, mut interrupts) = (0, 0);
    while queue.pop(mem, chain).expect("pop") {
        for segment in chain.segments() {
            sum += black_box(segment.addr) + u64::from(segment.len);
        }
        queue.complete(chain, 1).expect("complete");
        interrupts += u32::from(queue.flush());
    }
    (sum, interrupts)
}

#[inline(never)]
fn measured_virtio_queue(queue: &mut Queue, mem: &GuestMemoryMmap) -> (u64, u32) {
    let (mut sum, mut interrupts) = (0, 0);
    while let Some(chain) = queue.pop_descriptor_chain(mem) {
        let head = chain.head_index();
        for desc in chain {
            sum += black_box(desc.addr().0) + u64::from(desc.len());
        }
        queue.add_used(mem, head, 1).expect("used");
        interrupts += u32::from(queue.needs_notification(mem).expect("notification"));
    }
    (sum, interrupts)
}

fn virtio_queue() -> Queue {
    let layout = Layout::packed_at(0, SIZE);
    let mut queue = Queue::new(SIZE).expect("queue");
    queue.set_size(SIZE);
    queue.set_desc_table_address(Some(layout.desc as u32), None);
    queue.set_avail_ring_address(Some(layout.driver as u32), None);
    queue.set_used_ring_address(Some(layout.device as u32), None);
    queue.set_event_idx(true);
    queue.set_ready(true);
    queue
}

/// The only region of the first case.
static RAM: Ram<{ 4 << 20 }> = Ram::new();

fn run_virtside(place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    match place {
        Place::One => run_split(&RAM.flat(0), place, rounds),
        _ => run_split(&VmMem::new(&memory(place)), place, rounds),
    }
}

fn run_split<M: DriverMem + Clone>(mem: &M, place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    let shared = Shared::new();
    let driver = Driver::new(mem.clone(), place);
    let queue = virtside_queue(mem, &shared, driver.fake.config(0), Features::RING);
    run_over(mem, driver, queue, rounds)
}

#[cfg(feature = "packed")]
fn run_packed(place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    match place {
        Place::One => run_packed_over(&RAM.flat(0), place, rounds),
        _ => run_packed_over(&VmMem::new(&memory(place)), place, rounds),
    }
}

#[cfg(feature = "packed")]
fn run_packed_over<M: DriverMem + Clone>(
    mem: &M,
    place: Place,
    rounds: u32,
) -> (Duration, (u64, u32)) {
    let shared = Shared::new();
    let fake = PackedDriver::new(mem.clone(), 0, SIZE);
    let features = Features::RING.union(Features::RING_PACKED);
    let queue = virtside_queue(mem, &shared, fake.config(0), features);
    run_over(mem, Packed { fake, place }, queue, rounds)
}

fn run_over<'s, M: DriverMem>(
    mem: &M,
    mut driver: impl Publish,
    mut queue: VirtsideQueue<'s, M>,
    rounds: u32,
) -> (Duration, (u64, u32)) {
    let mut chain = Chain::new();
    let (mut time, mut result) = (Duration::ZERO, (0, 0));
    for _ in 0..rounds {
        driver.publish();
        let start = Instant::now();
        result = measured_virtside(&mut queue, mem, &mut chain);
        time += start.elapsed();
    }
    (time, result)
}

type Machine<'s> = Engine<
    Entropy<fn(&mut [u8]) -> Result<usize, virtside::models::EntropyError>>,
    FlatMem,
    (),
    1,
    16,
    [ChainSlot<16>; 1],
    &'s Shared<1>,
>;

fn fill(bytes: &mut [u8]) -> Result<usize, virtside::models::EntropyError> {
    bytes.fill(4);
    Ok(bytes.len())
}

/// Accesses of a driver that works, and of one that polls.
const ACCESSES: [(&str, u32, Option<u32>); 5] = [
    ("read Status", 0x70, None),
    ("read InterruptStatus", 0x60, None),
    ("write InterruptACK", 0x64, Some(1)),
    ("write QueueSel", 0x30, Some(0)),
    ("write QueueNotify", 0x50, Some(0)),
];

#[inline(never)]
fn measured_access(machine: &mut Machine<'_>, access: Access) -> u64 {
    machine.access(access).bus_value().unwrap_or(0)
}

fn run_access(which: usize, rounds: u32) {
    let shared = Shared::new();
    let mut machine: Machine<'_> = Engine::new(
        Entropy::new(fill),
        RAM.flat(0),
        (),
        [ChainSlot::new()],
        &shared,
    );
    let layout = Layout::packed_at(0, 16);
    assert!(machine.bring_up(Features::RING, &[layout.config(0)]));
    let (_, offset, value) = ACCESSES[which];
    let access = match value {
        Some(value) => Access::write(offset, value),
        None => Access::read(offset),
    };
    for _ in 0..rounds {
        black_box(measured_access(&mut machine, black_box(access)));
    }
}

fn run_virtio_queue(place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    let guest = memory(place);
    let mut driver = Driver::new(VmMem::new(&guest), place);
    let mut queue = virtio_queue();
    let (mut time, mut result) = (Duration::ZERO, (0, 0));
    for _ in 0..rounds {
        driver.publish();
        let start = Instant::now();
        result = measured_virtio_queue(&mut queue, &guest);
        time += start.elapsed();
    }
    (time, result)
}

const ROUNDS: u32 = 20;

/// Counts the instructions of one round of one side, in a run of this program under callgrind.
fn instructions(side: &str, which: usize) -> Option<f64> {
    let function = match side {
        "packed" => "virtside",
        side => side,
    };
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
        ])
        .arg(format!("--toggle-collect=*measured_{function}*"))
        .arg(std::env::current_exe().ok()?)
        .args(["--side", side, &which.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1))?;
    let count: f64 = count.trim().parse().ok()?;
    Some(count / f64::from(ROUNDS))
}

/// Counts the shared-memory accesses of one batch.
fn accesses() {
    let counts: &'static Counts = Box::leak(Box::default());
    let plain = RAM.flat(0);
    let mem = CountingMem::new(plain.clone(), counts);
    let mut chain = Chain::new();
    let mut count = |format: &str,
                     driver: &mut dyn Publish,
                     queue: &mut VirtsideQueue<'_, CountingMem<'_, FlatMem>>| {
        driver.publish();
        counts.clear();
        measured_virtside(queue, &mem, &mut chain);
        let per = |count: u32| f64::from(count) / f64::from(CHAINS);
        println!(
            "{format:<30} {:>8.2} {:>12.2} {:>14.2} {:>13.2}",
            per(counts.loads()),
            per(counts.descriptors()),
            per(counts.elements()),
            per(counts.stores()),
        );
    };
    println!(
        "{:<30} {:>8} {:>12} {:>14} {:>13}",
        "shared memory, a chain", "loads", "descriptors", "used elements", "other stores"
    );
    // Loads: the ring entry and the suppression field for each chain. Each batch loads the
    // available index once, and once more to find its end. Stores: the used index.
    let shared = Shared::new();
    let mut driver = Driver::new(plain.clone(), Place::One);
    let mut queue = virtside_queue(&mem, &shared, driver.fake.config(0), Features::RING);
    count("split", &mut driver, &mut queue);
    // Loads: the suppression word for each chain, and the flags once more to find the end.
    #[cfg(feature = "packed")]
    {
        let shared = Shared::new();
        let fake = PackedDriver::new(plain.clone(), 0, SIZE);
        let features = Features::RING.union(Features::RING_PACKED);
        let mut queue = virtside_queue(&mem, &shared, fake.config(0), features);
        let place = Place::One;
        count("packed", &mut Packed { fake, place }, &mut queue);
    }
}

/// Budgets for any machine: instruction counts do not depend on noise. A split chain may take no
/// more instructions when both formats are built in.
const BUDGETS: [f64; 3] = [206.0, 214.0, 254.0];
/// The budgets of a packed ring.
const PACKED_BUDGETS: [f64; 3] = [235.0, 242.0, 282.0];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--side") {
        let which: usize = arguments[at + 2].parse().expect("a number");
        match arguments[at + 1].as_str() {
            "virtside" => drop(black_box(run_virtside(PLACES[which].1, ROUNDS))),
            #[cfg(feature = "packed")]
            "packed" => drop(black_box(run_packed(PLACES[which].1, ROUNDS))),
            "virtio_queue" => drop(black_box(run_virtio_queue(PLACES[which].1, ROUNDS))),
            _ => run_access(which, ROUNDS),
        }
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    let mut show = |count: Option<f64>, budget: f64| match count {
        Some(count) if count <= budget => format!("{count:.0}"),
        Some(count) => {
            good = false;
            format!("{count:.0} (budget {budget})")
        }
        None => {
            good = false;
            "no valgrind".into()
        }
    };
    println!(
        "{:<30} {:>14} {:>14} {:>14} {:>14} {:>14}",
        "instructions a chain", "virtside", "packed", "virtio-queue", "times faster", "packed"
    );
    for (at, (name, place)) in PLACES.into_iter().enumerate() {
        let chain = |count: Option<f64>| count.map(|count| count / f64::from(CHAINS));
        let mine = show(chain(instructions("virtside", at)), BUDGETS[at]);
        let packed = if cfg!(feature = "packed") {
            show(chain(instructions("packed", at)), PACKED_BUDGETS[at])
        } else {
            "-".into()
        };
        let other = show(chain(instructions("virtio_queue", at)), f64::MAX);
        // Both sides take turns, so that a noisy machine disturbs both. The best time of each
        // counts.
        let mut best = [Duration::MAX; 3];
        for _ in 0..7 {
            let (time, own) = run_virtside(place, 2000);
            best[0] = best[0].min(time);
            let (time, other) = run_virtio_queue(place, 2000);
            best[1] = best[1].min(time);
            assert_eq!(own, other, "both did the same work");
            #[cfg(feature = "packed")]
            {
                let (time, packed) = run_packed(place, 2000);
                best[2] = best[2].min(time);
                assert_eq!(packed, other, "both did the same work");
            }
        }
        let ratio = |at: usize| match best[at] {
            Duration::MAX => "-".into(),
            time => format!("{:.1}", best[1].as_secs_f64() / time.as_secs_f64()),
        };
        println!(
            "{name:<30} {mine:>14} {packed:>14} {other:>14} {:>14} {:>14}",
            ratio(0),
            ratio(2)
        );
    }
    println!("\n{:<30} {:>14}", "instructions an access", "virtside");
    for (at, (name, ..)) in ACCESSES.into_iter().enumerate() {
        println!("{name:<30} {:>14}", show(instructions("access", at), 60.0));
    }
    println!();
    accesses();
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! The same work through virtside and through `virtio-queue`: 64 chains of three descriptors, each
//! popped, walked, given back, and followed by the question whether to interrupt, EVENT_IDX on.
//!
//! `cargo bench -p virtside-tests --bench split_ring` prints instructions per chain (callgrind
//! counts, the same from run to run) and the ratio of wall-clock times, over one region of memory
//! and over four, hit in runs or always another.

use std::{
    hint::black_box,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use virtio_queue::{Queue, QueueT};
use virtside::{
    Chain, Device, DeviceBuilder, DriverMem, Features, Message, Shared, Taken,
    testing::{Buffer, CountingMem, Counts, FakeDriver, Layout},
};
use virtside_std::VmMem;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const CHAINS: u16 = 64;
const SIZE: u16 = 256;
const N: usize = 256;
const MIB: u64 = 1 << 20;

/// Where the buffers of a chain lie.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// One region of memory.
    One,
    /// Four, all buffers in the same.
    Same,
    /// Four, each buffer in another than the one before.
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
        _ => (0..4).map(|at| (GuestAddress(at * 4 * MIB), MIB as usize)).collect(),
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

/// The driver's end: 64 chains that stay in the table, and are made available again and again.
struct Driver<M> {
    fake: FakeDriver<M>,
}

impl<M: DriverMem> Driver<M> {
    fn new(mem: M, place: Place) -> Self {
        let fake = FakeDriver::new(mem, Layout::packed_at(0, SIZE));
        for chain in 0..CHAINS {
            let buffers = [
                Buffer::readable(buffer(place, chain, 0), 16),
                Buffer::readable(buffer(place, chain, 1), 512),
                Buffer::writable(buffer(place, chain, 2), 1),
            ];
            fake.write_chain(chain * 3, &buffers);
        }
        Self { fake }
    }

    fn publish(&mut self) {
        for chain in 0..CHAINS {
            self.fake.offer(chain * 3);
        }
        // Wants one interrupt, for the last chain.
        self.fake.set_used_event(self.fake.next_avail().wrapping_sub(1));
        self.fake.publish();
    }
}

type Ours<'s, M> = Taken<M, (), &'s Shared<1>, 1, N>;

fn ours<'s, M: DriverMem + Clone>(mem: &M, shared: &'s Shared<1>) -> Ours<'s, M> {
    let mut device: Device<M, (), &Shared<1>, 1, N> = {
        let builder = DeviceBuilder::new(shared);
        let mut configuring = virtside::Configuring::new(builder, &(0..1), mem.clone());
        let config = Layout::packed_at(0, SIZE).config(0);
        let _ = configuring.step(Message::ConfigureQueue(config)).expect("queue");
        match configuring.step(Message::Ready { features: Features::RING }) {
            Ok(virtside::Progress::Ready(device, responder)) => {
                responder.accept();
                device
            }
            other => panic!("{other:?}"),
        }
    };
    device.take_queue(0).expect("taken")
}

#[inline(never)]
fn measured_virtside<M: DriverMem>(
    queue: &mut Ours<'_, M>,
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

fn theirs() -> Queue {
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

fn run_virtside(place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    let shared = Shared::new();
    let mem = VmMem::new(memory(place));
    let mut driver = Driver::new(mem.clone(), place);
    let mut queue = ours(&mem, &shared);
    let mut chain = Chain::new();
    let (mut time, mut result) = (Duration::ZERO, (0, 0));
    for _ in 0..rounds {
        driver.publish();
        let start = Instant::now();
        result = measured_virtside(&mut queue, &mem, &mut chain);
        time += start.elapsed();
    }
    (time, result)
}

fn run_virtio_queue(place: Place, rounds: u32) -> (Duration, (u64, u32)) {
    let guest = memory(place);
    let mut driver = Driver::new(VmMem::new(guest.clone()), place);
    let mut queue = theirs();
    let (mut time, mut result) = (Duration::ZERO, (0, 0));
    for _ in 0..rounds {
        driver.publish();
        let start = Instant::now();
        result = measured_virtio_queue(&mut queue, &guest);
        time += start.elapsed();
    }
    (time, result)
}

/// Instructions per chain of one side, in a run of this program under callgrind.
fn instructions(side: &str, place: usize) -> Option<f64> {
    const ROUNDS: u32 = 20;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*measured_{side}*"))
        .arg(std::env::current_exe().ok()?)
        .args(["--side", side, &place.to_string(), &ROUNDS.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split("Collected :").nth(1))?;
    let count: f64 = count.trim().parse().ok()?;
    Some(count / f64::from(ROUNDS) / f64::from(CHAINS))
}

/// Shared-memory accesses of one batch, counted.
fn accesses() {
    let counts: &'static Counts = Box::leak(Box::default());
    let shared = Shared::new();
    let plain = VmMem::new(memory(Place::One));
    let mem = CountingMem::new(plain.clone(), counts);
    let mut driver = Driver::new(plain, Place::One);
    let mut queue = ours(&mem, &shared);
    let mut chain = Chain::new();
    driver.publish();
    counts.clear();
    measured_virtside(&mut queue, &mem, &mut chain);
    let per = |count: u32| f64::from(count) / f64::from(CHAINS);
    println!(
        "shared-memory accesses per chain, in batches of {CHAINS}: {:.2} loads of 16 bits (ring \
         entry, suppression field, and the index once per batch and once to find its end), {:.2} \
         descriptors, {:.2} stores (element id and length, index)",
        per(counts.loads()),
        per(counts.descriptors()),
        per(counts.stores()),
    );
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--side") {
        let place = PLACES[arguments[at + 2].parse::<usize>().expect("place")].1;
        let rounds = arguments[at + 3].parse().expect("rounds");
        match arguments[at + 1].as_str() {
            "virtside" => black_box(run_virtside(place, rounds)),
            _ => black_box(run_virtio_queue(place, rounds)),
        };
        return ExitCode::SUCCESS;
    }
    accesses();
    println!(
        "{:<30} {:>22} {:>22} {:>16}",
        "64 chains x 3 descriptors", "virtside instr/chain", "virtio-queue", "times faster"
    );
    let mut complete = true;
    for (at, (name, place)) in PLACES.into_iter().enumerate() {
        let show = |count: Option<f64>| count.map_or("no valgrind".into(), |n| format!("{n:.0}"));
        let (mine, other) = (instructions("virtside", at), instructions("virtio_queue", at));
        complete &= mine.is_some() && other.is_some();
        // Both in turns, so that a noisy machine disturbs both; the best of each.
        let mut best = [Duration::MAX; 2];
        for _ in 0..7 {
            let (time, ours) = run_virtside(place, 2000);
            best[0] = best[0].min(time);
            let (time, theirs) = run_virtio_queue(place, 2000);
            best[1] = best[1].min(time);
            assert_eq!(ours, theirs, "both did the same work");
        }
        let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
        println!("{name:<30} {:>22} {:>22} {ratio:>16.1}", show(mine), show(other));
    }
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Stress of taken queues: a driver on one thread that accesses registers in random order, the
//! device on a second, and two owners of taken queues that serve, abandon, drop, keep and put back
//! at random.

mod driver;
mod host;
mod lane;
mod owner;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    ChainSlot, DriverFault, DriverMem, DriverNotify, Engine, Features, Refusal, Shared, Token,
    device::{QueueState, Stop, TakenQueue},
    error::FaultPolicy,
    mmio::{Access, Reply, Ticket},
    queue::Chain,
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_std::VmMem;
use virtside_tests::{
    BASE, BUDGET, BYTES, DATA, Line, N, Q,
    probe::Probe,
    ram,
    random::Random,
    reg,
    status::{FAILED, LIVE, SUSPEND},
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::echo;
use driver::Driver;
use host::Host;
use lane::Lane;
use owner::Owner;

/// Rounds of each combination.
const ROUNDS: u32 = 6;
/// A time limit that nothing here reaches, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const QUEUES: u16 = 2;
const SIZE: u16 = 8;
/// Chains of two descriptors that fill a ring.
const CHAINS: u16 = SIZE / 2;
/// Bytes of a queue's rings, and of its buffers.
const AREA: usize = 0x200;
const NOTHING: u64 = 0x10;

type Queue<M> = TakenQueue<<M as DriverMem>::Window, Bell, Q, N, Arc<Shared<Q>>>;
/// A taken queue and the number of its take.
type TakenOne<M> = (u32, Queue<M>);
type TestEngine<M> = Engine<Probe, M, Bell, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// A slow interrupt line, so that other threads run in between.
#[derive(Clone, Copy, Debug)]
struct Bell(Line);

impl DriverNotify for Bell {
    fn assert(&self) {
        thread::yield_now();
        self.0.assert();
    }
    fn deassert(&self) {
        thread::yield_now();
        self.0.deassert();
    }
}

/// State shared by all threads.
#[derive(Default)]
struct Stage {
    /// While set, nothing is abandoned, dropped, kept or violated.
    calm: AtomicBool,
    over: AtomicBool,
    /// Number of the current round of correct work, in which no queue is asked to stop; 0 between
    /// rounds.
    work: AtomicU32,
    /// Rounds of the device and of each owner.
    ticks: [AtomicU32; 3],
}

impl Stage {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }
    fn work(&self) -> u32 {
        self.work.load(Ordering::SeqCst)
    }
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
    /// Counts a round of a thread.
    fn tick(&self, thread: usize) {
        self.ticks[thread].fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
    }
    /// Waits until every thread has made progress.
    fn wait(&self) {
        let seen = || {
            self.ticks
                .each_ref()
                .map(|tick| tick.load(Ordering::SeqCst))
        };
        let before = seen();
        self.until("a thread makes no progress", || {
            let far = |(now, before): (u32, u32)| now.wrapping_sub(before) >= 3;
            seen().into_iter().zip(before).all(far).then_some(())
        });
    }
    #[track_caller]
    fn until<T>(&self, trouble: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(!self.is_over(), "another thread failed");
            assert!(start.elapsed() < PATIENCE, "{trouble}");
            thread::yield_now();
        }
    }
}

/// Ends the test when the thread that has it ends.
struct EndOnDrop<'s>(&'s Stage);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// A reply of the device, the interrupts so far, and whether the line was high.
type Answer = (Reply, u32, bool);

/// A driver with direct access to memory.
fn plain<M: DriverMem + Clone>(mem: &M) -> FakeDriver<M> {
    let nowhere = Layout {
        size: 0,
        desc: DATA + 0x8000,
        driver: DATA + 0x8000,
        device: DATA + 0x8000,
    };
    FakeDriver::new(mem.clone(), nowhere)
}

fn stress<M>(mem: M, features: Features, policy: FaultPolicy, seed: u64)
where
    M: DriverMem + Clone + Send,
    M::Window: Send,
{
    let probe = Probe {
        wishes: Features::ALL_RINGS | Features::IN_ORDER,
        ..Probe::default()
    };
    let (stage, line): (_, Line) = (Stage::default(), Box::leak(Box::default()));
    let slots = (0..4).map(|_| ChainSlot::new()).collect();
    let engine = TestEngine::new(probe, mem.clone(), Bell(line), slots, Arc::default());
    let engine = engine.with_policy(policy);
    let shared = engine.device().shared().clone();
    let (accesses, heard) = channel();
    let (answers, answered) = channel();
    let (back, returned) = channel();
    let (orders, theirs): (Vec<_>, Vec<_>) = (0..QUEUES).map(|_| channel()).unzip();
    let in_order = features.contains(Features::IN_ORDER);
    thread::scope(|scope| {
        for (name, orders) in (1..).zip(theirs) {
            let owner = Owner {
                mem: mem.clone(),
                stage: &stage,
                name,
                random: Random::new(seed ^ name as u64),
                orders,
                back: back.clone(),
                in_order,
                stale_queues: Vec::new(),
                stale: Vec::new(),
            };
            scope.spawn(|| owner.run());
        }
        let driver = Driver {
            mem: mem.clone(),
            line,
            shared,
            stage: &stage,
            random: Random::new(seed ^ 0x100),
            features,
            accesses,
            answers: answered,
            lanes: Vec::new(),
            number: 0,
            seen: (0, false),
        };
        scope.spawn(|| driver.run());
        let host = Host {
            engine,
            stage: &stage,
            random: Random::new(seed ^ 0x200),
            accesses: heard,
            answers,
            owners: orders.try_into().expect("one each"),
            back: returned,
            out: [0; QUEUES as usize],
            taken: 0,
            quota: (0, 0),
            waiting: None,
            tokens: Vec::new(),
        };
        host.run();
    });
}

/// Every format, with and without EVENT_IDX, each with another policy first.
fn stress_each<M>(mem: impl Fn() -> M, kind: Features, seed: u64)
where
    M: DriverMem + Clone + Send,
    M::Window: Send,
{
    let always = Features::VERSION_1 | Features::RING_RESET | Features::SUSPEND | kind;
    let policies = [
        FaultPolicy::NeedsReset,
        FaultPolicy::StopQueue,
        FaultPolicy::Reject,
    ];
    for (at, policy) in policies.into_iter().enumerate() {
        for features in [always, always | Features::EVENT_IDX] {
            let seed = seed << 8 | (at as u64) << 4 | u64::from(features != always);
            stress(mem(), features, policy, seed << 16);
        }
    }
}

fn flat() -> virtside::FlatMem {
    ram().flat(BASE)
}

fn mapped() -> VmMem {
    // Two regions, so that rings and buffers are in different ones.
    let half = BYTES / 4;
    let ranges = [
        (GuestAddress(BASE), half),
        (GuestAddress(BASE + half as u64), half),
    ];
    VmMem::new(&GuestMemoryMmap::<()>::from_ranges(&ranges).expect("memory"))
}

#[test]
fn split_rings_survive_stress() {
    stress_each(flat, Features::empty(), 1);
    stress_each(mapped, Features::empty(), 2);
}

#[test]
fn split_rings_in_order_survive_stress() {
    stress_each(flat, Features::IN_ORDER, 3);
    stress_each(mapped, Features::IN_ORDER, 4);
}

#[cfg(feature = "packed")]
#[test]
fn packed_rings_survive_stress() {
    stress_each(flat, Features::RING_PACKED, 5);
    stress_each(mapped, Features::RING_PACKED, 6);
}

#[cfg(feature = "packed")]
#[test]
fn packed_rings_in_order_survive_stress() {
    stress_each(flat, Features::RING_PACKED | Features::IN_ORDER, 7);
    stress_each(mapped, Features::RING_PACKED | Features::IN_ORDER, 8);
}

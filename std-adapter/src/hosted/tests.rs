use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::Instant,
};

use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    FlatMem, Request, Shared, Step,
    error::DeviceError,
    memory::Ram,
    mmio::{RegisterBlock, Reply, Ticket, Transport},
};

use super::*;

const LONG: Duration = Duration::from_secs(10);

/// A device without queues that records what is done to it.
#[derive(Default)]
struct Fake {
    seen: Arc<Seen>,
    /// Number of calls of `finish` until an access is done.
    pends: u32,
    left: u32,
    offset: u32,
}

#[derive(Default)]
struct Seen {
    polls: AtomicU32,
    looks: AtomicU32,
    kicks: AtomicU32,
    blocked: AtomicBool,
    panics: AtomicBool,
    dropped: AtomicBool,
    /// How long a poll takes, in microseconds, and whether it always has more to do.
    busy: AtomicU32,
}

impl Seen {
    fn polls(&self) -> u32 {
        self.polls.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.seen.dropped.store(true, Ordering::SeqCst);
    }
}

impl RegisterBlock for Fake {
    fn access(&mut self, access: Access) -> Reply {
        assert_eq!(self.left, 0, "an access before the last one was complete");
        let (Access::Read { offset, .. } | Access::Write { offset, .. }) = access;
        if offset >= 0x1000 {
            return Reply::Refused(Refusal::NoSuchRegister { offset });
        }
        self.offset = offset;
        self.left = self.pends;
        match self.left {
            0 => Reply::Done(offset.into()),
            _ => Reply::Pending(Transport::<1>::new(0).ticket()),
        }
    }
    fn finish(&mut self, ticket: Ticket) -> Reply {
        self.left = self.left.checked_sub(1).unwrap();
        match self.left {
            0 => Reply::Done(self.offset.into()),
            _ => Reply::Pending(ticket),
        }
    }
}

impl Served for Fake {
    fn poll(&mut self, _: u16) -> Step {
        assert!(!self.seen.panics.load(Ordering::SeqCst), "as asked");
        self.seen.polls.fetch_add(1, Ordering::SeqCst);
        match self.seen.busy.load(Ordering::SeqCst) {
            0 if self.seen.blocked.load(Ordering::SeqCst) => Step::Blocked,
            0 => Step::Idle,
            busy => {
                thread::sleep(Duration::from_micros(busy.into()));
                Step::More
            }
        }
    }
    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        self.seen
            .kicks
            .fetch_add(1 << (8 * queue), Ordering::SeqCst);
        Ok(())
    }
    fn backend_ready(&mut self) {
        self.seen.looks.fetch_add(1, Ordering::SeqCst);
    }
    fn needs_reset(&self) -> bool {
        false
    }
}

fn fake() -> (HostedDevice<Fake>, Arc<Seen>) {
    let fake = Fake::default();
    let seen = Arc::clone(&fake.seen);
    (HostedDevice::new(fake).unwrap(), seen)
}

/// Waits until the condition holds.
#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited in vain");
        thread::sleep(Duration::from_micros(50));
    }
}

/// Waits until the worker has nothing to do.
fn settle(seen: &Seen) {
    until(|| seen.polls() > 0);
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_load_wakes_no_worker_and_a_store_does() {
    let (device, seen) = fake();
    settle(&seen);
    let before = seen.polls();
    let mut bytes = [0; 4];
    for _ in 0..1000 {
        device.read(8, &mut bytes);
    }
    assert_eq!(bytes, [8, 0, 0, 0]);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(seen.polls(), before);
    device.write(0x50, &[0; 4]);
    until(|| seen.polls() > before);
}

#[test]
fn bytes_go_in_and_out_lowest_first() {
    let refused = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&refused);
    let device = HostedOptions::new()
        .with_name("fake")
        .with_on_refused(move |access, why| {
            assert_eq!(
                access,
                Access::Read {
                    offset: 0x1000,
                    width: 8
                }
            );
            assert_eq!(why, Refusal::NoSuchRegister { offset: 0x1000 });
            count.fetch_add(1, Ordering::SeqCst);
        })
        .start(Fake::default())
        .unwrap();
    let mut bytes = [0xff; 8];
    device.read(0x234, &mut bytes[..2]);
    assert_eq!(bytes, [0x34, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    device.read(0x234, &mut bytes);
    assert_eq!(bytes, [0x34, 2, 0, 0, 0, 0, 0, 0]);
    let mut many = [0xff; 300];
    device.read(0x234, &mut many);
    assert_eq!(many[..3], [0x34, 2, 0]);
    assert_eq!(device.refused(), 0);
    bytes.fill(0xff);
    device.read(0x1000, &mut bytes);
    assert_eq!((bytes, device.refused()), ([0; 8], 1));
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    assert_eq!(device.access(Access::read(12)), Ok(12));
}

#[test]
fn each_of_many_threads_gets_the_reply_to_its_own_access() {
    let mut fake = Fake::default();
    fake.pends = 2;
    let device = HostedDevice::new(fake).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let device = device.clone();
            scope.spawn(move || {
                for turn in 0..100 {
                    let offset = turn * 4 + thread;
                    assert_eq!(device.access(Access::read(offset)), Ok(offset.into()));
                }
            });
        }
    });
    assert_eq!(device.stop().unwrap().left, 0);
}

#[test]
fn a_busy_worker_lets_an_access_in() {
    let (device, seen) = fake();
    seen.busy.store(1000, Ordering::SeqCst);
    device.wake();
    until(|| seen.polls() > 2);
    let mut polls = 0;
    for _ in 0..20 {
        let before = seen.polls();
        device.access(Access::read(0)).unwrap();
        polls += seen.polls() - before;
        // The worker takes the lock again.
        thread::sleep(Duration::from_micros(100));
    }
    assert!(polls < 10, "{polls} polls began during 20 accesses");
}

#[test]
fn an_eventfd_of_each_queue_kicks_that_queue() {
    let (device, seen) = fake();
    settle(&seen);
    let (first, second) = (device.kick(0).unwrap(), device.kick(2).unwrap());
    assert!(Arc::ptr_eq(&second, &device.kick(2).unwrap()));
    first.write(1).unwrap();
    until(|| seen.kicks.load(Ordering::SeqCst) == 1);
    // The counter stays, and each further write is a kick all the same.
    for kicks in 1..=3 {
        second.write(1).unwrap();
        until(|| seen.kicks.load(Ordering::SeqCst) == 1 + (kicks << 16));
    }
    assert_eq!(second.read().unwrap(), 3);
}

#[test]
fn a_blocked_device_is_looked_at_again_until_a_descriptor_does() {
    let (device, seen) = fake();
    seen.blocked.store(true, Ordering::SeqCst);
    device.wake();
    let looks = || seen.looks.load(Ordering::SeqCst);
    until(|| looks() > 5);
    let answers = EventFd::new(EFD_NONBLOCK).unwrap();
    device.wake_by(answers.try_clone().unwrap()).unwrap();
    settle(&seen);
    let before = looks();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(looks(), before);
    answers.write(1).unwrap();
    until(|| looks() == before + 1);
    device.wake();
    until(|| looks() == before + 2);
    let file = std::fs::File::open("Cargo.toml").unwrap();
    assert!(device.wake_by(file).is_err(), "a file is always ready");
}

#[test]
fn the_worker_makes_a_call_for_each_event_of_a_descriptor() {
    let (device, seen) = fake();
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    let (said, heard) = mpsc::channel();
    device
        .call_on(event.try_clone().unwrap(), move || said.send(()).unwrap())
        .unwrap();
    for _ in 0..3 {
        event.write(1).unwrap();
        heard.recv_timeout(LONG).unwrap();
    }
    assert_eq!(seen.looks.load(Ordering::SeqCst), 0);
    drop(device);
    assert!(heard.recv().is_err(), "the closure was dropped");
}

#[test]
fn the_last_handle_ends_the_worker_and_drops_the_device() {
    let (device, seen) = fake();
    let other = device.clone();
    drop(device);
    assert_eq!(other.access(Access::read(4)), Ok(4));
    assert!(!seen.dropped.load(Ordering::SeqCst));
    drop(other);
    assert!(seen.dropped.load(Ordering::SeqCst));
}

#[test]
fn a_stopped_device_is_returned_and_other_handles_lose_it() {
    let (device, seen) = fake();
    let other = device.clone();
    let fake = device.stop().unwrap();
    assert_eq!(other.access(Access::read(0)), Err(AccessError::Gone));
    assert_eq!(other.with(|_| ()), Err(AccessError::Gone));
    let mut bytes = [0xff; 4];
    other.read(8, &mut bytes);
    assert_eq!((bytes, other.refused()), ([0; 4], 0));
    let again = other.clone().stop().err().unwrap();
    assert_eq!(again.kind(), io::ErrorKind::NotConnected);
    drop(other);
    assert!(!seen.dropped.load(Ordering::SeqCst));
    drop(fake);
}

#[test]
fn a_worker_that_panics_releases_the_vcpu_that_waits() {
    let mut fake = Fake::default();
    fake.pends = u32::MAX;
    let seen = Arc::clone(&fake.seen);
    let device = HostedDevice::new(fake).unwrap();
    let other = device.clone();
    let held = thread::spawn(move || other.access(Access::read(0)));
    let other = device.clone();
    let next = thread::spawn(move || other.access(Access::read(4)));
    thread::sleep(Duration::from_millis(5));
    assert!(!held.is_finished() && !next.is_finished());
    seen.panics.store(true, Ordering::SeqCst);
    assert_eq!(held.join().unwrap(), Err(AccessError::Gone));
    assert_eq!(next.join().unwrap(), Err(AccessError::Gone));
    assert_eq!(device.access(Access::read(0)), Err(AccessError::Gone));
    let error = device.stop().err().unwrap();
    assert_eq!(error.to_string(), "the worker of the device panicked");
}

#[test]
fn a_call_that_panics_ends_the_device() {
    let (device, _) = fake();
    let call = AssertUnwindSafe(|| device.with(|_| panic!("as asked")));
    assert!(catch_unwind(call).is_err());
    assert_eq!(device.access(Access::read(0)), Err(AccessError::Gone));
    assert!(device.stop().is_err());
}

#[test]
fn a_stop_between_accesses_releases_every_thread() {
    for turn in 0..200 {
        let mut fake = Fake::default();
        fake.pends = 3;
        let device = HostedDevice::new(fake).unwrap();
        let vcpus: Vec<_> = (0..3)
            .map(|_| {
                let device = device.clone();
                thread::spawn(move || {
                    while device.access(Access::write(4, 0)) == Ok(4) {
                        device.wake();
                    }
                    assert_eq!(device.access(Access::read(0)), Err(AccessError::Gone));
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(turn * 5));
        device.stop().unwrap();
        until(|| vcpus.iter().all(JoinHandle::is_finished));
        for vcpu in vcpus {
            vcpu.join().unwrap();
        }
    }
}

/// Answers a chain once `READY` is set.
struct Later(Arc<AtomicBool>);

impl DeviceConfig for Later {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        16
    }
}

impl DeviceModel for Later {
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(match self.0.load(Ordering::SeqCst) {
            true => Answer::Done { written: 1 },
            false => Answer::Pending,
        })
    }
}

type Machine = Engine<Later, FlatMem, (), 1, 16, [ChainSlot<16>; 1], Arc<Shared<1>>>;

/// Creates a device, and makes it live with one queue of 8 elements at address 0.
fn live(ram: &'static Ram<4096>) -> (HostedDevice<Machine>, Arc<AtomicBool>) {
    let ready = Arc::new(AtomicBool::new(false));
    let (model, slots) = (Later(Arc::clone(&ready)), [ChainSlot::new()]);
    let engine = Engine::new(model, ram.flat(0), (), slots, Arc::new(Shared::new()));
    let device = HostedDevice::new(engine).unwrap();
    let version_1 = Features::VERSION_1.word(1);
    for (offset, value) in [
        (0x70, 3_u32),
        (0x24, 1),
        (0x20, version_1),
        (0x70, 11),
        (0x38, 8),
        (0x90, 0x200),
        (0xa0, 0x300),
        (0x44, 1),
        (0x70, 15),
    ] {
        device.write(offset, &value.to_le_bytes());
    }
    assert_eq!(device.access(Access::read(0x70)), Ok(15));
    (device, ready)
}

/// Makes a chain of one writable byte available for the `count`th time.
fn offer(ram: &Ram<4096>, count: u16) {
    ram.write(0, &0x400_u64.to_le_bytes());
    ram.write(8, &[1, 0, 0, 0, 2, 0, 0, 0]);
    ram.write(0x202, &count.to_le_bytes());
}

fn used(ram: &Ram<4096>) -> u16 {
    let mut idx = [0; 2];
    ram.read(0x302, &mut idx);
    u16::from_le_bytes(idx)
}

#[test]
fn a_kick_by_register_or_eventfd_gets_its_chain_served() {
    static RAM: Ram<4096> = Ram::new();
    let (device, ready) = live(&RAM);
    ready.store(true, Ordering::SeqCst);
    let kick = device.kick(0).unwrap();
    let none = device.kick(7).unwrap();
    for count in 1..=200 {
        offer(&RAM, count);
        none.write(1).unwrap();
        match count % 2 {
            0 => kick.write(1).unwrap(),
            _ => device.write(0x50, &[0; 4]),
        }
        until(|| used(&RAM) == count);
    }
    let engine = device.stop().unwrap();
    assert_eq!(engine.counters().chains, 200);
}

#[test]
fn a_chain_that_is_answered_late_is_found_without_a_kick() {
    static RAM: Ram<4096> = Ram::new();
    let (device, ready) = live(&RAM);
    offer(&RAM, 1);
    device.write(0x50, &[0; 4]);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(used(&RAM), 0);
    ready.store(true, Ordering::SeqCst);
    until(|| used(&RAM) == 1);
    // Now the back end announces its answers.
    ready.store(false, Ordering::SeqCst);
    let answers = EventFd::new(EFD_NONBLOCK).unwrap();
    device.wake_by(answers.try_clone().unwrap()).unwrap();
    offer(&RAM, 2);
    device.write(0x50, &[0; 4]);
    thread::sleep(Duration::from_millis(40));
    ready.store(true, Ordering::SeqCst);
    answers.write(1).unwrap();
    until(|| used(&RAM) == 2);
}

#[test]
fn a_reset_holds_its_vcpu_until_the_taken_queue_is_quiet() {
    static RAM: Ram<4096> = Ram::new();
    let (device, _) = live(&RAM);
    let queue = device.with(|engine| engine.take_queue(0).unwrap()).unwrap();
    let reset = |device: HostedDevice<Machine>| {
        device.write(0x70, &[0; 4]);
        Instant::now()
    };
    let other = device.clone();
    let first = thread::spawn(move || reset(other));
    thread::sleep(Duration::from_millis(10));
    let other = device.clone();
    let second = thread::spawn(move || other.access(Access::read(0x70)));
    thread::sleep(Duration::from_millis(20));
    assert!(!first.is_finished() && !second.is_finished());
    // The lock is free meanwhile.
    assert!(device.with(|engine| engine.features()).is_ok());
    let quiet = Instant::now();
    drop(queue);
    assert!(first.join().unwrap() >= quiet);
    assert_eq!(second.join().unwrap(), Ok(0));
    assert!(!device.stop().unwrap().needs_reset());
}

/// Makes random accesses and kicks.
fn hammer(device: &HostedDevice<Machine>, mut random: u32) {
    let kick = device.kick(0).unwrap();
    for _ in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let (offset, value) = ((random >> 8) % 0x44 * 4, random >> 20 & 0xf);
        match random % 8 {
            0 => kick.write(1).unwrap(),
            1 => device.wake(),
            2..5 => drop(device.access(Access::read(offset))),
            _ => device.write(offset, &value.to_le_bytes()),
        }
    }
}

#[test]
fn random_accesses_of_three_vcpus_leave_a_device_that_works() {
    static RAM: Ram<4096> = Ram::new();
    let (device, ready) = live(&RAM);
    thread::scope(|scope| {
        for seed in 1..=3 {
            let device = &device;
            scope.spawn(move || hammer(device, seed));
        }
        for turn in 0..50 {
            ready.store(turn % 2 == 0, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
        }
    });
    device.write(0x70, &[0; 4]);
    assert_eq!(device.access(Access::read(0x70)), Ok(0));
    assert_eq!(device.access(Access::read(8)), Ok(63));
    assert!(device.stop().is_ok());
}

#[cfg(feature = "guest")]
mod drivers;

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use virtside::{
    ChainSlot, DeviceModel, Engine, Features, FlatMem, Shared,
    memory::Ram,
    mmio::{Phase, Transport},
    models::{Block, BlockOptions, Entropy, EntropyError, blk::RamDisk},
};

use super::*;
use crate::{
    OnAccess,
    channel::{DriverPort, channel},
    serve,
};

/// A device that records its accesses and polls.
#[derive(Default)]
struct Fake {
    accesses: Vec<Access>,
    polled: Vec<u16>,
    step: Option<Step>,
    /// Number of calls of `finish` until the access is done.
    pends: u32,
    /// Number of calls of `backend_ready`.
    looked: u32,
    failed: bool,
}

impl RegisterBlock for Fake {
    fn access(&mut self, access: Access) -> Reply {
        self.accesses.push(access);
        if self.pends > 0 {
            return Reply::Pending(Transport::<1>::new(0).ticket());
        }
        Reply::Done(7)
    }
    fn finish(&mut self, ticket: Ticket) -> Reply {
        if self.pends == 0 {
            return Reply::Refused(Refusal::StaleTicket);
        }
        self.pends -= 1;
        match self.pends {
            0 => Reply::Done(8),
            _ => Reply::Pending(ticket),
        }
    }
}

impl Served for Fake {
    fn poll(&mut self, budget: u16) -> Step {
        self.polled.push(budget);
        self.step.unwrap_or(Step::Idle)
    }
    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        Err(DeviceError::InvalidQueue(queue))
    }
    fn backend_ready(&mut self) {
        self.looked += 1;
    }
    fn needs_reset(&self) -> bool {
        self.failed
    }
    fn chains(&self) -> u32 {
        self.looked
    }
}

fn bus_of(devices: &mut [Fake]) -> Bus<&mut Fake> {
    let mut bus = Bus::new();
    for (device, at) in devices.iter_mut().zip(1..) {
        let start = at * 0x1000;
        bus.attach(start..start + 0x200, device).unwrap();
    }
    bus
}

#[test]
fn ranges_that_do_not_fit_are_refused_and_change_nothing() {
    let mut bus: Bus<Box<Fake>> = Bus::new();
    bus.attach(0x1000..0x1200, Box::default()).unwrap();
    bus.attach(0x1200..0x1300, Box::default()).unwrap();
    for range in [
        0xf00..0x1004,
        0x1000..0x1100,
        0x1000..0x1200,
        0x1100..0x1200,
        0x11fc..0x1400,
        0xf00..0x1400,
    ] {
        let why = bus.attach(range.clone(), Box::default());
        assert!(
            matches!(&why, Err(BusError::Overlap { range: asked, .. }) if *asked == range),
            "{range:x?}: {why:?}"
        );
    }
    let short = 0x2000..0x20ff;
    let why = bus.attach(short.clone(), Box::default());
    assert_eq!(why, Err(BusError::TooShort { range: short }));
    #[allow(clippy::reversed_empty_ranges, reason = "that is the point")]
    let backwards = 0x3000..0x2000;
    assert!(bus.attach(backwards, Box::default()).is_err());
    let why = bus.attach(0x2002..0x2202, Box::default());
    assert_eq!(why, Err(BusError::Misaligned { start: 0x2002 }));
    let ranges: Vec<_> = bus.devices().map(|(range, _)| range).collect();
    assert_eq!(ranges, [0x1000..0x1200, 0x1200..0x1300]);
    // Ranges adjacent to those in use, up to the end of the address space.
    bus.attach(0xf00..0x1000, Box::default()).unwrap();
    bus.attach(0x1300..u32::MAX, Box::default()).unwrap();
}

#[test]
fn a_bus_error_says_which_addresses_are_in_the_way() {
    let error = BusError::Overlap {
        range: 0x1000..0x1200,
        with: 0x1100..0x1300,
    };
    assert_eq!(
        error.to_string(),
        "0x1000..0x1200 overlaps the device at 0x1100..0x1300"
    );
}

#[test]
fn a_bus_answers_for_all_its_devices() {
    let mut fakes = [Fake::default(), Fake::default()];
    let mut bus = bus_of(&mut fakes);
    assert!(!bus.needs_reset());
    bus.device_mut(0x2000).unwrap().failed = true;
    assert!(bus.needs_reset());
    bus.backend_ready();
    assert_eq!(bus.chains(), 2);
    assert!(bus.notify_queue(0).is_err());
    assert!(bus.may_have_work_after(Access::write(0x1000, 1)));
    assert!(!bus.may_have_work_after(Access::read(0x1000)));
    assert!(!bus.may_have_work_after(Access::write(0x5000, 1)));
}

#[test]
fn an_access_goes_to_the_device_that_has_all_its_bytes() {
    let mut fakes = [Fake::default(), Fake::default()];
    let mut bus = bus_of(&mut fakes);
    let none = |offset| Reply::Refused(Refusal::NoSuchRegister { offset });
    for offset in [0, 0xffc, 0x1200, 0x1ffc, 0x2200, u32::MAX] {
        assert_eq!(bus.access(Access::read(offset)), none(offset));
        assert_eq!(bus.access(Access::write(offset, 1)), none(offset));
    }
    // The second half of the access is after the end of the device.
    let half = Access::Read {
        offset: 0x11fc,
        width: 8,
    };
    assert_eq!(bus.access(half), none(0x11fc));
    assert_eq!(bus.access(Access::read(0x1000)), Reply::Done(7));
    assert_eq!(bus.access(Access::write(0x21fc, 5)), Reply::Done(7));
    drop(bus);
    assert_eq!(fakes[0].accesses, [Access::read(0)]);
    assert_eq!(fakes[1].accesses, [Access::write(0x1fc, 5)]);
}

#[test]
fn a_pending_reply_blocks_accesses_to_every_device() {
    let mut fakes = [Fake::default(), Fake::default()];
    fakes[1].pends = 2;
    let mut bus = bus_of(&mut fakes);
    let Reply::Pending(ticket) = bus.access(Access::write(0x2070, 0)) else {
        panic!("the reply is not pending");
    };
    assert_eq!(bus.access(Access::read(0x1000)), Reply::Busy);
    assert!(bus.detach(0x2000).is_none());
    assert_eq!(bus.poll(8), Step::Idle);
    assert_eq!(bus.finish(ticket), Reply::Pending(ticket));
    assert_eq!(bus.finish(ticket), Reply::Done(8));
    assert_eq!(bus.finish(ticket), Reply::Refused(Refusal::StaleTicket));
    assert_eq!(bus.access(Access::read(0x1000)), Reply::Done(7));
    assert!(bus.detach(0x2000).is_some());
    let gone = Reply::Refused(Refusal::NoSuchRegister { offset: 0x2000 });
    assert_eq!(bus.access(Access::read(0x2000)), gone);
}

#[test]
fn a_poll_shares_its_budget_and_goes_on_where_it_stopped() {
    let fake = || Fake {
        step: Some(Step::More),
        ..Fake::default()
    };
    let mut fakes = [fake(), fake(), fake()];
    let mut bus = bus_of(&mut fakes);
    assert_eq!(bus.poll(10), Step::More);
    for _ in 0..3 {
        assert_eq!(bus.poll(2), Step::More);
    }
    assert_eq!(bus.poll(0), Step::More);
    drop(bus);
    // Three chains each of the first ten, then two chains each over three polls of two.
    for fake in &fakes {
        assert_eq!(fake.polled, [3, 1, 1]);
    }
}

#[test]
fn a_poll_returns_the_step_of_the_busiest_device() {
    for (steps, step) in [
        ([Step::Idle, Step::Idle], Step::Idle),
        ([Step::Blocked, Step::Idle], Step::Blocked),
        ([Step::Idle, Step::Blocked], Step::Blocked),
        ([Step::More, Step::Blocked], Step::More),
        ([Step::Idle, Step::More], Step::More),
    ] {
        let mut fakes = steps.map(|step| Fake {
            step: Some(step),
            ..Fake::default()
        });
        assert_eq!(bus_of(&mut fakes).poll(8), step);
    }
    assert_eq!(Bus::<Box<Fake>>::new().poll(8), Step::Idle);
}

type Of<D> = Engine<D, FlatMem, (), 1, 16, [ChainSlot<16>; 1], Arc<Shared<1>>>;

static RAM: Ram<16384> = Ram::new();

fn engine<D: DeviceModel>(model: D) -> Of<D> {
    let slots = [ChainSlot::new()];
    Engine::new(model, RAM.flat(0), (), slots, Arc::new(Shared::new()))
}

/// Sets up a queue of 8 elements at `ring` in [`RAM`], and makes the device live.
fn bring_up(device: &DriverPort, ring: u64) {
    for (offset, value) in [
        (0x70, 3),
        (0x24, 1),
        (0x20, Features::VERSION_1.word(1).into()),
        (0x70, 11),
        (0x38, 8),
        (0x80, ring),
        (0x90, ring + 0x200),
        (0xa0, ring + 0x300),
        (0x44, 1),
        (0x70, 15),
    ] {
        device.write(offset, 4, value).unwrap();
    }
    assert_eq!(device.read(0x70, 4), Ok(15));
}

/// Writes descriptor `at` of the table at `ring`.
fn describe(ring: u64, at: u64, buffer: u64, len: u32, flags: u16, next: u16) {
    let at = usize::try_from(ring + at * 16).unwrap();
    RAM.write(at, &buffer.to_le_bytes());
    RAM.write(at + 8, &len.to_le_bytes());
    RAM.write(at + 12, &flags.to_le_bytes());
    RAM.write(at + 14, &next.to_le_bytes());
}

/// Makes the chain at descriptor 0 available, kicks, and waits until the chain is used.
fn request(device: &DriverPort, ring: usize) {
    RAM.write(ring + 0x202, &[1, 0]);
    device.write(0x50, 4, 0).unwrap();
    let mut idx = [0; 2];
    while idx != [1, 0] {
        RAM.read(ring + 0x302, &mut idx);
        thread::yield_now();
    }
}

#[test]
fn two_models_do_io_for_their_drivers_behind_one_channel() {
    let (port, mut source) = channel();
    let devices = thread::spawn(move || {
        let entropy = engine(Entropy::new(|bytes: &mut [u8]| {
            bytes.fill(9);
            Result::<_, EntropyError>::Ok(bytes.len())
        }));
        let disk = Block::new(RamDisk::new(vec![5; 1024]), BlockOptions::new(16));
        let mut bus: Bus<Box<dyn Served>> = Bus::new();
        bus.attach(0x1_0000..0x1_0200, Box::new(engine(disk)))?;
        bus.attach(0x1000..0x1200, Box::new(entropy))?;
        let mut refused = Vec::new();
        let mut observer = OnAccess(|access, reply| {
            if let Reply::Refused(why) = reply {
                refused.push((access, why));
            }
        });
        serve(&mut bus, &mut source, &mut observer)?;
        Result::<_, Box<dyn std::error::Error + Send + Sync>>::Ok(refused)
    });
    let (entropy, disk) = (port.window(0x1000), port.window(0x1_0000));
    assert_eq!(entropy.read(8, 4), Ok(4));
    assert_eq!(disk.read(8, 4), Ok(2));
    // The capacity, in sectors.
    assert_eq!(disk.read(0x100, 4), Ok(2));
    assert_eq!(port.read(0x8000, 4), Ok(0));

    bring_up(&entropy, 0);
    bring_up(&disk, 0x1000);
    describe(0, 0, 0x800, 16, 2, 0);
    request(&entropy, 0);
    let mut bytes = [0; 16];
    RAM.read(0x800, &mut bytes);
    assert_eq!(bytes, [9; 16]);

    // A read of sector 1: header, data, status.
    RAM.write(0x1800, &[0; 8]);
    RAM.write(0x1808, &1_u64.to_le_bytes());
    RAM.write(0x1c00, &[0xff]);
    describe(0x1000, 0, 0x1800, 16, 1, 1);
    describe(0x1000, 1, 0x2000, 512, 3, 2);
    describe(0x1000, 2, 0x1c00, 1, 2, 0);
    request(&disk, 0x1000);
    let mut bytes = [0; 512];
    RAM.read(0x2000, &mut bytes);
    assert_eq!(bytes, [5; 512]);
    RAM.read(0x1c00, &mut bytes[..1]);
    assert_eq!(bytes[0], 0);

    drop((port, entropy, disk));
    let refused = devices.join().unwrap().unwrap();
    let nothing = Refusal::NoSuchRegister { offset: 0x8000 };
    assert_eq!(refused, [(Access::read(0x8000), nothing)]);
}

/// Leaves the loop when the device is live.
#[derive(Default)]
struct WhenLive(bool);

impl<D: virtside::DeviceModel> crate::Observer<Of<D>> for WhenLive {
    fn accessed(&mut self, engine: &Of<D>, _: Access, _: Reply) {
        self.0 = engine.phase() == Phase::Live;
    }
    fn stops(&mut self) -> bool {
        self.0
    }
}

#[test]
fn a_reset_that_waits_lets_the_other_device_work() {
    static RAM: Ram<8192> = Ram::new();
    let (port, mut source) = channel();
    let (hand_over, taken) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let devices = thread::spawn(move || {
        let model = Entropy::new(|bytes: &mut [u8]| Result::<_, EntropyError>::Ok(bytes.len()));
        let slots = [ChainSlot::new()];
        let mut one: Of<_> = Engine::new(model, RAM.flat(0), (), slots, Arc::new(Shared::new()));
        serve(&mut one, &mut source, &mut WhenLive::default()).unwrap();
        hand_over.send(one.take_queue(0).unwrap()).unwrap();
        let mut other = Fake::default();
        let mut bus: Bus<&mut dyn Served> = Bus::new();
        bus.attach(0..0x200, &mut one).unwrap();
        bus.attach(0x1000..0x1200, &mut other).unwrap();
        serve(&mut bus, &mut source, &mut ()).unwrap();
        other.polled.len()
    });
    let owner = thread::spawn(move || {
        let queue = taken.recv().unwrap();
        stopped.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(queue);
    });
    bring_up(&port, 0);
    assert_eq!(port.read(0x1000, 4), Ok(7));
    stop.send(()).unwrap();
    let start = Instant::now();
    port.write(0x70, 4, 0).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(port.read(0x70, 4), Ok(0));
    drop(port);
    owner.join().unwrap();
    assert!(
        devices.join().unwrap() > 6,
        "the other device was not polled during the reset"
    );
}

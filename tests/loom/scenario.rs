//! What two sides do, and what must be so when both have come to rest.

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicBool, Ordering::AcqRel},
    thread,
};
use virtside::{
    Configuring, DeviceBuilder, DriverMem, DriverNotify, Message, Shared, device::TakenQueue,
    memory::Ram, queue::Chain, setup::Progress, testing::Buffer,
};

use crate::{
    Kind,
    driver::Driver,
    memory::{CONFIG, Flaw, Memory, address},
};

/// Wakes who sleeps: a kick, or an interrupt.
#[derive(Clone, Debug)]
struct Bell(Arc<AtomicBool>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }
    fn ring(&self) {
        self.0.swap(true, AcqRel);
    }
    fn has_rung(&self) -> bool {
        self.0.swap(false, AcqRel)
    }
}

impl DriverNotify for Bell {
    fn assert(&self) {
        self.ring();
    }
}

type Queue = TakenQueue<<Memory as DriverMem>::Window, Bell, 1, 2, Arc<Shared<1>>>;

/// A live queue of two.
fn take_queue(mem: Memory, kind: Kind, line: Bell) -> Queue {
    let builder = DeviceBuilder::new(Arc::new(Shared::new()))
        .map_notify(|()| Ok(line))
        .expect("a line");
    let mut configuring =
        Configuring::<_, _, _, 1, 2, _>::new(builder, &(0..1), mem).with_features(kind.features());
    let configured = configuring.step(Message::ConfigureQueue(CONFIG));
    assert!(matches!(configured, Ok(Progress::Configured(0))));
    let ready = configuring.step(Message::Ready {
        features: kind.features(),
    });
    let Ok(Progress::Ready(mut device, responder)) = ready else {
        panic!("not ready");
    };
    assert!(responder.accept());
    device.take_queue(0).expect("a live queue")
}

/// The device's side.
struct Device {
    mem: Memory,
    queue: Queue,
    kick: Bell,
    /// What was in the readable byte of each request; its number if there is none.
    served: Vec<u8>,
}

impl Device {
    /// Serves whatever there is, until it sleeps.
    fn run(&mut self) {
        loop {
            self.queue.disable_kicks();
            self.serve();
            while self.queue.enable_kicks().expect("no fault") {
                self.queue.disable_kicks();
                assert!(self.serve(), "more had come, but it is gone");
            }
            if !self.kick.has_rung() {
                return;
            }
        }
    }

    /// Serves whatever there is; says whether there was anything.
    fn serve(&mut self) -> bool {
        let before = self.served.len();
        while self.serve_one() {}
        self.served.len() > before
    }

    /// Takes a request, if there is one.
    fn pop(&mut self) -> Option<Chain<2>> {
        let mut chain = Chain::new();
        let popped = self.queue.pop(&self.mem, &mut chain);
        popped.expect("torn chain").then_some(chain)
    }

    /// Answers a byte with the next one, and announces it; says whether there was a request.
    fn serve_one(&mut self) -> bool {
        let Some(chain) = self.pop() else {
            return false;
        };
        let mut byte = [self.served.len() as u8];
        if let Some(view) = chain.readable(&self.mem).view(1).expect("mapped") {
            assert_eq!(view.copy_to(&mut byte), 1);
        }
        self.served.push(byte[0]);
        let written = self.write(&chain, byte[0] + 1);
        self.queue.complete(&chain, written).expect("in flight");
        self.queue.flush();
        true
    }

    /// Writes the writable byte, if there is one; says how many were written.
    fn write(&self, chain: &Chain<2>, byte: u8) -> u32 {
        let mut writable = chain.writable(&self.mem);
        if let Some(view) = writable.view(1).expect("mapped") {
            assert_eq!(view.copy_from(&[byte]), 1);
            writable.commit(1);
        }
        writable.written()
    }

    /// With IN_ORDER: answers two requests, the younger first, and announces them together.
    fn serve_in_reverse(&mut self, [older, younger]: &[Chain<2>; 2]) {
        let number = self.served.len() as u8;
        self.served.extend([number, number + 1]);
        let younger_written = self.write(younger, number + 2);
        let early = self.queue.complete(younger, younger_written);
        assert!(early.is_err(), "it is not its turn");
        let older_written = self.write(older, number + 1);
        for (chain, written) in [(older, older_written), (younger, younger_written)] {
            self.queue.complete(chain, written).expect("in flight");
        }
        self.queue.flush();
    }
}

/// The driver's side.
struct Guest {
    mem: Memory,
    driver: Driver,
    kick: Bell,
    line: Bell,
    /// Id, length and the writable byte of what came back.
    answers: Vec<(u32, u32, u8)>,
}

impl Guest {
    /// Makes a request; the writable byte, if there is one, is the last.
    fn send(&mut self, id: u16, buffers: &[Buffer]) {
        if self.driver.publish(id, buffers) {
            self.kick.ring();
        }
    }

    /// Takes whatever there is, until it sleeps. Chains have so many descriptors, and the writable
    /// byte of each is in the buffer of the number of its last descriptor.
    fn run(&mut self, slots: u16) {
        loop {
            self.driver.disable_interrupts();
            self.take(slots);
            while self.driver.enable_interrupts() {
                self.driver.disable_interrupts();
                assert!(self.take(slots), "more had come, but it is gone");
            }
            if !self.line.has_rung() {
                return;
            }
        }
    }

    fn take(&mut self, slots: u16) -> bool {
        let before = self.answers.len();
        while let Some(chains) = self.driver.take_used(slots) {
            for (id, len) in chains {
                assert!(id < 2 && len == 1, "torn element: {id}, {len}");
                let byte = self.mem.get(id as usize + usize::from(slots) - 1);
                self.answers.push((id, len, byte));
            }
        }
        self.answers.len() > before
    }
}

/// Both sides, at the start.
fn pair(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) -> (Device, Guest) {
    let mem = Memory::new(ram, flaw);
    let (kick, line) = (Bell::new(), Bell::new());
    let device = Device {
        mem: mem.clone(),
        queue: take_queue(mem.clone(), kind, line.clone()),
        kick: kick.clone(),
        served: Vec::new(),
    };
    let guest = Guest {
        driver: Driver::new(mem.clone(), kind),
        mem,
        kick,
        line,
        answers: Vec::new(),
    };
    (device, guest)
}

/// Does `work` of the device on a thread of its own, beside the driver's.
fn together(
    mut device: Device,
    work: impl FnOnce(&mut Device) + 'static,
    driver: impl FnOnce(),
) -> Device {
    let thread = thread::spawn(move || {
        work(&mut device);
        device
    });
    driver();
    thread.join().expect("no assertion failed")
}

/// Fails unless the device has had these requests.
fn assert_served(device: &Device, expected: &[u8]) {
    assert!(
        expected.starts_with(&device.served),
        "torn chain: {:?}",
        device.served
    );
    assert_eq!(device.served, expected, "lost wake-up of the device");
}

/// A second chain is published while the device serves the first one, looks for more, and goes to
/// sleep.
pub fn device_hears(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut guest) = pair(ram, kind, flaw);
    let request = |guest: &mut Guest, number: u8| {
        guest.mem.put(number.into(), number);
        let buffer = Buffer::readable(address(number.into()), 1);
        guest.send(number.into(), &[buffer]);
    };
    // It slept when the first one came, which has woken it.
    device.run();
    request(&mut guest, 0);
    assert!(device.kick.has_rung());
    let mut device = together(device, Device::run, || request(&mut guest, 1));
    if device.kick.has_rung() {
        device.run();
    }
    assert_served(&device, &[0, 1]);
}

/// The driver has two buffers with the device.
fn buffers_out(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) -> (Device, Guest) {
    let (device, mut guest) = pair(ram, kind, flaw);
    for number in 0..2 {
        guest.send(number, &[Buffer::writable(address(number.into()), 1)]);
    }
    (device, guest)
}

/// The driver wakes up if there is reason to, and must have both of its buffers then.
fn assert_back(guest: &mut Guest) {
    if guest.line.has_rung() {
        guest.run(1);
    }
    let expected = [(0, 1, 1), (1, 1, 2)];
    assert_eq!(guest.answers, expected, "lost wake-up of the driver");
}

/// A second chain is given back while the driver takes the first one, looks for more, and goes to
/// sleep.
pub fn driver_hears(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut guest) = buffers_out(ram, kind, flaw);
    // It slept when the first one came back, which has woken it.
    guest.run(1);
    assert!(device.serve_one());
    assert!(guest.line.has_rung());
    let second = |device: &mut Device| assert!(device.serve_one());
    together(device, second, || guest.run(1));
    assert_back(&mut guest);
}

/// Two chains are given back while the driver takes what there is, looks for more, and goes to sleep.
pub fn both_come_back(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (device, mut guest) = buffers_out(ram, kind, flaw);
    let both = |device: &mut Device| assert!(device.serve());
    together(device, both, || guest.run(1));
    assert_back(&mut guest);
}

/// A request and its answer, in the second round of the ring, of a driver and a device that sleep
/// whenever they may.
pub fn round_trip(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut guest) = pair(ram, kind, flaw);
    let request = |guest: &mut Guest, byte: u8| {
        guest.mem.put(0, byte);
        let (readable, writable) = (address(0), address(1));
        guest.send(
            0,
            &[Buffer::readable(readable, 1), Buffer::writable(writable, 1)],
        );
    };
    request(&mut guest, 10);
    device.run();
    guest.run(2);
    assert_eq!(guest.answers, [(0, 1, 11)]);
    let mut device = together(device, Device::run, || {
        request(&mut guest, 20);
        guest.run(2);
    });
    // Whoever was woken goes on, until nobody is.
    loop {
        if device.kick.has_rung() {
            device.run();
        } else if guest.line.has_rung() {
            guest.run(2);
        } else {
            break;
        }
    }
    assert_served(&device, &[10, 20]);
    let expected = [(0, 1, 11), (0, 1, 21)];
    assert_eq!(guest.answers, expected, "lost wake-up of the driver");
}

/// With IN_ORDER: two chains that the device answers the wrong way round come back as one batch, which
/// goes around the end of the ring, while the driver takes what there is, sends a chain again, looks for
/// more, and goes to sleep.
pub fn batch_comes_back(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut guest) = buffers_out(ram, kind, flaw);
    // It was woken for them.
    assert!(device.kick.has_rung());
    device.queue.disable_kicks();
    let again = |guest: &mut Guest| guest.send(0, &[Buffer::writable(address(0), 1)]);
    // The first has come back, which has woken the driver, and was sent again.
    guest.run(1);
    assert!(device.serve_one());
    assert!(guest.line.has_rung());
    guest.driver.disable_interrupts();
    assert!(guest.take(1));
    again(&mut guest);
    let chains = [(); 2].map(|()| device.pop().expect("a request"));
    let go_on = |guest: &mut Guest| {
        guest.run(1);
        if guest.answers.len() == 3 {
            again(guest);
            guest.run(1);
        }
    };
    let work = move |device: &mut Device| device.serve_in_reverse(&chains);
    let mut device = together(device, work, || go_on(&mut guest));
    // It has not slept since.
    device.run();
    loop {
        if device.kick.has_rung() {
            device.run();
        } else if guest.line.has_rung() {
            go_on(&mut guest);
        } else {
            break;
        }
    }
    let told = guest.answers.len() >= 3;
    assert!(told, "lost wake-up of the driver: {:?}", guest.answers);
    assert_served(&device, &[0, 1, 2, 3]);
    let expected = [(0, 1, 1), (1, 1, 2), (0, 1, 3), (0, 1, 4)];
    assert_eq!(guest.answers, expected, "lost wake-up of the driver");
}

/// What is explored.
pub type Scenario = fn(&'static Ram<4096>, Kind, Flaw);

/// Explores all of it.
pub fn explore(scenario: Scenario, kind: Kind, flaw: Flaw) {
    let ram: &'static Ram<4096> = Box::leak(Box::default());
    loom::model(move || scenario(ram, kind, flaw));
}

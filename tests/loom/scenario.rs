//! What the two sides do in an exploration, and what must hold when both have ended.

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

/// Wakes a side that sleeps: a kick or an interrupt.
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

/// A live queue of two elements.
fn take_queue(mem: Memory, kind: Kind, line: Bell) -> Queue {
    let builder = DeviceBuilder::new(Arc::new(Shared::new()))
        .map_notify(|()| Ok(line))
        .expect("an interrupt");
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
    /// The readable byte of each request; the request's number if it has none.
    served: Vec<u8>,
}

impl Device {
    /// Serves every request until it sleeps.
    fn run(&mut self) {
        loop {
            self.queue.disable_kicks();
            self.serve();
            while self.queue.enable_kicks().expect("no fault") {
                self.queue.disable_kicks();
                assert!(
                    self.serve(),
                    "enable_kicks reported a chain that is not there"
                );
            }
            if !self.kick.has_rung() {
                return;
            }
        }
    }

    /// Serves every request that is available; returns whether there was one.
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

    /// Answers a byte with the next higher one and notifies the driver; returns whether there was a
    /// request.
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

    /// Writes the writable byte, if there is one; returns the bytes written.
    fn write(&self, chain: &Chain<2>, byte: u8) -> u32 {
        let mut writable = chain.writable(&self.mem);
        if let Some(view) = writable.view(1).expect("mapped") {
            assert_eq!(view.copy_from(&[byte]), 1);
            writable.commit(1);
        }
        writable.written()
    }

    /// With IN_ORDER: answers two requests, the younger first, and notifies the driver once.
    fn serve_in_reverse(&mut self, [older, younger]: &[Chain<2>; 2]) {
        let number = self.served.len() as u8;
        self.served.extend([number, number + 1]);
        let younger_written = self.write(younger, number + 2);
        let early = self.queue.complete(younger, younger_written);
        assert!(
            early.is_err(),
            "the younger chain is completed out of order"
        );
        let older_written = self.write(older, number + 1);
        for (chain, written) in [(older, older_written), (younger, younger_written)] {
            self.queue.complete(chain, written).expect("in flight");
        }
        self.queue.flush();
    }
}

/// The driver's side.
struct DriverSide {
    mem: Memory,
    driver: Driver,
    kick: Bell,
    line: Bell,
    /// Id, length and writable byte of each request that came back.
    answers: Vec<(u32, u32, u8)>,
}

impl DriverSide {
    /// Sends a request; its writable byte, if it has one, is the last buffer.
    fn send(&mut self, id: u16, buffers: &[Buffer]) {
        if self.driver.publish(id, buffers) {
            self.kick.ring();
        }
    }

    /// Takes every used chain until it sleeps. Each chain has `slots` descriptors, and its writable
    /// byte is in the buffer with the number of its last descriptor.
    fn run(&mut self, slots: u16) {
        loop {
            self.driver.disable_interrupts();
            self.take(slots);
            while self.driver.enable_interrupts() {
                self.driver.disable_interrupts();
                assert!(
                    self.take(slots),
                    "a used element was reported that is not there"
                );
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

/// Both sides in their initial state.
fn pair(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) -> (Device, DriverSide) {
    let mem = Memory::new(ram, flaw);
    let (kick, line) = (Bell::new(), Bell::new());
    let device = Device {
        mem: mem.clone(),
        queue: take_queue(mem.clone(), kind, line.clone()),
        kick: kick.clone(),
        served: Vec::new(),
    };
    let driver_side = DriverSide {
        driver: Driver::new(mem.clone(), kind),
        mem,
        kick,
        line,
        answers: Vec::new(),
    };
    (device, driver_side)
}

/// Runs `work` of the device on a thread of its own, beside the driver's.
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

/// Asserts that the device has served these requests.
fn assert_served(device: &Device, expected: &[u8]) {
    assert!(
        expected.starts_with(&device.served),
        "torn chain: {:?}",
        device.served
    );
    assert_eq!(device.served, expected, "lost wake-up of the device");
}

/// A second chain is published while the device serves the first one, checks for more, and sleeps.
pub fn device_is_woken(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut driver_side) = pair(ram, kind, flaw);
    let request = |driver_side: &mut DriverSide, number: u8| {
        driver_side.mem.put(number.into(), number);
        let buffer = Buffer::readable(address(number.into()), 1);
        driver_side.send(number.into(), &[buffer]);
    };
    // The first chain came while the device slept, so it is awake.
    device.run();
    request(&mut driver_side, 0);
    assert!(device.kick.has_rung());
    let mut device = together(device, Device::run, || request(&mut driver_side, 1));
    if device.kick.has_rung() {
        device.run();
    }
    assert_served(&device, &[0, 1]);
}

/// The device has two buffers of the driver in hand.
fn buffers_out(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) -> (Device, DriverSide) {
    let (device, mut driver_side) = pair(ram, kind, flaw);
    for number in 0..2 {
        driver_side.send(number, &[Buffer::writable(address(number.into()), 1)]);
    }
    (device, driver_side)
}

/// Runs the driver if it was woken; it must have both of its buffers then.
fn assert_back(driver_side: &mut DriverSide) {
    if driver_side.line.has_rung() {
        driver_side.run(1);
    }
    let expected = [(0, 1, 1), (1, 1, 2)];
    assert_eq!(driver_side.answers, expected, "lost wake-up of the driver");
}

/// A second chain is given back while the driver takes the first one, checks for more, and sleeps.
pub fn driver_is_woken(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut driver_side) = buffers_out(ram, kind, flaw);
    // The first chain came back while the driver slept, so it is awake.
    driver_side.run(1);
    assert!(device.serve_one());
    assert!(driver_side.line.has_rung());
    let second = |device: &mut Device| assert!(device.serve_one());
    together(device, second, || driver_side.run(1));
    assert_back(&mut driver_side);
}

/// Two chains are given back while the driver takes what is used, checks for more, and sleeps.
pub fn both_come_back(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (device, mut driver_side) = buffers_out(ram, kind, flaw);
    let both = |device: &mut Device| assert!(device.serve());
    together(device, both, || driver_side.run(1));
    assert_back(&mut driver_side);
}

/// A request and its answer in the second round of the ring. Driver and device sleep whenever they
/// may.
pub fn round_trip(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut driver_side) = pair(ram, kind, flaw);
    let request = |driver_side: &mut DriverSide, byte: u8| {
        driver_side.mem.put(0, byte);
        let (readable, writable) = (address(0), address(1));
        driver_side.send(
            0,
            &[Buffer::readable(readable, 1), Buffer::writable(writable, 1)],
        );
    };
    request(&mut driver_side, 10);
    device.run();
    driver_side.run(2);
    assert_eq!(driver_side.answers, [(0, 1, 11)]);
    let mut device = together(device, Device::run, || {
        request(&mut driver_side, 20);
        driver_side.run(2);
    });
    // Each side that was woken continues, until neither is woken.
    loop {
        if device.kick.has_rung() {
            device.run();
        } else if driver_side.line.has_rung() {
            driver_side.run(2);
        } else {
            break;
        }
    }
    assert_served(&device, &[10, 20]);
    let expected = [(0, 1, 11), (0, 1, 21)];
    assert_eq!(driver_side.answers, expected, "lost wake-up of the driver");
}

/// With IN_ORDER: the device answers two chains in reverse order, and they come back as one batch,
/// which wraps at the end of the ring. Meanwhile the driver takes what is used, sends a chain
/// again, checks for more, and sleeps.
pub fn batch_comes_back(ram: &'static Ram<4096>, kind: Kind, flaw: Flaw) {
    let (mut device, mut driver_side) = buffers_out(ram, kind, flaw);
    // The two chains woke the device.
    assert!(device.kick.has_rung());
    device.queue.disable_kicks();
    let again =
        |driver_side: &mut DriverSide| driver_side.send(0, &[Buffer::writable(address(0), 1)]);
    // The first chain has come back, which woke the driver, and is sent again.
    driver_side.run(1);
    assert!(device.serve_one());
    assert!(driver_side.line.has_rung());
    driver_side.driver.disable_interrupts();
    assert!(driver_side.take(1));
    again(&mut driver_side);
    let chains = [(); 2].map(|()| device.pop().expect("a request"));
    let go_on = |driver_side: &mut DriverSide| {
        driver_side.run(1);
        if driver_side.answers.len() == 3 {
            again(driver_side);
            driver_side.run(1);
        }
    };
    let work = move |device: &mut Device| device.serve_in_reverse(&chains);
    let mut device = together(device, work, || go_on(&mut driver_side));
    // The device has not slept since.
    device.run();
    loop {
        if device.kick.has_rung() {
            device.run();
        } else if driver_side.line.has_rung() {
            go_on(&mut driver_side);
        } else {
            break;
        }
    }
    let woken = driver_side.answers.len() >= 3;
    assert!(
        woken,
        "lost wake-up of the driver: {:?}",
        driver_side.answers
    );
    assert_served(&device, &[0, 1, 2, 3]);
    let expected = [(0, 1, 1), (1, 1, 2), (0, 1, 3), (0, 1, 4)];
    assert_eq!(driver_side.answers, expected, "lost wake-up of the driver");
}

/// What an exploration runs.
pub type Scenario = fn(&'static Ram<4096>, Kind, Flaw);

/// Explores every interleaving.
pub fn explore(scenario: Scenario, kind: Kind, flaw: Flaw) {
    let ram: &'static Ram<4096> = Box::leak(Box::default());
    loom::model(move || scenario(ram, kind, flaw));
}

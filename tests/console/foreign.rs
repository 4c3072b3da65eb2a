//! Unmodified `virtio-drivers` drives the console device behind the blocking loop.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use virtio_drivers::device::console::{Size, VirtIOConsole};
use virtside::{
    ChainSlot, Engine, Shared,
    models::{Console, ConsoleError, ConsolePort, console::ConsoleSize},
};
use virtside_std::{
    CondvarNotify, Observer, VmMem,
    channel::{DriverPort, Waker, channel},
    guest::{ChannelTransport, GuestHal},
    serve,
};

/// The host's side of the console. The test holds the other end.
#[derive(Clone, Debug, Default)]
struct Terminal(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    keys: VecDeque<u8>,
    screen: Vec<u8>,
    emergencies: Vec<u8>,
    resize: Option<ConsoleSize>,
    /// Takes few bytes at a time, and is not ready every second time.
    slow: bool,
    ready: bool,
}

impl Terminal {
    fn inside<R>(&self, look: impl FnOnce(&mut Inside) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }
}

impl ConsolePort for Terminal {
    fn has_input(&self) -> bool {
        self.inside(|inside| !inside.keys.is_empty())
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        self.inside(|inside| {
            let count = bytes.len().min(inside.keys.len());
            for (place, byte) in bytes.iter_mut().zip(inside.keys.drain(..count)) {
                *place = byte;
            }
            Ok(count)
        })
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        self.inside(|inside| {
            inside.ready = !inside.ready;
            let count = match (inside.slow, inside.ready) {
                (true, false) => return Err(ConsoleError::NotReady),
                (true, true) => 1,
                (false, _) => bytes.len(),
            };
            inside.screen.extend_from_slice(&bytes[..count]);
            Ok(count)
        })
    }
    fn emergency(&mut self, byte: u8) {
        self.inside(|inside| inside.emergencies.push(byte));
    }
}

const N: usize = 16;

type Machine =
    Engine<Console<Terminal>, VmMem, CondvarNotify, 2, N, [ChainSlot<N>; 3], Arc<Shared<2>>>;

/// Reports events of the terminal to the device.
struct Events(Terminal);

impl Observer<Machine> for Events {
    fn before_poll(&mut self, machine: &mut Machine) {
        machine.backend_ready(0);
        machine.backend_ready(1);
        if let Some(size) = self.0.inside(|inside| inside.resize.take()) {
            machine.update_config(|console| {
                console.port_mut(0).expect("port 0").resize(size);
            });
        }
    }
}

struct Running {
    terminal: Terminal,
    port: DriverPort,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl Running {
    fn new() -> Self {
        let terminal = Terminal::default();
        let (port, mut source) = channel();
        let waker = source.waker();
        let memory = VmMem::new(GuestHal::memory().expect("guest memory"));
        let thread = thread::spawn({
            let terminal = terminal.clone();
            move || {
                let mut machine: Machine = Engine::new(
                    Console::new(terminal.clone()).with_size(80, 25),
                    memory,
                    CondvarNotify::new(),
                    [const { ChainSlot::new() }; 3],
                    Arc::new(Shared::new()),
                );
                serve(&mut machine, &mut source, &mut Events(terminal)).expect("a clean end");
                assert_eq!(machine.take_host_fault(), None);
                for queue in [0, 1] {
                    assert_eq!(machine.driver_fault(queue), None);
                }
            }
        });
        Self {
            terminal,
            port,
            waker,
            thread,
        }
    }

    fn driver(&self) -> VirtIOConsole<GuestHal, ChannelTransport> {
        let transport = ChannelTransport::new(self.port.clone()).expect("a virtio device");
        VirtIOConsole::new(transport).expect("the driver is live")
    }

    /// Types these bytes at the terminal.
    fn keys(&self, bytes: &[u8]) {
        self.terminal.inside(|inside| inside.keys.extend(bytes));
        self.waker.wake();
    }

    fn join(self) -> Terminal {
        drop(self.port);
        self.thread.join().expect("the thread does not panic");
        self.terminal
    }
}

#[test]
fn a_foreign_driver_sends() {
    let running = Running::new();
    let mut console = running.driver();
    for byte in *b"hello, " {
        console.send(byte).expect("sent");
    }
    console.send_bytes(&[b'w'; 3000]).expect("sent");
    drop(console);
    let screen = running.join().inside(|inside| inside.screen.clone());
    assert_eq!(screen[..7], *b"hello, ");
    assert_eq!(screen[7..], [b'w'; 3000]);
}

#[test]
fn a_foreign_driver_waits_for_a_slow_terminal() {
    let running = Running::new();
    running.terminal.inside(|inside| inside.slow = true);
    let mut console = running.driver();
    let bytes: Vec<u8> = (0..=255).collect();
    // The driver polls memory for its buffer, so another thread has to keep the terminal running.
    thread::scope(|scope| {
        let sending = scope.spawn(|| console.send_bytes(&bytes).expect("sent"));
        while !sending.is_finished() {
            running.waker.wake();
            thread::yield_now();
        }
    });
    drop(console);
    let screen = running.join().inside(|inside| inside.screen.clone());
    assert_eq!(screen, bytes, "every byte arrives once");
}

#[test]
fn a_foreign_driver_receives() {
    let running = Running::new();
    let mut console = running.driver();
    assert_eq!(console.recv(true), Ok(None));
    let mut expected = 0u8;
    for len in [1, 2, 255, 4096, 5000, 1] {
        let bytes: Vec<u8> = (0..len).map(|at| expected.wrapping_add(at as u8)).collect();
        running.keys(&bytes);
        for byte in bytes {
            let got = loop {
                if let Some(got) = console.recv(true).expect("no error") {
                    break got;
                }
                thread::yield_now();
            };
            assert_eq!(got, byte);
        }
        expected = expected.wrapping_add(len as u8);
    }
    assert_eq!(console.recv(true), Ok(None));
    drop(console);
    assert!(running.join().inside(|inside| inside.keys.is_empty()));
}

#[test]
fn a_foreign_driver_sees_the_size_and_its_changes() {
    let running = Running::new();
    let mut console = running.driver();
    assert_eq!(
        console.size(),
        Ok(Some(Size {
            columns: 80,
            rows: 25
        }))
    );
    let size = ConsoleSize {
        cols: 132,
        rows: 50,
    };
    running.terminal.inside(|inside| inside.resize = Some(size));
    running.waker.wake();
    while console.size()
        != Ok(Some(Size {
            columns: 132,
            rows: 50,
        }))
    {
        thread::yield_now();
    }
    // The configuration interrupt does not disturb the driver.
    assert_eq!(console.ack_interrupt(), Ok(false));
    drop(console);
    running.join();
}

#[test]
fn a_foreign_driver_writes_in_an_emergency() {
    let running = Running::new();
    let mut console = running.driver();
    for byte in *b"oops" {
        console.emergency_write(byte).expect("written");
    }
    drop(console);
    let emergencies = running.join().inside(|inside| inside.emergencies.clone());
    assert_eq!(emergencies, b"oops");
}

#[test]
fn a_foreign_driver_can_start_again() {
    let running = Running::new();
    for round in 0..20 {
        let mut console = running.driver();
        console.send(round).expect("sent");
        running.keys(&[round]);
        while console.recv(true).expect("no error") != Some(round) {
            thread::yield_now();
        }
    }
    let screen = running.join().inside(|inside| inside.screen.clone());
    assert_eq!(screen, (0..20).collect::<Vec<u8>>());
}

//! One process leaves its blocking loop between two accesses and saves the device to a file, and
//! the loop of another process continues. The driver, in the test's process, only waits a little.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use virtio_spec::blk::F;
use virtside::{
    ChainSlot, Engine, Features, Shared,
    mmio::{Access, Reply},
    models::{Block, BlockOptions, blk::BlockSnapshot},
    snapshot::EngineSnapshot,
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_std::{AccessSource, Event, FileDisk, Until, VmMem, serve};
use vmm_sys_util::tempdir::TempDir;

use super::{
    children::{FOLDER, start},
    processes::{BASE, BYTES, N, memory},
};
use virtside_tests::reg;

const SLOTS: usize = 2;
const SECTORS: usize = 64;

type Device = Engine<Block<FileDisk>, VmMem, (), 1, N, [ChainSlot<N>; SLOTS], Arc<Shared<1>>>;
type State = EngineSnapshot<BlockSnapshot, 1, N, SLOTS>;

/// What a message of the driver's process asks for.
const LOAD: u8 = 0;
const STORE: u8 = 1;
const STOP: u8 = 2;

/// Bytes of a message: kind, width, offset, value.
const MESSAGE: usize = 14;

/// Register accesses received from a socket.
struct Wire<'a> {
    stream: UnixStream,
    stop: &'a AtomicBool,
}

impl AccessSource for Wire<'_> {
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        self.stream.set_nonblocking(timeout.is_some())?;
        let mut message = [0; MESSAGE];
        match self.stream.read(&mut message[..1]) {
            Ok(0) => return Ok(Event::End),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Event::Woken),
            Err(error) => return Err(error),
        }
        self.stream.set_nonblocking(false)?;
        self.stream.read_exact(&mut message[1..])?;
        let [what, width, rest @ ..] = message;
        let offset = u32::from_le_bytes(rest[..4].try_into().expect("a word"));
        let value = u64::from_le_bytes(rest[4..].try_into().expect("two"));
        Ok(match what {
            LOAD => Event::Access(Access::Read { offset, width }),
            STORE => Event::Access(Access::Write {
                offset,
                width,
                value,
            }),
            _ => {
                self.stop.store(true, Ordering::Release);
                Event::Woken
            }
        })
    }

    fn complete(&mut self, value: u64) -> io::Result<()> {
        self.stream.write_all(&value.to_le_bytes())
    }
}

/// The device's process, which the test below starts; not a test of its own.
#[test]
#[ignore = "the device's process, which the test of the blocking loop starts"]
fn the_device() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("started by a test"));
    let disk = FileDisk::open(folder.join("disk")).expect("the disk");
    let model = Block::new(disk, BlockOptions::new(N as u16));
    let slots = [const { ChainSlot::new() }; SLOTS];
    let mut device: Device = Engine::new(model, memory(&folder), (), slots, Arc::default());
    if let Ok(bytes) = std::fs::read(folder.join("state")) {
        let state: State = postcard::from_bytes(&bytes).expect("a state");
        device.restore(&state).expect("the snapshot is valid");
    }
    let stop = AtomicBool::new(false);
    let mut wire = Wire {
        stream: UnixStream::connect(folder.join("wire")).expect("the driver"),
        stop: &stop,
    };
    serve(&mut device, &mut wire, &mut Until(&stop)).expect("a clean end");
    assert_eq!(device.take_host_fault(), None);
    if stop.load(Ordering::Acquire) {
        let state: State = device.save().expect("the device can be saved");
        let bytes = postcard::to_stdvec(&state).expect("bytes");
        std::fs::write(folder.join("state"), bytes).expect("the state");
    }
}

/// The device's process, as the driver sees it.
struct Remote {
    child: Child,
    wire: UnixStream,
}

impl Remote {
    fn start(folder: &Path, listener: &UnixListener) -> Self {
        let (child, wire) = start("blocking_loop::the_device", folder, listener);
        Self { child, wire }
    }

    fn say(&mut self, what: u8, width: u8, offset: u32, value: u64) {
        let mut message = vec![what, width];
        message.extend(offset.to_le_bytes());
        message.extend(value.to_le_bytes());
        self.wire.write_all(&message).expect("the device is there");
    }

    /// Makes the process save its state to a file and end.
    fn stop(mut self) {
        self.say(STOP, 0, 0, 0);
        assert!(self.child.wait().expect("the child has ended").success());
    }

    /// Closes the stream, which ends the process.
    fn end(self) {
        let Self { mut child, wire } = self;
        drop(wire);
        assert!(child.wait().expect("the child has ended").success());
    }
}

impl Registers for Remote {
    fn reach(&mut self, access: Access) -> Reply {
        match access {
            Access::Read { offset, width } => self.say(LOAD, width, offset, 0),
            Access::Write {
                offset,
                width,
                value,
            } => self.say(STORE, width, offset, value),
        }
        let mut value = [0; 8];
        self.wire.read_exact(&mut value).expect("an answer");
        Reply::Done(u64::from_le_bytes(value))
    }
}

fn write_back(device: &mut Remote) -> u64 {
    let read = Access::Read {
        offset: 0x120,
        width: 1,
    };
    device.reach(read).value().expect("an answer")
}

/// Bytes of a request's area: header, data, status.
const AREA: u64 = 0x800;
const DATA: u64 = BASE + 0x4000;

#[test]
fn one_process_leaves_its_loop_and_another_continues() {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.as_path();
    for (name, len) in [("memory", BYTES), ("disk", SECTORS as u64 * 512)] {
        let file = File::create(folder.join(name)).expect("a file");
        file.set_len(len).expect("its length");
    }
    let listener = UnixListener::bind(folder.join("wire")).expect("a socket");
    let mut driver = FakeDriver::new(memory(folder), Layout::packed_at(BASE, N as u16));
    let mut device = Remote::start(folder, &listener);
    let wce = [F::FLUSH, F::CONFIG_WCE].map(|flag| Features::from_spec(flag.bits()));
    let features = wce
        .into_iter()
        .fold(Features::VERSION_1, |all, one| all | one);
    assert!(device.bring_up(features, &[driver.config(0)]));
    let through = Access::Write {
        offset: 0x120,
        width: 1,
        value: 0,
    };
    let _ = device.reach(through);
    for round in 0..12u8 {
        for area in 0..5u64 {
            let at = DATA + AREA * area;
            let mut header = [0; 16];
            header[0] = 1;
            header[8] = 5 * round + area as u8;
            driver.write(at, &header);
            driver.write(at + 0x100, &[round * 5 + area as u8 + 1; 512]);
            driver.write(at + 0x700, &[0xff]);
            driver.send(
                area as u16 * 3,
                &[
                    Buffer::readable(at, 16),
                    Buffer::readable(at + 0x100, 512),
                    Buffer::writable(at + 0x700, 1),
                ],
            );
        }
        // A kick is optional: a restored device polls its queues.
        if round % 3 != 0 {
            let _ = device.kick(0);
        }
        device.stop();
        device = Remote::start(folder, &listener);
        let mut done = [0; 5];
        let deadline = Instant::now() + Duration::from_secs(60);
        while done.iter().sum::<u32>() < 5 {
            assert!(Instant::now() < deadline, "round {round}: {done:?}");
            match driver.take_used() {
                Some((head, len)) => {
                    assert_eq!((head % 3, len), (0, 1));
                    done[head as usize / 3] += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        assert_eq!(done, [1; 5], "each request is answered once");
        for area in 0..5 {
            let mut status = [0xff];
            driver.read(DATA + AREA * area + 0x700, &mut status);
            assert_eq!(status, [0]);
        }
        assert_eq!(device.load(reg::STATUS), 0xf);
        assert_eq!(write_back(&mut device), 0, "as the driver chose");
    }
    device.end();
    assert_eq!(driver.take_used(), None);
    let disk = std::fs::read(folder.join("disk")).expect("the disk");
    for (sector, bytes) in disk.chunks(512).enumerate().take(60) {
        assert!(bytes == [sector as u8 + 1; 512], "sector {sector}");
    }
}

//! Unmodified `virtio-drivers` drives virtside's devices behind the blocking loop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use virtio_drivers::device::{blk::VirtIOBlk, rng::VirtIORng};
use virtside::{
    ChainSlot, DeviceModel, Engine, Shared,
    device::Counters,
    models::{
        Block, BlockBackend, BlockError, BlockFeatures, BlockOptions, Entropy,
        blk::{BlockSnapshot, RamDisk},
    },
    snapshot::EngineSnapshot,
};
use virtside_std::{
    CondvarNotify, Until, VmMem,
    channel::{DriverPort, channel},
    guest::{ChannelTransport, GuestHal},
    serve,
};
use virtside_tests::random::Random;

const N: usize = 64;

/// A device in a thread. The thread ends when every port is dropped.
struct Running<D> {
    port: DriverPort,
    thread: JoinHandle<io::Result<(D, Counters)>>,
}

impl<D: DeviceModel + Clone + Send + 'static> Running<D> {
    fn new(model: D) -> Self {
        let (port, mut source) = channel();
        let memory = VmMem::new(GuestHal::memory().expect("guest memory"));
        let thread = thread::spawn(move || {
            let mut engine: Engine<D, VmMem, CondvarNotify, 2, N, _, _> = Engine::new(
                model,
                memory,
                CondvarNotify::new(),
                [const { ChainSlot::new() }; 2],
                Arc::new(Shared::<2>::new()),
            );
            serve(&mut engine, &mut source, &mut ())?;
            assert_eq!(engine.take_host_fault(), None);
            assert_eq!(engine.driver_fault(0), None);
            Ok((engine.model().clone(), engine.counters()))
        });
        Self { port, thread }
    }

    fn transport(&self) -> ChannelTransport {
        ChannelTransport::new(self.port.clone()).expect("a virtio device")
    }

    fn join(self) -> (D, Counters) {
        drop(self.port);
        self.thread
            .join()
            .expect("the thread does not panic")
            .expect("a clean end")
    }
}

const SECTORS: usize = 256;

fn disk() -> Block<RamDisk<Vec<u8>>> {
    Block::new(
        RamDisk::new(vec![0; SECTORS * 512]),
        BlockOptions::new(N as u16).with_id("foreign"),
    )
}

/// Does random reads, writes and flushes of random lengths, and compares them with a copy of the
/// expected disk.
fn shuffle(blk: &mut VirtIOBlk<GuestHal, ChannelTransport>, shadow: &mut [u8], rounds: usize) {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        let sectors = 1 + random.index(32);
        let at = random.index(SECTORS - sectors);
        let part = at * 512..(at + sectors) * 512;
        match random.index(9) {
            0..4 => {
                let fill = random.word().to_le_bytes();
                for (place, byte) in shadow[part.clone()].iter_mut().zip(fill.iter().cycle()) {
                    *place = *byte;
                }
                blk.write_blocks(at, &shadow[part]).expect("write");
            }
            4..8 => {
                let mut bytes = vec![0; sectors * 512];
                blk.read_blocks(at, &mut bytes).expect("read");
                assert!(bytes == shadow[part], "sectors {at} to {}", at + sectors);
            }
            _ => blk.flush().expect("flush"),
        }
    }
}

#[test]
fn a_foreign_driver_reads_and_writes_blocks() {
    let running = Running::new(disk());
    let mut shadow = vec![0; SECTORS * 512];
    {
        let mut blk =
            VirtIOBlk::<GuestHal, _>::new(running.transport()).expect("the driver is live");
        assert_eq!(blk.capacity(), SECTORS as u64);
        assert!(!blk.readonly());
        let mut id = [0; 20];
        assert_eq!(blk.device_id(&mut id), Ok(7));
        assert_eq!(&id[..7], b"foreign");
        shuffle(&mut blk, &mut shadow, 10_000);
    }
    let (disk, counters) = running.join();
    assert!(
        disk.backend().bytes() == shadow,
        "the disk contains the driver's writes"
    );
    assert!(counters.chains >= 10_000);
}

#[test]
fn a_foreign_driver_does_not_notice_that_its_device_moves() {
    let (port, mut source) = channel();
    let waker = source.waker();
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut shadow = vec![0; SECTORS * 512];
    thread::scope(|scope| {
        let device = scope.spawn(|| -> io::Result<_> {
            let mut state: Option<Vec<u8>> = None;
            let (mut bytes, mut moves, mut carried) = (vec![0; SECTORS * 512], 0, 0);
            loop {
                let options = BlockOptions::new(N as u16).with_id("foreign");
                let memory = VmMem::new(GuestHal::memory().expect("guest memory"));
                let mut engine: Engine<_, _, _, 2, N, _, _> = Engine::new(
                    Block::new(RamDisk::new(bytes), options),
                    memory,
                    CondvarNotify::new(),
                    [const { ChainSlot::new() }; 2],
                    Arc::new(Shared::<2>::new()),
                );
                if let Some(state) = state {
                    let state: EngineSnapshot<BlockSnapshot, 2, N, 2> =
                        postcard::from_bytes(&state).expect("a state");
                    engine.restore(&state).expect("the saved state is valid");
                    carried += u32::from(state.device.live);
                }
                serve(&mut engine, &mut source, &mut Until(&stop))?;
                assert_eq!(engine.take_host_fault(), None);
                bytes = engine.model().backend().bytes().to_vec();
                if !stop.swap(false, Ordering::AcqRel) {
                    return Ok((bytes, moves, carried));
                }
                let whole: EngineSnapshot<BlockSnapshot, 2, N, 2> =
                    engine.save().expect("the device can be saved");
                state = Some(postcard::to_stdvec(&whole).expect("bytes"));
                moves += 1;
            }
        });
        let mover = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                stop.store(true, Ordering::Release);
                waker.wake();
                thread::sleep(Duration::from_micros(300));
            }
        });
        for _ in 0..20 {
            // The driver goes from reset to reset; the moves happen at different moments each time.
            let transport = ChannelTransport::new(port.clone()).expect("a virtio device");
            let mut blk = VirtIOBlk::<GuestHal, _>::new(transport).expect("the driver is live");
            shuffle(&mut blk, &mut shadow, 300);
        }
        over.store(true, Ordering::Release);
        mover.join().expect("the thread does not panic");
        // The last move may still be due. Either it is made, or the stream ends first.
        drop(port);
        let (bytes, moves, carried) = device
            .join()
            .expect("the thread does not panic")
            .expect("a clean end");
        assert!(bytes == shadow, "the disk contains the driver's writes");
        println!("{moves} moves, {carried} of them with a live driver");
        assert!(moves > 20 && carried > 10, "{moves} moves, {carried} live");
    });
}

#[test]
fn a_foreign_driver_can_start_again() {
    let running = Running::new(disk());
    let mut shadow = vec![0; SECTORS * 512];
    for _ in 0..50 {
        // Dropping the driver stops its queue, and resets the device.
        let mut blk =
            VirtIOBlk::<GuestHal, _>::new(running.transport()).expect("the driver is live");
        shuffle(&mut blk, &mut shadow, 20);
    }
    let (disk, _) = running.join();
    assert!(disk.backend().bytes() == shadow);
}

#[test]
fn a_foreign_driver_gets_errors_for_what_is_not_on_the_disk() {
    let running = Running::new(disk());
    let mut blk = VirtIOBlk::<GuestHal, _>::new(running.transport()).expect("the driver is live");
    let mut bytes = vec![0; 1024];
    assert_eq!(
        blk.read_blocks(SECTORS - 1, &mut bytes),
        Err(virtio_drivers::Error::IoError)
    );
    assert_eq!(blk.read_blocks(SECTORS - 2, &mut bytes), Ok(()));
    drop(blk);
    running.join();
}

/// The same disk, read-only.
#[derive(Clone)]
struct ReadOnly(RamDisk<Vec<u8>>);

impl BlockBackend for ReadOnly {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }
    fn features(&self) -> BlockFeatures {
        BlockFeatures {
            read_only: true,
            ..BlockFeatures::default()
        }
    }
    fn read(
        &mut self,
        offset: u64,
        to: &virtside::memory::DeviceRange<'_>,
    ) -> Result<(), BlockError> {
        self.0.read(offset, to)
    }
    fn write(&mut self, _: u64, _: &virtside::memory::DeviceRange<'_>) -> Result<(), BlockError> {
        panic!("a read-only disk was written");
    }
}

#[test]
fn a_foreign_driver_sees_that_a_disk_is_read_only() {
    let disk = RamDisk::new(vec![7; SECTORS * 512]);
    let running = Running::new(Block::new(ReadOnly(disk), BlockOptions::new(16)));
    let mut blk = VirtIOBlk::<GuestHal, _>::new(running.transport()).expect("the driver is live");
    assert!(blk.readonly());
    let mut bytes = vec![0; 512];
    assert_eq!(blk.read_blocks(3, &mut bytes), Ok(()));
    assert_eq!(bytes, vec![7; 512]);
    assert!(blk.write_blocks(3, &bytes).is_err());
    drop(blk);
    running.join();
}

#[test]
fn a_foreign_driver_gets_entropy() {
    let mut next = 0u8;
    let source = move |bytes: &mut [u8]| {
        for byte in &mut *bytes {
            next = next.wrapping_add(1);
            *byte = next;
        }
        Ok(bytes.len())
    };
    let running = Running::new(Entropy::new(source).with_limit(1000));
    let mut rng = VirtIORng::<GuestHal, _>::new(running.transport()).expect("the driver is live");
    let mut expected = 0u8;
    let mut random = Random::new(7);
    for _ in 0..10_000 {
        let mut bytes = vec![0; 1 + random.index(1500)];
        let count = rng.request_entropy(&mut bytes).expect("entropy");
        assert_eq!(
            count,
            bytes.len().min(1000),
            "the requested length, up to the limit"
        );
        for byte in &bytes[..count] {
            expected = expected.wrapping_add(1);
            assert_eq!(*byte, expected);
        }
    }
    drop(rng);
    let (_, counters) = running.join();
    assert_eq!(counters.chains, 10_000);
}

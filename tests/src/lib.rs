//! Helpers that the tests share: memory, a device behind registers, and a driver of its rings.

#[cfg(feature = "packed")]
pub mod differential;
pub mod hooks;
pub mod in_order;
pub mod models;
pub mod rings;

pub mod probe;
pub mod random;
pub mod reg;
pub mod status;

use std::sync::Arc;

use virtside::{
    ChainSlot, DeviceModel, Engine, Features, FlatMem, QueueConfig, Shared, Step,
    interrupt::CountingNotify,
    memory::Ram,
    models::{Block, BlockOptions, Entropy, EntropyError, blk::RamDisk},
    testing::{Buffer, FakeDriver, Layout, Registers},
};

/// Bytes of a test's memory.
pub const BYTES: usize = 1 << 18;
/// The driver's address of the first byte.
pub const BASE: u64 = 0x8000_0000;
/// Size of the largest queue.
pub const N: usize = 16;
/// Number of queues.
pub const Q: usize = 4;
/// [`N`] as the size of a queue.
pub const SIZE: u16 = 16;
/// Address of the tests' buffers, behind all rings.
pub const DATA: u64 = BASE + 0x1_0000;
/// Budget of a poll: more chains than any test sends.
pub const BUDGET: u16 = 256;

/// The memory of one test.
pub type TestRam = &'static Ram<BYTES>;
/// The interrupt line of one test.
pub type Line = &'static CountingNotify;
/// An engine for any model, over any memory.
pub type TestEngine<D, M = FlatMem> = Engine<D, M, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// Allocates zeroed memory. It is leaked, because windows are owned: a test's memory outlives
/// the test.
pub fn ram() -> TestRam {
    Box::leak(Box::default())
}

/// Makes a device over fresh memory, with `slots` chain slots.
pub fn test_engine<D: DeviceModel>(model: D, slots: usize) -> (TestEngine<D>, TestRam) {
    let ram = ram();
    (engine_over(model, ram.flat(BASE), slots), ram)
}

/// Makes a device over this memory.
pub fn engine_over<D: DeviceModel, M: virtside::DriverMem>(
    model: D,
    mem: M,
    slots: usize,
) -> TestEngine<D, M> {
    let line: Line = Box::leak(Box::default());
    let slots = (0..slots).map(|_| ChainSlot::new()).collect();
    Engine::new(model, mem, line, slots, Arc::new(Shared::new()))
}

/// Where the rings of queue `queue` are.
pub fn layout(queue: u16) -> Layout {
    Layout::packed_at(BASE + 0x1000 * u64::from(queue), SIZE)
}

/// The configuration that the driver sends for queue `queue`.
pub fn config(queue: u16) -> QueueConfig {
    layout(queue).config(queue)
}

/// Makes a driver of queue `queue`, and zeroes its rings.
pub fn driver(ram: TestRam, queue: u16) -> FakeDriver<FlatMem> {
    FakeDriver::new(ram.flat(BASE), layout(queue))
}

/// Cuts `len` bytes from `addr` on into buffers. Some are empty.
pub fn cut(addr: u64, len: u32, cuts: &[u32], writable: bool) -> Vec<Buffer> {
    let mut ends: Vec<u32> = cuts.iter().map(|cut| cut % (len + 1)).collect();
    ends.push(len);
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.clone());
    let piece = |(start, end)| Buffer {
        addr: addr + u64::from(start),
        len: end - start,
        writable,
    };
    starts.zip(ends).map(piece).collect()
}

/// A source that counts upwards, so that consecutive bytes differ.
#[derive(Debug, Default)]
pub struct CountingSource {
    next: u8,
    /// The error to return instead, if any.
    pub trouble: Option<EntropyError>,
}

impl virtside::models::EntropySource for CountingSource {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        for byte in &mut *bytes {
            self.next = self.next.wrapping_add(1);
            *byte = self.next;
        }
        Ok(bytes.len())
    }
}

/// The entropy device of the tests. It has one queue, and answers at once.
pub type TestEntropy = Entropy<CountingSource>;

/// Makes a live entropy device, its memory, and a driver of queue 0, with these features.
pub fn live_entropy(features: Features) -> (TestEngine<TestEntropy>, FakeDriver<FlatMem>, TestRam) {
    let (mut engine, ram) = test_engine(Entropy::new(CountingSource::default()), 4);
    let driver = driver(ram, 0);
    assert!(
        engine.bring_up(features, &[config(0)]),
        "the driver went live"
    );
    (engine, driver, ram)
}

/// Sectors of the test disk.
pub const SECTORS: usize = 64;
/// The block device of the tests.
pub type TestBlock = Block<RamDisk<Vec<u8>>>;

/// Makes a block device of `SECTORS` sectors, each filled with its number.
pub fn test_block() -> TestBlock {
    let bytes = (0..SECTORS * 512).map(|at| (at / 512) as u8).collect();
    Block::new(
        RamDisk::new(bytes),
        BlockOptions::new(SIZE).with_id("virtside-disk"),
    )
}

/// The offered features that a driver of split rings accepts.
pub fn split_offer(device: &mut impl Registers) -> Features {
    device.offered().difference(Features::RING_PACKED)
}

/// Polls until nothing is left to do.
pub fn drain<D: DeviceModel, M: virtside::DriverMem>(engine: &mut TestEngine<D, M>) -> Step {
    loop {
        match engine.poll(BUDGET) {
            Step::More => {}
            step => return step,
        }
    }
}

/// Implements saving for a model whose state is not part of a snapshot.
#[macro_export]
macro_rules! keeps_nothing {
    ($model:ty) => {
        impl ::virtside::model::SaveModel for $model {
            type Snapshot = ();

            fn save(&self) {}

            fn restore(
                &mut self,
                (): &(),
                _: ::virtside::model::SavedWith,
            ) -> ::core::result::Result<(), ::virtside::snapshot::SnapshotError> {
                Ok(())
            }
        }
    };
}

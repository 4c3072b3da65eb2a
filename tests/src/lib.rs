//! What the tests share: memory, a device behind registers, and a driver at its rings.

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
/// Largest queue.
pub const N: usize = 16;
/// Queues.
pub const Q: usize = 4;
/// The same, as a queue's size.
pub const SIZE: u16 = 16;
/// Where tests put buffers: behind all rings.
pub const DATA: u64 = BASE + 0x1_0000;
/// Chains per poll: more than any test sends.
pub const BUDGET: u16 = 256;

/// Memory of a test's own.
pub type TestRam = &'static Ram<BYTES>;
/// The line of a test's own.
pub type Line = &'static CountingNotify;
/// A device of the tests: `M` may be any memory.
pub type TestEngine<D, M = FlatMem> = Engine<D, M, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// Fresh zeroed memory. It is leaked: windows are owned, so a test's memory outlives the test.
pub fn ram() -> TestRam {
    Box::leak(Box::default())
}

/// A device over fresh memory, with `slots` chains.
pub fn test_engine<D: DeviceModel>(model: D, slots: usize) -> (TestEngine<D>, TestRam) {
    let ram = ram();
    (engine_over(model, ram.flat(BASE), slots), ram)
}

/// A device over this memory.
pub fn engine_over<D: DeviceModel, M: virtside::DriverMem>(
    model: D,
    mem: M,
    slots: usize,
) -> TestEngine<D, M> {
    let line: Line = Box::leak(Box::default());
    let slots = (0..slots).map(|_| ChainSlot::new()).collect();
    Engine::new(model, mem, line, slots, Arc::new(Shared::new()))
}

/// Where the tests put queue `queue`'s rings.
pub fn layout(queue: u16) -> Layout {
    Layout::packed_at(BASE + 0x1000 * u64::from(queue), SIZE)
}

/// The same, as the driver says it.
pub fn config(queue: u16) -> QueueConfig {
    layout(queue).config(queue)
}

/// A driver at queue `queue`'s rings, which it zeroes.
pub fn driver(ram: TestRam, queue: u16) -> FakeDriver<FlatMem> {
    FakeDriver::new(ram.flat(BASE), layout(queue))
}

/// Cuts `len` bytes from `addr` on into pieces; some are empty.
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

/// A source that counts upwards: every byte is told from the next.
#[derive(Debug, Default)]
pub struct CountingSource {
    next: u8,
    /// What to say instead, if anything.
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

/// The entropy device of the tests: one queue, answers at once.
pub type TestEntropy = Entropy<CountingSource>;

/// An entropy device, its memory, and a driver that is live on queue 0 with these features.
pub fn live_entropy(features: Features) -> (TestEngine<TestEntropy>, FakeDriver<FlatMem>, TestRam) {
    let (mut engine, ram) = test_engine(Entropy::new(CountingSource::default()), 4);
    let driver = driver(ram, 0);
    assert!(
        engine.bring_up(features, &[config(0)]),
        "the driver went live"
    );
    (engine, driver, ram)
}

/// Sectors of the tests' disk.
pub const SECTORS: usize = 64;
/// The block device of the tests.
pub type TestBlock = Block<RamDisk<Vec<u8>>>;

/// A block device over `SECTORS` sectors, each filled with its number.
pub fn test_block() -> TestBlock {
    let bytes = (0..SECTORS * 512).map(|at| (at / 512) as u8).collect();
    Block::new(
        RamDisk::new(bytes),
        BlockOptions::new(SIZE).with_id("virtside-disk"),
    )
}

/// What a driver of split rings accepts of what is offered.
pub fn split_offer(device: &mut impl Registers) -> Features {
    device.offered().difference(Features::RING_PACKED)
}

/// Polls until there is nothing left to do now.
pub fn drain<D: DeviceModel, M: virtside::DriverMem>(engine: &mut TestEngine<D, M>) -> Step {
    loop {
        match engine.poll(BUDGET) {
            Step::More => {}
            step => return step,
        }
    }
}

/// A model whose state is no part of a snapshot.
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

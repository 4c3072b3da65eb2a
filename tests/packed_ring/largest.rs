//! The largest queues of both formats, at the end of memory.

use std::sync::Arc;

use virtside::{
    ChainSlot, Engine, Features, FlatMem, Shared,
    interrupt::CountingNotify,
    memory::Ram,
    models::Entropy,
    testing::{Buffer, FakeDriver, Layout, PackedDriver, Registers},
};
use virtside_tests::{BASE, CountingSource, TestEntropy};

const LARGEST: u16 = 32768;
const BYTES: usize = 1 << 20;
/// Address of the data buffer, in front of the rings.
const BUFFER: u64 = BASE + 0x100;

type Largest = Engine<
    TestEntropy,
    FlatMem,
    &'static CountingNotify,
    1,
    32768,
    Vec<ChainSlot<32768>>,
    Arc<Shared<1>>,
>;

/// Runs a test on a large stack: a chain with this many segments has half a megabyte.
fn on_a_large_stack(test: fn()) {
    let thread = std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(test);
    thread.expect("a thread").join().expect("no panic");
}

fn engine(ram: &'static Ram<BYTES>) -> Box<Largest> {
    let model = Entropy::new(CountingSource::default()).with_limit(9);
    let line: &'static CountingNotify = Box::leak(Box::default());
    let slots = vec![ChainSlot::new()];
    let shared = Arc::new(Shared::new());
    Box::new(Engine::new(model, ram.flat(BASE), line, slots, shared))
}

fn serve(engine: &mut Largest) {
    let _ = engine.kick(0);
    for _ in 0..4 {
        let _ = engine.poll(u16::MAX);
    }
    assert_eq!(engine.driver_fault(0), None);
}

/// Lengths of chains that cross the ring's end in every way.
const LENGTHS: [u16; 8] = [
    LARGEST,
    LARGEST - 1,
    1,
    2,
    LARGEST - 2,
    LARGEST,
    7,
    LARGEST - 7,
];

#[test]
fn a_packed_queue_of_32768_wraps_at_the_end_of_memory() {
    on_a_large_stack(|| {
        let ram: &'static Ram<BYTES> = Box::leak(Box::default());
        let mut engine = engine(ram);
        let start = BASE + BYTES as u64 - 16 * u64::from(LARGEST) - 8;
        let start = start & !15;
        let mut driver = PackedDriver::new(ram.flat(BASE), start, LARGEST);
        let mut config = driver.config(0);
        // The last four bytes of memory.
        config.device = BASE + BYTES as u64 - 4;
        let features = Features::VERSION_1 | Features::RING_PACKED | Features::EVENT_IDX;
        assert!(engine.bring_up(features, &[config]));
        for (at, len) in (0u16..).zip(LENGTHS) {
            let id = at.wrapping_mul(32768).wrapping_sub(at);
            driver.send(id, &vec![Buffer::writable(BUFFER, 1); len.into()]);
            serve(&mut engine);
            let used = driver.take_used(len);
            assert_eq!(used, Some((id, u32::from(len.min(9)), true)), "{len}");
        }
        // As many chains as fit; some of their ids share a home slot.
        for round in 0..2u16 {
            let id = |at: u16| at.wrapping_mul(2).wrapping_add(round * 3);
            for at in 0..LARGEST {
                driver.send(id(at), &[Buffer::writable(BUFFER, 1)]);
            }
            serve(&mut engine);
            for at in 0..LARGEST {
                assert_eq!(driver.take_used(1), Some((id(at), 1, true)), "{at}");
            }
        }
        let mut end = [0; 4];
        ram.read(BYTES - 4, &mut end);
        let (slot, wrap) = driver.next_avail();
        let [low, high] = (slot | u16::from(wrap) << 15).to_le_bytes();
        assert_eq!(end, [low, high, 2, 0]);
    });
}

#[test]
fn a_split_queue_of_32768_wraps_at_the_end_of_memory() {
    on_a_large_stack(|| {
        let ram: &'static Ram<BYTES> = Box::leak(Box::default());
        let mut engine = engine(ram);
        let len = Layout::packed_at(0, LARGEST).end();
        let layout = Layout::packed_at(BASE + BYTES as u64 - len, LARGEST);
        let mut driver = FakeDriver::new(ram.flat(BASE), layout);
        assert!(engine.bring_up(Features::RING, &[layout.config(0)]));
        for len in LENGTHS {
            driver.send(0, &vec![Buffer::writable(BUFFER, 1); len.into()]);
            serve(&mut engine);
            assert_eq!(
                driver.take_used(),
                Some((0, u32::from(len.min(9)))),
                "{len}"
            );
        }
        // The 16-bit indices wrap.
        for _ in 0..2 {
            for head in (0..LARGEST).rev() {
                driver.write_chain(head, &[Buffer::writable(BUFFER, 1)]);
                driver.offer(head);
            }
            driver.publish();
            serve(&mut engine);
            for head in (0..LARGEST).rev() {
                assert_eq!(driver.take_used(), Some((head.into(), 1)));
            }
        }
        assert_eq!(driver.take_used(), None);
    });
}

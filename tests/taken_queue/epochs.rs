//! A taken queue that its owner keeps over many resets of the device.

use virtside::{
    ChainSlot, Engine, Features, FlatMem, Shared,
    device::{PutBackError, QueueState},
    memory::Ram,
    mmio::Reply,
    models::{Entropy, EntropyError},
    queue::Chain,
    testing::{Registers, fake_queue},
};
use virtside_tests::reg;

type Source = fn(&mut [u8]) -> Result<usize, EntropyError>;
type Machine<'s> = Engine<Entropy<Source>, FlatMem, (), 1, 16, [ChainSlot<16>; 1], &'s Shared<1>>;

/// The number of resets is a power of two near those at which a reset counter of 16 bits and a
/// generation counter of 16 bits repeat, less the resets of the test itself.
#[test]
fn a_queue_of_thousands_of_resets_ago_is_not_put_back() {
    static RAM: Ram<65536> = Ram::new();
    for resets in [1, 255, 16_382, 16_383, 16_384, 65_534] {
        let shared = Shared::new();
        let source: Source = |bytes| Ok(bytes.len());
        let slots = [const { ChainSlot::new() }; 1];
        let mut engine: Machine<'_> =
            Engine::new(Entropy::new(source), RAM.flat(0), (), slots, &shared);
        let driver = fake_queue(RAM.flat(0), 0, 16);
        RAM.write(0, &[0; 4096]);
        assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));
        let mut old = engine.take_queue(0).expect("a live queue");
        let Reply::Pending(ticket) = engine.store(reg::STATUS, 0) else {
            panic!("the owner has not stopped");
        };
        assert!(old.pop(&RAM.flat(0), &mut Chain::new()).is_err());
        assert_eq!(engine.finish(ticket), Reply::Done(0));
        for _ in 0..resets {
            assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        }
        RAM.write(0, &[0; 4096]);
        assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));
        let new = engine.take_queue(0).expect("a live queue");
        assert!(matches!(engine.put_back(old), Err(PutBackError::Discarded)));
        assert_eq!(engine.queue_state(0), QueueState::Taken, "{resets}");
        assert!(engine.put_back(new).is_ok());
    }
}

//! Rings that wrap while chains are rejected, chains wait, and the device moves from one engine to
//! another.

use std::collections::BTreeMap;

use virtside::{
    Features, FlatMem,
    error::FaultPolicy,
    models::{Entropy, EntropyError},
    snapshot::EngineSnapshot,
    testing::{Buffer, PackedDriver, Registers},
};
use virtside_tests::{
    BASE, CountingSource, DATA, N, Q, TestEngine, TestEntropy, TestRam, engine_over, ram,
    random::Random, rings::settle,
};

const NOWHERE: u64 = 0x1000;

fn engine(ram: TestRam) -> TestEngine<TestEntropy> {
    let model = Entropy::new(CountingSource::default());
    engine_over(model, ram.flat(BASE), 3).with_policy(FaultPolicy::Reject)
}

/// The driver's side: slots and expected length of each chain in flight, by id.
struct World {
    engine: TestEngine<TestEntropy>,
    ram: TestRam,
    driver: PackedDriver<FlatMem>,
    out: BTreeMap<u16, (u16, u32)>,
    free: u16,
    back: [u32; 2],
}

impl World {
    fn new(size: u16, features: Features) -> Self {
        let ram = ram();
        let mut engine = engine(ram);
        let driver = PackedDriver::new(ram.flat(BASE), BASE, size);
        let features = features | Features::VERSION_1 | Features::RING_PACKED;
        assert!(engine.bring_up(features, &[driver.config(0)]));
        Self {
            engine,
            ram,
            driver,
            out: BTreeMap::new(),
            free: size,
            back: [0; 2],
        }
    }

    fn send(&mut self, random: &mut Random, size: u16) {
        let id = random.below(3) as u16 * 0x1000 + random.below(40) as u16;
        if self.free == 0 || self.out.contains_key(&id) {
            return;
        }
        let (at, _) = self.driver.next_avail();
        let to_end = size - at;
        let slots = match random.below(4) {
            0 if to_end <= self.free => to_end,
            1 => self.free,
            _ => 1 + random.below(self.free.into()) as u16,
        };
        let mut buffers = vec![Buffer::writable(DATA, 5); slots.into()];
        let mut len = 5 * u32::from(slots);
        if random.once_in(3) {
            // The chain is given back with length 0.
            len = 0;
            let bad = random.below(slots.into()) as usize;
            buffers[bad].addr = NOWHERE;
        }
        self.driver.send(id, &buffers);
        self.free -= slots;
        self.out.insert(id, (slots, len));
    }

    fn take(&mut self) {
        while let Some((id, len, write)) = self.driver.take_used(0) {
            let (slots, expected) = self.out.remove(&id).expect("the id is in flight");
            self.driver.take_used(slots);
            self.free += slots;
            assert_eq!(
                (if write { len } else { 0 }, write),
                (expected, expected != 0)
            );
            self.back[usize::from(expected != 0)] += 1;
        }
        assert_eq!(self.engine.driver_fault(0), None);
    }

    /// Moves the device to another engine, with the chains that wait.
    fn moves(&mut self) {
        let source = self.engine.model_mut().source_mut();
        let trouble = source.trouble;
        let state: EngineSnapshot<(), Q, N, 3> =
            self.engine.save().expect("the device can be saved");
        self.engine = engine(self.ram);
        self.engine.model_mut().source_mut().trouble = trouble;
        self.engine.restore(&state).expect("the snapshot is valid");
    }
}

#[test]
fn every_chain_comes_back_at_the_end_of_a_ring() {
    let mut random = Random::new(0x0123_4567_89ab_cdef);
    for (round, size) in [1, 2, 3, 5, 7, 15, 16]
        .into_iter()
        .cycle()
        .take(28)
        .enumerate()
    {
        let features = match round % 4 {
            0 => Features::EVENT_IDX,
            1 => Features::RING,
            _ => Features::empty(),
        };
        let mut world = World::new(size, features);
        for _ in 0..1000 {
            match random.below(8) {
                0..3 => world.send(&mut random, size),
                3 => {
                    let _ = world.engine.kick(0);
                    let _ = world.engine.poll(random.below(4) as u16);
                }
                4 => world.take(),
                5 => world.moves(),
                6 => {
                    let waits = random.once_in(2).then_some(EntropyError::NotReady);
                    world.engine.model_mut().source_mut().trouble = waits;
                    world.engine.backend_ready(0);
                    let _ = world.engine.poll(1);
                }
                _ => {
                    let (low, flags) = (random.below(1 << 16), random.below(4));
                    world.driver.set_suppression(low as u16, flags as u16);
                }
            }
        }
        world.engine.model_mut().source_mut().trouble = None;
        let _ = world.engine.kick(0);
        world.engine.backend_ready(0);
        settle(&mut world.engine);
        world.take();
        assert!(
            world.out.is_empty(),
            "size {size}: {:?} did not come back",
            world.out
        );
        assert!(world.back.iter().all(|back| *back > 8), "{:?}", world.back);
    }
}

//! The entropy device: a source that counts, and that sometimes is not ready or fails.

use virtside::{
    models::{Entropy, EntropyError},
    testing::Buffer,
};
use virtside_tests::{
    CountingSource, DATA, TestEntropy,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    random::Random,
};

use crate::{ModelCase, case::RigOf};

#[derive(Clone)]
pub struct Case {
    /// The source fails, or is not ready.
    troubled: bool,
}

impl ModelCase for Case {
    type Model = TestEntropy;
    type Seen = String;

    const STEPS: u32 = 60;
    const REPEATS: bool = false;

    fn all() -> Vec<(Self, u64)> {
        vec![(Self { troubled: true }, 0x9e37_79b9_7f4a_7c15)]
    }
    fn model(&self) -> TestEntropy {
        Entropy::new(CountingSource::default()).with_limit(700)
    }
    fn observe(model: &mut TestEntropy) -> String {
        format!("{:?}", model.source_mut())
    }

    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        let trouble = [
            None,
            Some(EntropyError::NotReady),
            Some(EntropyError::Failed),
        ];
        if random.once_in(6) {
            let trouble = random.of(&trouble).filter(|_| self.troubled);
            let all_is_well: &[u16] = if trouble.is_none() { &[0] } else { &[] };
            rig.act(|model| model.source_mut().trouble = trouble, all_is_well);
        }
        rig.write(DATA, &[0xa5; ROOM]);
        for _ in 0..=random.below(3) {
            let at = DATA + random.below(0x200);
            let mut buffers = random.cut(at, 0, false);
            buffers.truncate(1);
            let len = random.of(&[1, 64, 65, 700, 701, 1500]);
            buffers.extend(random.cut(at + 0x800, len, true));
            if random.once_in(8) {
                random.spoil(&mut buffers);
            }
            let form = random.form(rig.features(), &buffers);
            rig.offer(0, &buffers, form);
        }
        rig.kick(&[0])
    }
    fn cure(&mut self, rig: &mut RigOf<Self>) {
        rig.act(|model| model.source_mut().trouble = None, &[]);
        rig.send(0, &[Buffer::writable(DATA, 99)], Form::Direct);
        match rig.kick(&[0]) {
            Outcome::Given(given) => assert_eq!((given.len(), given[0].len), (1, 99)),
            fault => panic!("{fault:?}"),
        }
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        assert!(given > 400 && faults > 20, "{given} given, {faults} faults");
    }

    fn scenario(&self) -> Vec<Chain> {
        let chain = |at, len| {
            let buffers = vec![Buffer::writable(at, len), Buffer::writable(at, 3)];
            (0, buffers, vec![])
        };
        let at = REQUESTS;
        vec![chain(at, 70), chain(at + 0x100, 5), chain(at + 0x180, 1)]
    }
    fn scenario_model(&self) -> TestEntropy {
        Entropy::new(CountingSource::default())
    }

    fn without_trouble(self) -> Self {
        Self { troubled: false }
    }
    fn swap_back_ends(one: &mut TestEntropy, other: &mut TestEntropy) {
        std::mem::swap(one.source_mut(), other.source_mut());
    }
}

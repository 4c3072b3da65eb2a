//! The same random chains, good and bad, on both rings and over every transport.

use virtside::{
    Features,
    models::{Entropy, EntropyError},
    testing::Buffer,
};
use virtside_tests::{
    CountingSource, DATA,
    differential::{Company, Form, Outcome, REQUESTS, ROOM, mixes, shift_each_load},
    random::Random,
};

use super::spoken;

#[test]
fn hostile_chains_end_alike_on_every_transport() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut given, mut faults) = (0, 0);
    for mix in mixes() {
        let model = || Entropy::new(CountingSource::default()).with_limit(700);
        let mut company =
            Company::new::<4>(model, mix, 1, |model| format!("{:?}", model.source_mut()));
        spoken::join::<_, _, 4>(&mut company, model());
        for _ in 0..60 {
            let trouble = [
                None,
                Some(EntropyError::NotReady),
                Some(EntropyError::Failed),
            ];
            if random.once_in(6) {
                let trouble = random.of(&trouble);
                let all_is_well: &[u16] = if trouble.is_none() { &[0] } else { &[] };
                company.act(|model| model.source_mut().trouble = trouble, all_is_well);
            }
            company.write(DATA, &[0xa5; ROOM]);
            for _ in 0..=random.below(3) {
                let at = DATA + random.below(0x200);
                let mut buffers = random.cut(at, 0, false);
                buffers.truncate(1);
                let len = random.of(&[1, 64, 65, 700, 701, 1500]);
                buffers.extend(random.cut(at + 0x800, len, true));
                if random.once_in(8) {
                    random.spoil(&mut buffers);
                }
                let form = random.form(mix, &buffers);
                company.offer(0, &buffers, form);
            }
            if let Outcome::Fault(..) = company.kick(&[0]) {
                // A reset cures it.
                company.act(|model| model.source_mut().trouble = None, &[]);
                company.send(0, &[Buffer::writable(DATA, 99)], Form::Direct);
                match company.kick(&[0]) {
                    Outcome::Given(given) => assert_eq!((given.len(), given[0].len), (1, 99)),
                    fault => panic!("{fault:?}"),
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    // Not all of one kind, or the comparison would say little.
    assert!(given > 400 && faults > 20, "{given} given, {faults} faults");
}

#[test]
fn memory_that_changes_in_front_of_any_load_is_cured_by_a_reset() {
    let at = REQUESTS;
    let chain = |at, len| {
        (
            0,
            vec![Buffer::writable(at, len), Buffer::writable(at, 3)],
            vec![],
        )
    };
    let scenario = [chain(at, 70), chain(at + 0x100, 5), chain(at + 0x180, 1)];
    for mix in [Features::empty(), Features::RING] {
        let model = || Entropy::new(CountingSource::default());
        let [fine, faults] = shift_each_load::<_, 4>(model, mix, &scenario, false);
        assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
    }
}

//! `QueueSet` compared with the standard library's set.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use virtside::{
    QueueSet,
    queue_set::{Collected, QueueSetFull},
};

#[derive(Clone, Debug)]
enum Op {
    Insert(u16),
    Remove(u16),
    Clear,
}

/// Generates any number, with many small ones and many near the borders of words and sets.
fn number() -> impl Strategy<Value = u16> {
    let borders = [
        31, 32, 33, 63, 64, 95, 96, 97, 0x7fff, 0x8000, 0xffdf, 0xffe0, 0xffff,
    ];
    prop_oneof![
        0u16..40,
        any::<u16>(),
        prop::sample::select(borders.to_vec())
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => number().prop_map(Op::Insert),
        4 => number().prop_map(Op::Remove),
        1 => Just(Op::Clear),
    ];
    vec(op, 0..40)
}

/// Applies the operations to both sets, and compares the results of each; returns both sets.
fn pair<const WORDS: usize>(ops: &[Op]) -> (QueueSet<WORDS>, BTreeSet<u16>) {
    let fits = |queue: u16| u32::from(queue) < 32 * WORDS as u32;
    let (mut set, mut model) = (QueueSet::<WORDS>::new(), BTreeSet::new());
    for op in ops {
        match *op {
            Op::Insert(queue) if fits(queue) => {
                assert_eq!(set.insert(queue), Ok(model.insert(queue)));
            }
            Op::Insert(queue) => assert_eq!(set.insert(queue), Err(QueueSetFull(queue))),
            Op::Remove(queue) => assert_eq!(set.remove(queue), model.remove(&queue)),
            Op::Clear => {
                set.clear();
                model.clear();
            }
        }
    }
    (set, model)
}

fn same<const WORDS: usize>(set: &QueueSet<WORDS>, model: &BTreeSet<u16>) {
    assert!(
        set.iter().eq(model.iter().copied()),
        "{set:?} is not {model:?}"
    );
    assert_eq!(set.len(), model.len());
    assert_eq!(set.is_empty(), model.is_empty());
}

fn check<const WORDS: usize>(one: &[Op], two: &[Op], probes: &[u16]) {
    let (a, model_a) = pair::<WORDS>(one);
    let (b, model_b) = pair::<WORDS>(two);
    same(&a, &model_a);
    same(&b, &model_b);
    for probe in probes {
        assert_eq!(a.contains(*probe), model_a.contains(probe));
    }
    same(&a.union(&b), &(&model_a | &model_b));
    same(&a.intersection(&b), &(&model_a & &model_b));
    same(&a.difference(&b), &(&model_a - &model_b));
    assert_eq!(a.is_subset(&b), model_a.is_subset(&model_b));
    assert!(a.intersection(&b).is_subset(&a) && a.is_subset(&a.union(&b)));
    assert_eq!(a == b, model_a == model_b);
    assert!((&a).into_iter().eq(a) && a.into_iter().eq(model_a.iter().copied()));
    let shown: Vec<u16> = model_a.iter().copied().collect();
    assert_eq!(format!("{a:?}"), format!("{:?}", model_a));
    assert_eq!(QueueSet::<WORDS>::from_slice(&shown), Ok(a));
}

fn check_collecting<const WORDS: usize>(numbers: &[u16]) {
    let misfit = numbers
        .iter()
        .find(|queue| u32::from(**queue) >= 32 * WORDS as u32);
    let expected: Result<BTreeSet<u16>, _> = match misfit {
        Some(queue) => Err(QueueSetFull(*queue)),
        None => Ok(numbers.iter().copied().collect()),
    };
    let Collected(collected) = numbers.iter().copied().collect::<Collected<WORDS>>();
    for set in [
        collected,
        QueueSet::try_from_iter(numbers.iter().copied()),
        QueueSet::from_slice(numbers),
    ] {
        match (&set, &expected) {
            (Ok(set), Ok(model)) => same(set, model),
            (set, model) => assert_eq!(set.is_err(), model.is_err()),
        }
        assert_eq!(set.err(), expected.as_ref().err().copied());
    }
}

fn check_first<const WORDS: usize>(count: u16) {
    let members = (0..count).take_while(|queue| u32::from(*queue) < 32 * WORDS as u32);
    assert!(QueueSet::<WORDS>::first(count).iter().eq(members));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_set_behaves_like_a_btree_set(
        one in ops(),
        two in ops(),
        probes in vec(number(), 0..10),
    ) {
        check::<0>(&one, &two, &probes);
        check::<1>(&one, &two, &probes);
        check::<3>(&one, &two, &probes);
        check::<2048>(&one, &two, &probes);
    }

    #[test]
    fn collecting_gives_the_set_or_the_first_that_does_not_fit(
        numbers in vec(number(), 0..20),
    ) {
        check_collecting::<0>(&numbers);
        check_collecting::<1>(&numbers);
        check_collecting::<3>(&numbers);
        check_collecting::<2048>(&numbers);
    }

    #[test]
    fn first_returns_the_lowest_numbers(count in number()) {
        check_first::<0>(count);
        check_first::<1>(count);
        check_first::<3>(count);
        check_first::<2048>(count);
    }
}

#[test]
fn the_capacity_is_32_numbers_a_word() {
    assert_eq!(QueueSet::<0>::CAPACITY, 0);
    assert_eq!(QueueSet::<1>::CAPACITY, 32);
    assert_eq!(QueueSet::<3>::CAPACITY, 96);
    assert_eq!(QueueSet::<2048>::CAPACITY, 65536);
}

#[test]
fn every_number_fits_into_the_largest_set() {
    let mut set = QueueSet::<2048>::new();
    for queue in 0..=u16::MAX {
        assert_eq!(set.insert(queue), Ok(true));
        assert_eq!(set.insert(queue), Ok(false));
    }
    assert_eq!(set.len(), 65536);
    assert!(set.iter().eq(0..=u16::MAX));
    for queue in 0..=u16::MAX {
        assert!(set.remove(queue) && !set.remove(queue));
    }
    assert!(set.is_empty());
}

#[test]
fn a_set_can_be_made_in_a_constant() {
    const SET: QueueSet<1> = match QueueSet::from_slice(&[3, 1, 31]) {
        Ok(set) => set,
        Err(_) => panic!("the numbers do not fit"),
    };
    const TOO_BIG: Result<QueueSet<1>, QueueSetFull> = QueueSet::from_slice(&[3, 32, 99]);
    assert!(SET.iter().eq([1, 3, 31]));
    assert_eq!(TOO_BIG, Err(QueueSetFull(32)));
    assert_eq!(
        QueueSetFull(32).to_string(),
        "queue 32 is beyond the capacity of the set"
    );
}

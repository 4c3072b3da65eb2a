//! The order in which buffers go back, for any order of the device's answers.

use virtside::{Features, Refusal, Step, mmio::Reply, testing::Registers};
use virtside_tests::{
    SIZE,
    in_order::{FORMATS, Given, HolderRig},
};

/// Every permutation of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(count - 1) {
        for at in 0..count {
            let mut order = shorter.clone();
            order.insert(at, count - 1);
            all.push(order);
        }
    }
    all
}

#[test]
fn buffers_go_back_in_the_order_in_which_they_came() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        for (round, order) in orders(4).iter().enumerate() {
            let first = 4 * round;
            assert_eq!(rig.send(&[8; 4]), Step::Blocked);
            let (mut answered, mut given) = ([false; 4], Vec::new());
            for &which in order {
                // The lengths differ, so no chain is skipped.
                rig.answer(first + which, which as u32);
                answered[which] = true;
                given.extend(rig.take());
                let turn = answered.iter().take_while(|answered| **answered).count();
                let expected = (0..turn).map(|at| Given::entry(first + at, at as u32));
                assert_eq!(given, expected.collect::<Vec<_>>(), "{format:?} {order:?}");
            }
            assert_eq!(given.len(), 4);
            assert_eq!(rig.engine.poll(9), Step::Idle);
        }
        let counters = rig.engine.counters();
        assert_eq!(counters.chains, 4 * 24);
    }
}

#[test]
fn a_chain_that_is_answered_at_once_waits_for_an_older_one() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.choose(|asked| (asked.number != 0).then_some(1));
        assert_eq!(rig.send(&[4; 3]), Step::Blocked);
        assert_eq!(rig.take(), []);
        assert_eq!(rig.interrupts(), 0, "nothing came back");
        assert_eq!(rig.engine.counters().chains, 0);
        rig.answer(0, 2);
        let expected = [Given::entry(0, 2), Given::entry(1, 1), Given::entry(2, 1)];
        assert_eq!(rig.take(), expected, "{format:?}");
        assert_eq!(rig.interrupts(), 1, "one interrupt for all");
    }
}

#[test]
fn queues_do_not_wait_for_each_other() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::IN_ORDER, 3, SIZE, 16);
        for _ in 0..3 {
            for queue in 0..3 {
                rig.drivers[usize::from(queue)].room(4);
                assert_eq!(rig.kick(queue), Step::Blocked);
            }
        }
        // The last chain of one queue first, then all of another queue.
        for number in [2, 1] {
            assert_eq!(rig.answer_of(0, number, 1), Ok(()));
        }
        for number in [1, 0, 2] {
            assert_eq!(rig.answer_of(1, number, 1), Ok(()));
        }
        assert_eq!(rig.answer_of(2, 0, 1), Ok(()));
        let given: Vec<_> = rig.drivers.iter_mut().map(|it| it.numbers()).collect();
        assert_eq!(given, [vec![], vec![0, 1, 2], vec![0]], "{format:?}");
        assert_eq!(rig.answer_of(0, 0, 1), Ok(()));
        assert_eq!(rig.drivers[0].numbers(), [0, 1, 2]);
    }
}

#[test]
fn one_slot_serves_any_number_of_chains() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::IN_ORDER, 1, SIZE, 1);
        rig.choose(|asked| (asked.number % 3 != 0).then_some(3));
        let mut given = Vec::new();
        assert_eq!(rig.send(&[4; 9]), Step::Blocked);
        for number in [0, 3, 6] {
            rig.answer(number, 1);
            let step = rig.kick(0);
            given.extend(rig.take());
            assert_eq!(step == Step::Idle, number == 6);
        }
        let expected = (0..9).map(|at| Given::entry(at, if at % 3 == 0 { 1 } else { 3 }));
        assert_eq!(given, expected.collect::<Vec<_>>(), "{format:?}");
    }
}

#[test]
fn all_slots_are_free_again_after_the_oldest_is_answered() {
    for &format in FORMATS {
        for slots in 2..=5 {
            let mut rig = HolderRig::with(format, Features::IN_ORDER, 2, SIZE, slots);
            // The first chain of queue 0 keeps all later ones in their slots.
            rig.choose(|asked| (asked.queue == 1 || asked.number != 0).then_some(asked.room));
            assert_eq!(rig.send(&[4; 8]), Step::Blocked);
            rig.drivers[1].room(4);
            assert_eq!(rig.kick(1), Step::Blocked);
            assert_eq!(rig.engine.model().asked.len(), slots, "no slot is left");
            assert_eq!(rig.take(), []);
            rig.answer(0, 4);
            assert_eq!(rig.kick(0), Step::Idle);
            assert_eq!(rig.driver().numbers(), (0..8).collect::<Vec<_>>());
            assert_eq!(rig.drivers[1].numbers(), [0], "{format:?}, {slots} slots");
        }
    }
}

#[test]
fn every_budget_leads_to_the_same_result() {
    for &format in FORMATS {
        for budget in 1..=5 {
            let mut rig = HolderRig::with(format, Features::IN_ORDER, 2, SIZE, 3);
            rig.fill();
            for _ in 0..10 {
                rig.drivers[0].room(4);
                rig.drivers[1].room(0);
            }
            for queue in 0..2 {
                assert_eq!(rig.engine.kick(queue), Reply::Done(0));
            }
            let mut polls = 0;
            while rig.engine.poll(budget) == Step::More {
                polls += 1;
                assert!(polls < 100, "{format:?}: the polls do not end");
            }
            for driver in &mut rig.drivers {
                assert_eq!(driver.numbers(), (0..10).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn the_token_of_an_answered_chain_is_stale() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.send(&[4; 3]);
        let tokens: Vec<_> = (0..3).map(|number| rig.token(number)).collect();
        rig.answer(1, 4);
        let served = rig.engine.model().asked.len();
        for _ in 0..2 {
            assert_eq!(rig.engine.complete(tokens[1]), Err(Refusal::StaleToken));
        }
        rig.answer(0, 4);
        for token in &tokens[..2] {
            assert_eq!(rig.engine.complete(*token), Err(Refusal::StaleToken));
        }
        assert_eq!(rig.driver().numbers(), [0, 1], "{format:?}");
        assert_eq!(rig.engine.model().asked.len(), served);
        rig.answer(2, 4);
        assert_eq!(rig.driver().numbers(), [2]);
    }
}

#[test]
fn an_answered_chain_that_is_called_due_is_not_served_again() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.send(&[4; 3]);
        let token = rig.token(1);
        rig.answer(1, 4);
        rig.engine.model_mut().due = [token].into();
        assert_eq!(rig.kick(0), Step::Blocked);
        assert_eq!(rig.engine.model().due, [token], "the chain was not served");
        assert_eq!(rig.take(), []);
        // The token does not hide a due chain from `next_due`.
        let due = rig.token(0);
        rig.engine.model_mut().answers.insert(due, 1);
        rig.engine.model_mut().due = [due].into();
        assert_eq!(rig.kick(0), Step::Blocked);
        let expected = [Given::entry(0, 1), Given::entry(1, 4)];
        assert_eq!(rig.take(), expected, "{format:?}");
    }
}

#[test]
fn a_ready_back_end_does_not_serve_an_answered_chain_again() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        rig.send(&[4; 3]);
        rig.answer(1, 3);
        let (first, last) = (rig.token(0), rig.token(2));
        rig.engine
            .model_mut()
            .answers
            .extend([(first, 2), (last, 1)]);
        rig.engine.backend_ready(0);
        assert_eq!(rig.engine.poll(9), Step::Idle);
        let expected = [Given::entry(0, 2), Given::entry(1, 3), Given::entry(2, 1)];
        assert_eq!(rig.take(), expected, "{format:?}");
        assert_eq!(rig.engine.counters().chains, 3);
    }
}

#[test]
fn without_in_order_each_answer_has_its_own_entry_at_once() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::empty(), 1, SIZE, 16);
        rig.send(&[4; 3]);
        for (left, number) in [(2, 2), (1, 0), (0, 1)] {
            rig.answer(number, 4);
            assert_eq!(rig.engine.counters().chains, 3 - left);
        }
        // Full chains, which would share an entry with IN_ORDER.
        match format {
            virtside_tests::in_order::Format::Split => {
                let driver = rig.driver().split();
                let given: Vec<_> = std::iter::from_fn(|| driver.take_used()).collect();
                assert_eq!(given, [(2, 4), (0, 4), (1, 4)]);
            }
            #[cfg(feature = "packed")]
            virtside_tests::in_order::Format::Packed => {
                let driver = rig.driver().packed();
                let given: Vec<_> = std::iter::from_fn(|| driver.take_used(1)).collect();
                let id = |number: u16| number.wrapping_mul(0x9e37);
                assert_eq!(given, [2, 0, 1].map(|number| (id(number), 4, true)));
            }
        }
    }
}

//! Chains that are answered later: tokens, slots, the order of queues, and budgets.

use virtside::{
    Features, FlatMem, HostFault, Refusal, Step,
    mmio::Reply,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, DATA, Q, SIZE, TestEngine, config, driver, reg,
    rings::{Plan, RecordingModel, RecordingRig, changes, settle},
    test_engine,
};

mod completion;
mod due;

fn room(len: u32) -> Vec<Buffer> {
    vec![Buffer::writable(DATA, len)]
}

/// A rig whose model keeps chains, with these heads sent.
fn waiting(heads: std::ops::Range<u16>) -> RecordingRig {
    let mut rig = RecordingRig::new(Features::empty());
    rig.engine.model_mut().plan = Plan::Wait;
    for head in heads {
        rig.driver.send(head, &room(u32::from(head) + 1));
    }
    assert_eq!(rig.kick(), Step::Blocked);
    rig
}

/// The token of a head that the model has seen.
fn token(rig: &RecordingRig, head: u16) -> virtside::Token {
    let seen = rig
        .engine
        .model()
        .seen
        .iter()
        .rfind(|seen| seen.head == head);
    seen.expect("that head was seen").token
}

mod slots {
    use super::*;

    #[test]
    fn with_all_slots_taken_chains_stay_with_the_driver() {
        // The rigs have 4 slots.
        let mut rig = waiting(0..7);
        assert_eq!(rig.engine.model().heads(), [0, 1, 2, 3]);
        // Chain 4 was not popped: its later contents count.
        rig.driver.write_chain(4, &room(1000));
        let first = token(&rig, 0);
        rig.engine.model_mut().plan = Plan::Fill(9);
        assert_eq!(rig.engine.complete(first), Ok(()));
        rig.engine.model_mut().plan = Plan::Wait;
        assert_eq!(rig.poll(), Step::Blocked);
        assert_eq!(rig.engine.model().heads(), [0, 1, 2, 3, 0, 4]);
        assert_eq!(rig.last().room, 1000);
        // With a model that answers at once, the free slot serves all other chains in order.
        let next = token(&rig, 2);
        rig.engine.model_mut().plan = Plan::Fill(9);
        assert_eq!(rig.engine.complete(next), Ok(()));
        assert_eq!(rig.poll(), Step::Blocked, "1, 3 and 4 still wait");
        assert_eq!(rig.engine.model().heads()[6..], [2, 5, 6]);
    }

    #[test]
    fn a_device_without_slots_takes_nothing() {
        let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(0)), 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        let mut driver = driver(ram, 0);
        driver.send(0, &room(1));
        let _ = engine.kick(0);
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        assert!(engine.model().seen.is_empty());
    }

    #[test]
    fn a_slot_for_each_element_lets_the_whole_queue_be_in_flight() {
        let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Wait), SIZE.into());
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        let mut driver = driver(ram, 0);
        for head in 0..SIZE {
            driver.send(head, &room(1));
        }
        let _ = engine.kick(0);
        assert_eq!(settle(&mut engine), Step::Blocked);
        assert_eq!(engine.model().heads(), (0..SIZE).collect::<Vec<_>>());
        engine.model_mut().plan = Plan::Fill(1);
        for head in (0..SIZE).rev() {
            let token = engine.model().seen[usize::from(head)].token;
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(driver.take_used(), Some((head.into(), 1)));
        }
        assert_eq!(engine.poll(BUDGET), Step::Idle);
    }

    #[test]
    fn slots_are_shared_by_the_queues() {
        let (mut engine, mut drivers) = many(5, Plan::Wait);
        for (queue, driver) in (0..).zip(&mut drivers) {
            for head in 0..2 {
                driver.send(head, &room(1));
            }
            let _ = engine.kick(queue);
        }
        assert_eq!(settle(&mut engine), Step::Blocked);
        assert_eq!(engine.model().queues(), [0, 1, 2, 3, 0]);
        // A stopped queue frees its slots for the others, except the one that is reserved for it.
        let _ = engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        assert_eq!(settle(&mut engine), Step::Blocked);
        assert_eq!(engine.model().queues(), [0, 1, 2, 3, 0, 1]);
    }
}

mod busy {
    use super::*;

    #[test]
    fn a_queue_that_cannot_be_served_now_is_not_popped() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.engine.model_mut().busy = vec![0];
        rig.driver.send(0, &room(1));
        assert_eq!(rig.kick(), Step::Blocked);
        assert!(rig.engine.model().seen.is_empty());
        rig.driver.write_chain(0, &room(77));
        rig.engine.model_mut().busy = vec![];
        rig.engine.backend_ready(0);
        assert_eq!(rig.poll(), Step::Idle);
        assert_eq!(rig.driver.take_used(), Some((0, 77)));
    }

    #[test]
    fn a_kick_without_chains_blocks_until_the_queue_is_ready() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.engine.model_mut().busy = vec![0];
        let before = rig.shot();
        assert_eq!(rig.kick(), Step::Blocked);
        assert_eq!(rig.poll(), Step::Blocked, "the queue is still busy");
        assert_eq!(changes(&before, &rig.shot()), []);
        rig.engine.model_mut().busy = vec![];
        assert_eq!(rig.poll(), Step::Idle);
    }

    #[test]
    fn the_other_queues_are_served_meanwhile() {
        let (mut engine, mut drivers) = many(2, Plan::Fill(1));
        engine.model_mut().busy = vec![1, 2];
        for (queue, driver) in (0..).zip(&mut drivers) {
            driver.send(0, &room(1));
            let _ = engine.kick(queue);
        }
        assert_eq!(settle(&mut engine), Step::Blocked);
        assert_eq!(engine.model().queues(), [0, 3]);
        engine.model_mut().busy = vec![];
        engine.backend_ready(2);
        assert_eq!(settle(&mut engine), Step::Idle);
        // Both queues: no kick was dropped while its queue was busy.
        let mut queues = engine.model().queues();
        queues.sort_unstable();
        assert_eq!(queues, [0, 1, 2, 3]);
    }

    #[test]
    fn back_ends_of_queues_that_do_not_exist_are_ignored() {
        let mut rig = RecordingRig::new(Features::empty());
        for queue in [1, 3, 4, 31, 32, 0x8000, 0xffff] {
            rig.engine.backend_ready(queue);
        }
        assert_eq!(rig.poll(), Step::Idle);
        assert!(rig.engine.model().seen.is_empty());
    }
}

/// A device with all queues live, and their drivers.
fn many(slots: usize, plan: Plan) -> (TestEngine<RecordingModel>, Vec<FakeDriver<FlatMem>>) {
    let (mut engine, ram) = test_engine(RecordingModel::new(plan), slots);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(Features::VERSION_1, &configs));
    let drivers = (0..Q as u16).map(|queue| driver(ram, queue)).collect();
    (engine, drivers)
}

mod turns {
    use super::*;

    /// All queues, with this number of chains in each.
    fn loaded(chains: [u16; Q]) -> (TestEngine<RecordingModel>, Vec<FakeDriver<FlatMem>>) {
        let (mut engine, mut drivers) = many(1, Plan::Fill(1));
        for (queue, driver) in drivers.iter_mut().enumerate() {
            for head in 0..chains[queue] {
                driver.send(head, &room(1));
            }
            let _ = engine.kick(queue as u16);
        }
        (engine, drivers)
    }

    #[test]
    fn queues_take_turns_chain_by_chain() {
        let (mut engine, _) = loaded([3, 1, 0, 4]);
        assert_eq!(settle(&mut engine), Step::Idle);
        assert_eq!(engine.model().queues(), [0, 1, 3, 0, 3, 0, 3, 3]);
    }

    #[test]
    fn turns_continue_from_poll_to_poll() {
        let (mut engine, _) = loaded([3, 3, 3, 3]);
        for turn in 0..12 {
            assert_eq!(engine.poll(1), Step::More);
            assert_eq!(engine.model().queues().len(), turn + 1);
        }
        assert_eq!(
            engine.model().queues(),
            [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]
        );
    }

    #[test]
    fn a_queue_that_is_always_full_starves_no_other() {
        let (mut engine, mut drivers) = loaded([16, 0, 1, 0]);
        for turn in 0..100 {
            drivers[0].send(turn % SIZE, &room(1));
            let _ = engine.poll(2);
            if drivers[2].take_used().is_some() {
                return;
            }
        }
        panic!("queue 2 was never served");
    }

    #[test]
    fn a_poll_serves_at_most_its_budget() {
        for budget in 0..20 {
            let (mut engine, _) = loaded([5, 0, 0, 4]);
            let mut polls = 0;
            let mut before = 0;
            while polls < 40 && engine.poll(budget) == Step::More {
                let seen = engine.model().seen.len();
                assert!(seen - before <= budget.into());
                before = seen;
                polls += 1;
            }
            assert_eq!(engine.model().seen.len(), if budget == 0 { 0 } else { 9 });
        }
    }

    #[test]
    fn a_poll_without_a_budget_says_whether_there_may_be_more() {
        let mut rig = RecordingRig::new(Features::empty());
        assert_eq!(rig.poll(), Step::Idle);
        assert_eq!(rig.engine.poll(0), Step::Idle);
        rig.driver.send(0, &room(1));
        let _ = rig.engine.kick(0);
        assert_eq!(rig.engine.poll(0), Step::More);
        assert!(rig.engine.model().seen.is_empty());
    }

    #[test]
    fn requests_asked_for_again_count_for_the_budget() {
        let mut rig = waiting(0..4);
        rig.engine.backend_ready(0);
        for served in [6, 8] {
            assert_eq!(rig.engine.poll(2), Step::More);
            assert_eq!(rig.engine.model().seen.len(), served);
        }
        assert_eq!(rig.poll(), Step::Blocked);
    }

    #[test]
    fn counters_count() {
        let (mut engine, drivers) = loaded([3, 3, 0, 0]);
        drivers[1].set_avail_flags(1);
        assert_eq!(settle(&mut engine), Step::Idle);
        let counters = engine.counters();
        assert_eq!(
            (counters.chains, counters.interrupts, counters.suppressed),
            (6, 1, 1)
        );
    }
}

mod written {
    use super::*;

    #[test]
    fn a_models_length_beyond_the_room_is_a_host_fault() {
        for (writable, claim) in [(0, 1), (5, 6), (5, u32::MAX)] {
            let mut rig = RecordingRig::new(Features::empty());
            rig.engine.model_mut().plan = Plan::Claim(claim);
            rig.driver.send(0, &room(writable));
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(rig.driver.take_used(), Some((0, 0)));
            let fault = HostFault::WrittenTooMuch {
                written: claim,
                writable,
            };
            assert_eq!(rig.engine.take_host_fault(), Some(fault));
            assert_eq!(
                rig.engine.take_host_fault(),
                None,
                "the fault is reported once"
            );
            // The model is at fault, not the driver: the queue continues.
            assert_eq!((rig.fault(), rig.engine.status().bits()), (None, 0xf));
            rig.engine.model_mut().plan = Plan::Fill(1);
            rig.driver.send(0, &room(writable));
            rig.kick();
            assert_eq!(rig.driver.take_used(), Some((0, writable)));
        }
    }

    #[test]
    fn a_models_length_up_to_the_last_byte_is_used() {
        for claim in 0..=5 {
            let mut rig = RecordingRig::new(Features::empty());
            rig.engine.model_mut().plan = Plan::Claim(claim);
            rig.driver.send(0, &room(5));
            rig.kick();
            assert_eq!(rig.driver.take_used(), Some((0, claim)));
            assert_eq!(rig.engine.take_host_fault(), None);
        }
    }

    #[test]
    fn a_host_fault_fails_only_the_request() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.engine.model_mut().plan = Plan::Fail(HostFault::Backend);
        rig.driver.send(0, &room(5));
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.engine.take_host_fault(), Some(HostFault::Backend));
        assert_eq!(rig.driver.take_used(), Some((0, 0)));
        assert_eq!((rig.fault(), rig.engine.status().bits()), (None, 0xf));
    }
}

//! What happens to answers that wait for an older chain, and to unpublished used entries, when the
//! queue or the device stops.

use virtside::{
    ChainSlot, DriverFault, Features, Refusal, Step,
    device::QueueState,
    features::Offer,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BASE, SIZE,
    in_order::{FORMATS, Format, Given, Holder, HolderRig, InOrderDriver},
    ram, reg,
    rings::settle,
    status::{LIVE, SUSPEND},
};

/// Two queues. On queue 0 the oldest chain waits, and chains 1 and 2 are answered.
fn waiting(format: Format, features: Features) -> HolderRig {
    let mut rig = HolderRig::with(format, features | Features::IN_ORDER, 2, SIZE, 5);
    rig.choose(|asked| (asked.queue == 1 || asked.number != 0).then_some(4));
    assert_eq!(rig.send(&[4; 3]), Step::Blocked);
    assert_eq!(rig.take(), []);
    rig
}

/// Asserts that queue 1 gets every slot except the one that is reserved for queue 0.
#[track_caller]
fn assert_slots_are_free(rig: &mut HolderRig) {
    rig.choose(|_| None);
    for _ in 0..5 {
        rig.drivers[1].room(4);
    }
    rig.kick(1);
    let held = rig.engine.model().asked.iter();
    assert_eq!(held.filter(|asked| asked.queue == 1).count(), 4);
}

#[test]
fn an_answer_with_a_length_gives_its_successors_their_turn() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        let token = rig.token(0);
        assert_eq!(rig.engine.complete_with(token, 2), Ok(()));
        assert_eq!(rig.engine.counters().chains, 3);
        assert_eq!(rig.take().len(), 3);
        assert_eq!(rig.interrupts(), 1);
        assert_slots_are_free(&mut rig);
    }
}

#[test]
fn a_stopped_queue_gives_slots_back_and_leaves_its_ring() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        let tokens = [0, 1, 2].map(|number| rig.token(number));
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(rig.engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        for token in tokens {
            assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
            let answered = rig.engine.complete_with(token, 1);
            assert_eq!(answered, Err(Refusal::StaleToken));
        }
        settle(&mut rig.engine);
        assert_eq!(rig.take(), []);
        assert_eq!((rig.interrupts(), rig.engine.counters().chains), (0, 0));
        assert_slots_are_free(&mut rig);
    }
}

#[test]
fn a_queue_that_was_reset_and_set_up_again_starts_over() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::RING_RESET);
        let tokens = [0, 1, 2].map(|number| rig.token(number));
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(rig.engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        assert_eq!(rig.engine.load(reg::QUEUE_RESET), 0);
        rig.drivers[0] = InOrderDriver::new(rig.ram, format, 0, SIZE);
        let config = rig.drivers[0].config();
        assert_eq!(rig.engine.configure(&config), Reply::Done(0));
        for token in tokens {
            assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
        }
        rig.fill();
        assert_eq!(rig.send(&[4; 2]), Step::Idle);
        let expected = [Given::skipped(0, 4), Given::entry(1, 4)];
        assert_eq!(rig.take(), expected, "{format:?}");
        assert_slots_are_free(&mut rig);
    }
}

#[test]
fn a_device_that_was_reset_starts_over() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        let tokens = [0, 1, 2].map(|number| rig.token(number));
        rig.restart(2, SIZE);
        for token in tokens {
            assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
        }
        rig.fill();
        assert_eq!(rig.send(&[4; 2]), Step::Idle);
        let expected = [Given::skipped(0, 4), Given::entry(1, 4)];
        assert_eq!(rig.take(), expected, "{format:?}");
        assert_slots_are_free(&mut rig);
    }
}

#[test]
fn a_driver_fault_discards_answers_that_wait() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        let fault = DriverFault::BadRequest { head: 7 };
        rig.engine.model_mut().blames = Some((3, fault));
        let tokens = [0, 1, 2].map(|number| rig.token(number));
        rig.send(&[4]);
        assert_eq!(rig.engine.driver_fault(0), Some(fault));
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        for token in tokens {
            assert_eq!(rig.engine.complete(token), Err(Refusal::StaleToken));
        }
        assert_eq!(rig.take(), [], "{format:?}");
        assert_eq!(rig.engine.counters().chains, 0);
        rig.engine.model_mut().blames = None;
        assert_slots_are_free(&mut rig);
    }
}

#[test]
fn a_driver_fault_publishes_full_buffers_given_back_before() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        let fault = DriverFault::BadRequest { head: 7 };
        rig.engine.model_mut().blames = Some((3, fault));
        rig.fill();
        rig.send(&[4; 5]);
        assert_eq!(rig.engine.driver_fault(0), Some(fault));
        let expected = [
            Given::skipped(0, 4),
            Given::skipped(1, 4),
            Given::entry(2, 4),
        ];
        assert_eq!(rig.take(), expected, "{format:?}");
        assert_eq!(rig.engine.counters().interrupts, 1);
    }
}

#[test]
fn a_broken_split_ring_shows_full_buffers_given_back_before() {
    let mut rig = HolderRig::new(Format::Split, Features::empty());
    rig.fill();
    for _ in 0..3 {
        rig.driver().room(4);
    }
    // The next head index is outside the descriptor table.
    let driver = rig.driver().split();
    driver.set_avail_entry(3, SIZE);
    driver.set_avail_idx(4);
    rig.kick(0);
    let head = SIZE;
    let fault = Some(DriverFault::HeadOutOfRange { head });
    assert_eq!(rig.engine.driver_fault(0), fault);
    assert_eq!(rig.driver().numbers(), [0, 1, 2]);
}

#[test]
fn a_rejected_chain_has_its_own_entry_behind_full_buffers() {
    for event_idx in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = HolderRig::rejecting(Format::Split, event_idx);
        rig.fill();
        for number in 0..6 {
            if number == 2 || number == 3 {
                rig.driver().broken();
            } else {
                rig.driver().room(4);
            }
        }
        rig.kick(0);
        assert_eq!(rig.engine.driver_fault(0), None, "the queue continues");
        let expected = [
            Given::skipped(0, 4),
            Given::entry(1, 4),
            Given::entry(2, 0),
            Given::entry(3, 0),
            Given::skipped(4, 4),
            Given::entry(5, 4),
        ];
        assert_eq!(rig.take(), expected);
        assert_eq!(rig.interrupts(), 1);
    }
}

#[test]
fn a_chain_that_the_device_rejects_waits_for_its_turn() {
    for &format in FORMATS {
        let mut rig = HolderRig::rejecting(format, Features::empty());
        let fault = DriverFault::BadRequest { head: 1 };
        rig.engine.model_mut().blames = Some((1, fault));
        assert_eq!(rig.send(&[4; 2]), Step::Blocked);
        assert_eq!(rig.take(), []);
        rig.answer(0, 4);
        let expected = [Given::skipped(0, 4), Given::entry(1, 0)];
        assert_eq!(rig.take(), expected, "{format:?}");
    }
}

#[test]
fn a_head_that_waits_for_its_turn_is_in_flight() {
    let mut rig = HolderRig::new(Format::Split, Features::empty());
    rig.choose(|asked| (asked.number != 0).then_some(4));
    rig.send(&[4; 3]);
    let driver = rig.driver().split();
    driver.offer(2);
    driver.publish();
    rig.kick(0);
    let fault = Some(DriverFault::HeadInFlight { head: 2 });
    assert_eq!(rig.engine.driver_fault(0), fault);
}

#[test]
fn answers_behind_an_idle_chain_allow_a_suspension() {
    for &format in FORMATS {
        for sleeps in [true, false] {
            let mut rig = waiting(format, Features::SUSPEND);
            rig.engine.model_mut().sleeps = sleeps;
            let _ = rig.engine.store(reg::STATUS, LIVE | SUSPEND);
            let _ = rig.engine.load(reg::STATUS);
            if sleeps {
                assert_eq!(rig.engine.phase(), Phase::Suspended);
            } else {
                assert_eq!(
                    rig.engine.phase(),
                    Phase::Suspending,
                    "one chain is unanswered"
                );
            }
            assert_eq!(
                rig.engine.complete(rig.token(1)),
                Err(Refusal::StaleToken),
                "the chain is answered"
            );
            rig.answer(0, 3);
            if sleeps {
                settle(&mut rig.engine);
                assert_eq!(rig.take(), [], "no memory is touched");
                assert_eq!(rig.interrupts(), 0);
            }
            let _ = rig.engine.load(reg::STATUS);
            assert_eq!(rig.engine.phase(), Phase::Suspended);
            let _ = rig.engine.store(reg::STATUS, LIVE);
            assert_eq!(rig.engine.phase(), Phase::Live);
            assert_eq!(settle(&mut rig.engine), Step::Idle);
            let expected = [Given::entry(0, 3), Given::skipped(1, 4), Given::entry(2, 4)];
            assert_eq!(rig.take(), expected, "{format:?}");
            assert_eq!(rig.interrupts(), 1);
        }
    }
}

#[test]
fn memory_may_move_while_answers_wait() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        // The same bytes at other addresses.
        let other = ram();
        other.write(0, &virtside_tests::rings::shot(rig.ram));
        *rig.engine.memory_mut() = other.flat(BASE);
        assert!(rig.engine.memory_changed().is_done());
        rig.answer(0, 4);
        assert_eq!(rig.take(), [], "the old memory is unchanged");
        let mut old = vec![0; virtside_tests::BYTES];
        other.read(0, &mut old);
        rig.ram.write(0, &old);
        let expected = [
            Given::skipped(0, 4),
            Given::skipped(1, 4),
            Given::entry(2, 4),
        ];
        assert_eq!(rig.take(), expected, "{format:?}");
    }
}

#[test]
fn a_queue_with_answers_that_wait_cannot_be_taken() {
    for &format in FORMATS {
        let mut rig = waiting(format, Features::empty());
        assert_eq!(
            rig.engine.take_queue(0).err(),
            Some(Refusal::QueueBusy { queue: 0 })
        );
        rig.answer(0, 4);
        assert!(rig.engine.take_queue(0).is_ok());
    }
}

#[test]
fn in_order_is_offered_only_where_the_host_asks_for_it() {
    let offered = |offer: Offer| {
        let slots = vec![ChainSlot::new()];
        let shared = std::sync::Arc::new(virtside::Shared::new());
        let line: virtside_tests::Line = Box::leak(Box::default());
        let mut engine: virtside_tests::TestEngine<_> =
            virtside::Engine::new(Holder::new(), ram().flat(BASE), line, slots, shared)
                .with_offer(offer);
        engine.offered().contains(Features::IN_ORDER)
    };
    assert!(!offered(Offer::AS_IS));
    assert!(offered(Offer::AS_IS.with(Features::IN_ORDER)));
    let neither = Offer::AS_IS
        .with(Features::IN_ORDER)
        .without(Features::IN_ORDER);
    assert!(!offered(neither));
}

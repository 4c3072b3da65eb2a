//! A taken queue that has to give its chains back in order.

use std::sync::Arc;

use virtside::{
    DriverMem, Features, FlatMem, Refusal, Shared, Step,
    device::{PutBackError, QueueState, Stop, TakenQueue},
    error::DeviceError,
    mmio::Reply,
    queue::Chain,
    testing::Registers,
};
use virtside_tests::{
    BASE, Line, N, Q,
    in_order::{FORMATS, Format, Given, HolderRig, InOrderDriver},
    reg,
};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

/// Queue 0, taken, and the chains that were popped from it.
struct Taken {
    rig: HolderRig,
    queue: Queue,
    chains: Vec<Chain<N>>,
}

/// Takes a queue with so many chains in flight, each with room for 4 bytes.
fn taken(format: Format, features: Features, chains: usize) -> Taken {
    let mut rig = HolderRig::new(format, features);
    rig.fill();
    let queue = rig.engine.take_queue(0).expect("the queue is live");
    let chains = vec![Chain::new(); chains];
    let mut taken = Taken { rig, queue, chains };
    for chain in &mut taken.chains {
        taken.rig.driver().room(4);
        let popped = taken.queue.pop(&taken.rig.ram.flat(BASE), chain);
        assert_eq!(popped, Ok(true));
    }
    taken
}

impl Taken {
    fn complete(&mut self, which: usize, written: u32) -> Result<(), DeviceError> {
        self.queue.complete(&self.chains[which], written)
    }

    #[track_caller]
    fn refused(&mut self, which: usize) -> Refusal {
        match self.complete(which, 4) {
            Err(DeviceError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn head(&self, which: usize) -> u16 {
        self.chains[which].head()
    }
}

#[test]
fn a_chain_out_of_order_is_refused_and_still_in_flight() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 3);
        for which in [1, 2] {
            let head = taken.head(which);
            assert_eq!(taken.refused(which), Refusal::OutOfOrder { head });
            assert_eq!(taken.queue.in_flight(), 3);
        }
        for which in [0, 1, 2] {
            assert_eq!(taken.complete(which, 4), Ok(()), "{format:?}");
        }
        assert!(taken.queue.flush());
        assert_eq!(taken.rig.driver().numbers(), [0, 1, 2]);
    }
}

#[test]
fn a_chain_that_was_given_back_is_stale_and_not_out_of_order() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 3);
        let clone = taken.chains[0].clone();
        assert_eq!(taken.complete(0, 4), Ok(()));
        for chain in [&taken.chains[0], &clone] {
            let again = taken.queue.complete(chain, 4);
            assert_eq!(again, Err(Refusal::StaleToken.into()), "{format:?}");
        }
        assert_eq!(taken.queue.in_flight(), 2);
        taken.queue.flush();
        assert_eq!(taken.rig.driver().numbers(), [0]);
        // The same head or id in another chain.
        for which in [1, 2] {
            assert_eq!(taken.complete(which, 4), Ok(()));
        }
        taken.queue.flush();
        assert_eq!(taken.rig.driver().numbers(), [1, 2]);
        for which in 0..3 {
            assert_eq!(taken.refused(which), Refusal::StaleToken, "{format:?}");
        }
    }
}

#[test]
fn a_clone_of_an_earlier_chain_of_one_head_gives_nothing_back() {
    let mut taken = taken(Format::Split, Features::empty(), 1);
    let mem = taken.rig.ram.flat(BASE);
    // Goes round the ring until the same head comes again.
    let old = taken.chains[0].clone();
    let mut chain = old.clone();
    for _ in 0..16 {
        assert_eq!(taken.queue.complete(&chain, 4), Ok(()));
        taken.queue.flush();
        assert_eq!(taken.rig.take().len(), 1);
        taken.rig.driver().room(4);
        assert_eq!(taken.queue.pop(&mem, &mut chain), Ok(true));
    }
    assert_eq!(chain.head(), old.head());
    let stale = Err(Refusal::StaleToken.into());
    assert_eq!(taken.queue.complete(&old, 4), stale);
    taken.queue.abandon(&old);
    assert_eq!(taken.queue.in_flight(), 1);
    assert_eq!(taken.queue.complete(&chain.clone(), 4), Ok(()));
    assert_eq!(taken.queue.complete(&chain, 4), stale);
}

#[test]
fn a_chain_that_was_never_popped_is_stale() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 1);
        assert_eq!(
            taken.queue.complete(&Chain::new(), 0),
            Err(Refusal::StaleToken.into()),
            "{format:?}"
        );
    }
}

#[test]
fn full_chains_reach_the_ring_when_they_are_flushed() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 4);
        assert_eq!(taken.complete(0, 4), Ok(()));
        assert_eq!(taken.complete(1, 4), Ok(()));
        assert_eq!(taken.queue.in_flight(), 2);
        assert_eq!(taken.rig.take(), [], "{format:?}");
        assert!(taken.queue.flush());
        let expected = [Given::skipped(0, 4), Given::entry(1, 4)];
        assert_eq!(taken.rig.take(), expected);
        assert!(!taken.queue.flush(), "nothing is left to flush");
        // A chain with room left cannot wait for a flush.
        assert_eq!(taken.complete(2, 1), Ok(()));
        assert_eq!(taken.rig.take(), [Given::entry(2, 1)]);
        assert_eq!(taken.complete(3, 0), Ok(()));
        assert_eq!(taken.rig.take(), [Given::entry(3, 0)]);
        assert!(taken.queue.flush());
    }
}

#[test]
fn a_flush_publishes_although_interrupts_are_disabled() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 2);
        match format {
            Format::Split => taken.rig.driver().split().set_avail_flags(1),
            #[cfg(feature = "packed")]
            Format::Packed => taken.rig.driver().packed().set_suppression(0, 1),
        }
        for which in 0..2 {
            assert_eq!(taken.complete(which, 4), Ok(()));
        }
        assert!(!taken.queue.flush());
        assert_eq!(taken.rig.driver().numbers(), [0, 1], "{format:?}");
    }
}

#[test]
fn a_queue_that_is_put_back_is_published() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 3);
        for which in 0..3 {
            assert_eq!(taken.complete(which, 4), Ok(()));
        }
        let before = taken.rig.interrupts();
        assert!(taken.rig.engine.put_back(taken.queue).is_ok());
        assert_eq!(taken.rig.driver().numbers(), [0, 1, 2], "{format:?}");
        assert_eq!(taken.rig.interrupts(), before + 1);
        assert_eq!(taken.rig.send(&[4; 2]), Step::Idle);
        let expected = [Given::skipped(3, 4), Given::entry(4, 4)];
        assert_eq!(taken.rig.take(), expected, "the queue continues");
    }
}

#[test]
fn a_queue_asked_to_stop_publishes_before_it_stops() {
    for &format in FORMATS {
        for abandons in [false, true] {
            let mut taken = taken(format, Features::empty(), 3);
            for which in 0..2 {
                assert_eq!(taken.complete(which, 4), Ok(()));
            }
            let _ = taken.rig.engine.store(reg::QUEUE_SEL, 0);
            let Reply::Pending(ticket) = taken.rig.engine.store(reg::QUEUE_READY, 0) else {
                panic!("a chain is in flight");
            };
            let mem = taken.rig.ram.flat(BASE);
            let popped = taken.queue.pop(&mem, &mut Chain::new());
            assert_eq!(popped, Err(Stop::Asked));
            let waits = taken.rig.engine.finish(ticket);
            assert!(matches!(waits, Reply::Pending(_)), "{waits:?}");
            if abandons {
                taken.queue.abandon(&taken.chains[2]);
            } else {
                assert_eq!(taken.complete(2, 4), Ok(()));
            }
            assert_eq!(
                taken.rig.engine.finish(ticket),
                Reply::Done(0),
                "{format:?}"
            );
            let expected = if abandons { vec![0, 1] } else { vec![0, 1, 2] };
            assert_eq!(taken.rig.driver().numbers(), expected);
            assert_eq!(taken.rig.interrupts(), 1);
            // Only then does the queue count as stopped.
            assert_eq!(taken.refused(2), Refusal::StaleToken);
            assert!(!taken.queue.flush());
            assert_eq!(taken.rig.take(), []);
        }
    }
}

#[test]
fn a_fault_publishes_what_was_given_back_before() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 2);
        for which in 0..2 {
            assert_eq!(taken.complete(which, 4), Ok(()));
        }
        let fault = virtside::DriverFault::BadRequest { head: 1 };
        taken.queue.report(fault);
        assert_eq!(taken.rig.driver().numbers(), [0, 1], "{format:?}");
    }
}

#[test]
fn no_younger_chain_is_given_back_after_one_was_abandoned() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::empty(), 3);
        assert_eq!(taken.complete(0, 4), Ok(()));
        taken.queue.abandon(&taken.chains[1]);
        assert_eq!(taken.queue.in_flight(), 1);
        assert_eq!(taken.refused(1), Refusal::StaleToken, "{format:?}");
        let head = taken.head(2);
        assert_eq!(taken.refused(2), Refusal::OutOfOrder { head });
        assert_eq!(taken.queue.in_flight(), 1);
        taken.queue.flush();
        assert_eq!(taken.rig.driver().numbers(), [0]);
        taken.queue.abandon_all();
        assert_eq!(taken.queue.in_flight(), 0);
        assert_eq!(taken.refused(2), Refusal::StaleToken);
    }
}

#[test]
fn a_queue_with_an_abandoned_chain_cannot_continue() {
    for &format in FORMATS {
        for every in [false, true] {
            let mut taken = taken(format, Features::empty(), 2);
            if every {
                taken.queue.abandon_all();
            } else {
                assert_eq!(taken.complete(0, 4), Ok(()));
                taken.queue.abandon(&taken.chains[1]);
            }
            let back = taken.rig.engine.put_back(taken.queue);
            assert!(matches!(back, Err(PutBackError::Discarded)), "{back:?}");
            assert_eq!(taken.rig.engine.queue_state(0), QueueState::Failed);
            assert!(
                taken.rig.engine.device().shared().needs_reset(),
                "{format:?}"
            );
            assert_eq!(taken.rig.driver().numbers().len(), usize::from(!every));
            // A reset makes the queue work again.
            taken.rig.restart(1, 16);
            assert_eq!(taken.rig.send(&[4]), Step::Idle);
            assert_eq!(taken.rig.driver().numbers(), [0]);
        }
    }
}

#[test]
fn a_malformed_chain_waits_behind_an_abandoned_one() {
    for abandons in [false, true] {
        let mut rig = HolderRig::rejecting(Format::Split, Features::empty());
        let mut queue = rig.engine.take_queue(0).expect("the queue is live");
        let (mem, mut chain): (_, Chain<N>) = (rig.ram.flat(BASE), Chain::new());
        rig.driver().room(4);
        assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
        if abandons {
            queue.abandon(&chain);
        } else {
            assert_eq!(queue.complete(&chain, 4), Ok(()));
        }
        rig.driver().broken();
        let popped = queue.pop(&mem, &mut chain);
        queue.flush();
        if abandons {
            assert!(matches!(popped, Err(Stop::Driver(_))), "{popped:?}");
            assert_eq!(rig.take(), [], "no chain was given back");
        } else {
            assert!(matches!(popped, Err(Stop::Rejected(_))), "{popped:?}");
            let expected = [Given::entry(0, 4), Given::entry(1, 0)];
            assert_eq!(rig.take(), expected);
        }
    }
}

#[test]
fn a_chain_abandoned_for_the_drivers_stop_needs_no_reset() {
    for &format in FORMATS {
        for reset in [false, true] {
            let mut taken = taken(format, Features::RING_RESET, 2);
            let _ = taken.rig.engine.store(reg::QUEUE_SEL, 0);
            let mut ticket = None;
            if reset {
                let _ = taken.rig.engine.store(reg::QUEUE_RESET, 1);
                assert_eq!(
                    taken.rig.engine.load(reg::QUEUE_RESET),
                    1,
                    "the queue has not stopped"
                );
            } else if let Reply::Pending(waits) = taken.rig.engine.store(reg::QUEUE_READY, 0) {
                ticket = Some(waits);
            }
            taken.queue.abandon_all();
            let back = taken.rig.engine.put_back(taken.queue);
            assert!(matches!(back, Err(PutBackError::Discarded)), "{format:?}");
            if let Some(ticket) = ticket {
                assert_eq!(taken.rig.engine.finish(ticket), Reply::Done(0));
            } else {
                assert_eq!(taken.rig.engine.load(reg::QUEUE_RESET), 0);
            }
            assert!(!taken.rig.engine.device().shared().needs_reset());
            assert_eq!(taken.rig.engine.queue_state(0), QueueState::Off);
        }
    }
}

#[test]
fn a_queue_with_an_abandoned_chain_works_without_in_order() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::empty(), 1, 16, 4);
        rig.fill();
        let mut queue = rig.engine.take_queue(0).expect("the queue is live");
        rig.driver().room(4);
        let mut chain: Chain<N> = Chain::new();
        assert_eq!(queue.pop(&rig.ram.flat(BASE), &mut chain), Ok(true));
        queue.abandon(&chain);
        assert!(rig.engine.put_back(queue).is_ok());
        assert_eq!(rig.send(&[4]), Step::Idle);
        assert_eq!(rig.engine.counters().chains, 1, "{format:?}");
    }
}

#[test]
fn a_chain_of_an_earlier_generation_is_stale() {
    for &format in FORMATS {
        let mut taken = taken(format, Features::RING_RESET, 1);
        let old = taken.chains[0].clone();
        assert_eq!(taken.complete(0, 4), Ok(()));
        drop(taken.queue);
        let rig = &mut taken.rig;
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(rig.engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        rig.drivers[0] = InOrderDriver::new(rig.ram, format, 0, 16);
        let config = rig.drivers[0].config();
        assert_eq!(rig.engine.configure(&config), Reply::Done(0));
        let mut queue = rig.engine.take_queue(0).expect("the queue is live again");
        rig.driver().room(4);
        let mut chain: Chain<N> = Chain::new();
        assert_eq!(queue.pop(&rig.ram.flat(BASE), &mut chain), Ok(true));
        assert_eq!(chain.head(), old.head());
        let stale = Err(Refusal::StaleToken.into());
        assert_eq!(queue.complete(&old, 4), stale, "{format:?}");
        queue.abandon(&old);
        assert_eq!(queue.in_flight(), 1);
        assert_eq!(queue.complete(&chain, 4), Ok(()));
    }
}

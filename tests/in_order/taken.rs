//! A queue that lives elsewhere and has to give its chains back in order.

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
struct Out {
    rig: HolderRig,
    queue: Queue,
    chains: Vec<Chain<N>>,
}

/// With so many chains in flight, each with room for 4 bytes.
fn out(format: Format, features: Features, chains: usize) -> Out {
    let mut rig = HolderRig::new(format, features);
    rig.fill();
    let queue = rig.engine.take_queue(0).expect("it is live");
    let chains = vec![Chain::new(); chains];
    let mut out = Out { rig, queue, chains };
    for chain in &mut out.chains {
        out.rig.driver().room(4);
        let popped = out.queue.pop(&out.rig.ram.flat(BASE), chain);
        assert_eq!(popped, Ok(true));
    }
    out
}

impl Out {
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
        let mut out = out(format, Features::empty(), 3);
        for which in [1, 2] {
            let head = out.head(which);
            assert_eq!(out.refused(which), Refusal::OutOfOrder { head });
            assert_eq!(out.queue.in_flight(), 3);
        }
        for which in [0, 1, 2] {
            assert_eq!(out.complete(which, 4), Ok(()), "{format:?}");
        }
        assert!(out.queue.flush());
        assert_eq!(out.rig.driver().numbers(), [0, 1, 2]);
    }
}

#[test]
fn a_chain_that_was_given_back_is_stale_and_not_out_of_order() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 3);
        let clone = out.chains[0].clone();
        assert_eq!(out.complete(0, 4), Ok(()));
        for chain in [&out.chains[0], &clone] {
            let again = out.queue.complete(chain, 4);
            assert_eq!(again, Err(Refusal::StaleToken.into()), "{format:?}");
        }
        assert_eq!(out.queue.in_flight(), 2);
        out.queue.flush();
        assert_eq!(out.rig.driver().numbers(), [0]);
        // Its head or id again, in another chain.
        for which in [1, 2] {
            assert_eq!(out.complete(which, 4), Ok(()));
        }
        out.queue.flush();
        assert_eq!(out.rig.driver().numbers(), [1, 2]);
        for which in 0..3 {
            assert_eq!(out.refused(which), Refusal::StaleToken, "{format:?}");
        }
    }
}

#[test]
fn a_clone_of_an_earlier_chain_of_one_head_gives_nothing_back() {
    let mut out = out(Format::Split, Features::empty(), 1);
    let mem = out.rig.ram.flat(BASE);
    // Round the ring, until the head comes again.
    let old = out.chains[0].clone();
    let mut chain = old.clone();
    for _ in 0..16 {
        assert_eq!(out.queue.complete(&chain, 4), Ok(()));
        out.queue.flush();
        assert_eq!(out.rig.take().len(), 1);
        out.rig.driver().room(4);
        assert_eq!(out.queue.pop(&mem, &mut chain), Ok(true));
    }
    assert_eq!(chain.head(), old.head());
    let stale = Err(Refusal::StaleToken.into());
    assert_eq!(out.queue.complete(&old, 4), stale);
    out.queue.abandon(&old);
    assert_eq!(out.queue.in_flight(), 1);
    assert_eq!(out.queue.complete(&chain.clone(), 4), Ok(()));
    assert_eq!(out.queue.complete(&chain, 4), stale);
}

#[test]
fn a_chain_that_was_never_popped_is_stale() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 1);
        assert_eq!(
            out.queue.complete(&Chain::new(), 0),
            Err(Refusal::StaleToken.into()),
            "{format:?}"
        );
    }
}

#[test]
fn the_ring_hears_of_full_chains_when_they_are_flushed() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 4);
        assert_eq!(out.complete(0, 4), Ok(()));
        assert_eq!(out.complete(1, 4), Ok(()));
        assert_eq!(out.queue.in_flight(), 2);
        assert_eq!(out.rig.take(), [], "{format:?}");
        assert!(out.queue.flush());
        let expected = [Given::skipped(0, 4), Given::entry(1, 4)];
        assert_eq!(out.rig.take(), expected);
        assert!(!out.queue.flush(), "there is nothing more");
        // With room left it cannot wait.
        assert_eq!(out.complete(2, 1), Ok(()));
        assert_eq!(out.rig.take(), [Given::entry(2, 1)]);
        assert_eq!(out.complete(3, 0), Ok(()));
        assert_eq!(out.rig.take(), [Given::entry(3, 0)]);
        assert!(out.queue.flush());
    }
}

#[test]
fn a_flush_publishes_although_the_driver_asked_for_quiet() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 2);
        match format {
            Format::Split => out.rig.driver().split().set_avail_flags(1),
            #[cfg(feature = "packed")]
            Format::Packed => out.rig.driver().packed().set_suppression(0, 1),
        }
        for which in 0..2 {
            assert_eq!(out.complete(which, 4), Ok(()));
        }
        assert!(!out.queue.flush());
        assert_eq!(out.rig.driver().numbers(), [0, 1], "{format:?}");
    }
}

#[test]
fn a_queue_that_is_put_back_is_published() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 3);
        for which in 0..3 {
            assert_eq!(out.complete(which, 4), Ok(()));
        }
        let before = out.rig.interrupts();
        assert!(out.rig.engine.put_back(out.queue).is_ok());
        assert_eq!(out.rig.driver().numbers(), [0, 1, 2], "{format:?}");
        assert_eq!(out.rig.interrupts(), before + 1);
        assert_eq!(out.rig.send(&[4; 2]), Step::Idle);
        let expected = [Given::skipped(3, 4), Given::entry(4, 4)];
        assert_eq!(out.rig.take(), expected, "and goes on");
    }
}

#[test]
fn a_queue_asked_to_stop_publishes_before_it_is_quiet() {
    for &format in FORMATS {
        for abandons in [false, true] {
            let mut out = out(format, Features::empty(), 3);
            for which in 0..2 {
                assert_eq!(out.complete(which, 4), Ok(()));
            }
            let _ = out.rig.engine.store(reg::QUEUE_SEL, 0);
            let Reply::Pending(ticket) = out.rig.engine.store(reg::QUEUE_READY, 0) else {
                panic!("a chain is in flight");
            };
            let mem = out.rig.ram.flat(BASE);
            let popped = out.queue.pop(&mem, &mut Chain::new());
            assert_eq!(popped, Err(Stop::Asked));
            let waits = out.rig.engine.finish(ticket);
            assert!(matches!(waits, Reply::Pending(_)), "{waits:?}");
            if abandons {
                out.queue.abandon(&out.chains[2]);
            } else {
                assert_eq!(out.complete(2, 4), Ok(()));
            }
            assert_eq!(out.rig.engine.finish(ticket), Reply::Done(0), "{format:?}");
            let expected = if abandons { vec![0, 1] } else { vec![0, 1, 2] };
            assert_eq!(out.rig.driver().numbers(), expected);
            assert_eq!(out.rig.interrupts(), 1);
            // And then it is quiet.
            assert_eq!(out.refused(2), Refusal::StaleToken);
            assert!(!out.queue.flush());
            assert_eq!(out.rig.take(), []);
        }
    }
}

#[test]
fn a_fault_publishes_what_was_given_back_before() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 2);
        for which in 0..2 {
            assert_eq!(out.complete(which, 4), Ok(()));
        }
        let fault = virtside::DriverFault::BadRequest { head: 1 };
        out.queue.report(fault);
        assert_eq!(out.rig.driver().numbers(), [0, 1], "{format:?}");
    }
}

#[test]
fn no_younger_chain_is_given_back_after_one_was_abandoned() {
    for &format in FORMATS {
        let mut out = out(format, Features::empty(), 3);
        assert_eq!(out.complete(0, 4), Ok(()));
        out.queue.abandon(&out.chains[1]);
        assert_eq!(out.queue.in_flight(), 1);
        assert_eq!(out.refused(1), Refusal::StaleToken, "{format:?}");
        let head = out.head(2);
        assert_eq!(out.refused(2), Refusal::OutOfOrder { head });
        assert_eq!(out.queue.in_flight(), 1);
        out.queue.flush();
        assert_eq!(out.rig.driver().numbers(), [0]);
        out.queue.abandon_all();
        assert_eq!(out.queue.in_flight(), 0);
        assert_eq!(out.refused(2), Refusal::StaleToken);
    }
}

#[test]
fn a_queue_with_an_abandoned_chain_cannot_go_on() {
    for &format in FORMATS {
        for every in [false, true] {
            let mut out = out(format, Features::empty(), 2);
            if every {
                out.queue.abandon_all();
            } else {
                assert_eq!(out.complete(0, 4), Ok(()));
                out.queue.abandon(&out.chains[1]);
            }
            let back = out.rig.engine.put_back(out.queue);
            assert!(matches!(back, Err(PutBackError::Discarded)), "{back:?}");
            assert_eq!(out.rig.engine.queue_state(0), QueueState::Failed);
            assert!(out.rig.engine.device().shared().needs_reset(), "{format:?}");
            assert_eq!(out.rig.driver().numbers().len(), usize::from(!every));
            // A reset mends it.
            out.rig.restart(1, 16);
            assert_eq!(out.rig.send(&[4]), Step::Idle);
            assert_eq!(out.rig.driver().numbers(), [0]);
        }
    }
}

#[test]
fn a_broken_chain_is_not_refused_before_one_that_was_abandoned() {
    for abandons in [false, true] {
        let mut rig = HolderRig::rejecting(Format::Split, Features::empty());
        let mut queue = rig.engine.take_queue(0).expect("it is live");
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
            assert_eq!(rig.take(), [], "not even the younger one");
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
            let mut out = out(format, Features::RING_RESET, 2);
            let _ = out.rig.engine.store(reg::QUEUE_SEL, 0);
            let mut ticket = None;
            if reset {
                let _ = out.rig.engine.store(reg::QUEUE_RESET, 1);
                assert_eq!(out.rig.engine.load(reg::QUEUE_RESET), 1, "it is not quiet");
            } else if let Reply::Pending(waits) = out.rig.engine.store(reg::QUEUE_READY, 0) {
                ticket = Some(waits);
            }
            out.queue.abandon_all();
            let back = out.rig.engine.put_back(out.queue);
            assert!(matches!(back, Err(PutBackError::Discarded)), "{format:?}");
            if let Some(ticket) = ticket {
                assert_eq!(out.rig.engine.finish(ticket), Reply::Done(0));
            } else {
                assert_eq!(out.rig.engine.load(reg::QUEUE_RESET), 0);
            }
            assert!(!out.rig.engine.device().shared().needs_reset());
            assert_eq!(out.rig.engine.queue_state(0), QueueState::Off);
        }
    }
}

#[test]
fn a_queue_that_lost_a_chain_goes_on_without_in_order() {
    for &format in FORMATS {
        let mut rig = HolderRig::with(format, Features::empty(), 1, 16, 4);
        rig.fill();
        let mut queue = rig.engine.take_queue(0).expect("it is live");
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
fn a_chain_of_an_earlier_life_of_the_queue_is_stale() {
    for &format in FORMATS {
        let mut out = out(format, Features::RING_RESET, 1);
        let old = out.chains[0].clone();
        assert_eq!(out.complete(0, 4), Ok(()));
        drop(out.queue);
        let rig = &mut out.rig;
        let _ = rig.engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(rig.engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        rig.drivers[0] = InOrderDriver::new(rig.ram, format, 0, 16);
        let config = rig.drivers[0].config();
        assert_eq!(rig.engine.configure(&config), Reply::Done(0));
        let mut queue = rig.engine.take_queue(0).expect("it is live again");
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

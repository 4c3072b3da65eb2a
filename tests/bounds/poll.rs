//! The cost of a poll.

use super::*;

#[test]
fn a_poll_keeps_its_bound_with_any_contents_of_the_queues() {
    for features in [
        Features::empty(),
        Features::EVENT_IDX,
        Features::IN_ORDER,
        Features::IN_ORDER | Features::EVENT_IDX,
    ] {
        for one in LOADS {
            for other in LOADS {
                for budget in [0, 1, 2, 5, 16, 200] {
                    let loads = [one, other, one, other];
                    for polled in accesses(features, loads, budget, Plan::Claim(0)) {
                        assert!(
                            polled <= poll_bound(budget),
                            "{polled} > {}: budget {budget}, {loads:?}",
                            poll_bound(budget),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_poll_of_chains_that_wait_keeps_within_its_bound() {
    for load in LOADS {
        for budget in [1, 2, 5, 40] {
            for polled in accesses(Features::EVENT_IDX, [load; Q], budget, Plan::Wait) {
                assert!(
                    polled <= poll_bound(budget),
                    "{polled}: budget {budget}, {load:?}"
                );
            }
        }
    }
}

/// A bound that no case comes near proves little.
#[test]
fn the_bound_of_a_poll_is_nearly_reached() {
    for budget in [1, 4, 16] {
        let loads = [Load::Longest(16); Q];
        // Only the first head has a chain of the full length. The others are shorter by one each.
        let polled = accesses(Features::empty(), loads, budget, Plan::Claim(0));
        let most = polled.into_iter().max().expect("at least one poll");
        let longest: u32 = (0..u32::from(budget))
            .map(|at| N as u32 - at / Q as u32)
            .sum();
        assert!(
            most >= longest + 3 * u32::from(budget),
            "{most} with a budget of {budget}"
        );
    }
}

#[test]
fn a_batch_costs_no_more_than_the_format_needs() {
    let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Fill(1)), 1);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    settle(&mut engine);
    let mut driver = driver(ram, 0);
    for head in [0, 3, 6, 9, 12] {
        driver.write_chain(head, &[Buffer::writable(DATA, 1); 3]);
        driver.offer(head);
    }
    driver.publish();
    let _ = engine.kick(0);
    counts.clear();
    assert_eq!(engine.poll(5), Step::More);
    // Loads: the available index once, an entry for each chain, the suppression field once.
    assert_eq!(counts.loads(), 1 + 5 + 1);
    assert_eq!((counts.descriptors(), counts.elements()), (15, 5));
    // Stores: the used index for each chain, and the flags once.
    assert_eq!(counts.stores(), 5 + 1);
    counts.clear();
    assert_eq!(engine.poll(5), Step::Idle);
    // The device stores the flags, and loads the available index before and after that store.
    assert_eq!((counts.loads(), counts.stores()), (2, 1));
    assert_eq!((counts.descriptors(), counts.elements()), (0, 0));
}

#[test]
fn an_idle_device_does_not_look_at_its_rings() {
    let (mut engine, counts, _) = counted(RecordingModel::new(Plan::Fill(1)), 1);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(Features::RING, &configs));
    settle(&mut engine);
    counts.clear();
    for _ in 0..10 {
        assert_eq!(engine.poll(200), Step::Idle);
    }
    assert_eq!(counts.rings(), 0);
}

#[test]
fn a_poll_into_and_out_of_a_suspension_keeps_its_bound() {
    for load in LOADS {
        for budget in [0, 1, 2, 5, 40] {
            let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Wait), 3);
            let configs: Vec<_> = (0..Q as u16).map(config).collect();
            assert!(engine.bring_up(Features::RING, &configs));
            for queue in 0..Q as u16 {
                load.write(&mut driver(ram, queue));
            }
            engine.poll(1);
            engine.model_mut().plan = Plan::Claim(0);
            assert_eq!(engine.store(0x70, 0x1f), Reply::Done(0));
            engine.backend_ready(0);
            let mut resumed = false;
            for _ in 0..200 {
                counts.clear();
                engine.poll(budget);
                let polled = counts.rings();
                assert!(polled <= poll_bound(budget), "{polled}: {budget}, {load:?}");
                if !resumed && engine.load(0x70) & 0x10 != 0 {
                    counts.clear();
                    assert_eq!(engine.poll(budget), Step::Idle);
                    assert_eq!(counts.rings(), 0);
                    assert_eq!(engine.store(0x70, 0x1f), Reply::Done(0));
                    resumed = true;
                }
            }
            assert!(resumed || budget == 0, "{budget}, {load:?}");
        }
    }
}

/// A device that answers DRIVER_OK later.
struct LateStart;

impl DeviceConfig for LateStart {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl DeviceModel for LateStart {
    fn ready(&mut self, _: Features, _: virtside::message::ReadyQueues<'_>) -> Start {
        Start::Later
    }
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Done { written: 0 })
    }
}

#[test]
fn a_poll_before_driver_ok_completes_keeps_its_bound() {
    for budget in [0, 1, 2] {
        let (mut engine, counts, ram) = counted(LateStart, 1);
        assert!(engine.negotiate(Features::VERSION_1));
        for queue in 0..Q as u16 {
            assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
            Load::Longest(1).write(&mut driver(ram, queue));
        }
        let Reply::Pending(ticket) = engine.go_live() else {
            panic!("DRIVER_OK was answered at once");
        };
        assert!(engine.responder().expect("the driver waits").accept());
        counts.clear();
        let _ = engine.poll(budget);
        // The stores that DRIVER_OK causes happen in this poll.
        let polled = counts.rings() - Q as u32;
        assert!(
            polled <= poll_bound(budget),
            "{polled} with a budget of {budget}"
        );
        counts.clear();
        assert_eq!(engine.finish(ticket), Reply::Done(0));
        assert_eq!(counts.rings(), 0, "the stores happen once");
    }
}

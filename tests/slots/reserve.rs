//! One slot is reserved for each queue that has no chain in hand.

use virtside::{Features, Step, mmio::Reply, snapshot::EngineSnapshot, testing::Registers};
use virtside_tests::{
    N, Q, SIZE,
    in_order::{FORMATS, HolderRig, InOrderDriver},
    probe::reset_queue,
    rings::settle,
};

/// Calls `test` for each format, with and without IN_ORDER.
fn rigs(queues: u16, slots: usize, mut test: impl FnMut(HolderRig)) {
    for &format in FORMATS {
        for more in [Features::empty(), Features::IN_ORDER] {
            let features = Features::RING_RESET | more;
            test(HolderRig::with(format, features, queues, SIZE, slots));
        }
    }
}

/// Makes chains of a queue available, kicks it and polls.
fn send(rig: &mut HolderRig, queue: u16, chains: usize) -> Step {
    for _ in 0..chains {
        rig.drivers[usize::from(queue)].room(4);
    }
    rig.kick(queue)
}

/// Number of chains of a queue that reached the model.
fn received(rig: &HolderRig, queue: u16) -> usize {
    let asked = &rig.engine.model().asked;
    asked.iter().filter(|asked| asked.queue == queue).count()
}

/// The model keeps the chains of these queues and answers those of the others.
fn keep(rig: &mut HolderRig, queues: &'static [u16]) {
    rig.choose(move |asked| (!queues.contains(&asked.queue)).then_some(4));
}

#[test]
fn kept_chains_leave_a_slot_for_the_other_queue() {
    rigs(2, 2, |mut rig| {
        keep(&mut rig, &[1]);
        assert_eq!(send(&mut rig, 1, 3), Step::Blocked);
        assert_eq!(received(&rig, 1), 1);
        for round in 1..4 {
            send(&mut rig, 0, 2);
            assert_eq!(received(&rig, 0), 2 * round, "queue 0 is served");
        }
        assert_eq!(received(&rig, 1), 1);
    });
}

#[test]
fn each_of_four_queues_finds_a_slot() {
    rigs(4, 4, |mut rig| {
        keep(&mut rig, &[1, 2, 3]);
        for queue in [3, 1, 2] {
            assert_eq!(send(&mut rig, queue, 5), Step::Blocked);
            assert_eq!(received(&rig, queue), 1);
        }
        send(&mut rig, 0, 5);
        assert_eq!(received(&rig, 0), 5);
    });
}

#[test]
fn the_only_busy_queue_takes_all_other_slots() {
    rigs(4, 16, |mut rig| {
        assert_eq!(send(&mut rig, 2, 16), Step::Blocked);
        assert_eq!(received(&rig, 2), 13);
        for queue in [0, 1, 3] {
            assert_eq!(send(&mut rig, queue, 3), Step::Blocked);
            assert_eq!(received(&rig, queue), 1);
        }
    });
}

#[test]
fn a_device_of_one_queue_uses_every_slot() {
    for slots in [1, 2, 5] {
        rigs(1, slots, |mut rig| {
            assert_eq!(send(&mut rig, 0, 8), Step::Blocked);
            assert_eq!(received(&rig, 0), slots);
        });
    }
}

#[test]
fn no_slot_is_kept_for_queues_that_the_driver_does_not_use() {
    rigs(2, 4, |mut rig| {
        assert_eq!(send(&mut rig, 0, 8), Step::Blocked);
        assert_eq!(received(&rig, 0), 3);
    });
}

#[test]
fn one_slot_serves_all_queues_of_a_model_that_answers_at_once() {
    rigs(4, 1, |mut rig| {
        rig.fill();
        for driver in &mut rig.drivers {
            for _ in 0..6 {
                driver.room(4);
            }
        }
        for queue in 0..4 {
            send(&mut rig, queue, 0);
        }
        assert_eq!(settle(&mut rig.engine), Step::Idle);
        for queue in 0..4 {
            assert_eq!(received(&rig, queue), 6);
        }
    });
}

#[test]
fn with_fewer_slots_than_queues_none_keeps_two() {
    rigs(4, 3, |mut rig| {
        keep(&mut rig, &[1, 3]);
        for queue in [1, 3] {
            assert_eq!(send(&mut rig, queue, 4), Step::Blocked);
            assert_eq!(received(&rig, queue), 1);
        }
        for queue in [0, 2] {
            send(&mut rig, queue, 4);
            assert_eq!(received(&rig, queue), 4);
        }
    });
}

#[test]
fn a_queue_continues_when_its_slot_is_free_again() {
    rigs(2, 3, |mut rig| {
        keep(&mut rig, &[1]);
        assert_eq!(send(&mut rig, 1, 6), Step::Blocked);
        assert_eq!(received(&rig, 1), 2);
        for number in 0..6 {
            assert_eq!(rig.answer_of(1, number, 4), Ok(()));
            settle(&mut rig.engine);
            assert_eq!(received(&rig, 1), 6.min(number + 3));
        }
        assert_eq!(settle(&mut rig.engine), Step::Idle);
        assert_eq!(rig.drivers[1].numbers(), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn the_slot_of_a_queue_that_is_reset_waits_for_its_return() {
    rigs(2, 3, |mut rig| {
        keep(&mut rig, &[1]);
        send(&mut rig, 0, 1);
        assert_eq!(reset_queue(&mut rig.engine, 0), Reply::Done(0));
        assert_eq!(send(&mut rig, 1, 8), Step::Blocked);
        assert_eq!(received(&rig, 1), 2);
        let config = rig.drivers[0].config();
        rig.drivers[0] = fresh(&rig);
        assert_eq!(rig.engine.configure(&config), Reply::Done(0));
        let before = received(&rig, 0);
        send(&mut rig, 0, 3);
        assert_eq!(received(&rig, 0), before + 3);
    });
}

/// A driver of queue 0 with empty rings, in the other queues' format.
fn fresh(rig: &HolderRig) -> InOrderDriver {
    let packed = rig.engine.features().contains(Features::RING_PACKED);
    let format = FORMATS[usize::from(packed)];
    InOrderDriver::new(rig.ram, format, 0, SIZE)
}

#[test]
fn a_restored_device_keeps_a_slot_for_each_queue() {
    rigs(2, 3, |mut rig| {
        assert_eq!(send(&mut rig, 1, 1), Step::Blocked);
        let saved: EngineSnapshot<(), Q, N, 3> = rig.engine.save().expect("nothing is taken");
        rig.renew(3);
        assert_eq!(rig.engine.restore(&saved), Ok(()));
        keep(&mut rig, &[1]);
        assert_eq!(send(&mut rig, 1, 6), Step::Blocked);
        assert_eq!(received(&rig, 1), 2);
        send(&mut rig, 0, 3);
        assert_eq!(received(&rig, 0), 3);
    });
}

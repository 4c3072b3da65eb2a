//! When the driver must kick and when it need not; no wake-up is lost.

use std::sync::{Arc, Mutex};

use proptest::{collection::vec, prelude::*};
use virtside::{
    Features, FlatMem, Step,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, DATA, SIZE, driver,
    hooks::{Hook, Interloper},
    rings::{Plan, RecordingModel, RecordingRig, changes, scratch},
    test_engine,
};

fn one() -> Vec<Buffer> {
    vec![Buffer::writable(DATA, 1)]
}

#[test]
fn used_flags_are_zero_from_driver_ok_on() {
    for features in [
        Features::VERSION_1,
        Features::VERSION_1 | Features::EVENT_IDX,
    ] {
        let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(0)), 1);
        let driver = driver(ram, 0);
        let flags = driver.layout().device;
        driver.write(flags, &[0xff, 0xff]);
        assert!(engine.negotiate(features));
        assert_eq!(engine.configure(&driver.config(0)).refusal(), None);
        assert_eq!(
            driver.used_flags(),
            0xffff,
            "a ring is not touched before DRIVER_OK"
        );
        let _ = engine.go_live();
        assert_eq!(driver.used_flags(), 0);
    }
}

#[test]
fn without_event_idx_the_flags_say_whether_kicks_are_needed() {
    let mut rig = RecordingRig::new(Features::empty());
    for _ in 0..3 {
        for head in 0..3 {
            rig.driver.write_chain(head, &one());
            rig.driver.offer(head);
        }
        rig.driver.publish();
        let _ = rig.engine.kick(0);
        for _ in 0..3 {
            assert_eq!(rig.engine.poll(1), Step::More);
            assert_eq!(
                rig.driver.used_flags(),
                1,
                "the device will poll again without a kick"
            );
        }
        assert_eq!(rig.engine.poll(1), Step::Idle);
        assert_eq!(rig.driver.used_flags(), 0);
    }
}

#[test]
fn without_event_idx_flags_are_0_or_1_and_avail_event_stays() {
    let ram = scratch();
    let watcher = driver(ram, 0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inside = seen.clone();
    let hook = Hook::new(move |_| {
        inside
            .lock()
            .unwrap()
            .push((watcher.used_flags(), watcher.avail_event()));
    });
    let mut rig = RecordingRig::over(
        ram.flat(BASE).with_hooks(hook),
        ram,
        Features::empty(),
        SIZE,
    );
    let event = rig.driver.layout().device + 4 + 8 * u64::from(SIZE);
    rig.driver.write(event, &[0x34, 0x12]);
    seen.lock().unwrap().clear();
    for turn in 0..40 {
        for head in 0..=turn % 5 {
            rig.driver.write_chain(head, &one());
            rig.driver.offer(head);
        }
        rig.driver.publish();
        let _ = rig.engine.kick(0);
        while rig.engine.poll(1 + turn % 3) == Step::More {}
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(flags, _)| *flags == 1) && seen.iter().any(|(flags, _)| *flags == 0));
    assert!(
        seen.iter()
            .all(|(flags, event)| *flags <= 1 && *event == 0x1234)
    );
}

#[test]
fn with_event_idx_the_flags_stay_zero() {
    let ram = scratch();
    let watcher = driver(ram, 0);
    let hook = Hook::new(move |_| assert_eq!(watcher.used_flags(), 0));
    let mut rig = RecordingRig::over(
        ram.flat(BASE).with_hooks(hook),
        ram,
        Features::EVENT_IDX,
        SIZE,
    );
    for turn in 0..40 {
        for head in 0..=turn % 5 {
            rig.driver.write_chain(head, &one());
            rig.driver.offer(head);
        }
        rig.driver.publish();
        let _ = rig.engine.kick(0);
        while rig.engine.poll(1 + turn % 3) == Step::More {
            assert_eq!(rig.driver.used_flags(), 0);
        }
    }
    assert_eq!((rig.driver.used_idx(), rig.driver.used_flags()), (120, 0));
}

#[test]
fn with_event_idx_an_idle_device_wants_a_kick_for_a_chain() {
    let mut rig = RecordingRig::new(Features::EVENT_IDX);
    rig.driver
        .write(rig.driver.layout().device + 4 + 8 * 16, &[0xcd, 0xab]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.avail_event(), 0);
    for turn in 1..100 {
        rig.driver.send(turn % SIZE, &one());
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.driver.avail_event(), turn);
    }
}

#[test]
fn with_event_idx_a_busy_device_wants_no_kick() {
    let mut rig = RecordingRig::new(Features::EVENT_IDX);
    assert_eq!(rig.kick(), Step::Idle);
    for head in 0..3 {
        rig.driver.write_chain(head, &one());
        rig.driver.offer(head);
    }
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    for _ in 0..3 {
        assert_eq!(rig.engine.poll(1), Step::More);
        assert_eq!(
            rig.driver.avail_event(),
            0,
            "avail_event names an entry published long ago"
        );
    }
    assert_eq!(rig.engine.poll(1), Step::Idle);
    assert_eq!(rig.driver.avail_event(), 3);
}

#[test]
fn avail_event_wraps_with_the_index() {
    let mut rig = RecordingRig::new(Features::EVENT_IDX);
    for head in 0..SIZE {
        rig.driver.write_chain(head, &one());
    }
    for _ in 0..4096 {
        for head in 0..SIZE {
            rig.driver.offer(head);
        }
        rig.driver.publish();
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.driver.avail_event(), rig.driver.next_avail());
        rig.engine.model_mut().seen.clear();
    }
    assert_eq!(rig.driver.avail_event(), 0);
    rig.driver.send(0, &one());
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!((rig.driver.avail_event(), rig.driver.used_idx()), (1, 1));
}

#[test]
fn kicks_without_chains_are_tolerated() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = RecordingRig::new(features);
        rig.driver.send(0, &one());
        rig.kick();
        let before = rig.shot();
        let interrupts = rig.interrupts();
        for _ in 0..20 {
            let _ = rig.engine.kick(0);
            let _ = rig.engine.kick(0);
            assert_eq!(rig.poll(), Step::Idle);
        }
        assert_eq!(changes(&before, &rig.shot()), []);
        assert_eq!(
            (rig.interrupts(), rig.engine.model().seen.len()),
            (interrupts, 1)
        );
    }
}

#[test]
fn suppressed_kicks_are_tolerated() {
    let mut rig = RecordingRig::new(Features::empty());
    for head in 0..4 {
        rig.driver.send(head, &one());
        let _ = rig.engine.kick(0);
        assert_eq!(rig.engine.poll(1), Step::More);
        assert_eq!(rig.driver.used_flags(), 1);
        let _ = rig.engine.kick(0);
    }
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(rig.engine.model().heads(), [0, 1, 2, 3]);
}

/// Publishes a chain as another processor would, and kicks if the device asks for it.
fn publish_and_kick(driver: &mut FakeDriver<FlatMem>, event_idx: bool, ring: impl FnOnce()) {
    let old = driver.next_avail();
    driver.write_chain(15, &one());
    driver.offer(15);
    driver.publish();
    let needed = if event_idx {
        driver.avail_event() == old
    } else {
        driver.used_flags() & 1 == 0
    };
    if needed {
        ring();
    }
}

/// The chain is served, at whichever access of the device it is published.
#[test]
fn a_chain_published_as_the_device_goes_idle_is_served() {
    let mut moments = 0;
    for features in [Features::empty(), Features::EVENT_IDX] {
        let event_idx = features == Features::EVENT_IDX;
        for chains in 0..3u16 {
            for budget in 1..=4 {
                for moment in 0.. {
                    let (ram, interloper) = (scratch(), Interloper::default());
                    let mem = ram.flat(BASE).with_hooks(interloper.hook());
                    let mut rig = RecordingRig::over(mem, ram, features, SIZE);
                    for head in 0..chains {
                        rig.driver.write_chain(head, &one());
                        rig.driver.offer(head);
                    }
                    rig.driver.publish();
                    let mut other = rig.driver.clone();
                    let shared = rig.engine.device().shared().clone();
                    let bell = shared.clone();
                    interloper.arm(moment, move || {
                        publish_and_kick(&mut other, event_idx, || {
                            bell.doorbell().ring(0);
                        });
                    });
                    // The device sleeps when it is idle and its doorbell is silent.
                    while rig.engine.poll(budget) == Step::More || !shared.doorbell().is_silent() {}
                    if !interloper.has_acted() {
                        break;
                    }
                    assert_eq!(
                        rig.driver.used_idx(),
                        chains + 1,
                        "published at access {moment} with {chains} before, budget {budget}",
                    );
                    moments += 1;
                }
            }
        }
    }
    assert!(moments > 200, "published at only {moments} moments");
}

/// The next action.
#[derive(Clone, Debug)]
enum Move {
    /// The driver publishes this many chains, as far as it has free ones, and kicks if the device
    /// asks for it.
    Publish(u16),
    /// The device polls with this budget, if it has a reason to.
    Poll(u16),
    /// The device's back end finishes its oldest request, or becomes slow.
    Complete,
    Slow(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (1u16..6).prop_map(Move::Publish),
        4 => (0u16..6).prop_map(Move::Poll),
        2 => Just(Move::Complete),
        1 => any::<bool>().prop_map(Move::Slow),
    ];
    vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A driver that kicks only when asked to, and a device that polls only with a reason.
    #[test]
    fn with_only_the_necessary_kicks_everything_is_served(moves in moves(), event_idx: bool) {
        let features = if event_idx { Features::EVENT_IDX } else { Features::empty() };
        let mut rig = RecordingRig::new(features);
        let mut free: Vec<u16> = (0..SIZE).collect();
        let mut pending = Vec::new();
        // DRIVER_OK counts as a kick.
        let mut awake = true;
        let mut published = 0u32;
        let finish = [Move::Slow(false), Move::Poll(99)];
        for next in moves.into_iter().chain(finish) {
            match next {
                Move::Publish(count) => {
                    let old = rig.driver.next_avail();
                    let count = count.min(free.len() as u16);
                    for head in free.drain(..usize::from(count)) {
                        rig.driver.write_chain(head, &one());
                        rig.driver.offer(head);
                        published += 1;
                    }
                    rig.driver.publish();
                    let needed = if event_idx {
                        rig.driver.avail_event().wrapping_sub(old) < count
                    } else {
                        rig.driver.used_flags() == 0
                    };
                    if needed && count > 0 {
                        let _ = rig.engine.kick(0);
                        awake = true;
                    }
                }
                Move::Poll(budget) if awake => {
                    awake = rig.engine.poll(budget) == Step::More;
                    let seen = std::mem::take(&mut rig.engine.model_mut().seen);
                    if rig.engine.model().plan == Plan::Wait {
                        pending.extend(seen.into_iter().map(|seen| seen.token));
                    }
                }
                Move::Poll(_) => {}
                Move::Complete if !pending.is_empty() => {
                    let plan = std::mem::replace(&mut rig.engine.model_mut().plan, Plan::Fill(0));
                    prop_assert_eq!(rig.engine.complete(pending.remove(0)), Ok(()));
                    rig.engine.model_mut().seen.clear();
                    rig.engine.model_mut().plan = plan;
                    // A slot is free again, which is the host's own reason to poll.
                    awake = true;
                }
                Move::Complete => {}
                Move::Slow(slow) => {
                    let plan = if slow { Plan::Wait } else { Plan::Fill(0) };
                    rig.engine.model_mut().plan = plan;
                }
            }
            while let Some((head, _)) = rig.driver.take_used() {
                free.push(head as u16);
            }
        }
        for token in pending {
            prop_assert_eq!(rig.engine.complete(token), Ok(()));
            awake = true;
        }
        while awake {
            awake = rig.engine.poll(9) == Step::More;
        }
        prop_assert_eq!(rig.fault(), None);
        prop_assert_eq!(rig.engine.counters().chains, published);
    }
}

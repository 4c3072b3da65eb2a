//! When used buffers cause an interrupt, and when they do not.

use std::sync::{Arc, Mutex};

use virtside::{
    Features, Step,
    shared::InterruptStatus,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, DATA, Q, SIZE, config, driver,
    hooks::Interloper,
    rings::{Plan, RecordingModel, RecordingRig, scratch, settle},
    test_engine,
};

const USED: InterruptStatus = InterruptStatus::USED_BUFFER;
const NONE: InterruptStatus = InterruptStatus::empty();

/// Sends `count` chains at once, polls the device, and takes the used buffers; returns whether
/// there was an interrupt.
fn batch(rig: &mut RecordingRig, count: u16) -> bool {
    for head in 0..count {
        rig.driver.write_chain(head, &[Buffer::writable(DATA, 1)]);
        rig.driver.offer(head);
    }
    rig.driver.publish();
    let before = rig.interrupts();
    assert_eq!(rig.kick(), Step::Idle);
    for head in 0..count {
        assert_eq!(rig.driver.take_used(), Some((head.into(), 1)));
    }
    rig.engine.model_mut().seen.clear();
    let sent = rig.interrupts() - before;
    assert!(sent <= 1, "at most one interrupt for a batch");
    assert_eq!(rig.acknowledge(), if sent == 1 { USED } else { NONE });
    sent == 1
}

mod by_flags {
    use super::*;

    #[test]
    fn a_used_buffer_interrupts() {
        let mut rig = RecordingRig::new(Features::empty());
        assert!(batch(&mut rig, 1));
        assert!(batch(&mut rig, 16));
        assert_eq!(rig.engine.counters().interrupts, 2);
        assert_eq!(rig.engine.counters().suppressed, 0);
    }

    #[test]
    fn a_used_buffer_does_not_interrupt_if_interrupts_are_off() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.driver.set_avail_flags(1);
        assert!(!batch(&mut rig, 1));
        assert!(!batch(&mut rig, 16));
        assert_eq!(rig.engine.counters().interrupts, 0);
        assert_eq!(rig.engine.counters().suppressed, 2);
        assert_eq!(rig.interrupts(), 0);
    }

    #[test]
    fn the_driver_may_change_its_mind_at_any_time() {
        let mut rig = RecordingRig::new(Features::empty());
        for flags in [1, 0, 1, 1, 0, 0, 1, 0] {
            rig.driver.set_avail_flags(flags);
            assert_eq!(batch(&mut rig, 3), flags == 0);
        }
    }

    #[test]
    fn interrupts_may_stay_off_for_good() {
        let mut rig = RecordingRig::new(Features::empty());
        rig.driver.set_avail_flags(1);
        for _ in 0..200 {
            assert!(!batch(&mut rig, SIZE));
        }
    }

    #[test]
    fn used_event_means_nothing_without_event_idx() {
        let mut rig = RecordingRig::new(Features::empty());
        for (turn, event) in [0, 1, 2, 3, 40, 0x7fff, 0x8000, 0xfffe, 0xffff]
            .iter()
            .enumerate()
        {
            for flags in [0, 1] {
                rig.driver.set_used_event(*event);
                rig.driver.set_avail_flags(flags);
                assert_eq!(batch(&mut rig, 1 + turn as u16), flags == 0);
            }
        }
    }
}

mod by_event_idx {
    use super::*;

    #[test]
    fn only_the_entry_that_used_event_names_interrupts() {
        for event in 0..20 {
            let mut rig = RecordingRig::new(Features::EVENT_IDX);
            rig.driver.set_used_event(event);
            for entry in 0..40 {
                assert_eq!(
                    batch(&mut rig, 1),
                    entry == event,
                    "entry {entry}, event {event}"
                );
            }
        }
    }

    #[test]
    fn a_batch_interrupts_exactly_if_it_has_the_entry() {
        let mut rig = RecordingRig::new(Features::EVENT_IDX);
        // The index is near its wrap, so that the comparisons below cross it.
        rig.driver.set_used_event(0xffff);
        for _ in 0..4000 {
            assert!(!batch(&mut rig, SIZE));
        }
        let mut old: u16 = 4000 * SIZE;
        for _ in 0..2 {
            for count in 1..=SIZE {
                for distance in -3i16..20 {
                    let event = old.wrapping_add_signed(distance);
                    rig.driver.set_used_event(event);
                    let crossed = event.wrapping_sub(old) < count;
                    assert_eq!(batch(&mut rig, count), crossed, "{event:#x} from {old:#x}");
                    old = old.wrapping_add(count);
                }
            }
        }
        assert!(old < 4000 * SIZE, "the index has wrapped");
    }

    #[test]
    fn an_event_far_ahead_does_not_interrupt() {
        let mut rig = RecordingRig::new(Features::EVENT_IDX);
        for event in [16, 100, 0x7fff, 0x8000, 0x8001, 0xffff] {
            rig.driver.set_used_event(event);
            assert!(!batch(&mut rig, 1));
        }
    }

    #[test]
    fn avail_flags_mean_nothing_with_event_idx() {
        for flags in [0, 1, 0xffff] {
            let mut rig = RecordingRig::new(Features::EVENT_IDX);
            rig.driver.set_avail_flags(flags);
            rig.driver.set_used_event(2);
            for entry in 0..5 {
                assert_eq!(batch(&mut rig, 1), entry == 2);
            }
        }
    }

    #[test]
    fn entries_used_without_an_interrupt_cause_none_later() {
        let mut rig = RecordingRig::new(Features::EVENT_IDX);
        rig.driver.set_used_event(9);
        assert!(!batch(&mut rig, 5));
        // Entry 2 was used without an interrupt, and causes none later.
        rig.driver.set_used_event(2);
        assert!(!batch(&mut rig, 5));
        rig.driver.set_used_event(10);
        assert!(batch(&mut rig, 1));
    }
}

#[test]
fn nothing_used_means_no_interrupt() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = RecordingRig::new(features);
        for _ in 0..5 {
            assert_eq!(rig.kick(), Step::Idle);
        }
        assert_eq!((rig.interrupts(), rig.acknowledge()), (0, NONE));
        rig.engine.model_mut().plan = Plan::Wait;
        rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
        assert_eq!(rig.kick(), Step::Blocked);
        assert_eq!((rig.interrupts(), rig.acknowledge()), (0, NONE));
    }
}

#[test]
fn a_chain_completed_later_interrupts_then() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = RecordingRig::new(features);
        rig.engine.model_mut().plan = Plan::Wait;
        rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
        rig.kick();
        let token = rig.last().token;
        rig.engine.model_mut().plan = Plan::Fill(1);
        assert_eq!(rig.engine.complete(token), Ok(()));
        assert_eq!((rig.interrupts(), rig.acknowledge()), (1, USED));
    }
}

#[test]
fn a_completion_does_not_interrupt_if_interrupts_are_off() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.set_avail_flags(1);
    rig.engine.model_mut().plan = Plan::Wait;
    rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
    rig.kick();
    let token = rig.last().token;
    rig.engine.model_mut().plan = Plan::Fill(1);
    assert_eq!(rig.engine.complete(token), Ok(()));
    assert_eq!(rig.driver.take_used(), Some((0, 1)));
    assert_eq!((rig.interrupts(), rig.acknowledge()), (0, NONE));
}

#[test]
fn one_interrupt_serves_several_queues_if_one_asks_for_it() {
    for wanting in 0..1u16 << Q {
        let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Fill(7)), 2);
        let configs: Vec<_> = (0..Q as u16).map(config).collect();
        assert!(engine.bring_up(Features::VERSION_1, &configs));
        for queue in 0..Q as u16 {
            let mut driver = driver(ram, queue);
            driver.set_avail_flags(u16::from(wanting & (1 << queue) == 0));
            driver.send(0, &[Buffer::writable(DATA, 1)]);
            let _ = engine.kick(queue);
        }
        settle(&mut engine);
        assert_eq!(engine.device().notify().asserted(), u32::from(wanting != 0));
        let quiet = (Q as u16).wrapping_sub(wanting.count_ones() as u16);
        assert_eq!(engine.counters().suppressed, quiet.into());
    }
}

/// A driver that sleeps until it is interrupted.
#[derive(Debug)]
struct Sleeper {
    driver: FakeDriver<virtside::FlatMem>,
    event_idx: bool,
    taken: u16,
    asleep: bool,
}

impl Sleeper {
    /// Takes what is used, asks for an interrupt, and checks again before it sleeps.
    fn work_and_sleep(&mut self) {
        loop {
            while self.driver.take_used().is_some() {
                self.taken += 1;
            }
            if self.event_idx {
                self.driver.set_used_event(self.taken);
            } else {
                self.driver.set_avail_flags(0);
            }
            if self.driver.used_idx() == self.taken {
                self.asleep = true;
                return;
            }
            self.driver.set_avail_flags(1);
        }
    }
}

/// The driver wakes at whichever access of the device it checks last and sleeps.
#[test]
fn a_driver_that_asks_for_interrupts_and_sleeps_is_woken() {
    const CHAINS: u16 = 3;
    for features in [Features::empty(), Features::EVENT_IDX] {
        for budget in 1..=4 {
            let mut moments = 0;
            for moment in 0.. {
                let (ram, interloper) = (scratch(), Interloper::default());
                let mem = ram.flat(BASE).with_hooks(interloper.hook());
                let mut rig = RecordingRig::over(mem, ram, features, SIZE);
                // No interrupts so far: they are disabled, or asked for at an entry long past.
                rig.driver.set_avail_flags(1);
                rig.driver.set_used_event(0xfff0);
                for head in 0..CHAINS {
                    rig.driver.write_chain(head, &[Buffer::writable(DATA, 1)]);
                    rig.driver.offer(head);
                }
                rig.driver.publish();
                let sleeper = Arc::new(Mutex::new(Sleeper {
                    driver: rig.driver.clone(),
                    event_idx: features == Features::EVENT_IDX,
                    taken: 0,
                    asleep: false,
                }));
                let inside = sleeper.clone();
                interloper.arm(moment, move || inside.lock().unwrap().work_and_sleep());
                while rig.engine.poll(budget) == Step::More {
                    if rig.acknowledge() == USED {
                        let mut sleeper = sleeper.lock().unwrap();
                        if sleeper.asleep {
                            sleeper.work_and_sleep();
                        }
                    }
                }
                if !interloper.has_acted() {
                    break;
                }
                let interrupted = rig.acknowledge() == USED;
                let mut sleeper = sleeper.lock().unwrap();
                if interrupted {
                    sleeper.work_and_sleep();
                }
                assert_eq!(
                    sleeper.taken, CHAINS,
                    "asleep at access {moment}, budget {budget}"
                );
                moments += 1;
            }
            assert!(moments > 10, "the driver ran at only {moments} moments");
        }
    }
}

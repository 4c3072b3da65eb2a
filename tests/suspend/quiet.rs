//! A suspended device accesses no driver memory and sends no interrupt.

use virtside::{
    Refusal, Step,
    mmio::{Access, Reply},
    testing::{CountingMem, Counts, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, TestEngine, config, driver, engine_over,
    probe::{Event, Probe, answer, assert_works, pending, publish, seen},
    ram, reg,
    rings::shot,
};

use crate::{FEATURES, begin, holding, live, resume, suspend};

#[test]
fn no_event_makes_the_device_touch_rings_or_buffers() {
    let (ram, counts): (_, &'static Counts) = (ram(), Box::leak(Box::default()));
    let model = Probe {
        sleepers: vec![0],
        holds: true,
        ..Probe::default()
    };
    let mut engine = engine_over(model, CountingMem::new(ram.flat(BASE), counts), 4);
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(FEATURES, &[config(0), config(1)]));
    publish(&mut drivers[0], 0, b"asleep");
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let token = engine.model().held[0];
    suspend(&mut engine);
    publish(&mut drivers[0], 0, b"late");
    publish(&mut drivers[1], 1, b"late");
    drivers[1].set_avail_idx(1);
    let before = shot(ram);
    counts.clear();
    for round in 0..3 {
        for queue in [0, 1, 2] {
            let _ = engine.kick(queue);
            engine.device().shared().doorbell().ring(queue);
            let _ = engine.notify_queue(queue);
            engine.backend_ready(queue);
            assert!(engine.take_queue(queue).is_err());
        }
        assert_eq!(engine.complete(token), Ok(()));
        let answered = engine.complete_with(token, 1);
        assert_eq!(answered, Err(Refusal::WrongPhase));
        engine.update_config(|model| model.space[0] = round);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        for offset in (0..0x140).step_by(4) {
            let _ = engine.access(Access::read(offset));
            // Other tests write Status and QueueReady.
            if offset != reg::STATUS && offset != reg::QUEUE_READY {
                let _ = engine.store(offset, u32::from(round));
            }
        }
        assert_eq!(engine.store(reg::STATUS, 0x1b), Reply::Done(0));
    }
    assert_eq!((counts.rings(), counts.translations()), (0, 0));
    assert!(shot(ram) == before, "memory changed");
    assert_eq!(engine.model().count(Event::Served(0)), 1);
    assert_eq!(engine.model().count(Event::Served(1)), 0);
    // The kept chain is answered first, then the later one.
    engine.model_mut().holds = false;
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut drivers[0], 0).as_deref(), Some(&b"asleep"[..]));
    assert_eq!(answer(&mut drivers[0], 0).as_deref(), Some(&b"late"[..]));
    assert_eq!(answer(&mut drivers[1], 1).as_deref(), Some(&b"late"[..]));
}

#[test]
fn kicks_are_refused_and_the_resume_counts_as_a_kick() {
    let (mut engine, [mut first, mut second], _) = live();
    suspend(&mut engine);
    publish(&mut first, 0, b"one");
    publish(&mut second, 1, b"two");
    assert_eq!(engine.kick(0), Reply::Refused(Refusal::WrongPhase));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!((first.used_idx(), second.used_idx()), (0, 0));
    resume(&mut engine);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(answer(&mut first, 0).as_deref(), Some(&b"one"[..]));
    assert_eq!(answer(&mut second, 1).as_deref(), Some(&b"two"[..]));
}

#[test]
fn the_line_stays_as_it_was_until_the_driver_acknowledges() {
    let (mut engine, [mut driver, _], _) = live();
    assert_works(&mut engine, &mut driver, 0);
    suspend(&mut engine);
    let line = engine.device().notify();
    assert!(line.is_high(), "the earlier interrupt is still pending");
    assert_eq!(pending(&mut engine), 1);
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 1);
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
    assert!(!engine.device().notify().is_high());
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 0);
    assert!(!engine.device().notify().is_high());
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn changes_of_fields_interrupt_once_after_the_resume() {
    let (mut engine, _, _) = live();
    suspend(&mut engine);
    let generation = engine.load(reg::CONFIG_GENERATION);
    for byte in 0..5 {
        engine.update_config(|model| model.space[0] = byte);
        assert_eq!(pending(&mut engine), 0);
        assert_eq!(engine.device().notify().asserted(), 0);
    }
    assert_ne!(engine.load(reg::CONFIG_GENERATION), generation);
    resume(&mut engine);
    assert_eq!(pending(&mut engine), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(engine.load(reg::CONFIG) & 0xff, 4);
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    // No second interrupt, neither now nor after the next suspension.
    engine.poll(BUDGET);
    suspend(&mut engine);
    resume(&mut engine);
    engine.poll(BUDGET);
    assert_eq!(pending(&mut engine), 0);
    assert_eq!(engine.device().notify().asserted(), 1);
}

#[test]
fn without_a_change_a_resume_sends_no_interrupt() {
    let (mut engine, _, _) = live();
    suspend(&mut engine);
    resume(&mut engine);
    engine.poll(BUDGET);
    assert_eq!(pending(&mut engine), 0);
    assert_eq!(engine.device().notify().asserted(), 0);
}

#[test]
fn a_change_while_suspending_interrupts_at_once() {
    let (mut engine, _, _) = holding();
    begin(&mut engine);
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 2);
    let token = engine.model().held[0];
    assert_eq!(engine.complete(token), Ok(()));
    assert_eq!(engine.load(reg::STATUS), 0x1b);
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
    resume(&mut engine);
    assert_eq!(pending(&mut engine), 0);
}

#[test]
fn a_driver_changes_no_field_while_suspended_or_suspending() {
    for (begun, always) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut engine, _, _) = holding();
        engine.model_mut().writable = 0..12;
        engine.model_mut().always = always;
        let write = |offset, width| Access::Write {
            offset: reg::CONFIG + offset,
            width,
            value: 0x55,
        };
        assert_eq!(engine.access(write(0, 1)), Reply::Done(0));
        begin(&mut engine);
        if !begun {
            let token = engine.model().held[0];
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(engine.load(reg::STATUS), 0x1b);
        }
        let (space, before) = (engine.model().space.clone(), seen(&engine));
        let generation = engine.load(reg::CONFIG_GENERATION);
        for (offset, width) in [(0, 1), (1, 1), (2, 2), (4, 4), (0, 8)] {
            let refusal = Refusal::ConfigReadOnly {
                offset: reg::CONFIG + offset,
                width,
            };
            assert_eq!(engine.access(write(offset, width)), Reply::Refused(refusal));
        }
        assert_eq!(engine.model().space, space);
        assert_eq!(seen(&engine), before);
        // Fields can be read, and do not change by themselves.
        assert_eq!(engine.load(reg::CONFIG) & 0xff, 0x55);
        assert_eq!(engine.load(reg::CONFIG_GENERATION), generation);
        assert_eq!(engine.model().space, space);
    }
}

#[test]
fn a_resumed_driver_may_write_the_configuration_again() {
    let (mut engine, _, _) = live();
    engine.model_mut().writable = 0..12;
    suspend(&mut engine);
    assert!(engine.store(reg::CONFIG, 7).refusal().is_some());
    resume(&mut engine);
    assert_eq!(engine.store(reg::CONFIG, 7), Reply::Done(0));
    assert_eq!(engine.model().space[0], 7);
}

#[test]
fn queue_ready_zero_still_stops_a_queue_and_touches_nothing() {
    let (mut engine, [mut driver, mut other], ram) = live();
    suspend(&mut engine);
    publish(&mut driver, 0, b"never served");
    let before = shot(ram);
    assert_eq!(engine.store(reg::QUEUE_SEL, 0), Reply::Done(0));
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::QUEUE_READY), 0);
    assert!(shot(ram) == before, "memory changed");
    resume(&mut engine);
    engine.poll(BUDGET);
    assert_eq!(driver.used_idx(), 0);
    assert_works(&mut engine, &mut other, 1);
    let mut untouched = [0; 4];
    driver.read(DATA + 0x80, &mut untouched);
    assert_eq!(untouched, [0; 4]);
}

/// A suspended device with both events pending, for which the driver was interrupted twice.
fn suspended_with_both_pending() -> TestEngine<Probe> {
    let (mut engine, [mut driver, _], _) = live();
    assert_works(&mut engine, &mut driver, 0);
    engine.update_config(|_| ());
    suspend(&mut engine);
    assert_eq!(pending(&mut engine), 3);
    assert_eq!(engine.device().notify().asserted(), 2);
    engine
}

#[test]
fn an_acknowledgement_sends_no_edge_before_the_resume() {
    for (acknowledged, left) in [(1, 2), (2, 1), (0, 3), (!3, 3)] {
        let mut engine = suspended_with_both_pending();
        assert_eq!(
            engine.store(reg::INTERRUPT_ACK, acknowledged),
            Reply::Done(0)
        );
        assert_eq!(pending(&mut engine), left);
        let line = engine.device().notify();
        assert!(line.is_high(), "a level stays as it is");
        assert_eq!(line.asserted(), 2);
        resume(&mut engine);
        assert_eq!(engine.device().notify().asserted(), 3);
        assert_eq!(pending(&mut engine), left);
        assert_eq!(engine.store(reg::INTERRUPT_ACK, left), Reply::Done(0));
        assert!(!engine.device().notify().is_high());
    }
}

#[test]
fn pending_and_new_events_are_one_edge_at_the_resume() {
    let mut engine = suspended_with_both_pending();
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 1);
    resume(&mut engine);
    assert_eq!(pending(&mut engine), 3);
    assert_eq!(engine.device().notify().asserted(), 3);
}

#[test]
fn a_driver_that_gives_up_gets_what_was_held_back() {
    for (acknowledged, raised, left) in [(1, 3, 2), (3, 2, 0)] {
        let mut engine = suspended_with_both_pending();
        assert_eq!(
            engine.store(reg::INTERRUPT_ACK, acknowledged),
            Reply::Done(0)
        );
        engine.update_config(|_| ());
        assert_eq!(engine.device().notify().asserted(), 2);
        let status = engine.load(reg::STATUS);
        assert_eq!(engine.store(reg::STATUS, status | 0x80), Reply::Done(0));
        // The configuration change is not pending: the driver will not read it any more.
        assert_eq!(pending(&mut engine), left);
        let line = engine.device().notify();
        assert_eq!((line.is_high(), line.asserted()), (left != 0, raised));
    }
}

#[test]
fn a_driver_that_gives_up_is_not_interrupted_twice() {
    let mut engine = suspended_with_both_pending();
    let status = engine.load(reg::STATUS);
    assert_eq!(engine.store(reg::STATUS, status | 0x80), Reply::Done(0));
    assert_eq!(pending(&mut engine), 3);
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (true, 2));
}

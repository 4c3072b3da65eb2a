//! A device that is saved and restored in every phase, and then used by the same driver.

mod queues;
mod suspended;

use virtside::{
    Features, Step,
    mmio::{Phase, Reply},
    model::Start,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, TestEngine, TestRam, config,
    probe::{Event, Probe, pending, ready},
    reg,
};

use crate::support::{Client, fresh, live, model, move_device, rings};

const PLAIN: Features = Features::RING;

fn device() -> (TestEngine<Probe>, TestRam) {
    let ram = virtside_tests::ram();
    (fresh(ram, model(PLAIN)), ram)
}

/// Resets the device as a driver and brings it up again.
#[track_caller]
fn assert_reset_cures(engine: &mut TestEngine<Probe>, ram: TestRam) {
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    engine.model_mut().start = Start::Accept;
    engine.model_mut().holds = false;
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(engine.bring_up(PLAIN, &[client.config()]));
    client.assert_works(engine);
}

#[test]
fn in_reset() {
    let (engine, ram) = device();
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.phase(), Phase::Reset);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn in_reset_with_a_queue_that_is_ready_and_one_that_is_not() {
    let (mut engine, ram) = device();
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    engine.lay_out(&config(1));
    let engine = move_device(engine, ram);
    assert_eq!(engine.queue_config(0), Some(&config(0)));
    let mut engine = move_device(engine, ram);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn negotiating_word_by_word() {
    let (mut engine, ram) = device();
    let mut client = Client::new(ram, 0, PLAIN);
    let steps: Vec<(u32, u32)> = (0..4)
        .flat_map(|word| {
            [
                (reg::DRIVER_FEATURES_SEL, word),
                (reg::DRIVER_FEATURES, PLAIN.word(word)),
            ]
        })
        .collect();
    for (offset, value) in [(reg::STATUS, 1), (reg::STATUS, 3)]
        .into_iter()
        .chain(steps)
    {
        assert_eq!(engine.store(offset, value), Reply::Done(0));
        engine = move_device(engine, ram);
    }
    assert_eq!(engine.phase(), Phase::Negotiating);
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    engine = move_device(engine, ram);
    assert_eq!(engine.phase(), Phase::SettingUp);
    assert_eq!(engine.configure(&client.config()), Reply::Done(0));
    engine = move_device(engine, ram);
    assert_eq!(engine.go_live(), Reply::Done(0));
    engine = move_device(engine, ram);
    client.assert_works(&mut engine);
    assert_eq!(engine.model().count(Event::Ready(PLAIN)), 1);
}

#[test]
fn a_feature_from_the_words_beyond_is_still_refused() {
    let (mut engine, ram) = device();
    let _ = engine.store(reg::STATUS, 3);
    for (word, value) in [(0, 0), (1, 1), (4, 1)] {
        let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
        let _ = engine.store(reg::DRIVER_FEATURES, value);
    }
    let mut engine = move_device(engine, ram);
    assert!(engine.store(reg::STATUS, 11).refusal().is_some());
    assert_eq!(engine.load(reg::STATUS), 3);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn setting_up_with_queues_ready_refused_and_half_written() {
    let (mut engine, ram) = device();
    assert!(engine.negotiate(PLAIN));
    assert_eq!(engine.configure(&config(1)), Reply::Done(0));
    // The areas are in a hole of the first queue's.
    let overlaps = virtside::QueueConfig {
        queue: 0,
        ..config(1)
    };
    assert!(engine.configure(&overlaps).refusal().is_some());
    engine.lay_out(&virtside::QueueConfig {
        size: 3,
        ..config(2)
    });
    let mut engine = move_device(engine, ram);
    assert_eq!((ready(&mut engine, 0), ready(&mut engine, 1)), (0, 1));
    // The parameters of queue 2 are kept, without its size.
    let _ = engine.store(reg::QUEUE_SEL, 2);
    let _ = engine.store(reg::QUEUE_SIZE, 8);
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert!(engine.go_live().refusal().is_some(), "one was refused");
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut engine), 2);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn a_refused_queue_may_be_made_ready_after_all() {
    let (mut engine, ram) = device();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(engine.negotiate(PLAIN));
    let bad = virtside::QueueConfig {
        size: 3,
        ..client.config()
    };
    assert!(engine.configure(&bad).refusal().is_some());
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.configure(&client.config()), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.go_live(), Reply::Done(0));
    client.assert_works(&mut engine);
}

#[test]
fn a_refused_queue_beyond_the_last_keeps_driver_ok_refused() {
    let (mut engine, ram) = device();
    assert!(engine.negotiate(PLAIN));
    let _ = engine.store(reg::QUEUE_SEL, 99);
    assert!(engine.store(reg::QUEUE_READY, 1).refusal().is_some());
    let mut engine = move_device(engine, ram);
    assert!(engine.go_live().refusal().is_some());
    assert_eq!(engine.load(reg::STATUS), 15 | 64);
    let mut engine = move_device(engine, ram);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn driver_ok_that_the_model_refused() {
    let (mut engine, ram) = device();
    engine.model_mut().start = Start::Refuse;
    assert!(!engine.bring_up(PLAIN, &[config(0)]));
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.phase(), Phase::Live);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(pending(&mut engine), 2);
    let mut engine = move_device(engine, ram);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn driver_ok_that_was_accepted_later() {
    let (mut engine, ram) = device();
    let mut client = Client::new(ram, 0, PLAIN);
    engine.model_mut().start = Start::Later;
    assert!(engine.negotiate(PLAIN));
    assert_eq!(engine.configure(&client.config()), Reply::Done(0));
    let Reply::Pending(ticket) = engine.go_live() else {
        panic!("DRIVER_OK waits for its answer");
    };
    engine.responder().expect("the answer is due").accept();
    assert_eq!(engine.finish(ticket), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    client.assert_works(&mut engine);
}

#[test]
fn live_with_nothing_to_do() {
    for features in rings() {
        let (engine, mut client, ram) = live(features);
        let mut engine = move_device(engine, ram);
        client.assert_works(&mut engine);
        let mut engine = move_device(engine, ram);
        client.assert_works(&mut engine);
    }
}

#[test]
fn live_with_a_kick_that_was_not_polled() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        let _ = engine.poll(BUDGET);
        assert!(client.send(false));
        assert_eq!(engine.kick(0), Reply::Done(0));
        // The doorbell is not part of the snapshot.
        let mut engine = move_device(engine, ram);
        let _ = virtside_tests::drain(&mut engine);
        assert_eq!(client.reap(), 1);
    }
}

#[test]
fn live_with_an_interrupt_that_was_not_acknowledged() {
    let (mut engine, mut client, ram) = live(PLAIN);
    client.assert_works(&mut engine);
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 3);
    let mut engine = move_device(engine, ram);
    assert!(engine.device().notify().is_high());
    assert_eq!(pending(&mut engine), 3);
    let _ = engine.store(reg::INTERRUPT_ACK, 1);
    let mut engine = move_device(engine, ram);
    assert_eq!(pending(&mut engine), 2);
    let _ = engine.store(reg::INTERRUPT_ACK, 2);
    let mut engine = move_device(engine, ram);
    assert_eq!(pending(&mut engine), 0);
    assert!(!engine.device().notify().is_high());
    client.assert_works(&mut engine);
}

#[test]
fn an_unacknowledged_interrupt_is_sent_at_the_resume() {
    let (mut engine, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::STATUS, 0x1f);
    assert_eq!(engine.phase(), Phase::Suspended);
    let mut engine = move_device(engine, ram);
    assert_eq!(pending(&mut engine), 1);
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (false, 0));
    let mut engine = move_device(engine, ram);
    let _ = engine.store(reg::STATUS, 0x1f);
    assert_eq!(engine.phase(), Phase::Live);
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (true, 1));
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert!(!engine.device().notify().is_high());
    client.assert_works(&mut engine);
}

#[test]
fn an_unacknowledged_interrupt_is_sent_at_failed() {
    let (mut engine, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::STATUS, 0x1f);
    let mut engine = move_device(engine, ram);
    // Part of it is acknowledged, and the line stays low.
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    assert_eq!(engine.device().notify().asserted(), 0);
    assert_eq!(engine.store(reg::STATUS, 0x9f), Reply::Done(0));
    assert_eq!((engine.phase(), pending(&mut engine)), (Phase::Failed, 1));
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (true, 1));
    // A second restore gives the same state.
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert!(!engine.device().notify().is_high());
}

#[test]
fn an_unacknowledged_interrupt_is_gone_after_a_reset() {
    let (mut engine, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::STATUS, 0x1f);
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(pending(&mut engine), 0);
    let line = engine.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (false, 0));
}

#[test]
fn live_with_pending_chains() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        engine.model_mut().holds = true;
        for round in 0..4 {
            assert!(client.send(round % 2 == 1));
        }
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        assert_eq!(engine.model().held.len(), 4);
        let mut engine = move_device(engine, ram);
        // The model is asked again for each chain.
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        assert_eq!(engine.model().count(Event::Served(0)), 4);
        assert_eq!(client.reap(), 0);
        let mut engine = move_device(engine, ram);
        engine.model_mut().holds = false;
        assert_eq!(virtside_tests::drain(&mut engine), Step::Idle);
        assert_eq!(client.reap(), 4);
        assert_eq!(pending(&mut engine), 1);
        client.assert_works(&mut engine);
    }
}

#[test]
fn live_with_pending_chains_of_several_queues() {
    let (mut engine, ram) = device();
    let mut clients = [Client::new(ram, 0, PLAIN), Client::new(ram, 1, PLAIN)];
    let configs = clients.each_ref().map(Client::config);
    assert!(engine.bring_up(PLAIN, &configs));
    engine.model_mut().holds = true;
    for round in 0..3 {
        for client in &mut clients {
            assert!(client.send(round == 1));
        }
    }
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let mut engine = move_device(engine, ram);
    engine.model_mut().holds = false;
    assert_eq!(virtside_tests::drain(&mut engine), Step::Idle);
    for client in &mut clients {
        assert_eq!(client.reap(), 3);
        client.assert_works(&mut engine);
    }
}

#[test]
fn an_old_token_completes_nothing_in_another_device() {
    let (mut engine, mut client, ram) = live(PLAIN);
    engine.model_mut().holds = true;
    assert!(client.send(false) && client.send(false));
    assert_eq!(engine.poll(BUDGET), Step::Blocked);
    let held = engine.model().held.clone();
    let _ = engine.complete(held[0]);
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    let mut engine = move_device(engine, ram);
    // An old token may wake a chain that is in hand here. That chain is answered once.
    for token in held {
        let _ = engine.complete(token);
    }
    engine.model_mut().holds = false;
    let _ = virtside_tests::drain(&mut engine);
    client.reap();
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn the_generation_is_later_in_both_devices() {
    let (mut engine, ram) = device();
    assert!(engine.bring_up(PLAIN, &[config(0)]));
    for _ in 0..5 {
        engine.update_config(|_| ());
    }
    let state = crate::support::save(&mut engine);
    let mut next = fresh(ram, model(PLAIN));
    for _ in 0..9 {
        next.update_config(|_| ());
    }
    let there = next.load(reg::CONFIG_GENERATION);
    next.restore(&state).expect("the snapshot is valid");
    let here = next.load(reg::CONFIG_GENERATION);
    assert!(here > there && here > engine.load(reg::CONFIG_GENERATION));
}

#[test]
fn selectors_are_where_they_were() {
    let (mut engine, ram) = device();
    assert!(engine.negotiate(PLAIN));
    let _ = engine.store(reg::QUEUE_SEL, 2);
    let _ = engine.store(reg::SHM_SEL, 7);
    let _ = engine.store(reg::DRIVER_FEATURES_SEL, 3);
    let mut engine = move_device(engine, ram);
    let state = crate::support::save(&mut engine);
    assert_eq!(state.registers.queue_sel, 2);
    assert_eq!(state.registers.shm_sel, 7);
    assert_eq!(state.registers.driver_features_sel, 3);
}

#[test]
fn kicks_that_carry_positions_are_understood() {
    use virtside::features::Offer;
    let ram = virtside_tests::ram();
    let offer = Offer::AS_IS.with(Features::NOTIFICATION_DATA);
    let features = PLAIN | Features::NOTIFICATION_DATA;
    let mut engine = fresh(ram, model(PLAIN)).with_offer(offer);
    let mut client = Client::new(ram, 0, features);
    assert!(engine.bring_up(features, &[client.config()]));
    let _ = engine.poll(BUDGET);
    let state = crate::support::save(&mut engine);
    let mut next = fresh(ram, model(PLAIN)).with_offer(offer);
    next.restore(&state).expect("the snapshot is valid");
    let _ = next.poll(BUDGET);
    assert!(client.send(false));
    assert_eq!(next.store(reg::QUEUE_NOTIFY, 1 << 16), Reply::Done(0));
    let _ = next.poll(BUDGET);
    assert_eq!(client.reap(), 1);
}

#[test]
fn buffers_of_no_bytes_anywhere_are_kept() {
    let (mut engine, _, ram) = live(PLAIN);
    engine.model_mut().holds = true;
    let mut driver = virtside_tests::driver(ram, 0);
    let buffers = [
        Buffer::readable(1, 0),
        Buffer::readable(DATA, 4),
        Buffer::writable(u64::MAX, 0),
        Buffer::writable(DATA + 64, 4),
    ];
    driver.send(3, &buffers);
    let _ = engine.poll(BUDGET);
    assert_eq!(engine.model().held.len(), 1);
    let mut engine = move_device(engine, ram);
    engine.model_mut().holds = false;
    let _ = virtside_tests::drain(&mut engine);
    assert_eq!(driver.take_used(), Some((3, 4)));
}

#[test]
fn a_queue_that_was_ready_before_the_features_which_rule_it_out() {
    for late in [Start::Accept, Start::Refuse] {
        let (mut engine, ram) = device();
        engine.model_mut().start = late;
        engine.model_mut().check.needs = vec![(0, Features::EVENT_IDX)];
        engine.model_mut().sizes_negotiated = Some([16, 4, 8, 0]);
        let _ = engine.store(reg::STATUS, 3);
        let _ = engine.store(reg::DRIVER_FEATURES_SEL, 0);
        let _ = engine.store(reg::DRIVER_FEATURES, Features::EVENT_IDX.word(0));
        assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        let _ = engine.store(reg::DRIVER_FEATURES, 0);
        assert_eq!(engine.configure(&config(1)), Reply::Done(0));
        let mut engine = move_device(engine, ram);
        let _ = engine.store(reg::DRIVER_FEATURES_SEL, 1);
        let _ = engine.store(reg::DRIVER_FEATURES, 1);
        assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
        let mut engine = move_device(engine, ram);
        // As without a restore, DRIVER_OK is refused because of this queue.
        assert!(engine.go_live().refusal().is_some());
        assert_eq!(engine.load(reg::STATUS), 15 | 64);
        let mut engine = move_device(engine, ram);
        engine.model_mut().check.needs.clear();
        engine.model_mut().sizes_negotiated = None;
        assert_reset_cures(&mut engine, ram);
    }
}

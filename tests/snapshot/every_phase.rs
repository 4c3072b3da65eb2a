//! Saved and restored wherever it is in its life, and then the driver goes on.

mod queues;
mod suspended;

use virtside::{
    Features, Start, Step,
    mmio::{Phase, Reply},
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, Guest, TestRam, config,
    probe::{Event, Probe, pending, ready},
    reg,
};

use crate::support::{Client, carry, fresh, live, model, rings};

const PLAIN: Features = Features::RING;

fn device() -> (Guest<Probe>, TestRam) {
    let ram = virtside_tests::ram();
    (fresh(ram, model(PLAIN)), ram)
}

/// The driver resets it, and brings it up anew.
#[track_caller]
fn assert_reset_cures(guest: &mut Guest<Probe>, ram: TestRam) {
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    guest.model_mut().start = Start::Accept;
    guest.model_mut().holds = false;
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(guest.bring_up(PLAIN, &[client.config()]));
    client.assert_works(guest);
}

#[test]
fn in_reset() {
    let (guest, ram) = device();
    let mut guest = carry(guest, ram);
    assert_eq!(guest.phase(), Phase::Reset);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn in_reset_with_a_queue_that_is_ready_and_one_that_is_not() {
    let (mut guest, ram) = device();
    assert_eq!(guest.configure(&config(0)), Reply::Done(0));
    guest.lay_out(&config(1));
    let guest = carry(guest, ram);
    assert_eq!(guest.queue_config(0), Some(&config(0)));
    let mut guest = carry(guest, ram);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn negotiating_word_by_word() {
    let (mut guest, ram) = device();
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
        assert_eq!(guest.store(offset, value), Reply::Done(0));
        guest = carry(guest, ram);
    }
    assert_eq!(guest.phase(), Phase::Negotiating);
    assert_eq!(guest.store(reg::STATUS, 11), Reply::Done(0));
    guest = carry(guest, ram);
    assert_eq!(guest.phase(), Phase::SettingUp);
    assert_eq!(guest.configure(&client.config()), Reply::Done(0));
    guest = carry(guest, ram);
    assert_eq!(guest.go_live(), Reply::Done(0));
    guest = carry(guest, ram);
    client.assert_works(&mut guest);
    assert_eq!(guest.model().count(Event::Ready(PLAIN)), 1);
}

#[test]
fn a_feature_from_the_words_beyond_is_still_refused() {
    let (mut guest, ram) = device();
    let _ = guest.store(reg::STATUS, 3);
    for (word, value) in [(0, 0), (1, 1), (4, 1)] {
        let _ = guest.store(reg::DRIVER_FEATURES_SEL, word);
        let _ = guest.store(reg::DRIVER_FEATURES, value);
    }
    let mut guest = carry(guest, ram);
    assert!(guest.store(reg::STATUS, 11).refusal().is_some());
    assert_eq!(guest.load(reg::STATUS), 3);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn setting_up_with_queues_ready_refused_and_half_written() {
    let (mut guest, ram) = device();
    assert!(guest.negotiate(PLAIN));
    assert_eq!(guest.configure(&config(1)), Reply::Done(0));
    // In a hole of the first.
    let overlaps = virtside::QueueConfig {
        queue: 0,
        ..config(1)
    };
    assert!(guest.configure(&overlaps).refusal().is_some());
    guest.lay_out(&virtside::QueueConfig {
        size: 3,
        ..config(2)
    });
    let mut guest = carry(guest, ram);
    assert_eq!((ready(&mut guest, 0), ready(&mut guest, 1)), (0, 1));
    // What was written of queue 2 is there, but for its size.
    let _ = guest.store(reg::QUEUE_SEL, 2);
    let _ = guest.store(reg::QUEUE_SIZE, 8);
    assert_eq!(guest.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert!(guest.go_live().refusal().is_some(), "one was refused");
    let mut guest = carry(guest, ram);
    assert_eq!(guest.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut guest), 2);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn a_refused_queue_may_be_made_ready_after_all() {
    let (mut guest, ram) = device();
    let mut client = Client::new(ram, 0, PLAIN);
    assert!(guest.negotiate(PLAIN));
    let bad = virtside::QueueConfig {
        size: 3,
        ..client.config()
    };
    assert!(guest.configure(&bad).refusal().is_some());
    let mut guest = carry(guest, ram);
    assert_eq!(guest.configure(&client.config()), Reply::Done(0));
    let mut guest = carry(guest, ram);
    assert_eq!(guest.go_live(), Reply::Done(0));
    client.assert_works(&mut guest);
}

#[test]
fn a_refused_queue_beyond_the_last_keeps_driver_ok_refused() {
    let (mut guest, ram) = device();
    assert!(guest.negotiate(PLAIN));
    let _ = guest.store(reg::QUEUE_SEL, 99);
    assert!(guest.store(reg::QUEUE_READY, 1).refusal().is_some());
    let mut guest = carry(guest, ram);
    assert!(guest.go_live().refusal().is_some());
    assert_eq!(guest.load(reg::STATUS), 15 | 64);
    let mut guest = carry(guest, ram);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn driver_ok_that_the_model_refused() {
    let (mut guest, ram) = device();
    guest.model_mut().start = Start::Refuse;
    assert!(!guest.bring_up(PLAIN, &[config(0)]));
    let mut guest = carry(guest, ram);
    assert_eq!(guest.phase(), Phase::Live);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(pending(&mut guest), 2);
    let mut guest = carry(guest, ram);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn driver_ok_that_was_accepted_later() {
    let (mut guest, ram) = device();
    let mut client = Client::new(ram, 0, PLAIN);
    guest.model_mut().start = Start::Later;
    assert!(guest.negotiate(PLAIN));
    assert_eq!(guest.configure(&client.config()), Reply::Done(0));
    let Reply::Pending(ticket) = guest.go_live() else {
        panic!("it waits");
    };
    guest.responder().expect("it is asked for").accept();
    assert_eq!(guest.finish(ticket), Reply::Done(0));
    let mut guest = carry(guest, ram);
    client.assert_works(&mut guest);
}

#[test]
fn live_with_nothing_to_do() {
    for features in rings() {
        let (guest, mut client, ram) = live(features);
        let mut guest = carry(guest, ram);
        client.assert_works(&mut guest);
        let mut guest = carry(guest, ram);
        client.assert_works(&mut guest);
    }
}

#[test]
fn live_with_a_kick_that_nobody_heard() {
    for features in rings() {
        let (mut guest, mut client, ram) = live(features);
        let _ = guest.poll(BUDGET);
        assert!(client.send(false));
        assert_eq!(guest.kick(0), Reply::Done(0));
        // The doorbell stays behind.
        let mut guest = carry(guest, ram);
        let _ = virtside_tests::drain(&mut guest);
        assert_eq!(client.reap(), 1);
    }
}

#[test]
fn live_with_an_interrupt_that_was_not_acknowledged() {
    let (mut guest, mut client, ram) = live(PLAIN);
    client.assert_works(&mut guest);
    guest.update_config(|_| ());
    assert_eq!(pending(&mut guest), 3);
    let mut guest = carry(guest, ram);
    assert!(guest.device().notify().is_high());
    assert_eq!(pending(&mut guest), 3);
    let _ = guest.store(reg::INTERRUPT_ACK, 1);
    let mut guest = carry(guest, ram);
    assert_eq!(pending(&mut guest), 2);
    let _ = guest.store(reg::INTERRUPT_ACK, 2);
    let mut guest = carry(guest, ram);
    assert_eq!(pending(&mut guest), 0);
    assert!(!guest.device().notify().is_high());
    client.assert_works(&mut guest);
}

#[test]
fn an_unacknowledged_interrupt_is_told_at_the_resume() {
    let (mut guest, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut guest);
    let _ = guest.store(reg::STATUS, 0x1f);
    assert_eq!(guest.phase(), Phase::Suspended);
    let mut guest = carry(guest, ram);
    assert_eq!(pending(&mut guest), 1);
    let line = guest.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (false, 0));
    let mut guest = carry(guest, ram);
    let _ = guest.store(reg::STATUS, 0x1f);
    assert_eq!(guest.phase(), Phase::Live);
    let line = guest.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (true, 1));
    assert_eq!(guest.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert!(!guest.device().notify().is_high());
    client.assert_works(&mut guest);
}

#[test]
fn an_unacknowledged_interrupt_is_told_at_failed() {
    let (mut guest, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut guest);
    let _ = guest.store(reg::STATUS, 0x1f);
    let mut guest = carry(guest, ram);
    // A part of it is acknowledged, and the line stays low.
    assert_eq!(guest.store(reg::INTERRUPT_ACK, 2), Reply::Done(0));
    assert_eq!(guest.device().notify().asserted(), 0);
    assert_eq!(guest.store(reg::STATUS, 0x9f), Reply::Done(0));
    assert_eq!((guest.phase(), pending(&mut guest)), (Phase::Failed, 1));
    let line = guest.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (true, 1));
    // Restored once more, it is where it was.
    let mut guest = carry(guest, ram);
    assert_eq!(guest.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
    assert!(!guest.device().notify().is_high());
}

#[test]
fn an_unacknowledged_interrupt_is_gone_after_a_reset() {
    let (mut guest, mut client, ram) = live(PLAIN | Features::SUSPEND);
    client.assert_works(&mut guest);
    let _ = guest.store(reg::STATUS, 0x1f);
    let mut guest = carry(guest, ram);
    assert_eq!(guest.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(pending(&mut guest), 0);
    let line = guest.device().notify();
    assert_eq!((line.is_high(), line.asserted()), (false, 0));
}

#[test]
fn live_with_pending_chains() {
    for features in rings() {
        let (mut guest, mut client, ram) = live(features);
        guest.model_mut().holds = true;
        for round in 0..4 {
            assert!(client.send(round % 2 == 1));
        }
        assert_eq!(guest.poll(BUDGET), Step::Blocked);
        assert_eq!(guest.model().held.len(), 4);
        let mut guest = carry(guest, ram);
        // It asks the model anew for each.
        assert_eq!(guest.poll(BUDGET), Step::Blocked);
        assert_eq!(guest.model().count(Event::Served(0)), 4);
        assert_eq!(client.reap(), 0);
        let mut guest = carry(guest, ram);
        guest.model_mut().holds = false;
        assert_eq!(virtside_tests::drain(&mut guest), Step::Idle);
        assert_eq!(client.reap(), 4);
        assert_eq!(pending(&mut guest), 1);
        client.assert_works(&mut guest);
    }
}

#[test]
fn live_with_pending_chains_of_several_queues() {
    let (mut guest, ram) = device();
    let mut clients = [Client::new(ram, 0, PLAIN), Client::new(ram, 1, PLAIN)];
    let configs = clients.each_ref().map(Client::config);
    assert!(guest.bring_up(PLAIN, &configs));
    guest.model_mut().holds = true;
    for round in 0..3 {
        for client in &mut clients {
            assert!(client.send(round == 1));
        }
    }
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    let mut guest = carry(guest, ram);
    guest.model_mut().holds = false;
    assert_eq!(virtside_tests::drain(&mut guest), Step::Idle);
    for client in &mut clients {
        assert_eq!(client.reap(), 3);
        client.assert_works(&mut guest);
    }
}

#[test]
fn a_token_from_before_completes_nothing_elsewhere() {
    let (mut guest, mut client, ram) = live(PLAIN);
    guest.model_mut().holds = true;
    assert!(client.send(false) && client.send(false));
    assert_eq!(guest.poll(BUDGET), Step::Blocked);
    let held = guest.model().held.clone();
    let _ = guest.complete(held[0]);
    assert!(client.send(false));
    let _ = guest.poll(BUDGET);
    let mut guest = carry(guest, ram);
    // It may wake a chain that is in hand here, and then that one is answered: once.
    for token in held {
        let _ = guest.complete(token);
    }
    guest.model_mut().holds = false;
    let _ = virtside_tests::drain(&mut guest);
    client.reap();
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn the_generation_is_later_here_and_there() {
    let (mut guest, ram) = device();
    assert!(guest.bring_up(PLAIN, &[config(0)]));
    for _ in 0..5 {
        guest.update_config(|_| ());
    }
    let state = crate::support::save(&mut guest);
    let mut next = fresh(ram, model(PLAIN));
    for _ in 0..9 {
        next.update_config(|_| ());
    }
    let there = next.load(reg::CONFIG_GENERATION);
    next.restore(&state).expect("it is whole");
    let here = next.load(reg::CONFIG_GENERATION);
    assert!(here > there && here > guest.load(reg::CONFIG_GENERATION));
}

#[test]
fn selectors_are_where_they_were() {
    let (mut guest, ram) = device();
    assert!(guest.negotiate(PLAIN));
    let _ = guest.store(reg::QUEUE_SEL, 2);
    let _ = guest.store(reg::SHM_SEL, 7);
    let _ = guest.store(reg::DRIVER_FEATURES_SEL, 3);
    let mut guest = carry(guest, ram);
    let state = crate::support::save(&mut guest);
    assert_eq!(state.registers.queue_sel, 2);
    assert_eq!(state.registers.shm_sel, 7);
    assert_eq!(state.registers.driver_features_sel, 3);
}

#[test]
fn kicks_that_carry_positions_are_understood() {
    use virtside::Offer;
    let ram = virtside_tests::ram();
    let offer = Offer::AS_IS.with(Features::NOTIFICATION_DATA);
    let features = PLAIN | Features::NOTIFICATION_DATA;
    let mut guest = fresh(ram, model(PLAIN)).offering(offer);
    let mut client = Client::new(ram, 0, features);
    assert!(guest.bring_up(features, &[client.config()]));
    let _ = guest.poll(BUDGET);
    let state = crate::support::save(&mut guest);
    let mut next = fresh(ram, model(PLAIN)).offering(offer);
    next.restore(&state).expect("it is whole");
    let _ = next.poll(BUDGET);
    assert!(client.send(false));
    assert_eq!(next.store(reg::QUEUE_NOTIFY, 1 << 16), Reply::Done(0));
    let _ = next.poll(BUDGET);
    assert_eq!(client.reap(), 1);
}

#[test]
fn buffers_of_no_bytes_anywhere_are_kept() {
    let (mut guest, _, ram) = live(PLAIN);
    guest.model_mut().holds = true;
    let mut driver = virtside_tests::driver(ram, 0);
    let buffers = [
        Buffer::readable(1, 0),
        Buffer::readable(DATA, 4),
        Buffer::writable(u64::MAX, 0),
        Buffer::writable(DATA + 64, 4),
    ];
    driver.send(3, &buffers);
    let _ = guest.poll(BUDGET);
    assert_eq!(guest.model().held.len(), 1);
    let mut guest = carry(guest, ram);
    guest.model_mut().holds = false;
    let _ = virtside_tests::drain(&mut guest);
    assert_eq!(driver.take_used(), Some((3, 4)));
}

#[test]
fn a_queue_that_was_ready_before_the_features_which_rule_it_out() {
    for late in [Start::Accept, Start::Refuse] {
        let (mut guest, ram) = device();
        guest.model_mut().start = late;
        guest.model_mut().check.needs = vec![(0, Features::EVENT_IDX)];
        guest.model_mut().sizes_negotiated = Some([16, 4, 8, 0]);
        let _ = guest.store(reg::STATUS, 3);
        let _ = guest.store(reg::DRIVER_FEATURES_SEL, 0);
        let _ = guest.store(reg::DRIVER_FEATURES, Features::EVENT_IDX.word(0));
        assert_eq!(guest.configure(&config(0)), Reply::Done(0));
        let _ = guest.store(reg::DRIVER_FEATURES, 0);
        assert_eq!(guest.configure(&config(1)), Reply::Done(0));
        let mut guest = carry(guest, ram);
        let _ = guest.store(reg::DRIVER_FEATURES_SEL, 1);
        let _ = guest.store(reg::DRIVER_FEATURES, 1);
        assert_eq!(guest.store(reg::STATUS, 11), Reply::Done(0));
        let mut guest = carry(guest, ram);
        // As without: it is missed at DRIVER_OK.
        assert!(guest.go_live().refusal().is_some());
        assert_eq!(guest.load(reg::STATUS), 15 | 64);
        let mut guest = carry(guest, ram);
        guest.model_mut().check.needs.clear();
        guest.model_mut().sizes_negotiated = None;
        assert_reset_cures(&mut guest, ram);
    }
}

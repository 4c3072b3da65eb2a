//! A device of a conversation is suspended and resumed.

use virtside::{
    Features, FlatMem, Refusal,
    mmio::{Access, Phase},
    testing::FakeDriver,
};
use virtside_tests::{
    config, driver,
    probe::{Event, Probe, answer, publish},
    ram, reg,
    status::{LIVE, LIVE_SUSPEND, NEEDS_RESET, SUSPENDED},
};

use crate::talk::Talk;

const FEATURES: Features = Features::VERSION_1.union(Features::SUSPEND);

fn talk(probe: Probe) -> (Talk<Probe>, FakeDriver<FlatMem>) {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut talk = Talk::new(probe, ram, FEATURES, &[config(0), config(1)]);
    assert_eq!(status(&mut talk), LIVE);
    (talk, driver)
}

/// A device with a chain in hand.
fn holding() -> (Talk<Probe>, FakeDriver<FlatMem>) {
    let (mut talk, mut driver) = talk(Probe {
        holds: true,
        ..Probe::default()
    });
    publish(&mut driver, 0, b"held");
    talk.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(talk.model().held.len(), 1);
    (talk, driver)
}

fn status(talk: &mut Talk<Probe>) -> u32 {
    talk.load(reg::STATUS) as u32
}

#[test]
fn a_device_is_suspended_and_resumed() {
    let (mut talk, mut driver) = talk(Probe::default());
    for _ in 0..3 {
        talk.store(reg::STATUS, LIVE_SUSPEND);
        assert_eq!(status(&mut talk), SUSPENDED);
        publish(&mut driver, 0, b"text");
        talk.store(reg::QUEUE_NOTIFY, 0);
        talk.engine().device().shared().doorbell().ring(0);
        assert_eq!(status(&mut talk), SUSPENDED);
        assert_eq!(answer(&mut driver, 0), None);
        talk.configure(&config(2));
        assert_eq!(talk.load(reg::QUEUE_READY), 0);
        talk.store(reg::STATUS, LIVE_SUSPEND);
        assert_eq!(status(&mut talk), LIVE);
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
    }
}

#[test]
fn a_chain_in_hand_is_answered_first() {
    let (mut talk, mut driver) = holding();
    talk.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(status(&mut talk), LIVE);
    assert_eq!(talk.load(reg::MAGIC_VALUE), 0x7472_6976);
    let token = talk.model().held[0];
    let mut done = Vec::new();
    let replies = talk.run(
        &[
            Access::read(reg::INTERRUPT_STATUS),
            Access::read(reg::STATUS),
        ],
        |running| done.push(running.complete(token)),
    );
    assert_eq!(replies, [0, SUSPENDED.into()]);
    assert_eq!(done[..2], [Ok(()), Err(Refusal::StaleToken)]);
    assert_eq!(talk.load(reg::INTERRUPT_STATUS), 1);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"held"[..]));
}

#[test]
fn a_fault_shows_in_the_very_read_that_shows_suspend() {
    let (mut talk, _) = holding();
    talk.store(reg::STATUS, LIVE_SUSPEND);
    let mut once = true;
    let replies = talk.run(
        &[Access::read(reg::STATUS), Access::read(reg::STATUS)],
        |running| {
            if std::mem::take(&mut once) {
                running.require_reset();
            }
        },
    );
    assert_eq!(replies, [LIVE.into(), u64::from(LIVE | NEEDS_RESET)]);
    let token = talk.model().held[0];
    let replies = talk.run(
        &[Access::read(reg::MAGIC_VALUE), Access::read(reg::STATUS)],
        |running| {
            let _ = running.complete(token);
        },
    );
    assert_eq!(replies[1], u64::from(SUSPENDED | NEEDS_RESET));
}

#[test]
fn a_change_is_held_back_until_the_resume() {
    let (mut talk, _) = talk(Probe::default());
    talk.store(reg::STATUS, LIVE_SUSPEND);
    for _ in 0..2 {
        let generation = talk.load(reg::CONFIG_GENERATION);
        let _ = talk.run(&[Access::read(reg::STATUS)], |running| {
            running.update_config(|model| model.space[0] = 9);
        });
        assert_ne!(talk.load(reg::CONFIG_GENERATION), generation);
    }
    assert_eq!(talk.load(reg::INTERRUPT_STATUS), 0);
    assert_eq!(talk.engine().device().notify().asserted(), 0);
    talk.store(reg::STATUS, LIVE);
    assert_eq!(talk.load(reg::INTERRUPT_STATUS), 2);
    assert_eq!(talk.engine().device().notify().asserted(), 1);
}

#[test]
fn a_reset_ends_a_suspension() {
    let (mut talk, _) = holding();
    talk.store(reg::STATUS, LIVE_SUSPEND);
    talk.store(reg::STATUS, 0);
    assert_eq!(
        talk.model().count(Event::Reset),
        2,
        "that of the bring-up, and this"
    );
    assert!(!talk.engine().device().shared().is_live());
    assert_eq!(talk.engine().configured_queues().count(), 0);
}

#[test]
fn a_taken_queue_is_waited_for() {
    let (mut talk, mut driver) = talk(Probe::default());
    let queue = talk.engine().take_queue(0).expect("a live queue");
    talk.store(reg::STATUS, LIVE_SUSPEND);
    for _ in 0..3 {
        assert_eq!(status(&mut talk), LIVE);
    }
    assert!(talk.engine().put_back(queue).is_ok());
    assert_eq!(status(&mut talk), SUSPENDED);
    talk.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(status(&mut talk), LIVE);
    assert_eq!(talk.phase(), Phase::Live);
    publish(&mut driver, 0, b"text");
    talk.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"text"[..]));
}

//! Queues of a device of a conversation are reset.

use virtside::{
    Features, FlatMem,
    device::{QueueState, Stop},
    mmio::{Access, Phase},
    queue::Chain,
    testing::{FakeDriver, Layout},
};
use virtside_tests::{
    BASE, TestRam, config, driver,
    probe::{Event, Probe, answer, publish},
    ram, reg,
};

use crate::talk::Talk;

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

/// Smaller rings at other addresses, clear of the others'.
fn elsewhere() -> Layout {
    Layout::packed_at(BASE + 0x5010, 8)
}

fn talk(probe: Probe) -> (Talk<Probe>, FakeDriver<FlatMem>, TestRam) {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut talk = Talk::new(probe, ram, FEATURES, &[config(0), config(1)]);
    assert_eq!(talk.load(reg::STATUS), 15);
    (talk, driver, ram)
}

#[track_caller]
fn assert_works(talk: &mut Talk<Probe>, driver: &mut FakeDriver<FlatMem>) {
    publish(driver, 0, b"text");
    talk.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(answer(driver, 0).as_deref(), Some(&b"text"[..]));
}

#[test]
fn a_queue_is_reset_and_comes_back_elsewhere() {
    let (mut talk, mut old, ram) = talk(Probe::default());
    assert_works(&mut talk, &mut old);
    for _ in 0..3 {
        talk.store(reg::QUEUE_SEL, 0);
        talk.store(reg::QUEUE_RESET, 1);
        assert_eq!(talk.load(reg::QUEUE_RESET), 0);
        assert_eq!(talk.load(reg::QUEUE_READY), 0);
        assert_eq!(talk.engine().queue_state(0), QueueState::Off);
        let mut driver = FakeDriver::new(ram.flat(BASE), elsewhere());
        talk.configure(&elsewhere().config(0));
        assert_eq!(talk.load(reg::QUEUE_READY), 1);
        assert_works(&mut talk, &mut driver);
    }
    assert_eq!(talk.phase(), Phase::Live);
    assert_eq!(talk.load(reg::STATUS), 15);
    assert_eq!(talk.model().count(Event::Stopped(0)), 3);
}

#[test]
fn a_queue_that_cannot_come_back_needs_a_reset() {
    let (mut talk, _, _) = talk(Probe::default());
    talk.store(reg::QUEUE_SEL, 0);
    talk.store(reg::QUEUE_RESET, 1);
    let mut odd = elsewhere().config(0);
    odd.size = 3;
    for _ in 0..2 {
        talk.configure(&odd);
        assert_eq!(talk.load(reg::QUEUE_READY), 0);
        assert_eq!(talk.load(reg::STATUS), 79);
        assert_eq!(talk.load(reg::INTERRUPT_STATUS), 2);
        assert_eq!(talk.engine().device().notify().asserted(), 1);
    }
    // More than the register block says there is room for, though the device has it.
    let mut large = config(2);
    large.size = 16;
    talk.store(reg::QUEUE_SEL, 2);
    talk.store(reg::QUEUE_RESET, 1);
    assert_eq!(talk.load(reg::QUEUE_SIZE_MAX), 8);
    talk.configure(&large);
    assert_eq!(talk.load(reg::QUEUE_READY), 0);
}

#[test]
fn it_reads_1_while_the_queue_is_out_and_others_are_answered() {
    let (mut talk, mut driver, ram) = talk(Probe::default());
    let mut queue = talk.engine().take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    publish(&mut driver, 0, b"text");
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    talk.store(reg::QUEUE_SEL, 0);
    talk.store(reg::QUEUE_RESET, 1);
    for offset in [reg::QUEUE_RESET, reg::QUEUE_READY] {
        assert_eq!(talk.load(offset), 1);
        assert_eq!(talk.load(reg::MAGIC_VALUE), 0x7472_6976);
    }
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Err(Stop::Asked));
    assert!(talk.engine().put_back(queue).is_ok());
    publish(&mut driver, 0, b"in vain");
    talk.store(reg::QUEUE_NOTIFY, 0);
    assert_eq!(driver.used_idx(), 1);
    assert!(talk.engine().take_queue(0).is_err());
    assert_eq!(talk.load(reg::QUEUE_RESET), 0);
    assert_eq!(talk.load(reg::QUEUE_READY), 0);
}

#[test]
fn queue_ready_zero_waits_for_the_queue_that_is_being_reset() {
    let (mut talk, _, _) = talk(Probe::default());
    let mut queue = Some(talk.engine().take_queue(0).expect("a live queue"));
    talk.store(reg::QUEUE_SEL, 0);
    talk.store(reg::QUEUE_RESET, 1);
    let mut waited = 0;
    let replies = talk.run(
        &[
            Access::write(reg::QUEUE_READY, 0),
            Access::read(reg::QUEUE_RESET),
        ],
        |_| {
            waited += 1;
            if waited == 3 {
                queue = None;
            }
        },
    );
    assert!(waited > 3 && queue.is_none());
    assert_eq!(replies, [0, 0]);
    assert_eq!(talk.engine().queue_state(0), QueueState::Off);
}

#[test]
fn a_pending_chain_of_the_reset_queue_is_void() {
    let holding = Probe {
        holds: true,
        ..Probe::default()
    };
    let (mut talk, mut driver, _) = talk(holding);
    publish(&mut driver, 0, b"text");
    talk.store(reg::QUEUE_NOTIFY, 0);
    let token = talk.model().held[0];
    talk.store(reg::QUEUE_SEL, 0);
    talk.store(reg::QUEUE_RESET, 1);
    let mut outcome = None;
    let _ = talk.run(&[Access::read(reg::STATUS)], |running| {
        outcome = Some(running.complete(token));
    });
    assert_eq!(outcome, Some(Err(virtside::Refusal::StaleToken)));
    assert_eq!(driver.used_idx(), 0);
}

#[test]
fn a_queue_left_out_of_the_conversation_may_be_set_up_later() {
    let ram = ram();
    let mut talk = Talk::new(Probe::default(), ram, FEATURES, &[config(1)]);
    assert_eq!(talk.engine().queue_state(0), QueueState::Off);
    talk.configure(&elsewhere().config(0));
    assert_eq!(talk.load(reg::QUEUE_READY), 0);
    talk.store(reg::QUEUE_RESET, 1);
    let mut driver = FakeDriver::new(ram.flat(BASE), elsewhere());
    talk.configure(&elsewhere().config(0));
    assert_works(&mut talk, &mut driver);
}

#[test]
fn without_negotiation_the_register_is_dead() {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let mut talk = Talk::new(Probe::default(), ram, Features::VERSION_1, &[config(0)]);
    talk.store(reg::QUEUE_SEL, 0);
    talk.store(reg::QUEUE_RESET, 1);
    assert_eq!(talk.load(reg::QUEUE_READY), 1);
    assert_works(&mut talk, &mut driver);
}

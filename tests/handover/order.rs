//! A queue that keeps the order, although its driver has not accepted IN_ORDER.

use virtside::{
    Features, message::RingPosition, model::Token, testing::Buffer, testing::PackedDriver,
};
use virtside_tests::{
    BASE, config, driver,
    probe::{answer, publish},
    ram,
};

use crate::{Hosted, set_up};

const SPLIT: Features = Features::VERSION_1;
const PACKED: Features = SPLIT.union(Features::RING_PACKED);

/// Polls a device that keeps its chains. Returns their tokens, oldest first.
fn held(hosted: &mut Hosted, count: usize) -> Vec<Token> {
    hosted.model.holds = true;
    hosted.poll();
    let tokens = hosted.model.held.clone();
    assert_eq!(tokens.len(), count);
    tokens
}

fn complete(hosted: &mut Hosted, token: Token) {
    let Hosted {
        device,
        model,
        slots,
    } = hosted;
    device
        .complete(token, model, slots)
        .expect("a pending chain");
}

#[test]
fn early_answers_wait_for_older_chains_in_a_split_ring() {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let position = RingPosition::at(0, 0).in_order();
    let queues = [(config(0), Some(position))];
    let mut hosted = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    let texts = [b"one".as_slice(), b"two", b"three"];
    for text in texts {
        publish(&mut driver, 0, text);
    }
    let tokens = held(&mut hosted, 3);
    complete(&mut hosted, tokens[2]);
    complete(&mut hosted, tokens[1]);
    assert_eq!(driver.used_idx(), 0);
    complete(&mut hosted, tokens[0]);
    assert_eq!(driver.used_idx(), 3, "each chain has a used element");
    for text in texts {
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
    }
}

#[test]
fn early_answers_wait_for_older_chains_in_a_packed_ring() {
    let ram = ram();
    let mut driver = PackedDriver::new(ram.flat(BASE), BASE, 16);
    let position = RingPosition::at(0x8000, 0x8000).in_order();
    let queues = [(driver.config(0), Some(position))];
    let mut hosted = set_up(ram, PACKED, &.., &queues).expect("a valid position");
    for id in [7, 3, 9] {
        let at = BASE + 0x8000 + 0x100 * u64::from(id);
        let buffers = [Buffer::readable(at, 2), Buffer::writable(at + 0x80, 2)];
        driver.send(id, &buffers);
    }
    hosted.device.notify_queue(0).expect("a live queue");
    let tokens = held(&mut hosted, 3);
    complete(&mut hosted, tokens[1]);
    complete(&mut hosted, tokens[2]);
    assert_eq!(driver.take_used(2), None);
    complete(&mut hosted, tokens[0]);
    for id in [7, 3, 9] {
        assert_eq!(driver.take_used(2).map(|used| used.0), Some(id));
    }
}

#[test]
fn the_position_remembers_the_order() {
    let ram = ram();
    let position = RingPosition::at(0, 0).in_order();
    let queues = [(config(0), Some(position))];
    let hosted = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    let known = hosted.device.ring_position(0).expect("a live queue");
    assert!(known.in_order);
    let mut plain = set_up(ram, SPLIT, &.., &[(config(0), None)]).expect("a valid queue");
    plain.poll();
    let known = plain.device.ring_position(0).expect("a live queue");
    assert!(!known.in_order);
}

#[test]
fn with_the_feature_one_element_answers_a_batch_as_ever() {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let features = SPLIT | Features::IN_ORDER;
    let position = RingPosition::at(0, 0).in_order();
    let queues = [(config(0), Some(position))];
    let mut hosted = set_up(ram, features, &.., &queues).expect("a valid position");
    for at in 0..3_u16 {
        let buffer = BASE + 0x8000 + 0x100 * u64::from(at);
        driver.send(at, &[Buffer::readable(buffer, 4)]);
    }
    let tokens = held(&mut hosted, 3);
    for token in [tokens[2], tokens[1], tokens[0]] {
        complete(&mut hosted, token);
    }
    assert_eq!(driver.used_idx(), 3);
    assert_eq!(driver.take_used(), Some((2, 0)), "the last stands for all");
}

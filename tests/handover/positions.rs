//! A device that goes on where another one stopped.

use virtside::{
    DeviceBuilder, Features, FlatMem, Message, QueueConfig, Refusal, Shared, Step,
    device::QueueState,
    error::{DeviceError, FaultPolicy},
    message::RingPosition,
    testing::FakeDriver,
};
use virtside_tests::{
    BASE, N, Q, TestRam, config, driver,
    probe::{answer, publish},
    ram,
};

use crate::{Hosted, set_up};

const SPLIT: Features = Features::VERSION_1;

/// Serves `count` requests of queue 0.
fn serve(hosted: &mut Hosted, driver: &mut FakeDriver<FlatMem>, count: u16) {
    for at in 0..count {
        let text = format!("request {at}");
        publish(driver, 0, text.as_bytes());
        hosted.device.notify_queue(0).expect("a live queue");
        assert_eq!(hosted.poll(), Step::Idle);
        assert_eq!(answer(driver, 0).as_deref(), Some(text.as_bytes()));
    }
}

/// A device that has served 20 requests of queue 0 and was then stopped, and the position of the
/// queue.
fn stopped(features: Features) -> (TestRam, FakeDriver<FlatMem>, RingPosition) {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let mut first = set_up(ram, features, &.., &[(config(0), None)]).expect("a valid queue");
    serve(&mut first, &mut driver, 20);
    assert!(first.quiesce(0));
    let position = first.device.ring_position(0).expect("a live queue");
    assert!(first.stop(0));
    assert_eq!(first.device.ring_position(0), None);
    (ram, driver, position)
}

fn bad(queue: u16) -> Refusal {
    Refusal::BadPosition { queue }
}

#[test]
fn another_device_goes_on_where_a_queue_stopped() {
    let (ram, mut driver, position) = stopped(SPLIT);
    assert_eq!((position.next_avail, position.next_used), (20, 20));
    let queues = [(config(0), Some(position))];
    let mut second = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    assert_eq!(second.device.queue_state(0), QueueState::Live);
    serve(&mut second, &mut driver, 20);
    assert_eq!(driver.used_idx(), 40);
}

#[test]
fn a_queue_of_a_live_device_starts_in_the_middle() {
    let (ram, mut driver, position) = stopped(SPLIT);
    let mut second = set_up(ram, SPLIT, &.., &[]).expect("no queue");
    publish(&mut driver, 0, b"before");
    let enabled = second
        .device
        .enable_queue_at(&config(0), &position, 16, &..);
    assert_eq!(enabled, Ok(()));
    assert_eq!(second.poll(), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"before"[..]));
    serve(&mut second, &mut driver, 20);
}

#[test]
fn an_index_alone_is_a_position() {
    let (ram, mut driver, _) = stopped(SPLIT);
    let queues = [(config(0), Some(RingPosition::at(20, 20)))];
    let mut second = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    serve(&mut second, &mut driver, 5);
}

#[test]
fn the_index_of_the_used_ring_serves_lost_chains_again() {
    let (ram, mut driver, _) = stopped(SPLIT);
    // The last device popped both and is gone.
    publish(&mut driver, 0, b"lost");
    publish(&mut driver, 0, b"lost, too");
    let used = driver.used_idx();
    let queues = [(config(0), Some(RingPosition::at(used, used)))];
    let mut second = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    assert_eq!(second.poll(), Step::Idle);
    for text in [b"lost".as_slice(), b"lost, too"] {
        assert_eq!(answer(&mut driver, 0).as_deref(), Some(text));
    }
}

#[test]
fn kicks_that_the_last_device_turned_off_are_on_again() {
    let ram = ram();
    let mut driver = driver(ram, 0);
    let mut first = set_up(ram, SPLIT, &.., &[(config(0), None)]).expect("a valid queue");
    for text in [b"one".as_slice(), b"two"] {
        publish(&mut driver, 0, text);
    }
    let step = first.device.poll(&mut first.model, &mut first.slots, 1);
    assert_eq!((step, driver.used_flags()), (Step::More, 1));
    let mut known = first.device.ring_position(0).expect("a live queue");
    assert!(known.kicks_off);
    known.unsignalled = 0;
    for position in [known, RingPosition::at(1, 1)] {
        let queues = [(config(0), Some(position))];
        let mut second = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
        assert_eq!(second.poll(), Step::Idle);
        assert_eq!(driver.used_flags(), 0);
    }
}

#[test]
fn with_event_idx_the_next_kick_is_asked_for() {
    let (ram, mut driver, position) = stopped(SPLIT | Features::EVENT_IDX);
    let queues = [(config(0), Some(position))];
    let mut second =
        set_up(ram, SPLIT | Features::EVENT_IDX, &.., &queues).expect("a valid position");
    publish(&mut driver, 0, b"text");
    assert_eq!(second.poll(), Step::Idle);
    assert_eq!(driver.avail_event(), 21);
}

#[test]
fn nothing_is_stored_before_the_driver_is_live() {
    let (ram, _, position) = stopped(SPLIT);
    let mut before = vec![0; 0x1000];
    ram.read(0, &mut before);
    let device = DeviceBuilder::new(std::sync::Arc::new(Shared::<Q>::new()))
        .add_queue_at(config(0), position)
        .and_then(|builder| builder.build::<_, N>(SPLIT, ram.flat(BASE)))
        .expect("a valid position");
    assert_eq!(device.queue_state(0), QueueState::Live);
    let mut after = vec![0; 0x1000];
    ram.read(0, &mut after);
    assert!(before == after, "the rings are as the driver left them");
}

/// Positions that no split queue of 16 can have without chains in hand.
const IMPOSSIBLE: [RingPosition; 5] = [
    RingPosition::at(1, 0),
    RingPosition::at(0, 1),
    RingPosition::at(17, 0),
    RingPosition {
        unsignalled: 17,
        ..RingPosition::at(0, 0)
    },
    RingPosition {
        abandoned: 1,
        ..RingPosition::at(0, 0)
    },
];

#[test]
fn impossible_positions_are_refused_by_the_conversation() {
    for position in IMPOSSIBLE {
        let queues = [(config(0), None), (config(1), Some(position))];
        let refused = set_up(ram(), SPLIT, &.., &queues).err();
        assert_eq!(refused, Some(DeviceError::BadQueueConfig(1, bad(1))));
    }
}

#[test]
fn impossible_positions_are_refused_by_the_builder() {
    for position in IMPOSSIBLE {
        let build = |policy| {
            DeviceBuilder::new(std::sync::Arc::new(Shared::<Q>::new()))
                .with_policy(policy)
                .add_queue(config(0))
                .and_then(|builder| builder.add_queue_at(config(1), position))
                .and_then(|builder| builder.build::<_, N>(SPLIT, ram().flat(BASE)))
        };
        let refused = build(FaultPolicy::NeedsReset).err();
        assert_eq!(refused, Some(DeviceError::BadQueueConfig(1, bad(1))));
        let device = build(FaultPolicy::Reject).expect("it goes on without queue 1");
        assert_eq!(device.configured_queues().collect::<Vec<_>>(), [0]);
    }
}

#[test]
fn impossible_positions_are_refused_by_a_live_device() {
    let (ram, mut driver, position) = stopped(SPLIT);
    let mut second = set_up(ram, SPLIT, &.., &[]).expect("no queue");
    for impossible in IMPOSSIBLE {
        let enabled = second
            .device
            .enable_queue_at(&config(0), &impossible, 16, &..);
        assert_eq!(enabled, Err(bad(0).into()));
        assert_eq!(second.device.queue_state(0), QueueState::Off);
    }
    let enabled = second
        .device
        .enable_queue_at(&config(0), &position, 16, &..);
    assert_eq!(enabled, Ok(()));
    serve(&mut second, &mut driver, 3);
}

#[test]
fn a_queue_with_a_position_passes_every_other_check() {
    let position = Some(RingPosition::at(0, 0));
    let overlap = QueueConfig {
        desc: config(0).desc,
        ..config(1)
    };
    let queues = [(config(0), position), (overlap, position)];
    let refused = set_up(ram(), SPLIT, &.., &queues).err();
    assert!(
        matches!(
            refused,
            Some(DeviceError::BadQueueConfig(1, Refusal::Overlap { .. }))
        ),
        "{refused:?}"
    );
    let refused = set_up(ram(), SPLIT, &(0..1), &[(config(1), position)]).err();
    assert_eq!(refused, Some(DeviceError::InvalidQueue(1)));
    let twice = [(config(0), position), (config(0), position)];
    let refused = set_up(ram(), SPLIT, &.., &twice).err();
    assert_eq!(refused, Some(DeviceError::InvalidQueue(0)));
}

#[test]
fn a_live_device_takes_no_message_of_a_set_up() {
    let message = Message::ConfigureQueueAt(config(3), RingPosition::at(7, 7));
    assert_eq!(message.to_string(), "configure queue 3 at position 7");
}

#[cfg(feature = "packed")]
mod packed {
    use virtside::testing::{Buffer, PackedDriver};
    use virtside_tests::DATA;

    use super::*;

    const PACKED: Features = Features::VERSION_1.union(Features::RING_PACKED);

    fn serve(hosted: &mut Hosted, driver: &mut PackedDriver<FlatMem>, count: u16) {
        for id in 0..count {
            driver.write(DATA, b"text");
            driver.send(
                id,
                &[Buffer::readable(DATA, 4), Buffer::writable(DATA + 64, 4)],
            );
            hosted.device.notify_queue(0).expect("a live queue");
            assert_eq!(hosted.poll(), Step::Idle);
            let used = driver.take_used(2).map(|(used, len, _)| (used, len));
            assert_eq!(used, Some((id, 4)));
        }
    }

    #[test]
    fn another_device_goes_on_in_the_second_round_of_the_ring() {
        for count in [1, 7, 8, 9, 20] {
            let ram = ram();
            let mut driver = PackedDriver::new(ram.flat(BASE), BASE, 16);
            let config = driver.config(0);
            let mut first = set_up(ram, PACKED, &.., &[(config, None)]).expect("a valid queue");
            serve(&mut first, &mut driver, count);
            assert!(first.quiesce(0));
            let position = first.device.ring_position(0).expect("a live queue");
            assert!(first.stop(0));
            let index = RingPosition::at(position.next_avail, position.next_used);
            for position in [position, index] {
                let queues = [(config, Some(position))];
                let mut next = set_up(ram, PACKED, &.., &queues).expect("a valid position");
                serve(&mut next, &mut driver, 8);
                // Eight chains of two fill the ring once.
                let now = next.device.ring_position(0).expect("a live queue");
                assert_eq!(now.next_avail, position.next_avail ^ 0x8000);
                serve(&mut next, &mut driver, 8);
            }
        }
    }

    #[test]
    fn impossible_positions_of_a_packed_queue_are_refused() {
        for (avail, used) in [(0x8010, 0x8010), (0x8001, 0x8000), (0, 0x8000), (0x8000, 0)] {
            let ram = ram();
            let config = PackedDriver::new(ram.flat(BASE), BASE, 16).config(0);
            let queues = [(config, Some(RingPosition::at(avail, used)))];
            let refused = set_up(ram, PACKED, &.., &queues).err();
            assert_eq!(refused, Some(DeviceError::BadQueueConfig(0, bad(0))));
        }
    }
}

#[test]
fn a_queue_with_a_position_is_saved_once_the_driver_is_live() {
    let (ram, _, position) = stopped(SPLIT);
    let shared = std::sync::Arc::new(Shared::<Q>::new());
    let mut device = DeviceBuilder::new(shared)
        .add_queue_at(config(0), position)
        .and_then(|builder| builder.build::<_, N>(SPLIT, ram.flat(BASE)))
        .expect("a valid position");
    assert_eq!(device.save::<4>(&[]).err(), Some(Refusal::WrongPhase));
    let queues = [(config(0), Some(position))];
    let mut live = set_up(ram, SPLIT, &.., &queues).expect("a valid position");
    let saved = live.device.save::<4>(&live.slots).expect("a live device");
    let ring = saved.queues[0].ring.expect("a live queue");
    assert_eq!(ring.next_avail, position.next_avail);
}

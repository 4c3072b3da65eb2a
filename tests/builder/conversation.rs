//! `Configuring`: one message at a time.

use std::{cell::RefCell, sync::Arc};

use virtside::{
    Configuring, DeviceBuilder, Features, FlatMem, Message, QueueCheck, QueueConfig, Refusal,
    Shared, error::DeviceError, queue::QueueCheckFn, setup::Progress,
};
use virtside_tests::{BASE, Line, N, Q, config, ram};

type Talk<'p, C> = Configuring<'p, C, FlatMem, Line, Q, N, Arc<Shared<Q>>>;

/// A conversation with this queue check, the line, and the shared block.
fn talk<C: QueueCheck + ?Sized>(check: &C) -> (Talk<'_, C>, Line, Arc<Shared<Q>>) {
    let (line, shared): (Line, _) = (Box::leak(Box::default()), Arc::new(Shared::new()));
    let builder = DeviceBuilder::new(shared.clone())
        .map_notify(|()| Ok(line))
        .expect("it maps");
    (
        Configuring::new(builder, check, ram().flat(BASE)),
        line,
        shared,
    )
}

const READY: Message = Message::Ready {
    features: Features::VERSION_1,
};

fn configure(queue: u16) -> Message {
    Message::ConfigureQueue(config(queue))
}

/// What a message comes to, in few words.
fn step<C: QueueCheck + ?Sized>(
    talk: &mut Talk<'_, C>,
    message: Message,
) -> Result<String, DeviceError> {
    Ok(match talk.step(message)? {
        Progress::Configured(queue) => format!("configured {queue}"),
        Progress::Removed(queue) => format!("removed {queue}"),
        Progress::Restarted => "restarted".to_owned(),
        Progress::Ready(device, responder) => {
            responder.accept();
            format!("ready {:?}", device.configured_queues().collect::<Vec<_>>())
        }
    })
}

fn said<C: QueueCheck + ?Sized>(talk: &mut Talk<'_, C>, message: Message, expected: &str) {
    assert_eq!(step(talk, message).as_deref(), Ok(expected));
}

#[test]
fn queues_are_configured_and_then_the_device_is_ready() {
    let (mut talk, _, shared) = talk(&..);
    said(&mut talk, configure(2), "configured 2");
    said(&mut talk, configure(0), "configured 0");
    assert!(talk.configured_queues().eq([0, 2]));
    assert!(!shared.is_live());
    said(&mut talk, READY, "ready [0, 2]");
    assert!(shared.is_live());
    assert_eq!(talk.configured_queues().count(), 0);
}

#[test]
fn a_device_may_be_ready_without_queues() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, READY, "ready []");
}

#[test]
fn the_device_has_the_features_that_ready_names() {
    let (mut talk, ..) = talk(&..);
    let Ok(Progress::Ready(device, responder)) = talk.step(Message::Ready {
        features: Features::RING,
    }) else {
        panic!("not ready");
    };
    assert_eq!(device.features(), Features::RING);
    assert!(responder.accept());
}

#[test]
fn a_refused_queue_may_come_again_and_right() {
    let (mut talk, ..) = talk(&..);
    let wrong = QueueConfig {
        size: 12,
        ..config(1)
    };
    let refusal = Refusal::QueueSize {
        queue: 1,
        size: 12,
        max: 16,
    };
    let error = Err(DeviceError::BadQueueConfig(1, refusal));
    assert_eq!(step(&mut talk, Message::ConfigureQueue(wrong)), error);
    assert_eq!(talk.configured_queues().count(), 0);
    said(&mut talk, configure(1), "configured 1");
    said(&mut talk, READY, "ready [1]");
}

#[test]
fn a_queue_that_was_refused_and_never_came_right_is_not_there() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, configure(0), "configured 0");
    let wrong = QueueConfig {
        desc: 8,
        ..config(1)
    };
    assert!(step(&mut talk, Message::ConfigureQueue(wrong)).is_err());
    said(&mut talk, READY, "ready [0]");
}

#[test]
fn a_queue_that_overlaps_one_before_is_refused() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, configure(0), "configured 0");
    let wrong = QueueConfig {
        desc: config(0).desc,
        ..config(1)
    };
    let refusal = Refusal::Overlap {
        queue: 1,
        area: virtside::error::Area::Descriptor,
        with: 0,
    };
    let error = DeviceError::BadQueueConfig(1, refusal);
    assert_eq!(step(&mut talk, Message::ConfigureQueue(wrong)), Err(error));
}

#[test]
fn a_queue_twice_is_refused_and_changes_nothing() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, configure(1), "configured 1");
    let other = QueueConfig {
        size: 4,
        ..config(1)
    };
    let error = Err(DeviceError::InvalidQueue(1));
    assert_eq!(step(&mut talk, Message::ConfigureQueue(other)), error);
    let Ok(Progress::Ready(device, responder)) = talk.step(READY) else {
        panic!("not ready");
    };
    assert_eq!(device.queue_config(1), Some(&config(1)));
    assert!(responder.accept());
}

#[test]
fn a_number_that_there_is_no_room_for_is_refused() {
    let (mut talk, ..) = talk(&..);
    for queue in [4, 32, u16::MAX] {
        let config = QueueConfig { queue, ..config(0) };
        let error = Err(DeviceError::InvalidQueue(queue));
        assert_eq!(step(&mut talk, Message::ConfigureQueue(config)), error);
    }
}

#[test]
fn a_queue_that_is_not_wanted_is_refused() {
    let (mut talk, ..) = talk(&[0, 3][..]);
    said(&mut talk, configure(3), "configured 3");
    assert_eq!(
        step(&mut talk, configure(1)),
        Err(DeviceError::InvalidQueue(1))
    );
    said(&mut talk, configure(0), "configured 0");
    said(&mut talk, READY, "ready [0, 3]");
}

#[test]
fn a_queue_may_be_taken_back_and_come_again() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, configure(1), "configured 1");
    said(&mut talk, Message::ResetQueue(1), "removed 1");
    assert_eq!(talk.configured_queues().count(), 0);
    let error = Err(DeviceError::InvalidQueue(1));
    assert_eq!(step(&mut talk, Message::ResetQueue(1)), error);
    // Its memory is free for others.
    let other = QueueConfig {
        queue: 2,
        ..config(1)
    };
    said(&mut talk, Message::ConfigureQueue(other), "configured 2");
    assert!(step(&mut talk, configure(1)).is_err());
    said(&mut talk, Message::ResetQueue(2), "removed 2");
    said(&mut talk, configure(1), "configured 1");
    said(&mut talk, READY, "ready [1]");
}

#[test]
fn a_queue_that_is_not_there_cannot_be_taken_back() {
    let (mut talk, ..) = talk(&..);
    for queue in [0, 3, 4, u16::MAX] {
        let error = Err(DeviceError::InvalidQueue(queue));
        assert_eq!(step(&mut talk, Message::ResetQueue(queue)), error);
    }
}

#[test]
fn a_reset_forgets_everything() {
    let (mut talk, _, shared) = talk(&..);
    said(&mut talk, configure(0), "configured 0");
    said(&mut talk, configure(1), "configured 1");
    shared.doorbell().ring(1);
    said(&mut talk, Message::Reset, "restarted");
    assert!(shared.doorbell().is_silent());
    assert_eq!(talk.configured_queues().count(), 0);
    said(&mut talk, configure(1), "configured 1");
    said(&mut talk, READY, "ready [1]");
}

#[test]
fn a_kick_has_no_place_here() {
    let (mut talk, ..) = talk(&..);
    let kick = Message::NotifyQueue(0);
    assert_eq!(
        step(&mut talk, kick),
        Err(DeviceError::UnexpectedMessage(kick))
    );
    said(&mut talk, configure(0), "configured 0");
    assert_eq!(
        step(&mut talk, kick),
        Err(DeviceError::UnexpectedMessage(kick))
    );
    said(&mut talk, READY, "ready [0]");
}

#[test]
fn after_ready_no_message_has_a_place() {
    let (mut talk, ..) = talk(&..);
    said(&mut talk, configure(0), "configured 0");
    said(&mut talk, READY, "ready [0]");
    for message in [
        configure(1),
        Message::ResetQueue(0),
        READY,
        Message::NotifyQueue(0),
        Message::Reset,
    ] {
        assert_eq!(
            step(&mut talk, message),
            Err(DeviceError::UnexpectedMessage(message))
        );
    }
}

#[test]
fn at_ready_each_queue_is_checked_beside_all_others() {
    let asked = RefCell::new(Vec::new());
    let check = QueueCheckFn(|queue, existing: &mut dyn Iterator<Item = u16>| {
        asked.borrow_mut().push((queue, existing.collect()));
        Ok::<(), DeviceError>(())
    });
    let (mut talk, ..) = talk(&check);
    for (queue, before) in [(3, vec![]), (0, vec![3]), (1, vec![0, 3])] {
        said(&mut talk, configure(queue), &format!("configured {queue}"));
        assert_eq!(asked.take(), [(queue, before)]);
    }
    said(&mut talk, READY, "ready [0, 1, 3]");
    assert_eq!(
        asked.take(),
        [(0, vec![1, 3]), (1, vec![0, 3]), (3, vec![0, 1])]
    );
}

#[test]
fn what_was_right_when_it_came_may_be_wrong_at_ready() {
    // Wants each queue together with the one below it.
    let check = QueueCheckFn(|queue: u16, existing: &mut dyn Iterator<Item = u16>| {
        let existing: Vec<u16> = existing.collect();
        if queue == 0 || existing.contains(&(queue - 1)) {
            Ok(())
        } else {
            Err(DeviceError::InvalidQueue(queue))
        }
    });
    let (mut talk, line, shared) = talk(&check);
    said(&mut talk, configure(0), "configured 0");
    said(&mut talk, configure(1), "configured 1");
    said(&mut talk, Message::ResetQueue(0), "removed 0");
    assert_eq!(step(&mut talk, READY), Err(DeviceError::InvalidQueue(1)));
    // That is the end of it: the driver is told to reset.
    assert!(shared.needs_reset() && !shared.is_live());
    assert_eq!(line.asserted(), 1);
    assert_eq!(
        step(&mut talk, READY),
        Err(DeviceError::UnexpectedMessage(READY))
    );
}

/// Wants nothing to do with INDIRECT_DESC.
struct Direct;

impl QueueCheck for Direct {
    type Error = DeviceError;
    fn check_queue(&self, _: u16, _: impl Iterator<Item = u16>) -> Result<(), DeviceError> {
        Ok(())
    }
    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        _: impl Iterator<Item = &'a QueueConfig>,
    ) -> Result<(), DeviceError> {
        if features.contains(Features::INDIRECT_DESC) {
            return Err(Refusal::QueueCheck {
                queue: config.queue,
            }
            .into());
        }
        Ok(())
    }
}

#[test]
fn the_check_sees_the_features_at_ready() {
    let (mut talk, ..) = talk(&Direct);
    said(&mut talk, configure(1), "configured 1");
    let ready = Message::Ready {
        features: Features::RING,
    };
    let error = DeviceError::BadQueueConfig(1, Refusal::QueueCheck { queue: 1 });
    assert_eq!(step(&mut talk, ready), Err(error));
}

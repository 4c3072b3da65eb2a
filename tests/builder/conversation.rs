//! `Configuring`: the set-up messages of a device, one at a time.

use std::{cell::RefCell, sync::Arc};

use virtside::{
    Configuring, DeviceBuilder, Features, FlatMem, Message, QueueCheck, QueueConfig, Refusal,
    Shared, error::DeviceError, queue::QueueCheckFn, setup::Progress,
};
use virtside_tests::{BASE, Line, N, Q, config, ram};

type Talk<'p, C> = Configuring<'p, C, FlatMem, Line, Q, N, Arc<Shared<Q>>>;

/// Starts a conversation with this queue check, the interrupt line and the shared block.
fn conversation<C: QueueCheck + ?Sized>(check: &C) -> (Talk<'_, C>, Line, Arc<Shared<Q>>) {
    let (line, shared): (Line, _) = (Box::leak(Box::default()), Arc::new(Shared::new()));
    let builder = DeviceBuilder::new(shared.clone())
        .map_notify(|()| Ok(line))
        .expect("the interrupt is mapped");
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

/// Handles a message, and returns the result in a few words.
fn step<C: QueueCheck + ?Sized>(
    conversation: &mut Talk<'_, C>,
    message: Message,
) -> Result<String, DeviceError> {
    Ok(match conversation.step(message)? {
        Progress::Configured(queue) => format!("configured {queue}"),
        Progress::Removed(queue) => format!("removed {queue}"),
        Progress::Restarted => "restarted".to_owned(),
        Progress::Ready(device, responder) => {
            responder.accept();
            format!("ready {:?}", device.configured_queues().collect::<Vec<_>>())
        }
    })
}

fn assert_step<C: QueueCheck + ?Sized>(
    conversation: &mut Talk<'_, C>,
    message: Message,
    expected: &str,
) {
    assert_eq!(step(conversation, message).as_deref(), Ok(expected));
}

#[test]
fn queues_are_configured_and_then_the_device_is_ready() {
    let (mut conversation, _, shared) = conversation(&..);
    assert_step(&mut conversation, configure(2), "configured 2");
    assert_step(&mut conversation, configure(0), "configured 0");
    assert!(conversation.configured_queues().eq([0, 2]));
    assert!(!shared.is_live());
    assert_step(&mut conversation, READY, "ready [0, 2]");
    assert!(shared.is_live());
    assert_eq!(conversation.configured_queues().count(), 0);
}

#[test]
fn a_device_may_be_ready_without_queues() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, READY, "ready []");
}

#[test]
fn the_device_has_the_features_that_ready_names() {
    let (mut conversation, ..) = conversation(&..);
    let Ok(Progress::Ready(device, responder)) = conversation.step(Message::Ready {
        features: Features::RING,
    }) else {
        panic!("the device is not ready");
    };
    assert_eq!(device.features(), Features::RING);
    assert!(responder.accept());
}

#[test]
fn a_refused_queue_may_be_configured_again() {
    let (mut conversation, ..) = conversation(&..);
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
    assert_eq!(
        step(&mut conversation, Message::ConfigureQueue(wrong)),
        error
    );
    assert_eq!(conversation.configured_queues().count(), 0);
    assert_step(&mut conversation, configure(1), "configured 1");
    assert_step(&mut conversation, READY, "ready [1]");
}

#[test]
fn a_refused_queue_does_not_exist() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, configure(0), "configured 0");
    let wrong = QueueConfig {
        desc: 8,
        ..config(1)
    };
    assert!(step(&mut conversation, Message::ConfigureQueue(wrong)).is_err());
    assert_step(&mut conversation, READY, "ready [0]");
}

#[test]
fn a_queue_that_overlaps_an_earlier_queue_is_refused() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, configure(0), "configured 0");
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
    assert_eq!(
        step(&mut conversation, Message::ConfigureQueue(wrong)),
        Err(error)
    );
}

#[test]
fn a_second_configuration_is_refused_and_changes_nothing() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, configure(1), "configured 1");
    let other = QueueConfig {
        size: 4,
        ..config(1)
    };
    let error = Err(DeviceError::InvalidQueue(1));
    assert_eq!(
        step(&mut conversation, Message::ConfigureQueue(other)),
        error
    );
    let Ok(Progress::Ready(device, responder)) = conversation.step(READY) else {
        panic!("the device is not ready");
    };
    assert_eq!(device.queue_config(1), Some(&config(1)));
    assert!(responder.accept());
}

#[test]
fn a_number_beyond_the_capacity_is_refused() {
    let (mut conversation, ..) = conversation(&..);
    for queue in [4, 32, u16::MAX] {
        let config = QueueConfig { queue, ..config(0) };
        let error = Err(DeviceError::InvalidQueue(queue));
        assert_eq!(
            step(&mut conversation, Message::ConfigureQueue(config)),
            error
        );
    }
}

#[test]
fn a_queue_that_is_not_wanted_is_refused() {
    let (mut conversation, ..) = conversation(&[0, 3][..]);
    assert_step(&mut conversation, configure(3), "configured 3");
    assert_eq!(
        step(&mut conversation, configure(1)),
        Err(DeviceError::InvalidQueue(1))
    );
    assert_step(&mut conversation, configure(0), "configured 0");
    assert_step(&mut conversation, READY, "ready [0, 3]");
}

#[test]
fn a_queue_may_be_removed_and_configured_again() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, configure(1), "configured 1");
    assert_step(&mut conversation, Message::ResetQueue(1), "removed 1");
    assert_eq!(conversation.configured_queues().count(), 0);
    let error = Err(DeviceError::InvalidQueue(1));
    assert_eq!(step(&mut conversation, Message::ResetQueue(1)), error);
    // The memory of the removed queue is free for other queues.
    let other = QueueConfig {
        queue: 2,
        ..config(1)
    };
    assert_step(
        &mut conversation,
        Message::ConfigureQueue(other),
        "configured 2",
    );
    assert!(step(&mut conversation, configure(1)).is_err());
    assert_step(&mut conversation, Message::ResetQueue(2), "removed 2");
    assert_step(&mut conversation, configure(1), "configured 1");
    assert_step(&mut conversation, READY, "ready [1]");
}

#[test]
fn an_unknown_queue_cannot_be_removed() {
    let (mut conversation, ..) = conversation(&..);
    for queue in [0, 3, 4, u16::MAX] {
        let error = Err(DeviceError::InvalidQueue(queue));
        assert_eq!(step(&mut conversation, Message::ResetQueue(queue)), error);
    }
}

#[test]
fn a_reset_removes_all_queues() {
    let (mut conversation, _, shared) = conversation(&..);
    assert_step(&mut conversation, configure(0), "configured 0");
    assert_step(&mut conversation, configure(1), "configured 1");
    shared.doorbell().ring(1);
    assert_step(&mut conversation, Message::Reset, "restarted");
    assert!(shared.doorbell().is_silent());
    assert_eq!(conversation.configured_queues().count(), 0);
    assert_step(&mut conversation, configure(1), "configured 1");
    assert_step(&mut conversation, READY, "ready [1]");
}

#[test]
fn a_kick_before_ready_is_refused() {
    let (mut conversation, ..) = conversation(&..);
    let kick = Message::NotifyQueue(0);
    assert_eq!(
        step(&mut conversation, kick),
        Err(DeviceError::UnexpectedMessage(kick))
    );
    assert_step(&mut conversation, configure(0), "configured 0");
    assert_eq!(
        step(&mut conversation, kick),
        Err(DeviceError::UnexpectedMessage(kick))
    );
    assert_step(&mut conversation, READY, "ready [0]");
}

#[test]
fn after_ready_every_message_is_refused() {
    let (mut conversation, ..) = conversation(&..);
    assert_step(&mut conversation, configure(0), "configured 0");
    assert_step(&mut conversation, READY, "ready [0]");
    for message in [
        configure(1),
        Message::ResetQueue(0),
        READY,
        Message::NotifyQueue(0),
        Message::Reset,
    ] {
        assert_eq!(
            step(&mut conversation, message),
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
    let (mut conversation, ..) = conversation(&check);
    for (queue, before) in [(3, vec![]), (0, vec![3]), (1, vec![0, 3])] {
        assert_step(
            &mut conversation,
            configure(queue),
            &format!("configured {queue}"),
        );
        assert_eq!(asked.take(), [(queue, before)]);
    }
    assert_step(&mut conversation, READY, "ready [0, 1, 3]");
    assert_eq!(
        asked.take(),
        [(0, vec![1, 3]), (1, vec![0, 3]), (3, vec![0, 1])]
    );
}

#[test]
fn an_accepted_queue_may_be_refused_at_ready() {
    // This check accepts a queue only together with the queue below it.
    let check = QueueCheckFn(|queue: u16, existing: &mut dyn Iterator<Item = u16>| {
        let existing: Vec<u16> = existing.collect();
        if queue == 0 || existing.contains(&(queue - 1)) {
            Ok(())
        } else {
            Err(DeviceError::InvalidQueue(queue))
        }
    });
    let (mut conversation, line, shared) = conversation(&check);
    assert_step(&mut conversation, configure(0), "configured 0");
    assert_step(&mut conversation, configure(1), "configured 1");
    assert_step(&mut conversation, Message::ResetQueue(0), "removed 0");
    assert_eq!(
        step(&mut conversation, READY),
        Err(DeviceError::InvalidQueue(1))
    );
    // The conversation ends, and the driver is told to reset.
    assert!(shared.needs_reset() && !shared.is_live());
    assert_eq!(line.asserted(), 1);
    assert_eq!(
        step(&mut conversation, READY),
        Err(DeviceError::UnexpectedMessage(READY))
    );
}

/// Refuses every queue if the driver accepted INDIRECT_DESC.
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
    let (mut conversation, ..) = conversation(&Direct);
    assert_step(&mut conversation, configure(1), "configured 1");
    let ready = Message::Ready {
        features: Features::RING,
    };
    let error = DeviceError::BadQueueConfig(1, Refusal::QueueCheck { queue: 1 });
    assert_eq!(step(&mut conversation, ready), Err(error));
}

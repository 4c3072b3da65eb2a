//! Snapshots of a device that was set up by messages, without registers.

use std::sync::Arc;

use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, Features, FlatMem, Message, QueueConfig,
    ReadyResponder, Shared, Step, device::QueueState, interrupt::CountingNotify, setup::Progress,
    snapshot::SnapshotError,
};
use virtside_tests::{
    BASE, BUDGET, N, Q, TestRam, config, driver,
    probe::{Probe, answer, publish},
};

use crate::support::model;

type Line = &'static CountingNotify;
type Made = Device<FlatMem, Line, Q, N, Arc<Shared<Q>>>;

const PLAIN: Features = Features::RING;

fn made(ram: TestRam, queues: &[QueueConfig]) -> (Made, ReadyResponder<Line, Q, Arc<Shared<Q>>>) {
    let line: Line = Box::leak(Box::default());
    let builder = DeviceBuilder::new(Arc::new(Shared::new()));
    let builder = builder.map_notify(|()| Ok(line)).expect("a line");
    let mut configuring = Configuring::new(builder, &(0..4), ram.flat(BASE)).with_features(PLAIN);
    for queue in queues {
        let step = configuring.step(Message::ConfigureQueue(*queue));
        assert!(matches!(step, Ok(Progress::Configured(_))));
    }
    match configuring.step(Message::Ready { features: PLAIN }) {
        Ok(Progress::Ready(device, responder)) => (device, responder),
        other => panic!("{other:?}"),
    }
}

fn slots() -> [ChainSlot<N>; 2] {
    [const { ChainSlot::new() }; 2]
}

fn holding() -> Probe {
    Probe {
        holds: true,
        ..model(PLAIN)
    }
}

#[test]
fn a_device_without_queues_restores_its_state() {
    let ram = virtside_tests::ram();
    let (mut device, responder) = made(ram, &[config(1), config(0)]);
    responder.accept();
    let mut driver = driver(ram, 0);
    let (mut here, mut probe) = (slots(), holding());
    publish(&mut driver, 0, b"once");
    assert_eq!(device.poll(&mut probe, &mut here, BUDGET), Step::Blocked);
    let state = device.save::<2>(&here).expect("the device can be saved");
    assert!(state.live && state.chains.len() == 1);

    let (mut next, responder) = made(ram, &[]);
    let (mut there, mut probe) = (slots(), model(PLAIN));
    next.restore(&state, &mut probe, &mut there)
        .expect("the snapshot is valid");
    assert!(!responder.accept(), "the device is live already");
    assert_eq!(next.features(), PLAIN);
    assert!(next.configured_queues().eq([0, 1]));
    let again = next.save::<2>(&there).expect("the device can be saved");
    assert_eq!(again, state);
    assert_eq!(next.poll(&mut probe, &mut there, BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"once"[..]));
    assert_eq!(next.counters().chains, 1);
}

#[test]
fn before_driver_ok_the_responder_is_still_due() {
    let ram = virtside_tests::ram();
    let (mut device, responder) = made(ram, &[config(0)]);
    let state = device.save::<2>(&slots()).expect("the device can be saved");
    assert!(!state.live);
    drop(responder);
    let (mut next, responder) = made(ram, &[]);
    let (mut there, mut probe) = (slots(), model(PLAIN));
    next.restore(&state, &mut probe, &mut there)
        .expect("the snapshot is valid");
    assert_eq!(next.queue_state(0), QueueState::Ready);
    assert_eq!(next.poll(&mut probe, &mut there, BUDGET), Step::Idle);
    assert!(responder.accept());
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"late");
    assert_eq!(next.poll(&mut probe, &mut there, BUDGET), Step::Idle);
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"late"[..]));
}

#[test]
fn a_model_does_not_take_features_that_it_excludes() {
    let ram = virtside_tests::ram();
    let (mut device, responder) = made(ram, &[config(0)]);
    responder.accept();
    let state = device.save::<2>(&slots()).expect("the device can be saved");
    let (mut next, _responder) = made(ram, &[]);
    let mut probe = model(PLAIN);
    probe.excludes = Features::INDIRECT_DESC;
    let refused = next.restore(&state, &mut probe, &mut slots());
    assert_eq!(refused, Err(SnapshotError::Features));
}

#[test]
fn a_device_in_use_refuses_a_restore() {
    let ram = virtside_tests::ram();
    let (mut device, responder) = made(ram, &[config(0)]);
    responder.accept();
    let mut here = slots();
    let state = device.save::<2>(&here).expect("the device can be saved");
    let mut probe = model(PLAIN);
    let no = Err(SnapshotError::NotInReset);
    assert_eq!(device.restore(&state, &mut probe, &mut here), no);
    assert_eq!(
        device.queue_state(0),
        QueueState::Live,
        "the queue continues"
    );

    let (mut refused, responder) = made(ram, &[]);
    responder.refuse();
    assert_eq!(refused.restore(&state, &mut probe, &mut here), no);
    let (mut live, responder) = made(ram, &[]);
    responder.accept();
    assert_eq!(live.restore(&state, &mut probe, &mut here), no);

    // One of the slots has a chain of another device.
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"held");
    assert_eq!(
        device.poll(&mut holding(), &mut here, BUDGET),
        Step::Blocked
    );
    let (mut next, _responder) = made(ram, &[]);
    assert_eq!(next.restore(&state, &mut probe, &mut here), no);
}

#[test]
fn a_queue_that_is_being_stopped_is_saved_as_stopped() {
    let ram = virtside_tests::ram();
    let (mut device, responder) = made(ram, &[config(0)]);
    responder.accept();
    let (mut here, mut probe) = (slots(), model(PLAIN));
    let taken = device.take_queue(0).expect("the queue is live");
    assert!(!device.stop_queue(0, &mut probe, &mut here).is_done());
    assert!(device.put_back(taken).is_ok());
    let state = device.save::<2>(&here).expect("the device can be saved");
    let (mut next, _responder) = made(ram, &[]);
    next.restore(&state, &mut probe, &mut here)
        .expect("the snapshot is valid");
    let mut driver = driver(ram, 0);
    publish(&mut driver, 0, b"not yet");
    assert_eq!(next.poll(&mut probe, &mut here, BUDGET), Step::Idle);
    assert_eq!(driver.take_used(), None);
    assert!(next.stop_queue(0, &mut probe, &mut here).is_done());
}

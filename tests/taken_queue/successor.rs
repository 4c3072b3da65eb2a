//! A new device is built for each epoch, over the same shared block, which handlers and owners
//! keep. Queues and chains that owners kept of the previous device do not belong to the new one.

use std::sync::Arc;

use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, Features, FlatMem, Message, Refusal, Shared,
    device::PutBackError, device::QueueState, queue::Chain, setup::Progress, testing::Buffer,
};
use virtside_tests::{
    DATA, Line, N, Q, TestRam, config, driver, ram,
    rings::{Plan, RecordingModel},
};

use crate::{Queue, mem};

type Built = Device<FlatMem, Line, Q, N, Arc<Shared<Q>>>;

/// A live device with queues 0 and 1.
fn build(shared: &Arc<Shared<Q>>, ram: TestRam) -> Built {
    let line: Line = Box::leak(Box::default());
    let builder = DeviceBuilder::new(shared.clone()).map_notify(|()| Ok(line));
    let mut conversation =
        Configuring::<_, _, _, Q, N, _>::new(builder.expect("a line"), &.., mem(ram));
    for queue in [0, 1] {
        let configured = conversation.step(Message::ConfigureQueue(config(queue)));
        assert!(matches!(configured, Ok(Progress::Configured(_))));
    }
    let features = Features::VERSION_1;
    let Ok(Progress::Ready(device, responder)) = conversation.step(Message::Ready { features })
    else {
        panic!("not ready");
    };
    assert!(responder.accept());
    device
}

/// A device, and the stopped queue 0 of the previous device, with a chain that was not given back.
fn successor() -> (Built, TestRam, Queue, Chain<N>) {
    let (shared, ram) = (Arc::new(Shared::new()), ram());
    let mut first = driver(ram, 0);
    let mut device = build(&shared, ram);
    first.send(0, &[Buffer::writable(DATA, 4)]);
    let mut queue = device.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&mem(ram), &mut chain), Ok(true));
    let (mut model, mut slots) = (RecordingModel::new(Plan::Wait), [ChainSlot::new()]);
    assert!(!device.reset_all(&mut model, &mut slots).is_done());
    queue.abandon(&chain);
    assert!(device.reset_all(&mut model, &mut slots).is_done());
    (build(&shared, ram), ram, queue, chain)
}

#[test]
fn a_queue_of_the_previous_device_is_not_put_back() {
    let (mut device, _, old, _) = successor();
    let new = device.take_queue(0).expect("a live queue");
    assert!(matches!(device.put_back(old), Err(PutBackError::Discarded)));
    assert_eq!(device.queue_state(0), QueueState::Taken);
    assert!(!new.is_stopped());
    assert!(device.put_back(new).is_ok());
}

#[test]
fn a_queue_of_another_device_is_handed_back() {
    let (shared, ram) = (Arc::new(Shared::new()), ram());
    let mut there = build(&shared, ram);
    let mut here = build(&Arc::new(Shared::new()), ram);
    let queue = there.take_queue(0).expect("a live queue");
    let own = here.take_queue(0).expect("a live queue");
    let Err(PutBackError::Returned(queue)) = here.put_back(queue) else {
        panic!("the queue is of another device");
    };
    assert!(!queue.is_stopped());
    assert!(here.put_back(own).is_ok());
    assert!(there.put_back(queue).is_ok());
}

#[test]
fn a_chain_of_the_previous_device_is_not_given_back() {
    let (mut device, ram, old, stale) = successor();
    drop(old);
    let mut driver = driver(ram, 0);
    driver.send(0, &[Buffer::writable(DATA, 4)]);
    let mut queue = device.take_queue(0).expect("a live queue");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&mem(ram), &mut chain), Ok(true));
    assert_eq!(queue.complete(&stale, 4), Err(Refusal::StaleToken.into()));
    queue.abandon(&stale);
    assert_eq!(queue.in_flight(), 1);
    assert_eq!(queue.complete(&chain, 4), Ok(()));
    assert_eq!(queue.pop(&mem(ram), &mut chain), Ok(false));
}

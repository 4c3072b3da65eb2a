//! `Device`: the operations on a device that a conversation built.

use std::sync::Arc;

use virtside::{
    ChainSlot, Device, DeviceBuilder, DriverMem, Features, FlatMem, ReadyResponder, Refusal,
    Shared, Step,
    device::{PutBackError, QueueState, TakenQueue},
    error::DeviceError,
    interrupt::CountingNotify,
    queue::Chain,
    testing::{Buffer, FakeDriver},
};
use virtside_tests::{
    BASE, DATA, Line, N, Q, config, driver, ram,
    rings::{Plan, RecordingModel},
};

type Handle = Arc<Shared<Q>>;

/// A live device with queues 0 and 2, and what it needs.
struct Live {
    device: Device<FlatMem, Line, Q, N, Handle>,
    line: Line,
    drivers: [FakeDriver<FlatMem>; 2],
    model: RecordingModel,
    slots: [ChainSlot<N>; 3],
}

impl Live {
    fn new() -> Self {
        let (line, ram): (Line, _) = (Box::leak(Box::<CountingNotify>::default()), ram());
        let shared = Arc::new(Shared::new());
        let builder = DeviceBuilder::new(shared)
            .map_notify(|()| Ok(line))
            .expect("the interrupt is mapped");
        let mem = ram.flat(BASE);
        let mut talk = virtside::Configuring::<_, _, _, Q, N, _>::new(builder, &.., mem);
        for queue in [0, 2] {
            let _ = talk.step(virtside::Message::ConfigureQueue(config(queue)));
        }
        let ready = talk.step(virtside::Message::Ready {
            features: Features::RING,
        });
        let Ok(virtside::setup::Progress::Ready(device, responder)) = ready else {
            panic!("the device is not ready");
        };
        let drivers = [driver(ram, 0), driver(ram, 2)];
        let responder: ReadyResponder<Line, Q, Handle> = responder;
        assert!(responder.accept());
        let model = RecordingModel::new(Plan::Fill(7));
        Self {
            device,
            line,
            drivers,
            model,
            slots: [const { ChainSlot::new() }; 3],
        }
    }

    fn poll(&mut self) -> Step {
        self.device.poll(&mut self.model, &mut self.slots, 99)
    }

    fn take(
        &mut self,
        queue: u16,
    ) -> TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Handle> {
        self.device.take_queue(queue).expect("the queue is live")
    }
}

#[test]
fn it_knows_its_queues_features_and_line() {
    let live = Live::new();
    assert!(live.device.configured_queues().eq([0, 2]));
    assert_eq!(live.device.features(), Features::RING);
    assert!(std::ptr::eq(*live.device.notify(), live.line));
    assert_eq!(live.device.queue_config(2), Some(&config(2)));
    assert_eq!(live.device.queue_config(1), None);
    assert_eq!(live.device.queue_config(u16::MAX), None);
}

#[test]
fn kicks_come_through_notify_queue() {
    let mut live = Live::new();
    assert_eq!(live.poll(), Step::Idle);
    live.drivers[1].send(3, &[Buffer::writable(DATA, 5)]);
    assert_eq!(live.device.notify_queue(2), Ok(()));
    assert_eq!(live.poll(), Step::Idle);
    assert_eq!(live.drivers[1].take_used(), Some((3, 5)));
    assert_eq!(live.model.queues(), [2]);
}

#[test]
fn a_queue_can_be_taken_and_put_back() {
    let mut live = Live::new();
    live.poll();
    let mut queue = live.take(2);
    assert_eq!(live.device.queue_state(2), QueueState::Taken);
    assert!(live.device.configured_queues().eq([0, 2]));
    live.drivers[1].send(1, &[Buffer::writable(DATA, 6)]);
    assert_eq!(live.device.notify_queue(2), Ok(()));
    // The device does not serve the taken queue.
    assert_eq!(live.poll(), Step::Idle);
    assert!(live.model.seen.is_empty());
    // The new owner of the queue gets the kick, and serves the queue.
    assert!(queue.was_kicked());
    let mut chain = Chain::new();
    let mem = live.device.memory().clone();
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    assert_eq!(
        (queue.in_flight(), chain.head(), chain.writable_len()),
        (1, 1, 6)
    );
    assert_eq!(queue.complete(&chain, 6), Ok(()));
    assert!(!queue.flush() || live.line.asserted() == 1);
    assert_eq!(live.drivers[1].take_used(), Some((1, 6)));
    // A queue that is put back counts as kicked.
    live.drivers[1].send(4, &[Buffer::writable(DATA, 2)]);
    assert!(live.device.put_back(queue).is_ok());
    assert_eq!(live.device.queue_state(2), QueueState::Live);
    assert_eq!(live.poll(), Step::Idle);
    assert_eq!(live.drivers[1].take_used(), Some((4, 2)));
}

#[test]
fn an_unknown_queue_cannot_be_taken() {
    let mut live = Live::new();
    let refusal = |live: &mut Live, queue| live.device.take_queue(queue).map(|_| ()).unwrap_err();
    assert_eq!(refusal(&mut live, 1), Refusal::QueueNotReady { queue: 1 });
    assert_eq!(refusal(&mut live, 4), Refusal::NoSuchQueue { queue: 4 });
    assert_eq!(
        refusal(&mut live, 0xffff),
        Refusal::NoSuchQueue { queue: 0xffff }
    );
    let _taken = live.take(0);
    assert_eq!(refusal(&mut live, 0), Refusal::QueueTaken { queue: 0 });
}

#[test]
fn a_queue_with_chains_in_flight_is_not_put_back() {
    let mut live = Live::new();
    let mut queue = live.take(0);
    live.drivers[0].send(0, &[Buffer::writable(DATA, 1)]);
    let mut chain = Chain::new();
    let mem = live.device.memory().clone();
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    let Err(PutBackError::Returned(mut queue)) = live.device.put_back(queue) else {
        panic!("the queue was put back");
    };
    assert_eq!(live.device.queue_state(0), QueueState::Taken);
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert!(live.device.put_back(queue).is_ok());
}

#[test]
fn a_dropped_queue_has_failed() {
    let mut live = Live::new();
    drop(live.take(0));
    assert_eq!(live.device.queue_state(0), QueueState::Failed);
    live.drivers[0].send(0, &[Buffer::writable(DATA, 1)]);
    let _ = live.device.notify_queue(0);
    assert_eq!(live.poll(), Step::Idle);
    assert_eq!(live.drivers[0].used_idx(), 0);
}

#[test]
fn a_stopped_queue_is_removed() {
    let mut live = Live::new();
    live.model.plan = Plan::Wait;
    live.drivers[1].send(0, &[Buffer::writable(DATA, 1)]);
    assert_eq!(live.poll(), Step::Blocked);
    let token = live.model.seen[0].token;
    assert!(
        live.device
            .stop_queue(2, &mut live.model, &mut live.slots)
            .is_done()
    );
    assert_eq!(live.model.stopped, [2]);
    assert!(live.device.configured_queues().eq([0]));
    assert_eq!(
        live.device.notify_queue(2),
        Err(DeviceError::InvalidQueue(2))
    );
    let completed = live
        .device
        .complete(token, &mut live.model, &mut live.slots);
    assert_eq!(completed, Err(Refusal::StaleToken));
    assert_eq!((live.poll(), live.drivers[1].used_idx()), (Step::Idle, 0));
}

#[test]
fn a_queue_stopped_while_it_was_taken_waits_for_its_owner() {
    let mut live = Live::new();
    let mut queue = live.take(0);
    let mut chain = Chain::new();
    live.drivers[0].send(0, &[Buffer::writable(DATA, 1)]);
    let mem = live.device.memory().clone();
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    assert!(
        !live
            .device
            .stop_queue(0, &mut live.model, &mut live.slots)
            .is_done()
    );
    assert!(queue.is_stopped());
    assert_eq!(queue.complete(&chain, 0), Ok(()));
    assert_eq!(
        queue.pop(&mem, &mut chain),
        Err(virtside::device::Stop::Asked)
    );
    assert!(
        live.device
            .stop_queue(0, &mut live.model, &mut live.slots)
            .is_done()
    );
    // The taken queue is stale.
    assert!(matches!(
        live.device.put_back(queue),
        Err(PutBackError::Discarded)
    ));
}

#[test]
fn a_reset_device_has_no_queues() {
    let mut live = Live::new();
    assert!(
        live.device
            .reset_all(&mut live.model, &mut live.slots)
            .is_done()
    );
    assert_eq!(live.model.resets, 1);
    assert_eq!(live.device.configured_queues().count(), 0);
    assert_eq!(live.device.features(), Features::empty());
    live.drivers[0].send(0, &[Buffer::writable(DATA, 1)]);
    live.device.shared().doorbell().ring(0);
    assert_eq!((live.poll(), live.drivers[0].used_idx()), (Step::Idle, 0));
}

#[test]
fn pending_chains_are_completed_by_token_or_by_a_ready_back_end() {
    let mut live = Live::new();
    live.model.plan = Plan::Wait;
    for head in 0..2 {
        live.drivers[0].send(head, &[Buffer::writable(DATA, 4)]);
    }
    assert_eq!(live.poll(), Step::Blocked);
    let token = live.model.seen[1].token;
    live.model.plan = Plan::Fill(1);
    let completed = live
        .device
        .complete(token, &mut live.model, &mut live.slots);
    assert_eq!(completed, Ok(()));
    assert_eq!(live.drivers[0].take_used(), Some((1, 4)));
    live.device.backend_ready(0, &mut live.slots);
    assert_eq!(live.poll(), Step::Idle);
    assert_eq!(live.drivers[0].take_used(), Some((0, 4)));
    assert_eq!(live.device.counters().chains, 2);
}

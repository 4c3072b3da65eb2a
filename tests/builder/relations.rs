//! Queue checks that relate queues. The set of queues that goes live obeys the check on every path
//! to a live device.

use std::sync::Arc;

use virtside::{
    ChainSlot, Configuring, Device, DeviceBuilder, Features, FlatMem, Message, QueueConfig,
    ReadyResponder, Refusal, Shared,
    device::QueueState,
    error::DeviceError,
    mmio::Reply,
    setup::Progress,
    snapshot::{DeviceSnapshot, SnapshotError},
    testing::{Layout, Registers},
};
use virtside_tests::{
    Line, N, Q, TestEngine, TestRam, engine_over,
    probe::{Check, Probe, ready},
    ram, reg,
};

/// The first driver address of the tests' memory. The first half of the memory is in one window of
/// 1 MiB, the second half in the next.
const START: u64 = (1 << 20) - (1 << 17);
/// Offset from queue 0's rings into the next window.
const FAR: u64 = 1 << 17;

/// A queue of 8 elements.
fn small(queue: u16) -> QueueConfig {
    Layout::packed_at(START + 0x1000 * u64::from(queue), 8).config(queue)
}

fn large(queue: u16) -> QueueConfig {
    QueueConfig {
        size: 16,
        ..Layout::packed_at(START + 0x1000 * u64::from(queue), 16).config(queue)
    }
}

fn far(queue: u16) -> QueueConfig {
    Layout::packed_at(START + FAR + 0x1000 * u64::from(queue), 8).config(queue)
}

/// A message of a driver before DRIVER_OK.
#[derive(Clone, Copy, Debug)]
enum SetUp {
    Configure(QueueConfig),
    Stop(u16),
}
use SetUp::{Configure, Stop};

/// A check; messages that try to get around it, each acceptable by itself; the expected reason to
/// refuse the resulting set; and a set of the same queues that the check accepts.
struct Case {
    check: Check,
    trick: Vec<SetUp>,
    why: Refusal,
    good: Vec<QueueConfig>,
}

impl Case {
    /// The queues that exist after the messages that try to get around the check.
    fn bad(&self) -> Vec<QueueConfig> {
        let mut queues = Vec::<QueueConfig>::new();
        for say in &self.trick {
            match *say {
                Configure(config) => queues.push(config),
                Stop(queue) => queues.retain(|config| config.queue != queue),
            }
        }
        queues
    }
}

fn one_only_beside_zero() -> Case {
    Case {
        check: Check {
            beside: vec![(1, 0)],
            ..Check::default()
        },
        trick: vec![Configure(small(0)), Configure(small(1)), Stop(0)],
        why: Refusal::QueueCheck { queue: 1 },
        good: vec![small(0), small(1)],
    }
}

fn one_no_larger_than_zero() -> Case {
    Case {
        check: Check {
            no_larger: vec![(1, 0)],
            ..Check::default()
        },
        trick: vec![
            Configure(large(0)),
            Configure(large(1)),
            Stop(0),
            Configure(small(0)),
        ],
        why: Refusal::QueueCheck { queue: 1 },
        good: vec![large(0), large(1)],
    }
}

fn all_rings_in_one_window() -> Case {
    Case {
        check: Check {
            window: 1 << 20,
            ..Check::default()
        },
        trick: vec![Configure(small(0)), Configure(far(1))],
        why: Refusal::QueueSet,
        good: vec![far(0), far(1)],
    }
}

fn zero_must_be_there() -> Case {
    Case {
        check: Check {
            needed: vec![0],
            ..Check::default()
        },
        trick: vec![Configure(small(1)), Configure(small(0)), Stop(0)],
        why: Refusal::QueueSet,
        good: vec![small(0)],
    }
}

fn device(check: &Check, ram: TestRam) -> TestEngine<Probe> {
    let model = Probe {
        check: check.clone(),
        ..Probe::default()
    };
    engine_over(model, ram.flat(START), 1)
}

/// A driver that has sent these messages to a device, up to FEATURES_OK.
fn send_set_up(engine: &mut TestEngine<Probe>, messages: &[SetUp]) {
    assert!(engine.negotiate(Features::VERSION_1));
    for message in messages {
        let reply = match *message {
            Configure(config) => engine.configure(&config),
            Stop(queue) => {
                let _ = engine.store(reg::QUEUE_SEL, queue.into());
                engine.store(reg::QUEUE_READY, 0)
            }
        };
        assert_eq!(reply, Reply::Done(0), "{message:x?}");
    }
}

#[track_caller]
fn assert_refused(engine: &mut TestEngine<Probe>, why: Refusal) {
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.transport().last_refusal(), Some(why));
    assert_eq!(engine.load(reg::STATUS), 0x4f, "DEVICE_NEEDS_RESET");
    assert_eq!(engine.load(reg::INTERRUPT_STATUS), 2);
    assert_eq!(engine.device().notify().asserted(), 1);
    assert!(engine.model().started_with.is_empty());
    let states: Vec<_> = (0..Q as u16).map(|it| engine.queue_state(it)).collect();
    assert!(!states.contains(&QueueState::Live), "{states:?}");
}

fn over_registers(case: &Case) {
    let mut engine = device(&case.check, ram());
    send_set_up(&mut engine, &case.trick);
    assert_refused(&mut engine, case.why);
    // The driver succeeds after a reset.
    assert!(engine.bring_up(Features::VERSION_1, &case.good));
    assert_eq!(engine.load(reg::STATUS), 0xf);
    assert_eq!(engine.model().started_with, case.good);
    assert_eq!(engine.transport().last_refusal(), None);
}

type Made = Device<FlatMem, Line, Q, N, Arc<Shared<Q>>>;
type Responder = ReadyResponder<Line, Q, Arc<Shared<Q>>>;

/// Sends these messages to a device that is set up by messages, and then makes it ready. Returns
/// the device, if there is one, and whether the driver was told to reset.
fn set_up_by_messages(
    check: &Check,
    ram: TestRam,
    messages: &[SetUp],
) -> (Result<(Made, Responder), DeviceError>, bool) {
    let shared = Arc::new(Shared::new());
    let line: Line = Box::leak(Box::default());
    let builder = DeviceBuilder::new(shared.clone())
        .map_notify(|()| Ok(line))
        .expect("the interrupt is mapped");
    let mut conversation = Configuring::new(builder, check, ram.flat(START));
    for message in messages {
        let step = match *message {
            Configure(config) => Message::ConfigureQueue(config),
            Stop(queue) => Message::ResetQueue(queue),
        };
        assert!(conversation.step(step).is_ok(), "{message:x?}");
    }
    let ready = conversation.step(Message::Ready {
        features: Features::VERSION_1,
    });
    let device = ready.map(|ready| match ready {
        Progress::Ready(device, responder) => (device, responder),
        other => panic!("{other:?}"),
    });
    (device, shared.needs_reset())
}

fn configure_all(queues: &[QueueConfig]) -> Vec<SetUp> {
    queues.iter().copied().map(Configure).collect()
}

fn over_messages(case: &Case) {
    let (refused, needs_reset) = set_up_by_messages(&case.check, ram(), &case.trick);
    let expected = match case.why {
        Refusal::QueueCheck { queue } => DeviceError::InvalidQueue(queue),
        why => DeviceError::Refused(why),
    };
    assert_eq!(refused.err(), Some(expected));
    assert!(needs_reset);
    let (device, needs_reset) = set_up_by_messages(&case.check, ram(), &configure_all(&case.good));
    let (device, responder) = device.expect("the check accepts the queues");
    assert!(!needs_reset && responder.accept());
    let numbers = case.good.iter().map(|config| config.queue);
    assert!(device.configured_queues().eq(numbers));
}

/// Returns why a state with these queues is not restored.
fn not_restored(why: Refusal) -> SnapshotError {
    match why {
        Refusal::QueueCheck { queue } => SnapshotError::Queue { queue, why },
        why => SnapshotError::Queues { why },
    }
}

fn over_restore(case: &Case) {
    // A live device without such a check saved this state.
    let ram = ram();
    let mut old = device(&Check::default(), ram);
    let live = |old: &mut TestEngine<Probe>, queues: &[QueueConfig]| {
        assert!(old.bring_up(Features::VERSION_1, queues));
        old.save::<1>().expect("no queue is taken")
    };
    let state = live(&mut old, &case.bad());
    let mut new = device(&case.check, ram);
    assert_eq!(new.restore(&state), Err(not_restored(case.why)));
    assert_eq!(new.load(reg::STATUS), 0, "the device is in reset");
    let mut backwards = case.good.clone();
    backwards.reverse();
    let mut state = live(&mut old, &backwards);
    state.device.queues.reverse();
    assert_eq!(new.restore(&state), Ok(()));
    assert_eq!(new.model().started_with, case.good);

    // This state has the bad set, but not DRIVER_OK.
    let mut old = device(&case.check, ram);
    send_set_up(&mut old, &case.trick);
    let state = old.save::<1>().expect("no queue is taken");
    let mut new = device(&case.check, ram);
    assert_eq!(new.restore(&state), Ok(()));
    for config in case.bad() {
        assert_eq!(ready(&mut new, config.queue), 1);
    }
    assert_refused(&mut new, case.why);

    // This state is of a device that was set up by messages.
    let restored = |queues: &[QueueConfig], live: bool| {
        let (old, _) = set_up_by_messages(&Check::default(), ram, &configure_all(queues));
        let (mut old, responder) = old.expect("the check accepts any queues");
        let _waits = if live {
            assert!(responder.accept());
            None
        } else {
            Some(responder)
        };
        let state: DeviceSnapshot<Q, N, 1> = old.save(&[]).expect("the device can be saved");
        assert_eq!((state.live, state.needs_reset), (live, false));
        let (mut model, mut slots) = (Probe::default(), [ChainSlot::new()]);
        model.check = case.check.clone();
        waiting(ram).restore(&state, &mut model, &mut slots)
    };
    for live in [true, false] {
        let refused = restored(&case.bad(), live);
        assert_eq!(refused, Err(not_restored(case.why)), "{live}");
        assert_eq!(restored(&case.good, live), Ok(()), "{live}");
    }
}

/// A device of messages into which a state can be restored.
fn waiting(ram: TestRam) -> Made {
    let line: Line = Box::leak(Box::default());
    let builder = DeviceBuilder::new(Arc::new(Shared::new()))
        .map_notify(|()| Ok(line))
        .expect("the interrupt is mapped");
    builder
        .build(Features::VERSION_1, ram.flat(START))
        .expect("the device has no queues")
}

/// Runs each check on each path to a live device.
macro_rules! each_way {
    ($($check:ident)*) => {$(
        mod $check {
            use super::{over_messages, over_registers, over_restore};
            #[test]
            fn over_registers_a_set_that_breaks_it_does_not_go_live() {
                over_registers(&super::$check());
            }
            #[test]
            fn over_messages_a_set_that_breaks_it_does_not_go_live() {
                over_messages(&super::$check());
            }
            #[test]
            fn a_state_that_breaks_it_is_not_restored_live() {
                over_restore(&super::$check());
            }
        }
    )*};
}

each_way! {
    one_only_beside_zero
    one_no_larger_than_zero
    all_rings_in_one_window
    zero_must_be_there
}

#[test]
fn a_set_that_is_not_wanted_stops_a_lenient_device_too() {
    for policy in [
        virtside::error::FaultPolicy::Reject,
        virtside::error::FaultPolicy::StopQueue,
    ] {
        let case = zero_must_be_there();
        let mut engine = device(&case.check, ram()).with_policy(policy);
        send_set_up(&mut engine, &case.trick);
        assert_refused(&mut engine, case.why);
    }
}

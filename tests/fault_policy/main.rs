//! The consequences of a protocol violation, which the host's `FaultPolicy` decides, on every
//! transport alike.

#[cfg(feature = "packed")]
mod matrix;

use std::sync::Arc;

use virtside::{
    Configuring, DeviceBuilder, DriverFault, Features, Message, Refusal, Shared, Step,
    device::{Counters, PutBackError, QueueState, Stop},
    error::FaultPolicy,
    interrupt::CountingNotify,
    queue::Chain,
    setup::Progress,
    shared::InterruptStatus,
    testing::{Buffer, FakeDriver, NEXT, Registers},
};
use virtside_tests::{
    BASE, DATA, N, Q, SIZE, config, driver, engine_over, layout, ram, reg,
    rings::{Plan, RecordingModel, RecordingRig},
    status::NEEDS_RESET,
};

const POLICIES: [FaultPolicy; 3] = [
    FaultPolicy::Reject,
    FaultPolicy::StopQueue,
    FaultPolicy::NeedsReset,
];

/// A live device of two queues under this policy, and the driver of queue 0.
fn rig(policy: FaultPolicy, features: Features) -> RecordingRig {
    let ram = ram();
    let driver = driver(ram, 0);
    let mut engine =
        engine_over(RecordingModel::new(Plan::Fill(0xa5)), ram.flat(BASE), 4).with_policy(policy);
    let features = features | Features::VERSION_1;
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    RecordingRig {
        engine,
        driver,
        ram,
    }
}

/// Offers two chains: head 0 is at an address without memory, head 1 is a valid byte.
fn one_bad_one_good(driver: &mut FakeDriver<virtside::FlatMem>) {
    driver.write_desc(0, (DATA, 1), NEXT, 77);
    driver.write_chain(1, &[Buffer::writable(DATA, 4)]);
    driver.offer(0);
    driver.offer(1);
    driver.publish();
}

fn needs_reset(rig: &mut RecordingRig) -> bool {
    rig.engine.load(reg::STATUS) & NEEDS_RESET != 0
}

/// Checks that the other queue serves a chain.
fn the_other_works(rig: &mut RecordingRig) {
    let mut other = driver(rig.ram, 1);
    other.send(3, &[Buffer::writable(DATA, 2)]);
    assert_eq!(rig.engine.kick(1).value(), Some(0));
    rig.poll();
    assert_eq!(other.take_used(), Some((3, 2)));
}

mod an_invalid_chain {
    use super::*;

    #[test]
    fn is_given_back_unwritten_under_reject_and_the_next_is_served() {
        let mut rig = rig(FaultPolicy::Reject, Features::empty());
        one_bad_one_good(&mut rig.driver);
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.driver.take_used(), Some((0, 0)));
        assert_eq!(rig.driver.take_used(), Some((1, 4)));
        assert_eq!(rig.acknowledge(), InterruptStatus::USED_BUFFER);
        assert!(!needs_reset(&mut rig));
        assert_eq!(rig.fault(), None);
        assert_eq!(rig.engine.model().heads(), [1]);
        let Counters {
            chains, rejected, ..
        } = rig.engine.counters();
        assert_eq!((chains, rejected), (2, 1));
        let why = DriverFault::NextOutOfRange { next: 77 };
        assert_eq!(rig.engine.last_rejected(0), Some(why));
        assert_eq!(rig.engine.last_rejected(1), None);
        the_other_works(&mut rig);
        assert_eq!(rig.engine.last_rejected(0), Some(why));
    }

    #[test]
    fn is_abandoned_when_its_queue_stops_otherwise_or_is_reset() {
        let mut rig = rig(FaultPolicy::Reject, Features::empty());
        one_bad_one_good(&mut rig.driver);
        rig.kick();
        rig.driver.set_avail_idx(1000);
        rig.kick();
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        assert!(matches!(
            rig.fault(),
            Some(DriverFault::AvailIndexJump { .. })
        ));
        assert_eq!(rig.engine.last_rejected(0), None);
        assert_eq!(rig.engine.store(reg::STATUS, 0).value(), Some(0));
        assert_eq!((rig.fault(), rig.engine.last_rejected(0)), (None, None));
    }

    #[test]
    fn stops_its_queue_in_silence_under_stop_queue() {
        let mut rig = rig(FaultPolicy::StopQueue, Features::empty());
        one_bad_one_good(&mut rig.driver);
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!(rig.driver.take_used(), None);
        assert_eq!(rig.fault(), Some(DriverFault::NextOutOfRange { next: 77 }));
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        assert!(!needs_reset(&mut rig));
        assert_eq!(rig.interrupts(), 0);
        the_other_works(&mut rig);
    }

    #[test]
    fn needs_a_reset_by_default() {
        let mut rig = rig(FaultPolicy::default(), Features::empty());
        one_bad_one_good(&mut rig.driver);
        assert_eq!(rig.kick(), Step::Idle);
        assert!(needs_reset(&mut rig));
        assert_eq!(rig.acknowledge(), InterruptStatus::CONFIG_CHANGE);
        assert_eq!(rig.interrupts(), 1);
        the_other_works(&mut rig);
    }

    #[test]
    fn can_be_rejected_any_number_of_times() {
        let mut rig = rig(FaultPolicy::Reject, Features::EVENT_IDX);
        for round in 0..3 * SIZE {
            let head = round % SIZE;
            rig.driver.write_desc(head, (DATA, 1), NEXT, 77);
            rig.driver.offer(head);
            rig.driver.publish();
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(
                rig.driver.take_used(),
                Some((head.into(), 0)),
                "round {round}"
            );
        }
        assert_eq!(rig.engine.counters().rejected, u32::from(3 * SIZE));
        // A rejected chain is not in flight, so the queue may be taken.
        assert!(rig.engine.take_queue(0).is_ok());
    }

    #[test]
    fn is_treated_alike_in_a_taken_queue() {
        for policy in POLICIES {
            let mut rig = rig(policy, Features::empty());
            let mem = rig.ram.flat(BASE);
            one_bad_one_good(&mut rig.driver);
            let mut queue = rig.engine.take_queue(0).unwrap();
            let mut chain = Chain::<N>::new();
            let fault = DriverFault::NextOutOfRange { next: 77 };
            if policy == FaultPolicy::Reject {
                assert_eq!(queue.pop(&mem, &mut chain), Err(Stop::Rejected(fault)));
                assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
                assert_eq!(queue.complete(&chain, 4), Ok(()));
                assert_eq!(queue.in_flight(), 0);
                assert!(queue.flush());
                assert_eq!(rig.driver.take_used(), Some((0, 0)));
                assert_eq!(rig.driver.take_used(), Some((1, 4)));
                assert_eq!(queue.rejections(), (1, Some(fault)));
                assert_eq!(rig.engine.counters().rejected, 0);
                assert!(rig.engine.put_back(queue).is_ok());
                assert_eq!(rig.engine.counters().rejected, 1);
                assert_eq!(rig.engine.last_rejected(0), Some(fault));
            } else {
                assert_eq!(queue.pop(&mem, &mut chain), Err(Stop::Driver(fault)));
                assert!(matches!(
                    rig.engine.put_back(queue),
                    Err(PutBackError::Discarded)
                ));
                assert_eq!(rig.fault(), Some(fault));
            }
            assert_eq!(needs_reset(&mut rig), policy == FaultPolicy::NeedsReset);
            the_other_works(&mut rig);
        }
    }

    #[test]
    fn stops_a_queue_in_order_while_older_chains_are_in_flight() {
        for older in [false, true] {
            let ram = ram();
            let mut driver = driver(ram, 0);
            let plan = if older { Plan::Wait } else { Plan::Fill(1) };
            let mut engine = engine_over(RecordingModel::new(plan), ram.flat(BASE), 4)
                .with_policy(FaultPolicy::Reject)
                .with_offer(virtside::features::Offer::AS_IS.with(Features::IN_ORDER));
            let features = Features::IN_ORDER | Features::VERSION_1;
            assert!(engine.bring_up(features, &[config(0)]));
            if older {
                driver.send(2, &[Buffer::writable(DATA, 1)]);
            }
            driver.write_desc(0, (DATA, 1), NEXT, 77);
            driver.offer(0);
            driver.publish();
            let _ = engine.kick(0);
            let _ = virtside_tests::drain(&mut engine);
            assert_eq!(driver.take_used(), (!older).then_some((0, 0)));
            let state = if older {
                QueueState::Failed
            } else {
                QueueState::Live
            };
            assert_eq!(engine.queue_state(0), state);
        }
    }
}

mod an_inconsistent_ring {
    use super::*;

    #[test]
    fn stops_its_queue_under_every_policy() {
        for policy in POLICIES {
            let mut rig = rig(policy, Features::empty());
            rig.driver.set_avail_idx(100);
            assert_eq!(rig.kick(), Step::Idle);
            let fault = DriverFault::AvailIndexJump { idx: 100, next: 0 };
            assert_eq!(rig.fault(), Some(fault));
            assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
            assert_eq!(needs_reset(&mut rig), policy == FaultPolicy::NeedsReset);
            the_other_works(&mut rig);
        }
    }

    #[test]
    fn stops_its_queue_until_a_queue_reset() {
        let mut rig = rig(FaultPolicy::StopQueue, Features::RING_RESET);
        rig.driver.set_avail_idx(100);
        rig.kick();
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        assert_eq!(rig.engine.store(reg::QUEUE_SEL, 0).value(), Some(0));
        assert_eq!(rig.engine.store(reg::QUEUE_RESET, 1).value(), Some(0));
        assert_eq!(rig.engine.load(reg::QUEUE_RESET), 0);
        rig.driver = driver(rig.ram, 0);
        assert_eq!(rig.engine.configure(&config(0)).refusal(), None);
        assert_eq!(rig.fault(), None);
        rig.driver.send(5, &[Buffer::writable(DATA, 3)]);
        rig.kick();
        assert_eq!(rig.driver.take_used(), Some((5, 3)));
    }
}

#[test]
fn a_request_that_the_model_faults_is_treated_like_its_chain() {
    for policy in POLICIES {
        let mut rig = rig(policy, Features::empty());
        let fault = DriverFault::BadRequest { head: 4 };
        rig.engine.model_mut().plan = Plan::Blame(fault);
        rig.driver.send(4, &[Buffer::writable(DATA, 3)]);
        rig.kick();
        let rejected = policy == FaultPolicy::Reject;
        assert_eq!(rig.driver.take_used(), rejected.then_some((4, 0)));
        assert_eq!(rig.fault(), (!rejected).then_some(fault));
        assert_eq!(needs_reset(&mut rig), policy == FaultPolicy::NeedsReset);
    }
}

mod a_queue_that_fails_its_check {
    use super::*;

    fn set_up(policy: FaultPolicy) -> RecordingRig {
        let ram = ram();
        let driver = driver(ram, 0);
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(0xa5)), ram.flat(BASE), 4)
            .with_policy(policy);
        assert!(engine.negotiate(Features::VERSION_1));
        assert_eq!(engine.configure(&config(0)).refusal(), None);
        let mut bad = config(1);
        bad.size = 3;
        assert!(engine.configure(&bad).refusal().is_some());
        let _ = engine.go_live();
        RecordingRig {
            engine,
            driver,
            ram,
        }
    }

    #[test]
    fn breaks_the_device_at_driver_ok_only_by_default() {
        for policy in POLICIES {
            let mut rig = set_up(policy);
            let broken = policy == FaultPolicy::NeedsReset;
            assert_eq!(needs_reset(&mut rig), broken);
            assert_eq!(rig.interrupts(), u32::from(broken));
            if !broken {
                rig.driver.send(5, &[Buffer::writable(DATA, 3)]);
                rig.kick();
                assert_eq!(rig.driver.take_used(), Some((5, 3)));
                assert_eq!(rig.engine.queue_state(1), QueueState::Off);
            }
        }
    }

    #[test]
    fn ends_a_conversation_only_by_default() {
        for policy in POLICIES {
            let ram = ram();
            let shared = Arc::new(Shared::<Q>::new());
            let line = &*Box::leak(Box::<CountingNotify>::default());
            let builder = DeviceBuilder::new(Arc::clone(&shared))
                .with_policy(policy)
                .map_notify(|()| Ok(line))
                .unwrap();
            let mut configuring =
                Configuring::<_, _, _, Q, N, _>::new(builder, &(0..2), ram.flat(BASE));
            let good = layout(0).config(0);
            let mut bad = layout(1).config(1);
            bad.size = 3;
            assert!(configuring.step(Message::ConfigureQueue(bad)).is_err());
            assert_eq!(configuring.continues(), policy != FaultPolicy::NeedsReset);
            let step = configuring.step(Message::ConfigureQueue(good)).unwrap();
            assert!(matches!(step, Progress::Configured(0)));
            let features = Features::VERSION_1;
            let ready = configuring.step(Message::Ready { features }).unwrap();
            let Progress::Ready(mut device, responder) = ready else {
                panic!("the device is not ready");
            };
            assert!(responder.accept());
            // The policy applies to the device, too.
            let driver = driver(ram, 0);
            driver.set_avail_idx(100);
            let mut model = RecordingModel::new(Plan::Fill(1));
            let mut slots = [virtside::ChainSlot::<N>::new()];
            let _ = device.poll(&mut model, &mut slots, 8);
            assert!(device.driver_fault(0).is_some());
            assert_eq!(shared.needs_reset(), policy == FaultPolicy::NeedsReset);
        }
    }

    /// A device with two queues that were made ready before the features were known. Queue 0 does
    /// not suit the features: its driver area is at 2 modulo 4.
    #[cfg(feature = "packed")]
    fn early(policy: FaultPolicy) -> virtside_tests::TestEngine<RecordingModel> {
        let ram = ram();
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(1)), ram.flat(BASE), 4)
            .with_policy(policy)
            .with_offer(virtside::features::Offer::AS_IS.with(Features::RING_PACKED));
        let _ = engine.store(reg::STATUS, 3);
        let mut odd = config(0);
        odd.driver += 2;
        odd.device += 0x40;
        assert_eq!(engine.configure(&odd).refusal(), None);
        assert_eq!(engine.configure(&config(1)).refusal(), None);
        for (word, value) in [(0, 0), (1, 1 | 1 << 2)] {
            let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
            let _ = engine.store(reg::DRIVER_FEATURES, value);
        }
        assert_eq!(engine.store(reg::STATUS, 11).refusal(), None);
        let _ = engine.go_live();
        engine
    }

    #[cfg(feature = "packed")]
    #[test]
    fn is_removed_once_the_features_are_known() {
        for policy in [FaultPolicy::Reject, FaultPolicy::StopQueue] {
            let mut engine = early(policy);
            assert_eq!(engine.load(reg::STATUS), 15);
            let _ = engine.store(reg::QUEUE_SEL, 0);
            assert_eq!(engine.load(reg::QUEUE_READY), 0);
            assert!(engine.configured_queues().eq([1]));
            assert!(matches!(
                engine.transport().last_refusal(),
                Some(Refusal::Misaligned { queue: 0, .. })
            ));
        }
        let mut engine = early(FaultPolicy::NeedsReset);
        assert_eq!(engine.load(reg::STATUS), 15 | NEEDS_RESET);
    }

    #[cfg(feature = "packed")]
    #[test]
    fn does_not_prevent_saving_and_restoring() {
        let mut engine = early(FaultPolicy::StopQueue);
        let state: virtside::snapshot::EngineSnapshot<(), Q, N, 4> = engine.save().unwrap();
        let mut fresh = engine_over(RecordingModel::new(Plan::Fill(1)), ram().flat(BASE), 4)
            .with_policy(FaultPolicy::StopQueue)
            .with_offer(virtside::features::Offer::AS_IS.with(Features::RING_PACKED));
        // The earlier refusal on this device does not affect the restore.
        let mut bad = config(2);
        bad.size = 3;
        assert!(fresh.configure(&bad).refusal().is_some());
        assert_eq!(fresh.restore(&state), Ok(()));
        assert_eq!(fresh.load(reg::STATUS), 15);
        assert!(fresh.configured_queues().eq([1]));
    }

    #[test]
    fn when_it_is_set_up_again_needs_a_reset_only_by_default() {
        for policy in POLICIES {
            let mut rig = rig(policy, Features::RING_RESET);
            assert_eq!(rig.engine.store(reg::QUEUE_SEL, 0).value(), Some(0));
            assert_eq!(rig.engine.store(reg::QUEUE_RESET, 1).value(), Some(0));
            let mut bad = config(0);
            bad.size = 3;
            let refusal = rig.engine.configure(&bad).refusal();
            assert!(matches!(refusal, Some(Refusal::QueueSize { size: 3, .. })));
            assert_eq!(needs_reset(&mut rig), policy == FaultPolicy::NeedsReset);
            the_other_works(&mut rig);
        }
    }
}

#[cfg(feature = "packed")]
mod an_invalid_packed_chain {
    use super::*;
    use virtside::{FlatMem, testing::PackedDriver};
    use virtside_tests::{TestEngine, drain};

    const NOWHERE: u64 = 0xdead_0000_0000;

    /// A live device whose queue 0 is packed and of this size.
    fn packed(
        policy: FaultPolicy,
        features: Features,
        size: u16,
    ) -> (TestEngine<RecordingModel>, PackedDriver<FlatMem>) {
        let ram = ram();
        let driver = PackedDriver::new(ram.flat(BASE), BASE, size);
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(0xa5)), ram.flat(BASE), 4)
            .with_policy(policy)
            .with_offer(
                virtside::features::Offer::AS_IS.with(Features::RING_PACKED | Features::IN_ORDER),
            );
        let features = features | Features::VERSION_1 | Features::RING_PACKED;
        assert!(engine.bring_up(features, &[driver.config(0)]));
        (engine, driver)
    }

    /// Three descriptors, one of them at an address without memory.
    fn broken(at: usize) -> [Buffer; 3] {
        let mut buffers = [
            Buffer::readable(DATA, 4),
            Buffer::readable(DATA, 4),
            Buffer::writable(DATA, 4),
        ];
        buffers[at].addr = NOWHERE;
        buffers
    }

    fn serve(engine: &mut TestEngine<RecordingModel>) {
        assert_eq!(engine.kick(0).value(), Some(0));
        assert_eq!(drain(engine), Step::Idle);
    }

    #[test]
    fn is_given_back_with_all_its_slots_under_reject() {
        for (size, features) in [(8, Features::empty()), (5, Features::IN_ORDER)] {
            let (mut engine, mut driver) = packed(FaultPolicy::Reject, features, size);
            // The chains go around the ring more than once, and the bad descriptor is at each
            // position.
            for round in 0..12 {
                driver.send(round, &broken(usize::from(round % 3)));
                driver.send(100 + round, &[Buffer::writable(DATA, 2)]);
                serve(&mut engine);
                assert_eq!(driver.take_used(3), Some((round, 0, false)), "{round}");
                assert_eq!(driver.take_used(1), Some((100 + round, 2, true)));
            }
            assert_eq!(engine.counters().rejected, 12);
            assert_eq!(engine.load(reg::STATUS) & NEEDS_RESET, 0);
            assert!(engine.take_queue(0).is_ok(), "nothing is in flight");
        }
    }

    #[test]
    fn stops_its_queue_if_it_has_no_end_or_an_id_in_flight() {
        let (mut engine, driver) = packed(FaultPolicy::Reject, Features::empty(), 4);
        let available = PackedDriver::<FlatMem>::available(true);
        for slot in (0..4).rev() {
            driver.write_desc(slot, (NOWHERE, 1), 1, NEXT | available);
        }
        serve(&mut engine);
        assert_eq!(engine.queue_state(0), QueueState::Failed);

        let (mut engine, mut driver) = packed(FaultPolicy::Reject, Features::empty(), 8);
        engine.model_mut().plan = Plan::Wait;
        driver.send(6, &[Buffer::writable(DATA, 2)]);
        driver.send(6, &broken(1));
        assert_eq!(engine.kick(0).value(), Some(0));
        let _ = drain(&mut engine);
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        assert_eq!(driver.take_used(1), None);
    }

    #[test]
    fn stops_a_queue_in_order_while_older_ones_are_in_flight() {
        let (mut engine, mut driver) = packed(FaultPolicy::Reject, Features::IN_ORDER, 8);
        engine.model_mut().plan = Plan::Wait;
        driver.send(6, &[Buffer::writable(DATA, 2)]);
        driver.send(7, &broken(1));
        assert_eq!(engine.kick(0).value(), Some(0));
        let _ = drain(&mut engine);
        assert_eq!(engine.queue_state(0), QueueState::Failed);
    }

    #[test]
    fn needs_a_reset_by_default() {
        let (mut engine, mut driver) = packed(FaultPolicy::NeedsReset, Features::empty(), 8);
        driver.send(7, &broken(1));
        serve(&mut engine);
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        assert_ne!(engine.load(reg::STATUS) & NEEDS_RESET, 0);
    }
}

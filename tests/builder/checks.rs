//! Queue checks: the ready-made ones, and checks of a device's own.

use std::{cell::RefCell, ops::Bound};

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, QueueCheck, QueueConfig,
    QueueSet, Refusal, Request,
    error::{DeviceError, FaultPolicy},
    mmio::Reply,
    queue::QueueCheckFn,
    testing::Registers,
};
use virtside_tests::{SIZE, config, layout, reg, test_engine};

/// Returns which of the queues 0 to 9 a check accepts beside these queues.
fn wants(check: &(impl QueueCheck + ?Sized), existing: &[u16]) -> Vec<u16> {
    (0..10)
        .filter(|queue| {
            let answer = check.check_queue(*queue, existing.iter().copied());
            answer
                .map_err(Into::into)
                .map_err(|error: DeviceError| {
                    assert_eq!(error, DeviceError::InvalidQueue(*queue));
                })
                .is_ok()
        })
        .collect()
}

#[test]
fn a_slice_wants_the_numbers_in_it_each_once() {
    assert_eq!(wants(&[3, 0, 7][..], &[]), [0, 3, 7]);
    assert_eq!(wants(&[3, 0, 7][..], &[0, 5]), [3, 7]);
    assert_eq!(wants(&[3, 0, 7][..], &[0, 3, 7]), []);
    assert_eq!(wants(&[][..], &[]), []);
    assert_eq!(wants(&[2, 2][..], &[2]), []);
}

#[test]
fn a_range_of_any_kind_wants_the_numbers_in_it_each_once() {
    assert_eq!(wants(&(2..4), &[]), [2, 3]);
    assert_eq!(wants(&(2..4), &[3]), [2]);
    assert_eq!(wants(&(2..=4), &[]), [2, 3, 4]);
    assert_eq!(wants(&(..2), &[]), [0, 1]);
    assert_eq!(wants(&(..=2), &[1]), [0, 2]);
    assert_eq!(wants(&(7..), &[]), [7, 8, 9]);
    assert_eq!(wants(&(..), &[0, 1, 2, 3, 4]), [5, 6, 7, 8, 9]);
    assert_eq!(wants(&(4..4), &[]), []);
    assert_eq!(
        wants(&(Bound::Excluded(5), Bound::Included(7)), &[]),
        [6, 7]
    );
    assert!(
        (0..=u16::MAX)
            .check_queue(u16::MAX, std::iter::empty())
            .is_ok()
    );
}

#[test]
fn a_queue_set_wants_its_members_each_once() {
    let set = QueueSet::<1>::from_slice(&[1, 8]).expect("the numbers fit");
    assert_eq!(wants(&set, &[]), [1, 8]);
    assert_eq!(wants(&set, &[8, 2]), [1]);
    assert_eq!(wants(&QueueSet::<0>::new(), &[]), []);
}

#[test]
fn a_closure_decides_by_the_existing_queues() {
    // This check accepts two queues, and no queue number that is twice an existing number.
    let check = QueueCheckFn(|queue, existing: &mut dyn Iterator<Item = u16>| {
        let existing: Vec<u16> = existing.collect();
        if existing.len() < 2 && !existing.iter().any(|other| queue == 2 * other) {
            Ok(())
        } else {
            Err(DeviceError::InvalidQueue(queue))
        }
    });
    assert_eq!(wants(&check, &[3]), [0, 1, 2, 3, 4, 5, 7, 8, 9]);
    assert_eq!(wants(&check, &[3, 4]), []);
}

/// A refusal with more data than a queue number.
#[derive(Debug)]
struct TooMany(u16);

impl From<TooMany> for DeviceError {
    fn from(error: TooMany) -> Self {
        Refusal::QueueFrozen {
            queue: error.0,
            why: virtside::error::Frozen::Failed,
        }
        .into()
    }
}

#[test]
fn a_check_may_have_an_error_of_its_own() {
    let check = QueueCheckFn(|queue, _: &mut dyn Iterator<Item = u16>| Err(TooMany(queue)));
    let error: DeviceError = check.check_queue(4, [].into_iter()).unwrap_err().into();
    let refusal = Refusal::QueueFrozen {
        queue: 4,
        why: virtside::error::Frozen::Failed,
    };
    assert_eq!(error, DeviceError::Refused(refusal));
}

#[test]
fn by_default_a_configuration_is_judged_by_its_number() {
    let seen = RefCell::new(Vec::new());
    let check = QueueCheckFn(|queue, existing: &mut dyn Iterator<Item = u16>| {
        seen.borrow_mut()
            .push((queue, existing.collect::<Vec<_>>()));
        Err(DeviceError::InvalidQueue(queue))
    });
    let config_of = |queue| QueueConfig { queue, ..config(0) };
    let config = QueueConfig {
        queue: 6,
        size: 1 << 20,
        desc: 1,
        driver: 1,
        device: 1,
    };
    let verdict = check.check_config(&config, Features::RING, [config_of(2), config_of(9)].iter());
    assert_eq!(verdict, Err(DeviceError::InvalidQueue(6)));
    assert_eq!(*seen.borrow(), [(6, vec![2, 9])]);
}

/// Accepts queues of 8 elements, and larger ones with INDIRECT_DESC.
#[derive(Clone)]
struct BySize;

impl QueueCheck for BySize {
    type Error = DeviceError;
    fn check_queue(&self, _: u16, _: impl Iterator<Item = u16>) -> Result<(), DeviceError> {
        unreachable!("`check_config` replaces this method");
    }
    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        mut existing: impl Iterator<Item = &'a QueueConfig> + Clone,
    ) -> Result<(), DeviceError> {
        let known = existing.any(|other| other.queue == config.queue);
        if !known && (config.size == 8 || features.contains(Features::INDIRECT_DESC)) {
            Ok(())
        } else {
            Err(DeviceError::InvalidQueue(config.queue))
        }
    }
}

/// A device with this check.
struct Picky<P>(P);

impl<P> DeviceConfig for Picky<P> {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl<P: Clone + QueueCheck> DeviceModel for Picky<P> {
    fn queue_check(&self) -> impl QueueCheck {
        self.0.clone()
    }
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Done { written: 0 })
    }
}

#[test]
fn a_check_may_judge_size_and_features() {
    for (features, size, verdict) in [
        (Features::VERSION_1, 8, None),
        (
            Features::VERSION_1,
            16,
            Some(Refusal::QueueCheck { queue: 0 }),
        ),
        (Features::RING, 16, None),
    ] {
        let (mut engine, _) = test_engine(Picky(BySize), 1);
        assert!(engine.negotiate(features));
        let mut config = config(0);
        config.size = size;
        assert_eq!(engine.configure(&config).refusal(), verdict);
        assert_eq!(engine.load(reg::QUEUE_READY), u32::from(verdict.is_none()));
    }
}

#[test]
fn at_driver_ok_the_check_sees_the_final_features() {
    let (mut engine, _) = test_engine(Picky(BySize), 1);
    let _ = engine.store(reg::STATUS, 3);
    for (word, value) in [(0, Features::RING.word(0)), (1, 1)] {
        let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
        let _ = engine.store(reg::DRIVER_FEATURES, value);
    }
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    // The driver negotiates again without INDIRECT_DESC.
    let _ = engine.store(reg::DRIVER_FEATURES_SEL, 0);
    let _ = engine.store(reg::DRIVER_FEATURES, 0);
    let _ = engine.store(reg::STATUS, 0xb);
    assert_eq!(engine.go_live(), Reply::Refused(Refusal::NotReady));
    assert_eq!(engine.load(reg::STATUS), 0x4f);
}

/// The queues that a check was asked about, each with the queues beside it.
type Asked = std::rc::Rc<RefCell<Vec<(u16, Vec<u16>)>>>;

#[test]
fn at_driver_ok_each_queue_is_checked_beside_all_others() {
    let asked = Asked::default();
    let inside = asked.clone();
    let check = QueueCheckFn(move |queue, existing: &mut dyn Iterator<Item = u16>| {
        inside.borrow_mut().push((queue, existing.collect()));
        Ok::<(), DeviceError>(())
    });
    let (mut engine, _) = test_engine(Picky(check), 1);
    assert!(engine.bring_up(Features::VERSION_1, &[config(3), config(0), config(2)]));
    assert_eq!(
        asked.take()[3..],
        [(0, vec![2, 3]), (2, vec![0, 3]), (3, vec![0, 2])]
    );
}

#[test]
fn when_a_queue_is_dropped_the_others_are_checked_again() {
    let asked = Asked::default();
    let inside = asked.clone();
    // Each queue needs the queue above it.
    let check = QueueCheckFn(move |queue, existing: &mut dyn Iterator<Item = u16>| {
        let existing: Vec<u16> = existing.collect();
        inside.borrow_mut().push((queue, existing.clone()));
        if queue == 3 || existing.contains(&(queue + 1)) {
            Ok(())
        } else {
            Err(DeviceError::InvalidQueue(queue))
        }
    });
    let (engine, _) = test_engine(Picky(check), 1);
    let mut engine = engine.with_policy(FaultPolicy::StopQueue);
    assert!(engine.negotiate(Features::VERSION_1));
    for queue in [3, 2, 1, 0] {
        assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
    }
    let _ = engine.store(reg::QUEUE_SEL, 3);
    assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    asked.take();
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(engine.configured_queues().count(), 0);
    assert_eq!(
        engine.transport().last_refusal(),
        Some(Refusal::QueueCheck { queue: 0 })
    );
    // Three queues cost 3 * 4 / 2 checks, the documented maximum.
    assert_eq!(
        asked.take(),
        [
            (0, vec![1, 2]),
            (1, vec![0, 2]),
            (2, vec![0, 1]),
            (0, vec![1]),
            (1, vec![0]),
            (0, vec![])
        ]
    );
    for queue in 0..4 {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        assert_eq!(engine.load(reg::QUEUE_READY), 0);
    }
}

#[test]
fn the_device_is_asked_after_every_other_check() {
    let asked = std::rc::Rc::new(RefCell::new(0));
    let inside = asked.clone();
    let check = QueueCheckFn(move |_, _: &mut dyn Iterator<Item = u16>| {
        *inside.borrow_mut() += 1;
        Ok::<(), DeviceError>(())
    });
    let (mut engine, _) = test_engine(Picky(check), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    for wrong in [
        QueueConfig {
            size: 0,
            ..config(0)
        },
        QueueConfig {
            size: 17,
            ..config(0)
        },
        QueueConfig {
            desc: 1,
            ..config(0)
        },
        QueueConfig {
            driver: layout(0).desc,
            ..config(0)
        },
        QueueConfig {
            device: 0,
            ..config(0)
        },
    ] {
        assert!(engine.configure(&wrong).refusal().is_some());
    }
    assert_eq!(*asked.borrow(), 0);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(*asked.borrow(), 1);
}

#[test]
fn the_existing_queues_are_those_that_are_ready_now() {
    let seen = std::rc::Rc::new(RefCell::new(Vec::new()));
    let inside = seen.clone();
    let check = QueueCheckFn(move |queue, existing: &mut dyn Iterator<Item = u16>| {
        inside
            .borrow_mut()
            .push((queue, existing.collect::<Vec<_>>()));
        if queue == 2 {
            Err(DeviceError::InvalidQueue(2))
        } else {
            Ok(())
        }
    });
    let (mut engine, _) = test_engine(Picky(check), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    for queue in [3, 2, 0] {
        let _ = engine.configure(&config(queue));
    }
    let _ = engine.store(reg::QUEUE_SEL, 3);
    let _ = engine.store(reg::QUEUE_READY, 0);
    let _ = engine.configure(&config(1));
    assert_eq!(
        *seen.borrow(),
        [(3, vec![]), (2, vec![3]), (0, vec![3]), (1, vec![0])]
    );
    assert!(engine.configured_queues().eq([0, 1]));
}

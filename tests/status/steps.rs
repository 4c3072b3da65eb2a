//! The driver's steps from reset to live, in every order.

use proptest::prelude::*;
use virtside::{
    Features, Refusal,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    TestEngine, config,
    probe::{Event, Probe, probe, seen},
    reg,
    status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET, SUSPEND},
};

/// A device in reset with accepted features.
fn chosen() -> TestEngine<Probe> {
    let (mut engine, _) = probe();
    choose(&mut engine);
    engine
}

fn choose(engine: &mut TestEngine<Probe>) {
    assert_eq!(engine.store(reg::DRIVER_FEATURES_SEL, 1), Reply::Done(0));
    assert_eq!(engine.store(reg::DRIVER_FEATURES, 1), Reply::Done(0));
}

/// Every way to set these bits in steps of one or more bits.
fn ways(left: u32) -> Vec<Vec<u32>> {
    if left == 0 {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for step in (1..=left).filter(|step| step & !left == 0) {
        for mut way in ways(left & !step) {
            way.insert(0, step);
            all.push(way);
        }
    }
    all
}

#[test]
fn the_first_read_is_zero() {
    let (mut engine, _) = probe();
    assert_eq!(engine.load(reg::STATUS), 0);
    assert_eq!(engine.phase(), Phase::Reset);
}

#[test]
fn the_steps_of_virtio_drivers_lead_to_a_live_device() {
    let mut engine = chosen();
    // Features are written between 3 and 11; a reset would clear them.
    for (value, phase) in [
        (3, Phase::Negotiating),
        (11, Phase::SettingUp),
        (15, Phase::Live),
    ] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!((engine.load(reg::STATUS), engine.phase()), (value, phase));
    }
    assert_eq!(engine.features(), Features::VERSION_1);
}

#[test]
fn the_steps_of_the_specification_lead_to_a_live_device() {
    let (mut engine, _) = probe();
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    for value in [1, 3] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), value);
        assert_eq!(engine.phase(), Phase::Negotiating);
    }
    choose(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
    assert_eq!(engine.phase(), Phase::SettingUp);
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(engine.phase(), Phase::Live);
    assert_eq!(engine.queue_state(0), QueueState::Live);
}

#[test]
fn bits_may_come_in_any_order_and_several_at_once() {
    let mut tried = 0;
    for way in ways(ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK) {
        let early = way
            .iter()
            .position(|step| step & DRIVER_OK != 0)
            .is_some_and(|at| way[..=at].iter().all(|step| step & FEATURES_OK == 0));
        if early {
            continue;
        }
        tried += 1;
        let mut engine = chosen();
        let mut status = 0;
        for step in &way {
            status |= step;
            assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0), "{way:?}");
            assert_eq!(engine.load(reg::STATUS), status, "{way:?}");
        }
        assert_eq!(engine.phase(), Phase::Live, "{way:?}");
        assert!(engine.device().shared().is_live(), "{way:?}");
    }
    // 75 ordered partitions of four bits; in 31 of them DRIVER_OK comes before FEATURES_OK.
    assert_eq!(tried, 44);
}

#[test]
fn the_same_status_may_be_written_again() {
    let mut engine = chosen();
    for value in [1, 3, 11, 15] {
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        let before = seen(&engine);
        assert_eq!(engine.store(reg::STATUS, value), Reply::Done(0));
        assert_eq!(seen(&engine), before);
    }
    // The model is told each step once.
    let features = Features::VERSION_1;
    assert_eq!(
        engine.model().log,
        [Event::Negotiate(features), Event::Ready(features)]
    );
}

#[test]
fn no_bit_can_be_cleared() {
    for status in [1, 3, 11, 15, 11 | FAILED, 15 | FAILED] {
        let mut engine = chosen();
        assert_eq!(engine.store(reg::STATUS, status & 15), Reply::Done(0));
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        let before = seen(&engine);
        for fewer in (1..status).filter(|fewer| fewer & !status == 0) {
            let missing = (status & !fewer) as u8;
            assert_eq!(
                engine.store(reg::STATUS, fewer),
                Reply::Refused(Refusal::StatusBitsCleared { missing }),
                "{fewer:#x} instead of {status:#x}"
            );
            assert_eq!(seen(&engine), before);
        }
    }
}

#[test]
fn a_bit_is_not_added_by_a_write_that_clears_another() {
    let mut engine = chosen();
    assert_eq!(engine.store(reg::STATUS, 3), Reply::Done(0));
    for value in [9, 10, 8, 1 | FAILED, FAILED] {
        assert!(engine.store(reg::STATUS, value).refusal().is_some());
        assert_eq!(engine.load(reg::STATUS), 3, "{value:#x}");
        assert_eq!(engine.phase(), Phase::Negotiating);
    }
}

#[test]
fn a_value_beyond_a_byte_is_refused_and_is_no_reset() {
    for status in [0, 3, 11, 15] {
        let mut engine = chosen();
        if status != 0 {
            assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        }
        let before = seen(&engine);
        // The low byte of some values is 0, and of others the current status.
        for value in [
            0x100,
            0x10f,
            0x1_0000,
            0x8000_0000,
            0xffff_ff00,
            0xffff_ff0f,
        ] {
            let refusal = Refusal::BadValue {
                offset: reg::STATUS,
                value,
            };
            assert_eq!(engine.store(reg::STATUS, value), Reply::Refused(refusal));
            assert_eq!(seen(&engine), before, "{value:#x} after {status:#x}");
        }
        assert_eq!(engine.model().count(Event::Reset), 0);
    }
}

#[test]
fn an_undefined_bit_is_not_kept_and_is_no_reset() {
    let mut engine = chosen();
    assert_eq!(engine.store(reg::STATUS, 0x20), Reply::Done(0));
    assert_eq!(
        (engine.load(reg::STATUS), engine.phase()),
        (0, Phase::Reset)
    );
    assert_eq!(engine.store(reg::STATUS, 0x2f), Reply::Done(0));
    assert_eq!(
        (engine.load(reg::STATUS), engine.phase()),
        (15, Phase::Live)
    );
    assert_eq!(engine.model().count(Event::Reset), 0);
}

#[test]
fn suspend_is_ignored_before_the_device_is_live() {
    let mut engine = chosen();
    assert_eq!(engine.store(reg::STATUS, SUSPEND), Reply::Done(0));
    assert_eq!(
        (engine.load(reg::STATUS), engine.phase()),
        (0, Phase::Reset)
    );
    for status in [1, 3, 11] {
        assert_eq!(engine.store(reg::STATUS, status | SUSPEND), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), status);
        let before = seen(&engine);
        assert_eq!(engine.store(reg::STATUS, status | SUSPEND), Reply::Done(0));
        assert_eq!(seen(&engine), before);
    }
}

#[test]
fn suspend_is_ignored_if_it_was_not_negotiated() {
    let mut engine = chosen();
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    let before = seen(&engine);
    assert_eq!(engine.store(reg::STATUS, 15 | SUSPEND), Reply::Done(0));
    assert_eq!(seen(&engine), before);
    // Such a write cannot clear DRIVER_OK either.
    let refusal = Refusal::StatusBitsCleared { missing: 4 };
    assert_eq!(
        engine.store(reg::STATUS, 11 | SUSPEND),
        Reply::Refused(refusal)
    );
    assert_eq!(seen(&engine), before);
}

#[test]
fn needs_reset_is_not_the_drivers_to_set() {
    let mut engine = chosen();
    for status in [0, 3, 11, 15] {
        assert_eq!(
            engine.store(reg::STATUS, status | NEEDS_RESET),
            Reply::Done(0)
        );
        assert_eq!(engine.load(reg::STATUS), status);
    }
    assert!(!engine.device().shared().needs_reset());
    assert_eq!(engine.device().notify().asserted(), 0);
}

#[test]
fn driver_ok_without_features_ok_has_no_effect() {
    for before in [0, 1, 3] {
        let mut engine = chosen();
        if before != 0 {
            assert_eq!(engine.store(reg::STATUS, before), Reply::Done(0));
        }
        assert_eq!(
            engine.store(reg::STATUS, before | DRIVER_OK),
            Reply::Refused(Refusal::FeaturesNotNegotiated)
        );
        assert_eq!(engine.load(reg::STATUS), before);
        assert!(!engine.device().shared().is_live());
        // A later FEATURES_OK works.
        assert_eq!(engine.store(reg::STATUS, 11), Reply::Done(0));
        assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
        assert_eq!(engine.phase(), Phase::Live);
    }
}

#[test]
fn all_steps_in_one_write_after_refused_features_do_not_go_live() {
    // This driver never reads FEATURES_OK back.
    let (mut engine, _) = probe();
    let nothing = Features::empty();
    assert!(!engine.negotiate(nothing));
    assert_eq!(engine.configure(&config(0)), Reply::Done(0));
    let refusal = Refusal::FeaturesMissing {
        missing: Features::VERSION_1,
    };
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Refused(refusal));
    assert_eq!(engine.load(reg::STATUS), 3);
    assert_eq!(engine.phase(), Phase::Negotiating);
    assert!(!engine.device().shared().is_live());
    assert_eq!(engine.queue_state(0), QueueState::Ready);
    assert_eq!(engine.device().notify().asserted(), 0);
}

#[test]
fn all_steps_in_one_write_go_live_if_the_features_fit() {
    let mut engine = chosen();
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(
        (engine.load(reg::STATUS), engine.phase()),
        (15, Phase::Live)
    );
}

#[test]
fn after_failed_at_any_step_a_reset_and_a_fresh_start_follow() {
    for steps in [&[][..], &[1], &[1, 3], &[3, 11], &[3, 11, 15]] {
        let (mut engine, ram) = probe();
        choose(&mut engine);
        let mut status = 0;
        for &step in steps {
            status = step;
            assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        }
        status |= FAILED;
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), status);
        assert_eq!(engine.phase(), Phase::Failed);
        assert!(!engine.device().shared().is_live());

        // Only a reset leads out of FAILED.
        let before = seen(&engine);
        assert_eq!(engine.store(reg::STATUS, status), Reply::Done(0));
        if status & DRIVER_OK == 0 {
            assert_eq!(
                engine.store(reg::STATUS, 15 | FAILED),
                Reply::Refused(Refusal::WrongPhase)
            );
        }
        assert!(engine.store(reg::STATUS, 15).refusal().is_some());
        assert_eq!(seen(&engine), before);

        assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
        assert_eq!(engine.load(reg::STATUS), 0);
        let mut driver = virtside_tests::driver(ram, 0);
        assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
        virtside_tests::probe::assert_works(&mut engine, &mut driver, 0);
    }
}

/// A short model of Status.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Model {
    bits: u32,
    fits: bool,
}

impl Model {
    /// Updates the status by a write; returns whether the write is refused.
    fn write(&mut self, value: u32) -> bool {
        if value == 0 {
            *self = Self::default();
            return false;
        }
        let new = value & (ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED);
        if value > 0xff || self.bits & !new != 0 {
            return true;
        }
        let added = new & !self.bits;
        if self.bits & FAILED != 0 {
            return added != 0;
        }
        self.bits |= new & (ACKNOWLEDGE | DRIVER | FAILED);
        if self.bits & FAILED != 0 {
            return false;
        }
        if self.fits {
            self.bits |= new & FEATURES_OK;
        }
        if self.bits & FEATURES_OK != 0 {
            self.bits |= new & DRIVER_OK;
        }
        self.bits != self.bits | new
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_writes_in_any_order_do_what_the_model_says(
        writes in proptest::collection::vec(
            prop_oneof![
                8 => 0u32..=15,
                4 => Just(11u32),
                4 => Just(15u32),
                4 => 0u32..=255,
                1 => Just(0u32),
                1 => any::<u32>(),
                // Chooses the features; the value is no status.
                3 => Just(u32::MAX),
            ],
            1..40,
        )
    ) {
        let (mut engine, _) = probe();
        let mut model = Model::default();
        for value in writes {
            if value == u32::MAX {
                if model.bits & (FEATURES_OK | FAILED) == 0 {
                    choose(&mut engine);
                    model.fits = true;
                }
                continue;
            }
            let refused = model.write(value);
            let reply = engine.store(reg::STATUS, value);
            prop_assert_eq!(reply.refusal().is_some(), refused, "{:#x}: {:?}", value, reply);
            prop_assert_eq!(engine.load(reg::STATUS), model.bits, "{:#x}", value);
            let live = model.bits & (DRIVER_OK | FAILED) == DRIVER_OK;
            prop_assert_eq!(engine.device().shared().is_live(), live);
            prop_assert_eq!(engine.phase() == Phase::Live, live);
        }
        prop_assert_eq!(engine.device().notify().asserted(), 0);
    }
}

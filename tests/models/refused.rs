//! Snapshots that a device refuses; the device stays unchanged.

use virtside::{
    Features, error::FaultPolicy, model::SaveModel, snapshot::SnapshotError, testing::Registers,
};
use virtside_tests::{
    differential::{direct, given, play_scenario},
    in_order::Format,
    ram, reg,
    status::LIVE,
};

use crate::{
    case::{Device, Q, State, Versioned},
    *,
};

fn a_device_that_is_not_in_reset_takes_no_state<C: ModelCase>() {
    for (case, _) in C::all() {
        let ram = ram();
        let mut device: Device<C::Model> =
            direct::<_, Q>(case.scenario_model(), ram, FaultPolicy::default());
        let place = (ram, Format::Split, case.features() | Features::RING);
        let _ = play_scenario(&mut device, place, &case.scenario());
        let state: State<C::Model> = device.save().expect("the device can be saved");
        assert_eq!(device.restore(&state), Err(SnapshotError::NotInReset));
        assert_eq!(device.load(reg::STATUS), LIVE);
        assert!(device.model().save() == state.model);
        let again = given(&mut play_scenario(&mut device, place, &case.scenario()));
        assert_eq!(
            again.len(),
            case.scenario().len(),
            "the device works as before"
        );
    }
}

fn a_state_of_another_version_is_refused<C: Versioned>() {
    for (case, _) in C::all() {
        let ram = ram();
        let mut device: Device<C::Model> =
            direct::<_, Q>(case.scenario_model(), ram, FaultPolicy::default());
        let place = (ram, Format::Split, case.features() | Features::RING);
        let _ = play_scenario(&mut device, place, &case.scenario());
        let mut state: State<C::Model> = device.save().expect("the device can be saved");
        let right = *C::version(&mut state.model);
        let model = case.successor(device.model());
        let mut next: Device<C::Model> = direct::<_, Q>(model, ram, FaultPolicy::default());
        for version in [0, right + 1, u16::MAX] {
            *C::version(&mut state.model) = version;
            let refused = Err(SnapshotError::Version { version });
            assert_eq!(next.restore(&state), refused);
            assert_eq!(next.load(reg::STATUS), 0);
            assert!(next.model().save() == case.model().save());
        }
        *C::version(&mut state.model) = right;
        assert_eq!(next.restore(&state), Ok(()));
    }
}

over_models! {
    blk console entropy gpio i2c spi: { a_device_that_is_not_in_reset_takes_no_state }
}

mod versions {
    use super::a_state_of_another_version_is_refused;
    use crate::over_models;

    over_models! {
        blk console gpio i2c spi: { a_state_of_another_version_is_refused }
    }
}

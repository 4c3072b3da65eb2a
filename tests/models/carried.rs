//! A device that is saved between any two steps and restored over a fresh model, compared with one
//! that is not.

use virtside::{
    DriverFault, Features, HostFault, QueueConfig, error::FaultPolicy, model::SaveModel,
    testing::Registers,
};
use virtside_tests::{
    TestRam,
    differential::{DifferentialRig, Machine, direct, play_scenario},
    in_order::Format,
    ram, reg,
};

use crate::{
    case::{Device, Q, State, play},
    *,
};

/// A device that is saved and restored at every kick.
struct Restored<C: ModelCase> {
    case: C,
    device: Device<C::Model>,
    ram: TestRam,
}

impl<C: ModelCase> Restored<C> {
    fn new(case: C, ram: TestRam) -> Self {
        let device = direct::<_, Q>(case.model(), ram, FaultPolicy::default());
        Self { case, device, ram }
    }

    fn save_and_restore(&mut self) {
        let state: State<C::Model> = self.device.save().expect("the device can be saved");
        let model = self.case.successor(self.device.model());
        let mut next: Device<C::Model> = direct::<_, Q>(model, self.ram, FaultPolicy::default());
        let restored = next.restore(&state);
        restored.expect("the snapshot is valid");
        let mut again: State<C::Model> = next.save().expect("the device can be saved");
        again.registers.generation = state.registers.generation;
        assert_eq!(again, state);
        C::swap_back_ends(self.device.model_mut(), next.model_mut());
        self.device = next;
    }
}

impl<C: ModelCase> Machine<C::Model> for Restored<C> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        Machine::bring_up(&mut self.device, features, queues);
    }
    fn kick(&mut self, queues: &[u16]) {
        self.save_and_restore();
        Machine::kick(&mut self.device, queues);
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut C::Model), ready: &[u16]) {
        self.device.act(act, ready);
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        Machine::fault(&self.device, queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        Machine::host_fault(&mut self.device)
    }
}

fn a_driver_does_not_notice_a_restore_between_requests<C: ModelCase>() {
    play::<C>(C::without_trouble, |case, wanted| {
        let (model, queues) = (|| case.model(), case.queues());
        let mut rig = DifferentialRig::alone::<Q>(model, wanted, queues, C::observe_restored);
        for (name, format) in [
            ("split, carried", Format::Split),
            ("packed, carried", Format::Packed),
        ] {
            rig.join(name, format, |ram| {
                Box::new(Restored::new(case.clone(), ram))
            });
        }
        rig
    });
}

fn a_reset_after_a_restore_leaves_a_fresh_model<C: ModelCase>() {
    for (case, _) in C::all() {
        let ram = ram();
        let mut carried = Restored::new(case.clone(), ram);
        let place = (ram, Format::Split, case.features() | Features::RING);
        let _ = play_scenario(&mut carried.device, place, &case.scenario());
        carried.save_and_restore();
        let _ = carried.device.store(reg::STATUS, 0);
        assert!(carried.device.model().save() == case.model().save());
    }
}

over_models! {
    blk console entropy gpio i2c spi: {
        a_driver_does_not_notice_a_restore_between_requests
        a_reset_after_a_restore_leaves_a_fresh_model
    }
}

//! A device that is suspended and resumed between any two steps, compared with one that is not.

use virtside::{
    DriverFault, Features, HostFault, QueueConfig, Step, error::FaultPolicy,
    snapshot::EngineSnapshot, testing::Registers,
};
use virtside_tests::{
    BUDGET, N, TestRam,
    differential::{DifferentialRig, Machine, direct},
    in_order::Format,
    reg,
    status::{LIVE, LIVE_SUSPEND, SUSPENDED},
};

use crate::{
    case::{Device, Q, play},
    *,
};

/// A device that is suspended and resumed before every kick, unless a chain in hand delays the
/// suspension.
struct Suspended<C: ModelCase>(Device<C::Model>);

impl<C: ModelCase> Suspended<C> {
    fn new(case: &C, ram: TestRam) -> Self {
        Self(direct::<_, Q>(case.model(), ram, FaultPolicy::default()))
    }

    fn suspend_and_resume(&mut self) {
        let device = &mut self.0;
        let state: EngineSnapshot<_, Q, N, 16> = device.save().expect("the device can be saved");
        let chains = &state.device.chains;
        if !chains
            .iter()
            .all(|chain| virtside::DeviceModel::may_sleep(device.model(), chain.queue))
        {
            return;
        }
        let interrupts = device.device().notify().asserted();
        let _ = device.store(reg::STATUS, LIVE_SUSPEND);
        while device.poll(BUDGET) == Step::More {}
        assert_eq!(device.load(reg::STATUS), SUSPENDED);
        while device.poll(BUDGET) == Step::More {}
        assert_eq!(device.device().notify().asserted(), interrupts);
        let _ = device.store(reg::STATUS, LIVE_SUSPEND);
        assert_eq!(device.load(reg::STATUS), LIVE);
    }
}

impl<C: ModelCase> Machine<C::Model> for Suspended<C> {
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) {
        Machine::bring_up(&mut self.0, features | Features::SUSPEND, queues);
    }
    fn kick(&mut self, queues: &[u16]) {
        self.suspend_and_resume();
        Machine::kick(&mut self.0, queues);
    }
    fn act(&mut self, act: &mut dyn FnMut(&mut C::Model), ready: &[u16]) {
        self.0.act(act, ready);
    }
    fn fault(&self, queue: u16) -> Option<DriverFault> {
        Machine::fault(&self.0, queue)
    }
    fn host_fault(&mut self) -> Option<HostFault> {
        Machine::host_fault(&mut self.0)
    }
}

fn a_driver_finds_nothing_changed_after_a_suspension<C: ModelCase>() {
    play::<C>(C::without_trouble, |case, wanted| {
        let (model, queues) = (|| case.model(), case.queues());
        let mut rig = DifferentialRig::alone::<Q>(model, wanted, queues, C::observe);
        for (name, format) in [
            ("split, suspended", Format::Split),
            ("packed, suspended", Format::Packed),
        ] {
            rig.join(name, format, |ram| Box::new(Suspended::new(case, ram)));
        }
        rig
    });
}

over_models! {
    blk console entropy gpio i2c spi: { a_driver_finds_nothing_changed_after_a_suspension }
}

//! What is shown of the conversation between a driver and a device.

use indicatif::ProgressBar;
use virtside::{
    DeviceModel,
    mmio::{Access, Phase, Reply},
};

use super::{
    device::Machine,
    words::{Selectors, verdict},
};

pub(crate) struct Screen {
    name: &'static str,
    trace: bool,
    bar: ProgressBar,
    selectors: Selectors,
    /// The set-up conversation was shown to its end.
    live: bool,
}

impl Screen {
    pub(crate) fn new(name: &'static str, trace: bool, bar: ProgressBar) -> Self {
        Self {
            name,
            trace,
            bar,
            selectors: Selectors::default(),
            live: false,
        }
    }

    /// The writes of the set-up conversation go to stdout; with `--trace`, everything else goes to
    /// stderr.
    pub(crate) fn show<D: DeviceModel>(
        &mut self,
        machine: &Machine<D>,
        access: Access,
        reply: Reply,
    ) {
        let setting_up = !self.live && matches!(access, Access::Write { .. });
        if !setting_up && !self.trace {
            return;
        }
        self.selectors.follow(access);
        let id = virtside::DeviceConfig::device_id(machine.model());
        let line = self.selectors.describe(id, access, reply);
        if !setting_up {
            self.bar.suspend(|| complain!("{}  {line}", self.name));
            return;
        }
        self.bar.suspend(|| say!("{}    {line}", self.name));
        let ready = Access::write(READY, 1);
        if access == ready {
            let verdict = verdict(machine, self.selectors.queue, reply);
            self.bar
                .suspend(|| say!("{}    {:17}    {verdict}", self.name, ""));
        }
        self.live = machine.phase() == Phase::Live;
    }
}

/// Offset of QueueReady.
const READY: u32 = 0x44;

//! The device configuration space.

use super::{Phase, Register, Reply, Transport, access::DONE};
use crate::{error::Refusal, model::DeviceConfig, num};

impl<const Q: usize> Transport<Q> {
    /// The configuration space changed (config-04, mmio-07).
    pub fn bump_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Tells the device how much room there is, before the driver first sees what depends on it.
    pub(super) fn fit<C: DeviceConfig>(&mut self, config: &mut C) {
        if !self.fitted {
            self.fitted = true;
            config.fit(num::clamp_u16(Q), self.capacity);
        }
    }

    #[inline(never)]
    pub(super) fn read_config<C: DeviceConfig>(
        &mut self,
        offset: u32,
        width: u8,
        config: &mut C,
    ) -> Reply {
        self.fit(config);
        let offset = offset.wrapping_sub(Register::CONFIG);
        let mut bytes = [0; 8];
        match bytes.get_mut(..usize::from(width)) {
            Some(part) if width.is_power_of_two() => {
                if config.read_config(offset, part) {
                    return Reply::Done(u64::from_le_bytes(bytes));
                }
                Refusal::OutsideConfig { offset, width }.into()
            }
            _ => Refusal::BadWidth { offset, width }.into(),
        }
    }

    #[inline(never)]
    pub(super) fn write_config<C: DeviceConfig>(
        &mut self,
        offset: u32,
        width: u8,
        value: u64,
        config: &mut C,
    ) -> Reply {
        let offset = offset.wrapping_sub(Register::CONFIG);
        let bytes = value.to_le_bytes();
        match bytes.get(..usize::from(width)) {
            Some(part) if width.is_power_of_two() => {
                // A driver reads, but does not write, before it accepted the device (driver-02).
                let allowed = match self.phase() {
                    Phase::SettingUp | Phase::Live => true,
                    // Not even what may be written at any time (suspend-02).
                    Phase::Suspending | Phase::Suspended => false,
                    _ => config.is_always_writable(offset),
                };
                if allowed && config.write_config(offset, part) {
                    return DONE;
                }
                Refusal::ConfigReadOnly { offset, width }.into()
            }
            _ => Refusal::BadWidth { offset, width }.into(),
        }
    }
}

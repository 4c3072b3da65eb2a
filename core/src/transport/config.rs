//! The device configuration space.

use super::{Phase, Transport};
use crate::{model::DeviceConfig, num};

impl<const Q: usize> Transport<Q> {
    /// The configuration space changed (config-04, mmio-07).
    pub fn bump_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Tells the device how much room there is, before the driver first sees what depends on it.
    pub(super) fn set_capacity<C: DeviceConfig>(&mut self, config: &mut C) {
        if !self.capacity_told {
            self.capacity_told = true;
            config.set_capacity(num::clamp_u16(Q), self.capacity);
        }
    }

    /// Copies configuration bytes out from `offset` on, counted from the start of the space. False
    /// if the space ends before `bytes` does.
    #[inline(always)]
    pub fn read_config<C: DeviceConfig>(
        &mut self,
        offset: u32,
        bytes: &mut [u8],
        config: &mut C,
    ) -> bool {
        self.set_capacity(config);
        config.read_config(offset, bytes)
    }

    /// Writes configuration bytes from `offset` on, counted from the start of the space. False if
    /// the field is read-only, now or always.
    #[inline(always)]
    pub fn write_config<C: DeviceConfig>(
        &mut self,
        offset: u32,
        bytes: &[u8],
        config: &mut C,
    ) -> bool {
        // A driver reads, but does not write, before it accepted the device (driver-02).
        let allowed = match self.phase() {
            Phase::SettingUp | Phase::Live => true,
            // Not even what may be written at any time (suspend-02).
            Phase::Suspending | Phase::Suspended => false,
            _ => config.is_always_writable(offset),
        };
        allowed && config.write_config(offset, bytes)
    }
}

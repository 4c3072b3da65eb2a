//! Access to the device configuration space.

use super::{Phase, Transport};
use crate::{model::DeviceConfig, num};

impl<const Q: usize> Transport<Q> {
    /// Increments ConfigGeneration. Call this after each change of the configuration space
    /// (config-04, mmio-07).
    pub fn increment_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Tells the model the capacity, once, before the driver sees a value that depends on it.
    pub(super) fn set_capacity<C: DeviceConfig>(&mut self, config: &mut C) {
        if !self.capacity_told {
            self.capacity_told = true;
            config.set_capacity(num::clamp_u16(Q), self.capacity);
        }
    }

    /// Copies configuration bytes from `offset` on into `bytes`. `offset` is counted from the start
    /// of the configuration space. Returns false if the space ends before `bytes` is full.
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

    /// Writes configuration bytes from `offset` on. `offset` is counted from the start of the
    /// configuration space. Returns false if the field cannot be written, in this phase or at all.
    #[inline(always)]
    pub fn write_config<C: DeviceConfig>(
        &mut self,
        offset: u32,
        bytes: &[u8],
        config: &mut C,
    ) -> bool {
        // A driver does not write configuration fields before FEATURES_OK (driver-02).
        let allowed = match self.phase() {
            Phase::SettingUp | Phase::Live => true,
            // This includes the fields that are otherwise always writable (suspend-02).
            Phase::Suspending | Phase::Suspended => false,
            _ => config.is_always_writable(offset),
        };
        allowed && config.write_config(offset, bytes)
    }
}

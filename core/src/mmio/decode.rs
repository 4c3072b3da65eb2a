//! Decoding of register offsets: translates an access into calls of the transport.

use super::{Access, Register, registers::at};
use crate::{
    error::Refusal,
    interrupt::DriverNotify,
    model::DeviceConfig,
    num,
    shared::{InterruptStatus, Shared},
    transport::{DONE, Parameter, Reply, Transport},
};

impl<const Q: usize> Transport<Q> {
    /// Handles one register access.
    ///
    /// After [`Reply::Pending`], [`message`](Self::message) returns the message to carry out. Until
    /// [`settle`](Self::settle) or [`defer`](Self::defer) completes the access, the reply to every
    /// further access is [`Reply::Busy`]. A kick rings the doorbell of `shared` and needs no
    /// message.
    #[inline(always)]
    pub fn access<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        access: Access,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        if self.outstanding().is_some() {
            return Reply::Busy;
        }
        match access {
            Access::Read { offset, width } => {
                if offset >= Register::CONFIG {
                    self.read_config_space(offset, width, config)
                } else if width == 4 {
                    self.read(offset, config, shared)
                } else {
                    Refusal::BadWidth { offset, width }.into()
                }
            }
            Access::Write {
                offset,
                width,
                value,
            } => {
                if offset >= Register::CONFIG {
                    self.write_config_space(offset, width, value, config)
                } else if width == 4 {
                    self.write(offset, num::low(value), config, shared, notify)
                } else {
                    Refusal::BadWidth { offset, width }.into()
                }
            }
        }
    }

    #[inline(always)]
    fn read<C: DeviceConfig>(&mut self, offset: u32, config: &mut C, shared: &Shared<Q>) -> Reply {
        let value = match offset {
            at::MAGIC_VALUE => u32::from_le_bytes(*b"virt"),
            at::VERSION => 2,
            at::DEVICE_ID => config.device_id(),
            at::VENDOR_ID => config.vendor_id(),
            at::DEVICE_FEATURES => self.device_features(config),
            at::QUEUE_SIZE_MAX => self.queue_size_max(config),
            at::QUEUE_READY => return self.read_queue_ready(),
            at::INTERRUPT_STATUS => shared.interrupt_status().bits(),
            at::STATUS => return self.read_status(shared),
            at::CONFIG_GENERATION => self.generation(),
            at::QUEUE_RESET => return self.read_queue_reset(),
            at::SHM_LEN_LOW | at::SHM_LEN_HIGH | at::SHM_BASE_LOW | at::SHM_BASE_HIGH => {
                self.read_shared_memory(offset, config)
            }
            _ => return misplaced(offset, Refusal::WriteOnly { offset }),
        };
        Reply::Done(value.into())
    }

    #[inline(always)]
    fn write<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        match offset {
            at::DEVICE_FEATURES_SEL => self.select_device_features(value),
            at::DRIVER_FEATURES_SEL => self.select_driver_features(value),
            at::DRIVER_FEATURES => return self.accept_features(value),
            at::QUEUE_SEL => self.select_queue(value),
            at::QUEUE_SIZE => return self.write_parameter(Parameter::Size, value, config),
            at::QUEUE_DESC_LOW => return self.write_parameter(Parameter::DescLow, value, config),
            at::QUEUE_DESC_HIGH => return self.write_parameter(Parameter::DescHigh, value, config),
            at::QUEUE_DRIVER_LOW => {
                return self.write_parameter(Parameter::DriverLow, value, config);
            }
            at::QUEUE_DRIVER_HIGH => {
                return self.write_parameter(Parameter::DriverHigh, value, config);
            }
            at::QUEUE_DEVICE_LOW => {
                return self.write_parameter(Parameter::DeviceLow, value, config);
            }
            at::QUEUE_DEVICE_HIGH => {
                return self.write_parameter(Parameter::DeviceHigh, value, config);
            }
            at::QUEUE_READY => return self.write_queue_ready(offset, value, config),
            at::QUEUE_NOTIFY => return self.queue_notify(value, shared),
            at::INTERRUPT_ACK => {
                self.acknowledge(InterruptStatus::from_bits_truncate(value), shared, notify);
            }
            at::STATUS => return self.write_status(offset, value, config, shared, notify),
            at::SHM_SEL => self.select_shared_memory(value),
            at::QUEUE_RESET => return self.write_queue_reset(offset, value, config),
            _ => return misplaced(offset, Refusal::ReadOnly { offset }),
        }
        DONE
    }

    #[inline(never)]
    fn read_config_space<C: DeviceConfig>(
        &mut self,
        offset: u32,
        width: u8,
        config: &mut C,
    ) -> Reply {
        let mut bytes = [0; 8];
        match bytes.get_mut(..usize::from(width)) {
            Some(part) if width.is_power_of_two() => {
                let at = offset.wrapping_sub(Register::CONFIG);
                if self.read_config(at, part, config) {
                    return Reply::Done(u64::from_le_bytes(bytes));
                }
                Refusal::OutsideConfig { offset, width }.into()
            }
            _ => Refusal::BadWidth { offset, width }.into(),
        }
    }

    #[inline(never)]
    fn write_config_space<C: DeviceConfig>(
        &mut self,
        offset: u32,
        width: u8,
        value: u64,
        config: &mut C,
    ) -> Reply {
        let bytes = value.to_le_bytes();
        match bytes.get(..usize::from(width)) {
            Some(part) if width.is_power_of_two() => {
                let at = offset.wrapping_sub(Register::CONFIG);
                if self.write_config(at, part, config) {
                    return DONE;
                }
                Refusal::ConfigReadOnly { offset, width }.into()
            }
            _ => Refusal::BadWidth { offset, width }.into(),
        }
    }

    #[inline(always)]
    fn write_parameter<C: DeviceConfig>(
        &mut self,
        parameter: Parameter,
        value: u32,
        config: &mut C,
    ) -> Reply {
        self.set_parameter(parameter, value, config)
            .map_or_else(Reply::from, |()| DONE)
    }

    #[inline(never)]
    fn read_shared_memory<C: DeviceConfig>(&self, offset: u32, config: &C) -> u32 {
        let Some(region) = self.shared_memory(config) else {
            return u32::MAX;
        };
        match offset {
            at::SHM_LEN_LOW => num::low(region.len),
            at::SHM_LEN_HIGH => num::high(region.len),
            at::SHM_BASE_LOW => num::low(region.base),
            _ => num::high(region.base),
        }
    }
}

/// Refuses an access that no register accepts. The reason is `refusal` if there is a register at
/// the offset.
#[cold]
#[inline(never)]
fn misplaced(offset: u32, refusal: Refusal) -> Reply {
    match Register::at(offset) {
        Some(_) => refusal.into(),
        None if offset & 3 == 0 => Refusal::NoSuchRegister { offset }.into(),
        None => Refusal::BadWidth { offset, width: 4 }.into(),
    }
}

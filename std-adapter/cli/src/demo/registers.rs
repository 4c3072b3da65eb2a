//! Formats register accesses as text.

use virtio_spec::DeviceStatus;
use virtside::mmio::{Access, Register, Reply};

use crate::words::{features, names};

/// Current values of the selector registers, on which the meaning of other registers depends.
#[derive(Default)]
pub(crate) struct Selectors {
    device_features: u32,
    driver_features: u32,
}

impl Selectors {
    pub(crate) fn update(&mut self, access: Access) {
        let Access::Write { offset, value, .. } = access else {
            return;
        };
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        match Register::at(offset) {
            Some(Register::DeviceFeaturesSel) => self.device_features = value,
            Some(Register::DriverFeaturesSel) => self.driver_features = value,
            _ => {}
        }
    }

    /// Formats an access with the value that was stored or loaded.
    pub(crate) fn describe(&self, id: u32, access: Access, reply: Reply) -> String {
        let (offset, width, verb, value) = match access {
            Access::Read { offset, width } => (offset, width, "->", reply.bus_value().unwrap_or(0)),
            Access::Write {
                offset,
                width,
                value,
            } => (offset, width, "=", value),
        };
        let (name, value) = match Register::at(offset) {
            Some(register) => (register.name().to_owned(), self.value(id, register, value)),
            None => match offset.checked_sub(Register::CONFIG) {
                Some(at) => (format!("Config[{at}..+{width}]"), format!("{value:#x}")),
                None => (format!("{offset:#05x}"), format!("{value:#x}")),
            },
        };
        match reply.refusal() {
            Some(refusal) => format!("{name:<17} {verb:>2} {value}, refused: {refusal}"),
            None => format!("{name:<17} {verb:>2} {value}"),
        }
    }

    fn value(&self, id: u32, register: Register, value: u64) -> String {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        match register {
            Register::Status => status(value),
            Register::DeviceFeatures => features(id, self.device_features, value),
            Register::DriverFeatures => features(id, self.driver_features, value),
            Register::QueueDescLow
            | Register::QueueDescHigh
            | Register::QueueDriverLow
            | Register::QueueDriverHigh
            | Register::QueueDeviceLow
            | Register::QueueDeviceHigh
            | Register::MagicValue
            | Register::VendorId => format!("{value:#010x}"),
            _ => value.to_string(),
        }
    }
}

fn status(value: u32) -> String {
    if value == 0 {
        return "0 (reset)".into();
    }
    match u8::try_from(value) {
        Ok(bits) => names(
            DeviceStatus::from_bits_retain(bits)
                .iter_names()
                .map(|(name, _)| name),
        ),
        Err(_) => format!("{value:#x}"),
    }
}

//! The register accesses of a driver.

use virtio_spec::DeviceStatus;

use crate::{
    Engine, device::ChainSlot, features::Features, interrupt::DriverNotify, memory::DriverMem,
    message::QueueConfig, mmio::Access, model::DeviceModel, num, shared::SharedHandle,
    trace::Trace, transport::Reply,
};

/// A virtio-mmio register block, as a driver uses it.
///
/// [`Engine`] implements this trait.
///
/// ```
/// use virtside::{ChainSlot, Engine, Features, Shared, memory::Ram, models::Entropy};
/// use virtside::{testing::Registers, transport::DeviceStatus};
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let source = |bytes: &mut [u8]| Ok(bytes.len());
/// let mut engine: Engine<_, _, _, 1, 8, _, _> =
///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::new()], &SHARED);
/// assert!(engine.negotiate(Features::VERSION_1));
/// assert!(engine.status().contains(DeviceStatus::FEATURES_OK));
/// ```
pub trait Registers {
    /// Performs one register access.
    fn reach(&mut self, access: Access) -> Reply;

    /// Reads a 32-bit register. Returns 0 unless the reply is [`Reply::Done`].
    fn load(&mut self, offset: u32) -> u32 {
        num::low(self.reach(Access::read(offset)).value().unwrap_or(0))
    }

    /// Writes a 32-bit register.
    fn store(&mut self, offset: u32, value: u32) -> Reply {
        self.reach(Access::write(offset, value))
    }

    /// Writes the register Status.
    fn set_status(&mut self, status: DeviceStatus) -> Reply {
        self.store(0x70, status.bits().into())
    }

    /// Reads the register Status.
    fn status(&mut self) -> DeviceStatus {
        let [bits, ..] = self.load(0x70).to_le_bytes();
        DeviceStatus::from_bits_retain(bits)
    }

    /// Reads all features that the device offers.
    fn offered(&mut self) -> Features {
        let mut features = Features::empty();
        for word in 0..4 {
            let _ = self.store(0x14, word);
            let value = self.load(0x10);
            features.set_word(word, value);
        }
        features
    }

    /// Resets the device, accepts `features` and sets FEATURES_OK. Returns whether FEATURES_OK
    /// stays set.
    fn negotiate(&mut self, features: Features) -> bool {
        let _ = self.store(0x70, 0);
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        let _ = self.set_status(known);
        for word in 0..4 {
            let _ = self.store(0x24, word);
            let _ = self.store(0x20, features.word(word));
        }
        let _ = self.set_status(known | DeviceStatus::FEATURES_OK);
        self.status().contains(DeviceStatus::FEATURES_OK)
    }

    /// Writes the size and the area addresses of a queue. Does not set QueueReady.
    fn lay_out(&mut self, config: &QueueConfig) {
        let _ = self.store(0x30, config.queue.into());
        let _ = self.store(0x38, config.size);
        for (offset, area) in [
            (0x80, config.desc),
            (0x90, config.driver),
            (0xa0, config.device),
        ] {
            let _ = self.store(offset, num::low(area));
            let _ = self.store(offset | 4, num::high(area));
        }
    }

    /// Writes the size and the area addresses of a queue, and sets QueueReady to 1. Returns the
    /// reply to the write of QueueReady.
    fn configure(&mut self, config: &QueueConfig) -> Reply {
        self.lay_out(config);
        self.store(0x44, 1)
    }

    /// Writes DRIVER_OK, together with ACKNOWLEDGE, DRIVER and FEATURES_OK.
    fn go_live(&mut self) -> Reply {
        self.set_status(
            DeviceStatus::ACKNOWLEDGE
                | DeviceStatus::DRIVER
                | DeviceStatus::FEATURES_OK
                | DeviceStatus::DRIVER_OK,
        )
    }

    /// Resets the device, and brings it to DRIVER_OK with these features and queues. Returns
    /// whether the device accepted every step.
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) -> bool {
        let mut good = self.negotiate(features);
        for config in queues {
            good &= self.configure(config).refusal().is_none();
        }
        good && self.go_live() == Reply::Done(0)
    }

    /// Sends an available buffer notification for a queue (a kick).
    fn kick(&mut self, queue: u16) -> Reply {
        self.store(0x50, queue.into())
    }
}

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Registers for Engine<D, M, I, Q, N, S, H, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    fn reach(&mut self, access: Access) -> Reply {
        self.access(access)
    }
}

//! A driver's way through the registers.

use virtio_spec::DeviceStatus;

use crate::{
    Engine, device::ChainSlot, features::Features, interrupt::DriverNotify, memory::DriverMem,
    message::QueueConfig, mmio::Access, model::DeviceModel, num, shared::SharedHandle,
    trace::Trace, transport::Reply,
};

/// Something with a register block.
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
    /// One access.
    fn reach(&mut self, access: Access) -> Reply;

    /// A 32-bit load; 0 if refused or not complete.
    fn load(&mut self, offset: u32) -> u32 {
        num::low(self.reach(Access::read(offset)).value().unwrap_or(0))
    }

    /// A 32-bit store.
    fn store(&mut self, offset: u32, value: u32) -> Reply {
        self.reach(Access::write(offset, value))
    }

    /// Writes Status.
    fn set_status(&mut self, status: DeviceStatus) -> Reply {
        self.store(0x70, status.bits().into())
    }

    /// Reads Status.
    fn status(&mut self) -> DeviceStatus {
        let [bits, ..] = self.load(0x70).to_le_bytes();
        DeviceStatus::from_bits_retain(bits)
    }

    /// Reads the whole offer.
    fn offered(&mut self) -> Features {
        let mut features = Features::empty();
        for word in 0..4 {
            let _ = self.store(0x14, word);
            let value = self.load(0x10);
            features.set_word(word, value);
        }
        features
    }

    /// Resets, and goes up to FEATURES_OK with `features`; says whether it stands.
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

    /// Writes a queue's parameters, without making it ready.
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

    /// Lays a queue out and makes it ready; the answer to QueueReady = 1.
    fn configure(&mut self, config: &QueueConfig) -> Reply {
        self.lay_out(config);
        self.store(0x44, 1)
    }

    /// Writes DRIVER_OK with all that comes before it.
    fn go_live(&mut self) -> Reply {
        self.set_status(
            DeviceStatus::ACKNOWLEDGE
                | DeviceStatus::DRIVER
                | DeviceStatus::FEATURES_OK
                | DeviceStatus::DRIVER_OK,
        )
    }

    /// From reset to live with these features and queues; says whether it got there in order.
    fn bring_up(&mut self, features: Features, queues: &[QueueConfig]) -> bool {
        let mut good = self.negotiate(features);
        for config in queues {
            good &= self.configure(config).refusal().is_none();
        }
        good && self.go_live() == Reply::Done(0)
    }

    /// Kicks a queue.
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

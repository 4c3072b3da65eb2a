//! The register block: latches, phases, and the messages that accesses turn into.

use virtio_spec::DeviceStatus;

use super::Register;
use crate::{
    error::{Frozen, Refusal},
    features::Features,
    message::{Message, QueueConfig},
    model::DeviceConfig,
    notify::DriverNotify,
    num,
    queue_set::QueueSet,
    shared::{InterruptStatus, Shared},
    table::largest,
};

/// A driver's access to the register block.
///
/// Offsets are in bytes from the start of the block, widths in bytes; values are native, as the bus
/// carries them.
///
/// ```
/// use virtside::mmio::Access;
/// let kick = Access::Write { offset: 0x50, width: 4, value: 0 };
/// assert_eq!(kick, Access::write(0x50, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Access {
    /// A load.
    Read {
        /// Offset in bytes.
        offset: u32,
        /// 1, 2, 4 or 8.
        width: u8,
    },
    /// A store.
    Write {
        /// Offset in bytes.
        offset: u32,
        /// 1, 2, 4 or 8.
        width: u8,
        /// What is stored; bits beyond the width are ignored.
        value: u64,
    },
}

impl Access {
    /// A 32-bit load.
    #[must_use]
    pub const fn read(offset: u32) -> Self {
        Self::Read { offset, width: 4 }
    }

    /// A 32-bit store.
    #[must_use]
    pub fn write(offset: u32, value: u32) -> Self {
        Self::Write {
            offset,
            width: 4,
            value: value.into(),
        }
    }
}

/// An answer that the driver still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ticket(u32);

/// The answer to an [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Reply {
    /// Complete it; a load gives this value, a store 0.
    Done(u64),
    /// Complete it; a load gives 0. It was not allowed, and why.
    Refused(Refusal),
    /// Do not complete it yet: the driver may reuse memory that a taken queue still works on, or
    /// the device is not ready to start. `finish(ticket)` says when.
    Pending(Ticket),
    /// An earlier access is not complete. This one was not looked at: offer it again afterwards.
    Busy,
}

impl Reply {
    /// What the driver's load gives, or `None` if the access is not complete.
    #[must_use]
    pub const fn value(&self) -> Option<u64> {
        match self {
            Self::Done(value) => Some(*value),
            Self::Refused(_) => Some(0),
            Self::Pending(_) | Self::Busy => None,
        }
    }

    /// Why the access was refused, if it was.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

/// Where a device is in its life. Not derived from the status bits: a suspended device shows
/// DRIVER_OK as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Phase {
    /// Status is 0.
    Reset,
    /// The driver has found the device.
    Negotiating,
    /// FEATURES_OK stands.
    SettingUp,
    /// DRIVER_OK stands.
    Live,
    /// The driver gave up.
    Failed,
}

/// What has to happen before the driver's write completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outstanding {
    Configure(u16),
    Stop(u16),
    Ready,
    Reset,
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

const DONE: Reply = Reply::Done(0);

/// What the driver wrote for one queue, not looked at before QueueReady.
#[derive(Clone, Copy, Debug)]
struct Latch {
    size: u32,
    desc: u64,
    driver: u64,
    device: u64,
    ready: bool,
}

impl Latch {
    const NEW: Self = Self {
        size: 0,
        desc: 0,
        driver: 0,
        device: 0,
        ready: false,
    };
}

/// The register block of a device with up to `Q` queues.
///
/// On its own it turns accesses into [`Message`]s for a set-up conversation; an
/// [`Engine`](crate::Engine) has one inside.
#[derive(Debug)]
pub struct Transport<const Q: usize> {
    status: DeviceStatus,
    phase: Phase,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: Features,
    /// Non-zero bits were accepted in a word that no feature is in.
    beyond: bool,
    queue_sel: u32,
    generation: u32,
    latches: [Latch; Q],
    /// Queues that the driver made ready and that were refused.
    refused: QueueSet<Q>,
    refused_beyond: bool,
    refusal: Option<Refusal>,
    outstanding: Option<Outstanding>,
    /// The device was told how much room there is.
    fitted: bool,
    ticket: u32,
    /// Largest queue that there is room for.
    capacity: u16,
}

impl<const Q: usize> Transport<Q> {
    /// As after reset, for queues of up to `capacity` elements.
    #[must_use]
    pub const fn new(capacity: u16) -> Self {
        Self {
            status: DeviceStatus::empty(),
            phase: Phase::Reset,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: Features::empty(),
            beyond: false,
            queue_sel: 0,
            generation: 0,
            latches: [Latch::NEW; Q],
            refused: QueueSet::new(),
            refused_beyond: false,
            refusal: None,
            outstanding: None,
            fitted: false,
            ticket: 0,
            capacity,
        }
    }

    /// Where the device is in its life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The device status field, as the driver reads it.
    #[must_use]
    pub fn status(&self, shared: &Shared<Q>) -> DeviceStatus {
        let mut status = self.status;
        status.set(DeviceStatus::DEVICE_NEEDS_RESET, shared.needs_reset());
        status
    }

    /// What the driver accepted so far.
    #[must_use]
    pub const fn driver_features(&self) -> Features {
        self.driver_features
    }

    /// Why a queue was last refused, until every refused queue is ready or the device is reset.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// A queue did not pass when it was checked again.
    pub(crate) fn note_refusal(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// The configuration space changed (config-04, mmio-07).
    pub fn bump_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    pub(crate) const fn outstanding(&self) -> Option<Outstanding> {
        self.outstanding
    }

    /// Names the message that was not settled yet, for a [`Reply::Pending`].
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        Ticket(self.ticket)
    }

    fn expect(&mut self, outstanding: Outstanding) -> Reply {
        self.outstanding = Some(outstanding);
        self.ticket = self.ticket.wrapping_add(1);
        Reply::Pending(self.ticket())
    }

    /// What is to be done before the outstanding access completes, if one is: carry it out, then
    /// [`settle`](Self::settle).
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        Some(match self.outstanding? {
            Outstanding::Configure(queue) => {
                let latch = self.latches.get(usize::from(queue))?;
                let Latch {
                    size,
                    desc,
                    driver,
                    device,
                    ..
                } = *latch;
                Message::ConfigureQueue(QueueConfig {
                    queue,
                    size,
                    desc,
                    driver,
                    device,
                })
            }
            Outstanding::Stop(queue) => Message::ResetQueue(queue),
            Outstanding::Ready => Message::Ready {
                features: self.driver_features,
            },
            Outstanding::Reset => Message::Reset,
        })
    }

    /// Takes one access.
    ///
    /// [`Reply::Pending`] means that there is a [`message`](Self::message) to carry out first, and
    /// that no access is taken before. A kick rings the doorbell of `shared` and needs no message.
    #[inline(always)]
    pub fn access<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        access: Access,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        if self.outstanding.is_some() {
            return Reply::Busy;
        }
        match access {
            Access::Read { offset, width } => {
                if offset >= Register::CONFIG {
                    self.read_config(offset, width, config)
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
                    self.write_config(offset, width, value, config)
                } else if width == 4 {
                    self.write(offset, num::low(value), config, shared, notify)
                } else {
                    Refusal::BadWidth { offset, width }.into()
                }
            }
        }
    }

    /// Tells the device how much room there is, before the driver first sees what depends on it.
    fn fit<C: DeviceConfig>(&mut self, config: &mut C) {
        if !self.fitted {
            self.fitted = true;
            config.fit(num::clamp_u16(Q), self.capacity);
        }
    }

    #[inline(never)]
    fn read_config<C: DeviceConfig>(&mut self, offset: u32, width: u8, config: &mut C) -> Reply {
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
    fn write_config<C: DeviceConfig>(
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
                let allowed = matches!(self.phase, Phase::SettingUp | Phase::Live)
                    || config.is_always_writable(offset);
                if allowed && config.write_config(offset, part) {
                    return DONE;
                }
                Refusal::ConfigReadOnly { offset, width }.into()
            }
            _ => Refusal::BadWidth { offset, width }.into(),
        }
    }

    fn selected<C: DeviceConfig>(&self, config: &C) -> Option<u16> {
        match u16::try_from(self.queue_sel) {
            Ok(queue) if usize::from(queue) < Q && config.queue_size_max(queue) != 0 => Some(queue),
            _ => None,
        }
    }

    fn latch(&mut self, queue: u16) -> Option<&mut Latch> {
        self.latches.get_mut(usize::from(queue))
    }

    #[inline(always)]
    fn read<C: DeviceConfig>(&mut self, offset: u32, config: &mut C, shared: &Shared<Q>) -> Reply {
        let value = match offset {
            at::MAGIC_VALUE => u32::from_le_bytes(*b"virt"),
            at::VERSION => 2,
            at::DEVICE_ID => config.device_id(),
            at::VENDOR_ID => config.vendor_id(),
            at::DEVICE_FEATURES => self.offered(config),
            at::QUEUE_SIZE_MAX => self.queue_size_max(config),
            at::QUEUE_READY => {
                let selected = u16::try_from(self.queue_sel).unwrap_or(u16::MAX);
                let latch = self.latches.get(usize::from(selected));
                u32::from(latch.is_some_and(|latch| latch.ready))
            }
            at::INTERRUPT_STATUS => shared.interrupt_status().bits(),
            at::STATUS => self.status(shared).bits().into(),
            at::CONFIG_GENERATION => self.generation,
            at::QUEUE_RESET => 0,
            at::SHM_LEN_LOW | at::SHM_LEN_HIGH | at::SHM_BASE_LOW | at::SHM_BASE_HIGH => u32::MAX,
            _ => return misplaced(offset, Refusal::WriteOnly { offset }),
        };
        Reply::Done(value.into())
    }

    #[inline(never)]
    fn offered<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.fit(config);
        Features::offer(config.features()).word(self.device_features_sel)
    }

    #[inline(never)]
    fn queue_size_max<C: DeviceConfig>(&mut self, config: &mut C) -> u32 {
        self.fit(config);
        self.selected(config).map_or(0, |queue| {
            u32::from(largest(config.queue_size_max(queue), self.capacity))
        })
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
            at::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            at::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            at::DRIVER_FEATURES => return self.accept_features(value),
            at::QUEUE_SEL => self.queue_sel = value,
            at::QUEUE_SIZE
            | at::QUEUE_DESC_LOW
            | at::QUEUE_DESC_HIGH
            | at::QUEUE_DRIVER_LOW
            | at::QUEUE_DRIVER_HIGH
            | at::QUEUE_DEVICE_LOW
            | at::QUEUE_DEVICE_HIGH => {
                return match self.parameter(offset, value, config) {
                    Ok(()) => DONE,
                    Err(refusal) => refusal.into(),
                };
            }
            at::QUEUE_READY => return self.queue_ready(offset, value, config),
            at::QUEUE_NOTIFY => return self.queue_notify(value, shared),
            at::INTERRUPT_ACK => {
                shared.acknowledge(InterruptStatus::from_bits_truncate(value), notify);
            }
            at::STATUS => return self.write_status(offset, value, config, shared, notify),
            // No regions: any selection names none.
            at::SHM_SEL => {}
            at::QUEUE_RESET => return Refusal::NotNegotiated.into(),
            _ => return misplaced(offset, Refusal::ReadOnly { offset }),
        }
        DONE
    }

    #[inline(never)]
    fn accept_features(&mut self, value: u32) -> Reply {
        if !matches!(self.phase, Phase::Reset | Phase::Negotiating) {
            return Refusal::FeaturesFixed.into();
        }
        if !self
            .driver_features
            .set_word(self.driver_features_sel, value)
        {
            // Until reset: which words they were in is not noted.
            self.beyond |= value != 0;
        }
        DONE
    }

    #[inline(never)]
    fn parameter<C: DeviceConfig>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
    ) -> Result<(), Refusal> {
        self.fit(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queue_sel,
        };
        let queue = self.selected(config).ok_or(absent)?;
        let phase = self.phase;
        let latch = self.latch(queue).ok_or(absent)?;
        let why = match phase {
            Phase::Failed => Some(Frozen::Failed),
            _ if latch.ready => Some(Frozen::QueueReady),
            Phase::Live => Some(Frozen::Live),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Refusal::QueueFrozen { queue, why });
        }
        match offset {
            at::QUEUE_SIZE => latch.size = value,
            at::QUEUE_DESC_LOW => latch.desc = num::with_low(latch.desc, value),
            at::QUEUE_DESC_HIGH => latch.desc = num::with_high(latch.desc, value),
            at::QUEUE_DRIVER_LOW => latch.driver = num::with_low(latch.driver, value),
            at::QUEUE_DRIVER_HIGH => latch.driver = num::with_high(latch.driver, value),
            at::QUEUE_DEVICE_LOW => latch.device = num::with_low(latch.device, value),
            _ => latch.device = num::with_high(latch.device, value),
        }
        Ok(())
    }

    #[inline(never)]
    fn queue_ready<C: DeviceConfig>(&mut self, offset: u32, value: u32, config: &mut C) -> Reply {
        self.fit(config);
        if value > 1 {
            return Refusal::BadValue { offset, value }.into();
        }
        let phase = self.phase;
        // A queue that is ready can be stopped even if what was negotiated since hides it.
        let made = u16::try_from(self.queue_sel).unwrap_or(u16::MAX);
        if value == 0 && self.latch(made).is_some_and(|latch| latch.ready) {
            return self.expect(Outstanding::Stop(made));
        }
        let selected = self.selected(config);
        let absent = Refusal::NoSuchQueue {
            queue: self.queue_sel,
        };
        let Some((queue, ready)) =
            selected.and_then(|queue| Some((queue, self.latch(queue)?.ready)))
        else {
            if value == 1 && !matches!(phase, Phase::Live | Phase::Failed) {
                self.refused_beyond = true;
                self.refusal = Some(absent);
            }
            return absent.into();
        };
        match (value == 1, ready) {
            (true, true) => DONE,
            (false, _) => {
                // It goes on without this queue, then.
                self.refused.remove(queue);
                DONE
            }
            (true, false) => match phase {
                Phase::Live => Refusal::QueueFrozen {
                    queue,
                    why: Frozen::Live,
                }
                .into(),
                Phase::Failed => Refusal::QueueFrozen {
                    queue,
                    why: Frozen::Failed,
                }
                .into(),
                _ => self.expect(Outstanding::Configure(queue)),
            },
        }
    }

    fn queue_notify(&mut self, value: u32, shared: &Shared<Q>) -> Reply {
        let absent = Refusal::NoSuchQueue { queue: value };
        let Ok(queue) = u16::try_from(value) else {
            return absent.into();
        };
        match self.latches.get(usize::from(queue)) {
            None => absent.into(),
            Some(latch) if !latch.ready => Refusal::QueueNotReady { queue }.into(),
            // At DRIVER_OK every queue counts as notified, so an early kick needs no note.
            Some(_) if self.phase != Phase::Live => Refusal::WrongPhase.into(),
            Some(_) => {
                shared.ring(queue);
                DONE
            }
        }
    }

    #[inline(never)]
    fn write_status<C: DeviceConfig, I: DriverNotify>(
        &mut self,
        offset: u32,
        value: u32,
        config: &mut C,
        shared: &Shared<Q>,
        notify: &I,
    ) -> Reply {
        self.fit(config);
        if value == 0 {
            return self.expect(Outstanding::Reset);
        }
        let Ok(byte) = u8::try_from(value) else {
            return Refusal::BadValue { offset, value }.into();
        };
        // Not among them: NEEDS_RESET is the device's, SUSPEND was not negotiated.
        let the_drivers = DeviceStatus::ACKNOWLEDGE
            | DeviceStatus::DRIVER
            | DeviceStatus::FEATURES_OK
            | DeviceStatus::DRIVER_OK
            | DeviceStatus::FAILED;
        let new = DeviceStatus::from_bits_retain(byte).intersection(the_drivers);
        let missing = self.status.difference(new);
        if !missing.is_empty() {
            return Refusal::StatusBitsCleared {
                missing: missing.bits(),
            }
            .into();
        }
        let added = new.difference(self.status);
        if self.phase == Phase::Failed {
            return if added.is_empty() {
                DONE
            } else {
                Refusal::WrongPhase.into()
            };
        }
        self.status |= added.intersection(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        if self.phase == Phase::Reset && !self.status.is_empty() {
            self.phase = Phase::Negotiating;
        }
        if added.contains(DeviceStatus::FAILED) {
            self.status |= DeviceStatus::FAILED;
            self.phase = Phase::Failed;
            shared.give_up();
            shared.stop_all();
            return DONE;
        }
        let mut refusal = None;
        if added.contains(DeviceStatus::FEATURES_OK) {
            match self.negotiate(config) {
                Ok(()) => {
                    self.status |= DeviceStatus::FEATURES_OK;
                    self.phase = Phase::SettingUp;
                }
                Err(why) => refusal = Some(why),
            }
        }
        if added.contains(DeviceStatus::DRIVER_OK) {
            if self.status.contains(DeviceStatus::FEATURES_OK) {
                return self.driver_ok(shared, notify);
            }
            refusal = refusal.or(Some(Refusal::FeaturesNotNegotiated));
        }
        refusal.map_or(DONE, Reply::from)
    }

    /// Whether the driver's choice is a valid subset of the offer, with VERSION_1 in it.
    fn negotiate<C: DeviceConfig>(&self, config: &mut C) -> Result<(), Refusal> {
        let accepted = self.driver_features;
        let not_offered = accepted.difference(Features::offer(config.features()));
        let fits = not_offered == Features::empty()
            && !self.beyond
            && accepted.contains(Features::VERSION_1)
            && config.negotiate(accepted);
        if fits {
            Ok(())
        } else {
            Err(Refusal::FeaturesRefused { not_offered })
        }
    }

    fn driver_ok<I: DriverNotify>(&mut self, shared: &Shared<Q>, notify: &I) -> Reply {
        if self.refused_beyond || !self.refused.is_empty() || shared.needs_reset() {
            self.go_live();
            shared.fail_at_driver_ok(notify);
            return Refusal::NotReady.into();
        }
        self.expect(Outstanding::Ready)
    }

    fn go_live(&mut self) {
        self.status |= DeviceStatus::DRIVER_OK;
        self.phase = Phase::Live;
    }

    /// The outstanding message was carried out, or refused; the driver's write completes with this
    /// reply. (Stopping a queue and a reset cannot be refused.)
    pub fn settle(&mut self, verdict: Result<(), Refusal>) -> Reply {
        let Some(outstanding) = self.outstanding.take() else {
            return Reply::Done(0);
        };
        match (outstanding, verdict) {
            (Outstanding::Configure(queue), Ok(())) => {
                self.refused.remove(queue);
                if self.refused.is_empty() && !self.refused_beyond {
                    self.refusal = None;
                }
                if let Some(latch) = self.latch(queue) {
                    latch.ready = true;
                }
            }
            (Outstanding::Configure(queue), Err(refusal)) => {
                // `Q` words always hold `Q` numbers.
                let _ = self.refused.insert(queue);
                self.refusal = Some(refusal);
            }
            (Outstanding::Stop(queue), _) => {
                if let Some(latch) = self.latch(queue) {
                    latch.ready = false;
                }
            }
            (Outstanding::Ready, _) => self.go_live(),
            (Outstanding::Reset, _) => {
                // The generation lives on, so that it never repeats across a reset.
                let Self {
                    generation,
                    ticket,
                    fitted,
                    ..
                } = *self;
                *self = Self {
                    generation,
                    ticket,
                    fitted,
                    ..Self::new(self.capacity)
                };
            }
        }
        match verdict {
            Ok(()) => Reply::Done(0),
            Err(refusal) => Reply::Refused(refusal),
        }
    }
}

/// An access that no register takes: `refusal` if there is one, for the other direction.
#[cold]
#[inline(never)]
fn misplaced(offset: u32, refusal: Refusal) -> Reply {
    match Register::at(offset) {
        Some(_) => refusal.into(),
        None if offset & 3 == 0 => Refusal::NoSuchRegister { offset }.into(),
        None => Refusal::BadWidth { offset, width: 4 }.into(),
    }
}

/// Offsets as patterns.
mod at {
    use super::Register;

    macro_rules! offsets {
        ($($name:ident = $register:ident),* $(,)?) => {
            $(pub(super) const $name: u32 = Register::$register.offset();)*
        };
    }

    offsets! {
        MAGIC_VALUE = MagicValue,
        VERSION = Version,
        DEVICE_ID = DeviceId,
        VENDOR_ID = VendorId,
        DEVICE_FEATURES = DeviceFeatures,
        DEVICE_FEATURES_SEL = DeviceFeaturesSel,
        DRIVER_FEATURES = DriverFeatures,
        DRIVER_FEATURES_SEL = DriverFeaturesSel,
        QUEUE_SEL = QueueSel,
        QUEUE_SIZE_MAX = QueueSizeMax,
        QUEUE_SIZE = QueueSize,
        QUEUE_READY = QueueReady,
        QUEUE_NOTIFY = QueueNotify,
        INTERRUPT_STATUS = InterruptStatus,
        INTERRUPT_ACK = InterruptAck,
        STATUS = Status,
        QUEUE_DESC_LOW = QueueDescLow,
        QUEUE_DESC_HIGH = QueueDescHigh,
        QUEUE_DRIVER_LOW = QueueDriverLow,
        QUEUE_DRIVER_HIGH = QueueDriverHigh,
        QUEUE_DEVICE_LOW = QueueDeviceLow,
        QUEUE_DEVICE_HIGH = QueueDeviceHigh,
        SHM_SEL = ShmSel,
        SHM_LEN_LOW = ShmLenLow,
        SHM_LEN_HIGH = ShmLenHigh,
        SHM_BASE_LOW = ShmBaseLow,
        SHM_BASE_HIGH = ShmBaseHigh,
        QUEUE_RESET = QueueReset,
        CONFIG_GENERATION = ConfigGeneration,
    }
}

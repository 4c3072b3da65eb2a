//! Registers and their offsets.

/// A control register, numbered by its offset. All registers are 32 bits wide and little-endian
/// (mmio-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum Register {
    /// 0x000, "virt" (mmio-01).
    MagicValue = 0x000,
    /// 0x004, version of the interface: 2 (mmio-02).
    Version = 0x004,
    /// 0x008, device type (mmio-29).
    DeviceId = 0x008,
    /// 0x00c, vendor id.
    VendorId = 0x00c,
    /// 0x010, the selected word of the offered features (mmio-16).
    DeviceFeatures = 0x010,
    /// 0x014, selects a word of the offered features.
    DeviceFeaturesSel = 0x014,
    /// 0x020, the selected word of the accepted features (mmio-17).
    DriverFeatures = 0x020,
    /// 0x024, selects a word of the accepted features.
    DriverFeaturesSel = 0x024,
    /// 0x030, selects a queue (mmio-18).
    QueueSel = 0x030,
    /// 0x034, largest size of the selected queue (mmio-19, mmio-20).
    QueueSizeMax = 0x034,
    /// 0x038, size of the selected queue.
    QueueSize = 0x038,
    /// 0x044, makes the selected queue ready or stops it (mmio-06, mmio-08, mmio-21).
    QueueReady = 0x044,
    /// 0x050, kicks a queue (mmio-22).
    QueueNotify = 0x050,
    /// 0x060, pending interrupts (mmio-03 to mmio-05).
    InterruptStatus = 0x060,
    /// 0x064, acknowledges interrupts.
    InterruptAck = 0x064,
    /// 0x070, device status (mmio-24, mmio-25).
    Status = 0x070,
    /// 0x080, descriptor area of the selected queue, bits 0 to 31 (mmio-26).
    QueueDescLow = 0x080,
    /// 0x084, descriptor area of the selected queue, bits 32 to 63.
    QueueDescHigh = 0x084,
    /// 0x090, driver area of the selected queue, bits 0 to 31.
    QueueDriverLow = 0x090,
    /// 0x094, driver area of the selected queue, bits 32 to 63.
    QueueDriverHigh = 0x094,
    /// 0x0a0, device area of the selected queue, bits 0 to 31.
    QueueDeviceLow = 0x0a0,
    /// 0x0a4, device area of the selected queue, bits 32 to 63.
    QueueDeviceHigh = 0x0a4,
    /// 0x0ac, selects a shared memory region.
    ShmSel = 0x0ac,
    /// 0x0b0, length of the selected region, bits 0 to 31 (mmio-27).
    ShmLenLow = 0x0b0,
    /// 0x0b4, length of the selected region, bits 32 to 63.
    ShmLenHigh = 0x0b4,
    /// 0x0b8, address of the selected region, bits 0 to 31.
    ShmBaseLow = 0x0b8,
    /// 0x0bc, address of the selected region, bits 32 to 63.
    ShmBaseHigh = 0x0bc,
    /// 0x0c0, resets the selected queue.
    QueueReset = 0x0c0,
    /// 0x0fc, configuration generation (mmio-07, mmio-31).
    ConfigGeneration = 0x0fc,
}

impl Register {
    /// Offset of the device configuration space (mmio-30).
    pub const CONFIG: u32 = 0x100;

    /// Returns the register at an offset, if there is one.
    #[inline(always)]
    #[must_use]
    pub const fn at(offset: u32) -> Option<Self> {
        Some(match offset {
            0x000 => Self::MagicValue,
            0x004 => Self::Version,
            0x008 => Self::DeviceId,
            0x00c => Self::VendorId,
            0x010 => Self::DeviceFeatures,
            0x014 => Self::DeviceFeaturesSel,
            0x020 => Self::DriverFeatures,
            0x024 => Self::DriverFeaturesSel,
            0x030 => Self::QueueSel,
            0x034 => Self::QueueSizeMax,
            0x038 => Self::QueueSize,
            0x044 => Self::QueueReady,
            0x050 => Self::QueueNotify,
            0x060 => Self::InterruptStatus,
            0x064 => Self::InterruptAck,
            0x070 => Self::Status,
            0x080 => Self::QueueDescLow,
            0x084 => Self::QueueDescHigh,
            0x090 => Self::QueueDriverLow,
            0x094 => Self::QueueDriverHigh,
            0x0a0 => Self::QueueDeviceLow,
            0x0a4 => Self::QueueDeviceHigh,
            0x0ac => Self::ShmSel,
            0x0b0 => Self::ShmLenLow,
            0x0b4 => Self::ShmLenHigh,
            0x0b8 => Self::ShmBaseLow,
            0x0bc => Self::ShmBaseHigh,
            0x0c0 => Self::QueueReset,
            0x0fc => Self::ConfigGeneration,
            _ => return None,
        })
    }

    /// Returns the offset in bytes.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "the discriminant is the offset")]
    pub const fn offset(self) -> u32 {
        self as u32
    }

    /// Returns the specification's name of the register.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MagicValue => "MagicValue",
            Self::Version => "Version",
            Self::DeviceId => "DeviceID",
            Self::VendorId => "VendorID",
            Self::DeviceFeatures => "DeviceFeatures",
            Self::DeviceFeaturesSel => "DeviceFeaturesSel",
            Self::DriverFeatures => "DriverFeatures",
            Self::DriverFeaturesSel => "DriverFeaturesSel",
            Self::QueueSel => "QueueSel",
            Self::QueueSizeMax => "QueueSizeMax",
            Self::QueueSize => "QueueSize",
            Self::QueueReady => "QueueReady",
            Self::QueueNotify => "QueueNotify",
            Self::InterruptStatus => "InterruptStatus",
            Self::InterruptAck => "InterruptACK",
            Self::Status => "Status",
            Self::QueueDescLow => "QueueDescLow",
            Self::QueueDescHigh => "QueueDescHigh",
            Self::QueueDriverLow => "QueueDriverLow",
            Self::QueueDriverHigh => "QueueDriverHigh",
            Self::QueueDeviceLow => "QueueDeviceLow",
            Self::QueueDeviceHigh => "QueueDeviceHigh",
            Self::ShmSel => "SHMSel",
            Self::ShmLenLow => "SHMLenLow",
            Self::ShmLenHigh => "SHMLenHigh",
            Self::ShmBaseLow => "SHMBaseLow",
            Self::ShmBaseHigh => "SHMBaseHigh",
            Self::QueueReset => "QueueReset",
            Self::ConfigGeneration => "ConfigGeneration",
        }
    }
}

/// Register offsets as constants, for use in patterns.
pub(super) mod at {
    use super::Register;

    macro_rules! offsets {
        ($($name:ident = $register:ident),* $(,)?) => {
            $(pub(in crate::mmio) const $name: u32 = Register::$register.offset();)*
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

//! Offsets of the register block, from the specification.

pub const MAGIC_VALUE: u32 = 0x000;
pub const VERSION: u32 = 0x004;
pub const DEVICE_ID: u32 = 0x008;
pub const VENDOR_ID: u32 = 0x00c;
pub const DEVICE_FEATURES: u32 = 0x010;
pub const DEVICE_FEATURES_SEL: u32 = 0x014;
pub const DRIVER_FEATURES: u32 = 0x020;
pub const DRIVER_FEATURES_SEL: u32 = 0x024;
pub const QUEUE_SEL: u32 = 0x030;
pub const QUEUE_SIZE_MAX: u32 = 0x034;
pub const QUEUE_SIZE: u32 = 0x038;
pub const QUEUE_READY: u32 = 0x044;
pub const QUEUE_NOTIFY: u32 = 0x050;
pub const INTERRUPT_STATUS: u32 = 0x060;
pub const INTERRUPT_ACK: u32 = 0x064;
pub const STATUS: u32 = 0x070;
pub const QUEUE_DESC_LOW: u32 = 0x080;
pub const QUEUE_DESC_HIGH: u32 = 0x084;
pub const QUEUE_DRIVER_LOW: u32 = 0x090;
pub const QUEUE_DRIVER_HIGH: u32 = 0x094;
pub const QUEUE_DEVICE_LOW: u32 = 0x0a0;
pub const QUEUE_DEVICE_HIGH: u32 = 0x0a4;
pub const SHM_SEL: u32 = 0x0ac;
pub const SHM_LEN_LOW: u32 = 0x0b0;
pub const SHM_LEN_HIGH: u32 = 0x0b4;
pub const SHM_BASE_LOW: u32 = 0x0b8;
pub const SHM_BASE_HIGH: u32 = 0x0bc;
pub const QUEUE_RESET: u32 = 0x0c0;
pub const CONFIG_GENERATION: u32 = 0x0fc;
pub const CONFIG: u32 = 0x100;

/// Bits of InterruptStatus and InterruptACK.
pub const USED_BUFFER: u32 = 1;
pub const CONFIG_CHANGE: u32 = 2;

/// Registers that a driver may only read.
pub const READ_ONLY: [u32; 11] = [
    MAGIC_VALUE,
    VERSION,
    DEVICE_ID,
    VENDOR_ID,
    DEVICE_FEATURES,
    QUEUE_SIZE_MAX,
    INTERRUPT_STATUS,
    SHM_LEN_LOW,
    SHM_LEN_HIGH,
    SHM_BASE_LOW,
    SHM_BASE_HIGH,
];

/// Registers that a driver may only write.
pub const WRITE_ONLY: [u32; 14] = [
    DEVICE_FEATURES_SEL,
    DRIVER_FEATURES,
    DRIVER_FEATURES_SEL,
    QUEUE_SEL,
    QUEUE_SIZE,
    QUEUE_NOTIFY,
    INTERRUPT_ACK,
    QUEUE_DESC_LOW,
    QUEUE_DESC_HIGH,
    QUEUE_DRIVER_LOW,
    QUEUE_DRIVER_HIGH,
    QUEUE_DEVICE_LOW,
    QUEUE_DEVICE_HIGH,
    SHM_SEL,
];

/// Registers that a driver may read and write.
pub const READ_WRITE: [u32; 3] = [QUEUE_READY, STATUS, QUEUE_RESET];

/// Registers that hold a queue's parameters.
pub const PARAMETERS: [u32; 7] = [
    QUEUE_SIZE,
    QUEUE_DESC_LOW,
    QUEUE_DESC_HIGH,
    QUEUE_DRIVER_LOW,
    QUEUE_DRIVER_HIGH,
    QUEUE_DEVICE_LOW,
    QUEUE_DEVICE_HIGH,
];

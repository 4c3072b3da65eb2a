//! The RAM that driver and devices share.

use virtside::{mmio::mailbox::Mailbox, memory::Ram};

/// Where [`Common::ram`] is for the driver's DMA. It is not where the bus has it: an address that
/// were passed on untranslated would not get far.
pub const BASE: u64 = 0x8000_0000;

/// Bytes of it.
pub const BYTES: usize = 128 << 10;

/// What is shared.
#[derive(Debug)]
#[repr(C)]
pub struct Common {
    /// Register accesses of each device.
    pub entropy: Mailbox,
    /// As above.
    pub block: Mailbox,
    /// As above.
    pub console: Mailbox,
    /// As above.
    pub i2c: Mailbox,
    /// Rings and buffers.
    pub ram: Ram<BYTES>,
}

/// All of it.
pub static COMMON: Common = Common {
    entropy: Mailbox::new(),
    block: Mailbox::new(),
    console: Mailbox::new(),
    i2c: Mailbox::new(),
    ram: Ram::new(),
};

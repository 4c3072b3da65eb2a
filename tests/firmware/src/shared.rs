//! The RAM that driver and devices share.

use virtside::{memory::Ram, mmio::mailbox::Mailbox};

/// Address of [`Common::ram`] for the driver's DMA. The bus has the RAM at another address, so that
/// the use of an untranslated address fails.
pub const BASE: u64 = 0x8000_0000;

/// Bytes of [`Common::ram`].
pub const BYTES: usize = 128 << 10;

/// The memory that both sides share.
#[derive(Debug)]
#[repr(C)]
pub struct Common {
    /// Register accesses of the entropy device.
    pub entropy: Mailbox,
    /// Register accesses of the block device.
    pub block: Mailbox,
    /// Register accesses of the console.
    pub console: Mailbox,
    /// Register accesses of the i2c adapter.
    pub i2c: Mailbox,
    /// Rings and buffers.
    pub ram: Ram<BYTES>,
}

/// The shared memory.
pub static COMMON: Common = Common {
    entropy: Mailbox::new(),
    block: Mailbox::new(),
    console: Mailbox::new(),
    i2c: Mailbox::new(),
    ram: Ram::new(),
};

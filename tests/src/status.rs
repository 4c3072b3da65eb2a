//! Bits of the device status, and the values that a driver of a healthy device reads or writes.

pub const ACKNOWLEDGE: u32 = 1;
pub const DRIVER: u32 = 2;
pub const DRIVER_OK: u32 = 4;
pub const FEATURES_OK: u32 = 8;
pub const SUSPEND: u32 = 16;
pub const NEEDS_RESET: u32 = 64;
pub const FAILED: u32 = 128;

/// What a live device reads.
pub const LIVE: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
/// What a driver writes to suspend a live device, or to resume it.
pub const LIVE_SUSPEND: u32 = LIVE | SUSPEND;
/// What a suspended device reads.
pub const SUSPENDED: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK | SUSPEND;

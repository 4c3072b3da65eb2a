//! What a front end says about one queue before it starts, and what the queue's memory says.

use std::fs::File;

use virtside::{
    DriverMem, Features, QueueConfig,
    memory::{DriverRange, Permission},
    message::RingPosition,
};

use super::{dirty::Dirty, inflight::Recorded};
use crate::VmMem;

/// `VIRTQ_DESC_F_AVAIL`
const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`
const USED: u16 = 1 << 15;

/// The wrap counter in a position of a packed ring.
const WRAP: u16 = 1 << 15;

/// A queue of a front end.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) size: u32,
    /// Addresses of the descriptors, the driver area and the device area, in the front end's
    /// process.
    pub(super) areas: [u64; 3],
    /// The position as the wire has it.
    pub(super) base: u32,
    pub(super) kick: Option<File>,
    pub(super) enabled: bool,
    /// The device has the queue.
    pub(super) started: bool,
}

impl Ring {
    /// Returns the layout of the queue, with the driver's addresses.
    pub(super) fn config(
        &self,
        queue: u16,
        address: impl Fn(u64) -> Option<u64>,
    ) -> Option<QueueConfig> {
        let [desc, driver, device] = self.areas;
        Some(QueueConfig {
            queue,
            size: self.size,
            desc: address(desc)?,
            driver: address(driver)?,
            device: address(device)?,
        })
    }

    /// Returns the position at which a packed queue goes on, whose last device was killed.
    ///
    /// `is_available` tells whether the chain at a position is not answered yet.
    pub(super) fn recorded_position(
        recorded: Recorded,
        is_available: impl FnOnce(u16) -> bool,
    ) -> RingPosition {
        let next = if is_available(recorded.position) {
            recorded.position
        } else {
            recorded.behind
        };
        RingPosition::at(next, next)
    }

    /// Returns the position at which a split queue starts.
    ///
    /// `used` is the index in its used ring. Chains between both are lost: the last device took
    /// them, and did not give them back.
    pub(super) fn split_position(&self, used: Option<u16>) -> RingPosition {
        let [a, b, ..] = self.base.to_le_bytes();
        let next = u16::from_le_bytes([a, b]);
        let used = used.unwrap_or(next);
        RingPosition {
            abandoned: next.wrapping_sub(used),
            ..RingPosition::at(next, used)
        }
    }

    /// Returns the position at which a packed queue starts.
    ///
    /// The queue starts without chains in hand, so both positions are equal. The upper half of the
    /// wire's value is the position of used chains, which some front ends leave 0.
    ///
    /// `fresh` tells whether no chain was ever used in the first slot. Some front ends start such a
    /// ring at 0, without the wrap counter.
    pub(super) fn packed_position(&self, fresh: impl FnOnce() -> bool) -> RingPosition {
        let [a, b, ..] = self.base.to_le_bytes();
        let mut next = u16::from_le_bytes([a, b]);
        if next == 0 && fresh() {
            next = WRAP;
        }
        RingPosition::at(next, next)
    }
}

/// Returns a position as the wire has it.
pub(super) fn base(position: &RingPosition, features: Features) -> u32 {
    let used = if features.contains(Features::RING_PACKED) {
        position.next_used
    } else {
        0
    };
    u32::from(used) << 16 | u32::from(position.next_avail)
}

/// Reads 16 bits of a ring.
fn load(memory: &VmMem<Dirty>, area: u64, offset: u64) -> Option<u16> {
    let range = DriverRange::new(area.checked_add(offset)?, 2)?;
    let mut bytes = [0; 2];
    let view = memory.translate(range, Permission::Read).ok()?;
    (view.copy_to(&mut bytes) == 2).then_some(u16::from_le_bytes(bytes))
}

/// Returns the used index of a split ring.
pub(super) fn used_index(memory: &VmMem<Dirty>, device_area: u64) -> Option<u16> {
    load(memory, device_area, 2)
}

/// Returns whether the descriptor at a position of a packed ring is available in the round of the
/// position. If a chain was available there, it is not answered yet.
pub(super) fn is_available(memory: &VmMem<Dirty>, ring: u64, position: u16) -> bool {
    let offset = u64::from(position & !WRAP).saturating_mul(16);
    let flags = load(memory, ring, offset.saturating_add(14));
    let wrap = position & WRAP != 0;
    flags.is_some_and(|flags| (flags & AVAIL != 0) == wrap && (flags & USED != 0) != wrap)
}

/// Returns whether the first descriptor of a packed ring was never marked as used: its flag USED is
/// clear. In every later round it is set, before and after the driver makes the slot available
/// again.
pub(super) fn is_fresh(memory: &VmMem<Dirty>, ring: u64) -> bool {
    load(memory, ring, 14).is_some_and(|flags| flags & USED == 0)
}

//! The requests in flight, in memory that outlives the device.
//!
//! The front end keeps the memory (GET_INFLIGHT_FD) and gives it to the next device
//! (SET_INFLIGHT_FD) if this one is killed. With such memory, queues give chains back in order
//! ([`RingPosition::in_order`]). The unanswered chains are then exactly those behind the position of
//! the next used element:
//!
//! * A split ring has this position itself: the index in the used ring.
//! * A packed ring does not have it, so the memory has it. The position is recorded just after an
//!   answer is stored in the ring. If the device is killed in between, the ring shows that the chain
//!   at the recorded position is answered, and the memory has the position behind the chain. If no
//!   chain is in hand, that position is the recorded one.
//!
//! The next device starts there and serves the unanswered chains again. No chain is answered twice.
//!
//! The layout is virtside's own, with a magic number. A device refuses the memory of another kind
//! of device.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::{Error, Result, message::VhostUserInflight};
use virtside::trace::{Event, Trace};
use vm_memory::{MmapRegion, VolatileMemory};

use super::memory::map_part;

/// First word of the memory. Memory that no device has used is zero.
const MAGIC: u32 = u32::from_le_bytes(*b"vsd1");
/// Bytes before the first record, and the alignment of records.
const ALIGN: usize = 64;
/// Bytes of a record before its positions.
const STATE: usize = 8;
/// The record is of a queue that was not stopped.
const VALID: u64 = 1 << 32;

/// Where a packed queue goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Position of the next used chain when the last answer was recorded.
    pub(super) position: u16,
    /// Position behind this chain.
    pub(super) behind: u16,
}

/// The memory of a front end, with a record for each queue.
#[derive(Debug)]
struct Area {
    region: MmapRegion,
    queues: usize,
    /// Most elements of a queue.
    size: u16,
}

/// The progress of a queue since its start: indices of positions in its record.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    packed: bool,
    popped: u16,
    used: u16,
    /// Number of chains that are popped and not answered.
    in_hand: u16,
}

/// Records the requests of a device.
#[derive(Clone, Debug)]
pub(super) struct Inflight<const Q: usize> {
    area: Option<Arc<Area>>,
    progress: [Progress; Q],
}

fn record_len(size: u16) -> usize {
    let positions = usize::from(size).saturating_mul(2);
    STATE.saturating_add(positions).next_multiple_of(ALIGN)
}

fn area_len(queues: usize, size: u16) -> usize {
    record_len(size)
        .saturating_mul(queues)
        .saturating_add(ALIGN)
}

/// Creates memory for a number of queues. Returns its description and its file.
///
/// # Errors
/// There are more queues or elements than the device has, or the system has no memory.
pub(super) fn create<const Q: usize, const N: usize>(
    wanted: &VhostUserInflight,
) -> Result<(VhostUserInflight, File)> {
    let (queues, size) = checked::<Q, N>(wanted)?;
    let len = u64::try_from(area_len(queues, size)).map_err(|_| Error::InvalidParam)?;
    let file = memfd_create("virtside-inflight", MemfdFlags::CLOEXEC)
        .map_err(|error| Error::ReqHandlerError(error.into()))?;
    ftruncate(&file, len).map_err(|error| Error::ReqHandlerError(error.into()))?;
    let made = VhostUserInflight::new(len, 0, wanted.num_queues, size);
    Ok((made, file.into()))
}

fn checked<const Q: usize, const N: usize>(wanted: &VhostUserInflight) -> Result<(usize, u16)> {
    let queues = usize::from(wanted.num_queues);
    if queues > Q || usize::from(wanted.queue_size) > N {
        return Err(Error::InvalidParam);
    }
    Ok((queues, wanted.queue_size))
}

impl<const Q: usize> Inflight<Q> {
    /// Creates a recorder without memory, which records nothing.
    pub(super) const fn none() -> Self {
        Self {
            area: None,
            progress: [Progress {
                packed: false,
                popped: 0,
                used: 0,
                in_hand: 0,
            }; Q],
        }
    }

    /// Creates a recorder over the memory of a front end.
    ///
    /// # Errors
    /// The memory is too short, or is not from a device of this kind.
    pub(super) fn over<const N: usize>(given: &VhostUserInflight, file: File) -> Result<Self> {
        let (queues, size) = checked::<Q, N>(given)?;
        let wanted = area_len(queues, size);
        let region = map_part(file, given.mmap_offset, given.mmap_size)?;
        if region.size() < wanted {
            return Err(Error::InvalidParam);
        }
        let magic = region
            .get_atomic_ref::<AtomicU32>(0)
            .map_err(|_| Error::InvalidParam)?;
        // Another kind of device may begin with a zero, too.
        let version = region.get_atomic_ref::<AtomicU64>(8);
        let version = version.map_err(|_| Error::InvalidParam)?;
        match magic.load(Ordering::Acquire) {
            0 if version.load(Ordering::Acquire) == 0 => magic.store(MAGIC, Ordering::Release),
            MAGIC => {}
            _ => {
                return Err(Error::InvalidOperation(
                    "in-flight memory of another device",
                ));
            }
        }
        Ok(Self {
            area: Some(Arc::new(Area {
                region,
                queues,
                size,
            })),
            ..Self::none()
        })
    }

    /// Returns whether requests are recorded for this queue.
    pub(super) fn has(&self, queue: u16) -> bool {
        let area = self.area.as_ref();
        area.is_some_and(|area| usize::from(queue) < area.queues)
    }

    /// Returns whether a record has room for a queue of this size.
    pub(super) fn has_room(&self, size: u32) -> bool {
        let area = self.area.as_ref();
        area.is_some_and(|area| size <= u32::from(area.size))
    }

    /// Returns where a packed queue goes on, if its last device was killed.
    pub(super) fn recorded(&self, queue: u16) -> Option<Recorded> {
        let area = self.area.as_deref()?;
        let state = area.state(queue)?.load(Ordering::Acquire);
        if state & VALID == 0 {
            return None;
        }
        let [a, b, c, d, ..] = state.to_le_bytes();
        let index = u16::from_le_bytes([c, d]);
        Some(Recorded {
            position: u16::from_le_bytes([a, b]),
            behind: area.behind(queue, index)?.load(Ordering::Acquire),
        })
    }

    /// Begins the record of a queue that starts at this position.
    pub(super) fn begin(&mut self, queue: u16, packed: bool, position: u16) {
        if let Some(progress) = self.progress.get_mut(usize::from(queue)) {
            *progress = Progress {
                packed,
                ..Progress::default()
            };
        }
        let behind = self.area.as_ref().and_then(|area| area.behind(queue, 0));
        if let Some(behind) = behind {
            behind.store(position, Ordering::Release);
        }
        self.store(queue, VALID | u64::from(position));
    }

    /// Ends the record of a queue that the front end has stopped.
    pub(super) fn end(&self, queue: u16) {
        self.store(queue, 0);
    }

    fn store(&self, queue: u16, state: u64) {
        if let Some(area) = self.area.as_deref()
            && let Some(place) = area.state(queue)
        {
            place.store(state, Ordering::Release);
        }
    }
}

impl Area {
    fn at(&self, queue: u16) -> Option<usize> {
        let queue = usize::from(queue);
        let offset = record_len(self.size)
            .checked_mul(queue)?
            .checked_add(ALIGN)?;
        (queue < self.queues).then_some(offset)
    }

    fn state(&self, queue: u16) -> Option<&AtomicU64> {
        self.region.get_atomic_ref(self.at(queue)?).ok()
    }

    /// The position behind the chain with this index.
    fn behind(&self, queue: u16, index: u16) -> Option<&AtomicU16> {
        if index >= self.size {
            return None;
        }
        let offset = usize::from(index).checked_mul(2)?.checked_add(STATE)?;
        let at = self.at(queue)?.checked_add(offset)?;
        self.region.get_atomic_ref(at).ok()
    }

    fn after(&self, index: u16) -> u16 {
        let next = index.wrapping_add(1);
        if next < self.size { next } else { 0 }
    }
}

impl<const Q: usize> Trace for Inflight<Q> {
    fn event(&mut self, event: &Event) {
        let Some(area) = self.area.as_deref() else {
            return;
        };
        match *event {
            Event::Popped {
                queue, next_avail, ..
            } => {
                if let Some(progress) = self.progress.get_mut(usize::from(queue))
                    && progress.packed
                    && let Some(behind) = area.behind(queue, progress.popped)
                {
                    behind.store(next_avail, Ordering::Release);
                    progress.popped = area.after(progress.popped);
                    progress.in_hand = progress.in_hand.wrapping_add(1);
                }
            }
            Event::Used { queue, .. } => {
                if let Some(progress) = self.progress.get_mut(usize::from(queue))
                    && progress.packed
                    && let Some(behind) = area.behind(queue, progress.used)
                    && let Some(state) = area.state(queue)
                {
                    let position = behind.load(Ordering::Relaxed);
                    progress.used = area.after(progress.used);
                    // If all slots have chains in hand, this is the oldest of them.
                    progress.in_hand = progress.in_hand.wrapping_sub(1);
                    if progress.in_hand == 0
                        && let Some(next) = area.behind(queue, progress.used)
                    {
                        next.store(position, Ordering::Release);
                    }
                    let index = u64::from(progress.used) << 16;
                    state.store(VALID | index | u64::from(position), Ordering::Release);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

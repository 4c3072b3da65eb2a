//! Descriptors, and the walk of a chain through a descriptor table.

use core::hint::cold_path;

use virtio_spec::virtq::DescF;

use super::chain::{Chain, Faulted, Segment};
use crate::{
    error::DriverFault,
    memory::{DriverMem, DriverRange, Permission, RawDescriptor},
    num,
};

pub(super) const NEXT: u16 = DescF::NEXT.bits().to_ne();
pub(super) const WRITE: u16 = DescF::WRITE.bits().to_ne();
const INDIRECT: u16 = DescF::INDIRECT.bits().to_ne();

/// A descriptor, fetched once. It has the format of a packed ring if `PACKED`, otherwise the format
/// of a descriptor table.
#[derive(Clone, Copy)]
pub(super) struct Desc<const PACKED: bool> {
    pub(super) addr: u64,
    /// Length in bytes, at most 32 bits. A `u64`, so that sums of lengths need no conversion.
    len: u64,
    /// Table: flags in the low half, `next` in the high half. Packed ring: buffer id in the low
    /// half, flags in the high half.
    rest: u32,
}

impl<const PACKED: bool> Desc<PACKED> {
    #[inline(always)]
    pub(super) fn new(raw: RawDescriptor) -> Self {
        let RawDescriptor { addr, len, rest } = raw;
        Self {
            addr,
            len: len.into(),
            rest,
        }
    }

    /// Returns a descriptor of the same buffer in the format of a table. It keeps the flags that
    /// are in `keep`, and gets the flags in `add` and the `next` field `next`.
    #[inline(always)]
    pub(super) fn with(self, keep: u16, add: u16, next: u16) -> Desc<false> {
        let flags = if PACKED {
            num::high16(self.rest)
        } else {
            num::low16(self.rest)
        };
        Desc {
            addr: self.addr,
            len: self.len,
            rest: u32::from(flags & keep | add) | (u32::from(next) << 16),
        }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        num::low(self.len)
    }

    /// Returns the `next` field, or in a packed ring the buffer id.
    #[inline(always)]
    pub(super) fn next(&self) -> u16 {
        if PACKED {
            num::low16(self.rest)
        } else {
            num::high16(self.rest)
        }
    }

    /// Returns the head of a chain whose last descriptor is this one: in a packed ring the buffer
    /// id of this descriptor, else `head`.
    #[inline(always)]
    fn head_or(&self, head: u16) -> u16 {
        if PACKED { self.next() } else { head }
    }

    /// Returns whether `flag` is the only flag in `mask` that is set.
    #[inline(always)]
    fn is_only(&self, flag: u16, mask: u16) -> bool {
        let (flag, mask) = (u32::from(flag), u32::from(mask));
        let (flag, mask) = if PACKED {
            (flag << 16, mask << 16)
        } else {
            (flag, mask)
        };
        self.rest & mask == flag
    }

    /// Returns whether at least one of the flags in `flag` is set.
    #[inline(always)]
    pub(super) fn has(&self, flag: u16) -> bool {
        let flag = u32::from(flag);
        self.rest & if PACKED { flag << 16 } else { flag } != 0
    }
}

/// Adds the buffer of a descriptor to the chain at index `at`. Returns the next index.
///
/// Every check of a buffer is made here, except the check of the total length, which
/// [`ChainHeader::end`](super::chain::ChainHeader::end) makes.
#[inline(always)]
fn add_buffer<M: DriverMem, const N: usize, const PACKED: bool>(
    mem: &M,
    chain: &mut Chain<N>,
    at: u16,
    desc: &Desc<PACKED>,
    permission: Permission,
) -> Result<u16, Faulted> {
    let (addr, len) = (desc.addr, desc.len());
    // A buffer of length 0 may have any address.
    if !mem.is_mapped(addr, len, permission) {
        cold_path();
        if len != 0 {
            return Err(chain.header.unmapped(addr, len, permission));
        }
    }
    let segment = Segment { addr, len };
    if PACKED {
        // A chain has no more descriptors than the ring, so never more than `N`.
        chain.put_modulo(at, segment);
    } else if !chain.put(at, segment) {
        return Err(chain.header.too_long(desc.head_or(chain.head())));
    }
    Ok(at.wrapping_add(1))
}

/// Where [`follow`] stopped.
pub(super) enum End<const PACKED: bool> {
    /// At the last descriptor of the chain.
    Last,
    /// At an INDIRECT descriptor.
    Table(Desc<PACKED>),
    /// In the middle of the chain, because `next` has no more descriptors.
    /// [`ChainHeader::progress`](super::chain::ChainHeader::progress) has the state of the chain.
    Open,
}

/// Follows a chain from `desc` to its end.
///
/// `next` fetches the descriptor that follows a descriptor with NEXT: in a table, the descriptor
/// with the index in the `next` field; in a packed ring, the next descriptor of the ring.
///
/// `(count, len, writing)` is the progress of the chain before `desc`: segments, bytes, and whether
/// the last segment is device-writable. In a packed ring, the buffer id of the last descriptor
/// becomes the head of the chain.
///
/// The readable descriptors and the writable descriptors have a loop each, so that neither loop
/// tests the direction of each descriptor. A cyclic chain ends with a fault when the chain buffer
/// is full, after `N` descriptors.
#[inline(always)]
pub(super) fn follow<M: DriverMem, const N: usize, const PACKED: bool>(
    mem: &M,
    chain: &mut Chain<N>,
    (mut count, mut len, writing): (u16, u64, bool),
    mut desc: Desc<PACKED>,
    mut next: impl FnMut(u16) -> Option<Desc<PACKED>>,
) -> Result<End<PACKED>, Faulted> {
    if !writing {
        while !desc.has(WRITE | INDIRECT) {
            count = add_buffer(mem, chain, count, &desc, Permission::Read)?;
            len = len.wrapping_add(desc.len);
            if !desc.has(NEXT) {
                chain.header.end_readable(count, len);
                return chain
                    .header
                    .end(desc.head_or(chain.head()), count, len)
                    .map(|()| End::Last);
            }
            desc = match next(desc.next()) {
                Some(desc) => desc,
                None if PACKED => {
                    chain.header.end_readable(count, len);
                    return chain
                        .header
                        .end(desc.head_or(chain.head()), count, len)
                        .map(|()| End::Open);
                }
                None => return Err(chain.header.bad_next(desc.next())),
            };
        }
        chain.header.end_readable(count, len);
    }
    // Without INDIRECT, the descriptor that ended the first loop is device-writable.
    let mut stop = desc.has(INDIRECT) || writing && !desc.has(WRITE);
    while !stop {
        count = add_buffer(mem, chain, count, &desc, Permission::Write)?;
        len = len.wrapping_add(desc.len);
        if !desc.has(NEXT) {
            return chain
                .header
                .end(desc.head_or(chain.head()), count, len)
                .map(|()| End::Last);
        }
        desc = match next(desc.next()) {
            Some(desc) => desc,
            None if PACKED => {
                return chain
                    .header
                    .end(desc.head_or(chain.head()), count, len)
                    .map(|()| End::Open);
            }
            None => return Err(chain.header.bad_next(desc.next())),
        };
        stop = !desc.is_only(WRITE, WRITE | INDIRECT);
    }
    if !desc.has(INDIRECT) {
        return Err(chain.header.bad_order(desc.head_or(chain.head())));
    }
    chain
        .header
        .end(desc.head_or(chain.head()), count, len)
        .map(|()| End::Table(desc))
}

/// Continues to follow a chain through the table of an indirect descriptor.
///
/// With `PACKED` the chain consists of consecutive entries of the table, and WRITE is the only flag
/// that has a meaning (packed-17). `negotiated` says whether indirect descriptors were negotiated.
#[inline(never)]
pub(super) fn walk_table<M: DriverMem, const N: usize, const PACKED: bool>(
    mem: &M,
    chain: &mut Chain<N>,
    table: Desc<false>,
    negotiated: bool,
) -> Result<(), Faulted> {
    let head = chain.head();
    if !negotiated {
        return Err(chain
            .header
            .set_fault(DriverFault::IndirectNotNegotiated { head }));
    }
    if table.has(NEXT) {
        return Err(chain
            .header
            .set_fault(DriverFault::IndirectWithNext { head }));
    }
    let (addr, len) = (table.addr, table.len());
    let count = num::index(len >> 4);
    // The limit is the chain buffer, not the size of the queue. A driver may choose a queue that is
    // smaller than the device's maximum and still send requests of the size that the device
    // announced.
    let room = N.saturating_sub(chain.segments().len());
    if count == 0 || count > room || len & 15 != 0 {
        return Err(chain.header.set_fault(DriverFault::IndirectLength { len }));
    }
    let view = DriverRange::new(addr, len)
        .filter(|_| mem.is_mapped(addr, len, Permission::Read))
        .and_then(|range| {
            mem.before_read(range);
            let view = mem.translate(range, Permission::Read).ok()?;
            Some((range, view))
        });
    let Some((range, view)) = view else {
        return Err(chain.header.unmapped(addr, len, Permission::Read));
    };
    let fetch = |index: u16| {
        if usize::from(index) >= count {
            return None;
        }
        let at = u32::from(index).wrapping_mul(16);
        // The view does not have the whole descriptor if the table spans two memory regions.
        let words = view
            .descriptor(num::index(at))
            .or_else(|| gather(mem, range.skip(at)));
        let words = words?;
        if !PACKED {
            return Some(Desc::new(words));
        }
        let next = index.wrapping_add(1);
        let add = if usize::from(next) < count { NEXT } else { 0 };
        Some(Desc::<true>::new(words).with(WRITE, add, next))
    };
    let Some(first) = fetch(0) else {
        return Err(chain.header.unmapped(addr, len, Permission::Read));
    };
    match follow(mem, chain, chain.header.progress(), first, fetch)? {
        End::Last => Ok(()),
        _ => Err(chain.header.set_fault(DriverFault::IndirectNested { head })),
    }
}

/// Reads the 16 bytes of a descriptor that spans two memory regions.
#[cold]
fn gather<M: DriverMem>(mem: &M, from: DriverRange) -> Option<RawDescriptor> {
    let mut bytes = [0; 16];
    let mut done: usize = 0;
    while let Some(room) = bytes.get_mut(done..).filter(|room| !room.is_empty()) {
        let rest = from.skip(num::clamp_u32(done));
        let count = mem.translate(rest, Permission::Read).ok()?.copy_to(room);
        if count == 0 {
            return None;
        }
        done = done.wrapping_add(count);
    }
    Some(RawDescriptor::from_bytes(bytes))
}

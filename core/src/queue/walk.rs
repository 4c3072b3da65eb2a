//! The way of a chain through a descriptor table.

use virtio_spec::virtq::DescF;

use super::chain::{Chain, Segment};
use crate::{
    error::DriverFault,
    memory::{DriverMem, DriverRange, Permission, RawDescriptor},
    num,
};

pub(super) const NEXT: u16 = DescF::NEXT.bits().to_ne();
pub(super) const WRITE: u16 = DescF::WRITE.bits().to_ne();
const INDIRECT: u16 = DescF::INDIRECT.bits().to_ne();

/// One descriptor, fetched once.
#[derive(Clone, Copy)]
pub(super) struct Desc {
    pub(super) addr: u64,
    /// 32 bits, widened once.
    len: u64,
    /// Flags, and `next` above them.
    rest: u32,
}

impl Desc {
    #[inline(always)]
    pub(super) fn new(raw: RawDescriptor) -> Self {
        let RawDescriptor { addr, len, rest } = raw;
        Self {
            addr,
            len: len.into(),
            rest,
        }
    }

    /// As a packed ring has it: the buffer id first, the flags above it.
    #[inline(always)]
    pub(super) fn packed(raw: RawDescriptor) -> Self {
        Self::new(RawDescriptor {
            rest: raw.rest.rotate_left(16),
            ..raw
        })
    }

    /// The same buffer without flags but these, and with another `next`.
    #[inline(always)]
    pub(super) fn with(self, keep: u16, add: u16, next: u16) -> Self {
        Self {
            rest: (self.rest & u32::from(keep)) | u32::from(add) | (u32::from(next) << 16),
            ..self
        }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        num::low(self.len)
    }

    /// The `next` field; in a packed ring, the buffer id.
    #[inline(always)]
    pub(super) fn next(&self) -> u16 {
        num::high16(self.rest)
    }

    #[inline(always)]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.rest & u32::from(flag) != 0
    }
}

/// Takes one descriptor's buffer in, after every check that a buffer gets but that of the sum of
/// lengths.
#[inline(always)]
fn take<M: DriverMem, const N: usize>(
    mem: &M,
    chain: &mut Chain<N>,
    at: usize,
    desc: &Desc,
    permission: Permission,
) -> Result<usize, DriverFault> {
    let (addr, len) = (desc.addr, desc.len());
    if !mem.is_mapped(addr, len, permission) {
        nowhere(addr, len, permission)?;
    }
    if chain.put(at, Segment { addr, len }) {
        Ok(at.wrapping_add(1))
    } else {
        Err(DriverFault::too_long(chain.head()))
    }
}

/// Where a buffer without bytes is does not matter; any other has to be somewhere.
#[cold]
#[inline(never)]
fn nowhere(addr: u64, len: u32, permission: Permission) -> Result<(), DriverFault> {
    if len == 0 {
        return Ok(());
    }
    Err(DriverFault::BufferUnmapped {
        addr,
        len,
        writable: permission == Permission::Write,
    })
}

/// Follows a chain from `desc` on to its end, or to an INDIRECT descriptor, which it gives. `next`
/// fetches what follows a descriptor with NEXT, by its `next` field (packed: its id); `missing` says
/// why it does not.
///
/// The readable descriptors and the writable ones behind them have a loop each, so that what
/// differs between them is not asked again for each. A chain that loops ends when the buffer is
/// full, after `N` descriptors.
///
/// `(count, writing)` is how far the chain has come before.
#[inline(always)]
pub(super) fn follow<M: DriverMem, const N: usize>(
    mem: &M,
    chain: &mut Chain<N>,
    (mut count, writing): (usize, bool),
    mut desc: Desc,
    mut next: impl FnMut(u16) -> Option<Desc>,
    missing: impl Fn(u16) -> DriverFault,
) -> Result<Option<Desc>, DriverFault> {
    if !writing {
        let mut len = if count == 0 {
            0
        } else {
            u64::from(chain.readable_len())
        };
        while !desc.has(WRITE | INDIRECT) {
            count = take(mem, chain, count, &desc, Permission::Read)?;
            len = len.wrapping_add(desc.len);
            if !desc.has(NEXT) {
                chain.no_writable();
                return chain.end_readable(count, len).map(|()| None);
            }
            desc = match next(desc.next()) {
                Some(desc) => desc,
                None => return Err(missing(desc.next())),
            };
        }
        chain.end_readable(count, len)?;
    }
    let mut len = if writing {
        u64::from(chain.writable_len())
    } else {
        0
    };
    while !desc.has(INDIRECT) {
        if !desc.has(WRITE) {
            return Err(DriverFault::bad_order(chain.head()));
        }
        count = take(mem, chain, count, &desc, Permission::Write)?;
        len = len.wrapping_add(desc.len);
        if !desc.has(NEXT) {
            return chain.end_writable(count, len).map(|()| None);
        }
        desc = match next(desc.next()) {
            Some(desc) => desc,
            None => return Err(missing(desc.next())),
        };
    }
    chain.end_writable(count, len).map(|()| Some(desc))
}

/// Follows a chain on through the table of an indirect descriptor.
///
/// In a packed ring its entries are consecutive, and of their flags only WRITE counts (packed-17).
#[inline(never)]
pub(super) fn walk_table<M: DriverMem, const N: usize, const PACKED: bool>(
    mem: &M,
    chain: &mut Chain<N>,
    table: Desc,
    negotiated: bool,
) -> Result<(), DriverFault> {
    let head = chain.head();
    if !negotiated {
        return Err(DriverFault::IndirectNotNegotiated { head });
    }
    if table.has(NEXT) {
        return Err(DriverFault::IndirectWithNext { head });
    }
    let (addr, len) = (table.addr, table.len());
    let count = num::index(len >> 4);
    // Bounded by the buffer rather than by the queue: a driver whose queue is smaller than the
    // device's largest may still count on requests of the size that the device announced.
    let room = N.saturating_sub(chain.segments().len());
    if count == 0 || count > room || len & 15 != 0 {
        return Err(DriverFault::IndirectLength { len });
    }
    let unmapped = DriverFault::BufferUnmapped {
        addr,
        len,
        writable: false,
    };
    let range = DriverRange::new(addr, len).ok_or(unmapped)?;
    if !mem.is_mapped(addr, len, Permission::Read) {
        return Err(unmapped);
    }
    mem.before_read(range);
    let view = mem
        .translate(range, Permission::Read)
        .map_err(|_| unmapped)?;
    let fetch = |index: u16| {
        if usize::from(index) >= count {
            return None;
        }
        let at = u32::from(index).wrapping_mul(16);
        // The view has no such descriptor if the table spans regions.
        let words = view
            .descriptor(num::index(at))
            .or_else(|| gather(mem, range.skip(at)));
        let words = words?;
        if !PACKED {
            return Some(Desc::new(words));
        }
        let next = index.wrapping_add(1);
        let add = if usize::from(next) < count { NEXT } else { 0 };
        Some(Desc::packed(words).with(WRITE, add, next))
    };
    let first = fetch(0).ok_or(unmapped)?;
    match follow(
        mem,
        chain,
        chain.progress(),
        first,
        fetch,
        DriverFault::bad_next,
    )? {
        None => Ok(()),
        Some(_) => Err(DriverFault::IndirectNested { head }),
    }
}

/// The 16 bytes of a descriptor that lies across the border of two regions.
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

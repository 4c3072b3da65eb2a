//! The way of a chain through a descriptor table.

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

/// One descriptor, fetched once, of a packed ring or in the format of a table.
#[derive(Clone, Copy)]
pub(super) struct Desc<const PACKED: bool> {
    pub(super) addr: u64,
    /// 32 bits, widened once.
    len: u64,
    /// Flags, and `next` above them; in a packed ring the buffer id, and flags above it.
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

    /// The same buffer without flags but these, and with another `next`, as in a table.
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

    /// The `next` field; in a packed ring, the buffer id.
    #[inline(always)]
    pub(super) fn next(&self) -> u16 {
        if PACKED {
            num::low16(self.rest)
        } else {
            num::high16(self.rest)
        }
    }

    /// The name of a chain that ends here: in a packed ring the buffer id, else what it was before.
    #[inline(always)]
    fn name(&self, head: u16) -> u16 {
        if PACKED { self.next() } else { head }
    }

    /// Whether of `these` flags it has `flag` only.
    #[inline(always)]
    fn is_only(&self, flag: u16, these: u16) -> bool {
        let (flag, these) = (u32::from(flag), u32::from(these));
        let (flag, these) = if PACKED {
            (flag << 16, these << 16)
        } else {
            (flag, these)
        };
        self.rest & these == flag
    }

    #[inline(always)]
    pub(super) fn has(&self, flag: u16) -> bool {
        let flag = u32::from(flag);
        self.rest & if PACKED { flag << 16 } else { flag } != 0
    }
}

/// Takes one descriptor's buffer in, after every check that a buffer gets but that of the sum of
/// lengths.
#[inline(always)]
fn take<M: DriverMem, const N: usize, const PACKED: bool>(
    mem: &M,
    chain: &mut Chain<N>,
    at: u16,
    desc: &Desc<PACKED>,
    permission: Permission,
) -> Result<u16, Faulted> {
    let (addr, len) = (desc.addr, desc.len());
    // Where a buffer without bytes is does not matter.
    if !mem.is_mapped(addr, len, permission) {
        cold_path();
        if len != 0 {
            return Err(chain.header.unmapped(addr, len, permission));
        }
    }
    let segment = Segment { addr, len };
    if PACKED {
        // A chain has no more descriptors than its ring, and so never more than `N`.
        chain.put_modulo(at, segment);
    } else if !chain.put(at, segment) {
        return Err(chain.header.too_long(desc.name(chain.head())));
    }
    Ok(at.wrapping_add(1))
}

/// How far a chain could be followed.
pub(super) enum End<const PACKED: bool> {
    /// To its end.
    Last,
    /// To an INDIRECT descriptor.
    Table(Desc<PACKED>),
    /// `next` has no more descriptors. [`Chain::progress`] says how far.
    Open,
}

/// Follows a chain from `desc` on to its end. `next` fetches what follows a descriptor with NEXT, by
/// its `next` field; in a packed ring, what lies behind it.
///
/// The readable descriptors and the writable ones behind them have a loop each, so that what
/// differs between them is not asked again for each. A chain that loops ends when the buffer is
/// full, after `N` descriptors.
///
/// `(count, len, writing)` is how far the chain has come before. The id of a packed chain is that of
/// its last descriptor, and becomes its head.
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
            count = take(mem, chain, count, &desc, Permission::Read)?;
            len = len.wrapping_add(desc.len);
            if !desc.has(NEXT) {
                chain.header.end_readable(count, len);
                return chain
                    .header
                    .end(desc.name(chain.head()), count, len)
                    .map(|()| End::Last);
            }
            desc = match next(desc.next()) {
                Some(desc) => desc,
                None if PACKED => {
                    chain.header.end_readable(count, len);
                    return chain
                        .header
                        .end(desc.name(chain.head()), count, len)
                        .map(|()| End::Open);
                }
                None => return Err(chain.header.bad_next(desc.next())),
            };
        }
        chain.header.end_readable(count, len);
    }
    // What ended the first loop is for writing, if it is a buffer.
    let mut odd = desc.has(INDIRECT) || writing && !desc.has(WRITE);
    while !odd {
        count = take(mem, chain, count, &desc, Permission::Write)?;
        len = len.wrapping_add(desc.len);
        if !desc.has(NEXT) {
            return chain
                .header
                .end(desc.name(chain.head()), count, len)
                .map(|()| End::Last);
        }
        desc = match next(desc.next()) {
            Some(desc) => desc,
            None if PACKED => {
                return chain
                    .header
                    .end(desc.name(chain.head()), count, len)
                    .map(|()| End::Open);
            }
            None => return Err(chain.header.bad_next(desc.next())),
        };
        odd = !desc.is_only(WRITE, WRITE | INDIRECT);
    }
    if !desc.has(INDIRECT) {
        return Err(chain.header.bad_order(desc.name(chain.head())));
    }
    chain
        .header
        .end(desc.name(chain.head()), count, len)
        .map(|()| End::Table(desc))
}

/// Follows a chain on through the table of an indirect descriptor.
///
/// In a packed ring its entries are consecutive, and of their flags only WRITE counts (packed-17).
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
            .blame(DriverFault::IndirectNotNegotiated { head }));
    }
    if table.has(NEXT) {
        return Err(chain.header.blame(DriverFault::IndirectWithNext { head }));
    }
    let (addr, len) = (table.addr, table.len());
    let count = num::index(len >> 4);
    // Bounded by the buffer rather than by the queue: a driver whose queue is smaller than the
    // device's largest may still count on requests of the size that the device announced.
    let room = N.saturating_sub(chain.segments().len());
    if count == 0 || count > room || len & 15 != 0 {
        return Err(chain.header.blame(DriverFault::IndirectLength { len }));
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
        Some(Desc::<true>::new(words).with(WRITE, add, next))
    };
    let Some(first) = fetch(0) else {
        return Err(chain.header.unmapped(addr, len, Permission::Read));
    };
    match follow(mem, chain, chain.header.progress(), first, fetch)? {
        End::Last => Ok(()),
        _ => Err(chain.header.blame(DriverFault::IndirectNested { head })),
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

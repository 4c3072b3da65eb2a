//! The way of a chain through a descriptor table.

use virtio_spec::virtq::DescF;

use super::chain::{Chain, Segment};
use crate::{
    error::DriverFault,
    memory::{DriverMem, Permission, RawDescriptor},
    num,
};

pub(super) const NEXT: u16 = DescF::NEXT.bits().to_ne();
const WRITE: u16 = DescF::WRITE.bits().to_ne();
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

    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        num::low(self.len)
    }

    #[inline(always)]
    fn next(&self) -> u16 {
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

#[inline(always)]
fn follow_next(fetch: &impl Fn(u16) -> Option<Desc>, next: u16) -> Result<Desc, DriverFault> {
    match fetch(next) {
        Some(desc) => Ok(desc),
        None => Err(DriverFault::bad_next(next)),
    }
}

/// Follows a chain from `first` on to its end, or to an INDIRECT descriptor, which it gives.
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
    first: u16,
    fetch: impl Fn(u16) -> Option<Desc>,
) -> Result<Option<Desc>, DriverFault> {
    // The first is there: a head was checked, and so was the length of a table.
    let Some(mut desc) = fetch(first) else {
        return Err(DriverFault::bad_next(chain.head()));
    };
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
                return chain.end_readable(count, len).map(|()| None);
            }
            desc = follow_next(&fetch, desc.next())?;
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
        desc = follow_next(&fetch, desc.next())?;
    }
    chain.end_writable(count, len).map(|()| Some(desc))
}

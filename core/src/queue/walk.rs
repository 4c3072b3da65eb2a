//! The way of a chain through a descriptor table.

use virtio_spec::virtq::DescF;

use super::chain::{Broken, Chain};
use crate::{
    error::DriverFault,
    memory::{DriverMem, Permission},
    num,
};

pub(super) const NEXT: u16 = DescF::NEXT.bits().to_ne();
const WRITE: u16 = DescF::WRITE.bits().to_ne();
const INDIRECT: u16 = DescF::INDIRECT.bits().to_ne();

/// One descriptor, fetched once.
#[derive(Clone, Copy)]
pub(super) struct Desc {
    pub(super) addr: u64,
    pub(super) len: u32,
    flags: u16,
    next: u16,
}

impl Desc {
    #[inline(always)]
    pub(super) fn from_words([addr, word]: [u64; 2]) -> Self {
        let rest = num::high(word);
        Self {
            addr,
            len: num::low(word),
            flags: num::low16(rest),
            next: num::high16(rest),
        }
    }

    #[inline(always)]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Follows a chain from `first` on to its end, or to an INDIRECT descriptor, which it gives.
///
/// The readable descriptors and the writable ones behind them have a loop each, so that what
/// differs between them is not asked again for each. A chain that loops ends when the buffer is
/// full, after `N` descriptors.
#[inline(always)]
pub(super) fn follow<M: DriverMem, const N: usize>(
    mem: &M,
    chain: &mut Chain<N>,
    first: u16,
    fetch: impl Fn(u16) -> Option<Desc>,
) -> Result<Option<Desc>, Broken> {
    let fetch = |chain: &mut Chain<N>, next: u16| match fetch(next) {
        Some(desc) => Ok(desc),
        None => Err(chain.blame(DriverFault::bad_next(next))),
    };
    let mut desc = fetch(chain, first)?;
    if !chain.is_writing() {
        let mut sum = u64::from(chain.readable_len());
        loop {
            if desc.has(WRITE | INDIRECT) {
                chain.end_readable(sum)?;
                break;
            }
            chain.take(mem, desc.addr, desc.len, Permission::Read)?;
            sum = sum.wrapping_add(desc.len.into());
            if !desc.has(NEXT) {
                return chain.end_readable(sum).map(|()| None);
            }
            desc = fetch(chain, desc.next)?;
        }
    }
    let mut sum = u64::from(chain.writable_len());
    loop {
        if desc.has(INDIRECT) {
            return chain.end_writable(sum).map(|()| Some(desc));
        }
        if !desc.has(WRITE) {
            let head = chain.head();
            return Err(chain.blame(DriverFault::bad_order(head)));
        }
        chain.take(mem, desc.addr, desc.len, Permission::Write)?;
        sum = sum.wrapping_add(desc.len.into());
        if !desc.has(NEXT) {
            return chain.end_writable(sum).map(|()| None);
        }
        desc = fetch(chain, desc.next)?;
    }
}

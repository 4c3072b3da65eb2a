//! A comparison of a memory with its earlier contents.

use core::{iter, ops::Range};

use crate::{memory::Ram, num};

/// A copy of the contents of a [`Ram`], which shows later which bytes have changed.
///
/// Addresses are addresses of the driver. A shot is as large as the RAM.
///
/// ```
/// use virtside::{memory::Ram, testing::Shot};
/// static RAM: Ram<4096> = Ram::new();
/// let shot = Shot::of(&RAM, 0x8000_0000);
/// shot.assert_only_changed(&[]);
/// RAM.write(0x10, &[1, 2, 3]);
/// assert!(shot.changes().eq([0x8000_0010..0x8000_0013]));
/// shot.assert_only_changed(&[(0x8000_0000, 0x12), (0x8000_0012, 1)]);
/// ```
///
/// ```should_panic
/// # use virtside::{memory::Ram, testing::Shot};
/// # static RAM: Ram<4096> = Ram::new();
/// let shot = Shot::of(&RAM, 0);
/// RAM.write(0x10, &[1, 2, 3]);
/// shot.assert_only_changed(&[(0x10, 2)]);
/// ```
#[derive(Clone, Debug)]
pub struct Shot<'r, const BYTES: usize> {
    ram: &'r Ram<BYTES>,
    base: u64,
    bytes: [u8; BYTES],
}

impl<'r, const BYTES: usize> Shot<'r, BYTES> {
    /// Copies the contents of `ram`. `base` is the driver's address of the first byte.
    #[must_use]
    pub fn of(ram: &'r Ram<BYTES>, base: u64) -> Self {
        let mut bytes = [0; BYTES];
        ram.read(0, &mut bytes);
        Self { ram, base, bytes }
    }

    /// Returns the addresses of the bytes that differ from the shot, as ascending ranges with gaps
    /// between them.
    pub fn changes(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = 0;
        iter::from_fn(move || {
            let start = self.find(at, true)?;
            let end = self.find(start, false).unwrap_or(BYTES);
            at = end;
            Some(self.address(start)..self.address(end))
        })
    }

    /// Checks that no byte outside the ranges `allowed` has changed. Each range is an address and a
    /// length in bytes.
    ///
    /// # Panics
    /// Panics if another byte has changed. The message contains the address of the first such byte.
    #[track_caller]
    pub fn assert_only_changed(&self, allowed: &[(u64, u64)]) {
        for address in self.changes().flatten() {
            let is_allowed = allowed
                .iter()
                .any(|(start, len)| address.wrapping_sub(*start) < *len);
            assert!(
                is_allowed,
                "the byte at {address:#x} changed, but only {allowed:x?} may change"
            );
        }
    }

    /// Returns the driver's address of the byte at offset `at`.
    fn address(&self, at: usize) -> u64 {
        self.base.wrapping_add(num::wide(at))
    }

    /// Returns the offset of the first byte from offset `at` on that differs from the shot. If
    /// `differs` is false, returns the offset of the first byte that equals the shot.
    fn find(&self, mut at: usize, differs: bool) -> Option<usize> {
        loop {
            let mut now = [0; 64];
            let then = self.bytes.get(at..).filter(|then| !then.is_empty())?;
            let read = self.ram.read(at, &mut now);
            let mut pairs = now.iter().take(read).zip(then);
            if let Some(found) = pairs.position(|(now, then)| (now != then) == differs) {
                return Some(at.wrapping_add(found));
            }
            at = at.wrapping_add(read);
        }
    }
}

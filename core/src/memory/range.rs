//! Ranges of driver addresses.

/// A range of driver addresses that does not wrap around the end of the address space.
///
/// ```
/// use virtside::memory::DriverRange;
/// assert!(DriverRange::new(u64::MAX, 1).is_some());
/// assert!(DriverRange::new(u64::MAX, 2).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DriverRange {
    start: u64,
    len: u32,
}

impl DriverRange {
    /// Creates the range of `len` bytes from `start`.
    ///
    /// Returns `None` if the last byte would lie beyond the end of the address space.
    #[inline(always)]
    #[must_use]
    pub const fn new(start: u64, len: u32) -> Option<Self> {
        // Widens `len`; `u64::from` is not const.
        let [a, b, c, d] = len.to_le_bytes();
        let wide = u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]);
        if wide == 0 || start.checked_add(wide.wrapping_sub(1)).is_some() {
            Some(Self { start, len })
        } else {
            None
        }
    }

    /// Returns the first driver address.
    #[inline(always)]
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the length in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns whether the range has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the two ranges share at least one byte.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Distances instead of end addresses: the end of a range that ends with the address space
        // does not fit into a `u64`.
        let ahead = other.start.wrapping_sub(self.start);
        let behind = self.start.wrapping_sub(other.start);
        !self.is_empty()
            && !other.is_empty()
            && ((other.start >= self.start && ahead < u64::from(self.len))
                || (self.start >= other.start && behind < u64::from(other.len)))
    }

    /// Returns the range without its first `count` bytes. The result is empty if the range has no
    /// more than `count` bytes.
    #[must_use]
    pub const fn skip(&self, count: u32) -> Self {
        let count = if count < self.len { count } else { self.len };
        let [a, b, c, d] = count.to_le_bytes();
        let wide = u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0]);
        Self {
            start: self.start.wrapping_add(wide),
            len: self.len.wrapping_sub(count),
        }
    }
}

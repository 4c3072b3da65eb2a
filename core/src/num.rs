//! Conversions that cannot fail, so that other modules need neither `as` nor `unwrap`.

/// Converts to an index. On a 16-bit target, a value that does not fit becomes `usize::MAX`.
#[inline(always)]
pub(crate) fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Converts to `u32`, at most `u32::MAX`.
#[inline(always)]
pub(crate) fn clamp_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Converts to `u64`.
#[inline(always)]
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Converts to `u16`, at most `u16::MAX`.
#[inline(always)]
pub(crate) const fn clamp_u16(value: usize) -> u16 {
    if value > 0xffff {
        return u16::MAX;
    }
    let bytes = value.to_le_bytes();
    let [low, high, ..] = bytes;
    u16::from_le_bytes([low, high])
}

/// Returns the low half of a 64-bit word.
#[inline(always)]
pub(crate) fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Converts to an index. A value that does not fit becomes `usize::MAX`.
#[inline(always)]
pub(crate) fn clamp_index(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// Returns the high half of a 64-bit word.
#[inline(always)]
pub(crate) fn high(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Returns the low 16 bits of a 32-bit word.
#[inline(always)]
pub(crate) fn low16(word: u32) -> u16 {
    u16::try_from(word & 0xffff).unwrap_or(0)
}

/// Returns the high 16 bits of a 32-bit word.
#[inline(always)]
pub(crate) fn high16(word: u32) -> u16 {
    u16::try_from(word >> 16).unwrap_or(0)
}

/// Returns the word with its low half replaced.
#[inline(always)]
pub(crate) fn with_low(word: u64, half: u32) -> u64 {
    (word & 0xffff_ffff_0000_0000) | u64::from(half)
}

/// Returns the word with its high half replaced.
#[inline(always)]
pub(crate) fn with_high(word: u64, half: u32) -> u64 {
    (word & 0xffff_ffff) | (u64::from(half) << 32)
}

//! Names of features.

use virtio_spec::{F, blk, le128};
use virtside::Features;

/// Joins names.
pub(crate) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" | ")
}

/// Returns the names of the negotiated features.
pub(crate) fn negotiated(id: u32, features: Features) -> String {
    let words = (0..4).map(|word| (word, features.word(word)));
    let some = words.filter(|(_, bits)| *bits != 0);
    let names: Vec<_> = some
        .map(|(word, bits)| self::features(id, word, bits))
        .collect();
    names.join(" | ")
}

/// Returns the names of the features in one 32-bit word.
pub(crate) fn features(id: u32, word: u32, value: u32) -> String {
    let shift = word.saturating_mul(32);
    let bits = u128::from(value).checked_shl(shift).unwrap_or(0);
    if bits == 0 {
        return format!("{value:#x}");
    }
    let bits = le128::from_ne(bits);
    let block = u32::from(u8::from(virtio_spec::Id::Block));
    if id == block {
        names(
            blk::F::from_bits_retain(bits)
                .iter_names()
                .map(|(name, _)| name),
        )
    } else {
        names(F::from_bits_retain(bits).iter_names().map(|(name, _)| name))
    }
}

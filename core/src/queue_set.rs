//! A fixed-capacity bitset of queue numbers.

use crate::num;

/// A set of queue numbers below `32 * WORDS`.
///
/// No operation panics. A number that does not fit cannot be inserted, and is never contained.
/// Every operation takes at most `WORDS` steps. Iteration takes `WORDS` steps plus one step per
/// member.
///
/// `WORDS` counts 32-bit words, because `[u32; (N + 31) / 32]` is not stable Rust.
///
/// ```
/// use virtside::QueueSet;
/// const OFFERED: QueueSet<1> = QueueSet::first(3);
/// let mut ready = QueueSet::<1>::new();
/// assert!(ready.insert(2).is_ok());
/// assert!(ready.insert(32).is_err());
/// assert!(ready.is_subset(&OFFERED));
/// assert!(ready.iter().eq([2]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueueSet<const WORDS: usize> {
    words: [u32; WORDS],
}

/// Error: the set has no room for this queue number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct QueueSetFull(pub u16);

impl core::fmt::Display for QueueSetFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "queue {} is beyond the capacity of the set", self.0)
    }
}

impl core::error::Error for QueueSetFull {}

/// Returns the word index and the bit of a queue number.
const fn word_and_bit(queue: u16) -> (usize, u32) {
    let [low, high] = queue.to_le_bytes();
    let mut bytes = [0; size_of::<usize>()];
    bytes[0] = low;
    bytes[1] = high;
    (usize::from_le_bytes(bytes) >> 5, 1 << (low & 31))
}

impl<const WORDS: usize> QueueSet<WORDS> {
    /// Number of queue numbers that fit. The numbers are 0 to `CAPACITY - 1`.
    pub const CAPACITY: u32 = {
        assert!(WORDS <= 2048, "queue numbers are 16 bits wide");
        // At most 65536, so the sum cannot overflow.
        let mut capacity: u32 = 0;
        let mut word = 0;
        while word < WORDS {
            capacity = capacity.saturating_add(32);
            word = word.saturating_add(1);
        }
        capacity
    };

    /// Creates an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Creates the set of the numbers `0..count`. Numbers that do not fit are left out.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "`word < WORDS` is the loop's condition"
    )]
    pub const fn first(count: u16) -> Self {
        let mut set = Self::new();
        let (full, _) = word_and_bit(count);
        let mut word = 0;
        while word < WORDS {
            if word < full {
                set.words[word] = u32::MAX;
            } else if word == full {
                let (_, bit) = word_and_bit(count);
                set.words[word] = bit.wrapping_sub(1);
            }
            word = word.saturating_add(1);
        }
        set
    }

    /// Creates the set of these numbers.
    ///
    /// # Errors
    /// [`QueueSetFull`] names the first number that does not fit.
    pub const fn from_slice(queues: &[u16]) -> Result<Self, QueueSetFull> {
        let mut set = Self::new();
        let mut rest = queues;
        while let [queue, tail @ ..] = rest {
            match set.insert(*queue) {
                Ok(_) => rest = tail,
                Err(full) => return Err(full),
            }
        }
        Ok(set)
    }

    /// Adds a number. Returns whether the number is new.
    ///
    /// # Errors
    /// [`QueueSetFull`] if the number does not fit. The set is unchanged.
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn insert(&mut self, queue: u16) -> Result<bool, QueueSetFull> {
        let (word, bit) = word_and_bit(queue);
        if word < WORDS {
            let new = self.words[word] & bit == 0;
            self.words[word] |= bit;
            Ok(new)
        } else {
            Err(QueueSetFull(queue))
        }
    }

    /// Removes a number. Returns whether the set contained the number.
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn remove(&mut self, queue: u16) -> bool {
        let (word, bit) = word_and_bit(queue);
        if word < WORDS {
            let contained = self.words[word] & bit != 0;
            self.words[word] &= !bit;
            contained
        } else {
            false
        }
    }

    /// Returns whether the set contains a number.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn contains(&self, queue: u16) -> bool {
        let (word, bit) = word_and_bit(queue);
        word < WORDS && self.words[word] & bit != 0
    }

    /// Returns whether the set has no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns the number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().fold(0, |sum, word| {
            sum.wrapping_add(num::index(word.count_ones()))
        })
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32; WORDS] {
        &mut self.words
    }

    /// Removes every member.
    pub fn clear(&mut self) {
        self.words = [0; WORDS];
    }

    fn zip(&self, other: &Self, op: impl Fn(u32, u32) -> u32) -> Self {
        let mut set = *self;
        for (mine, theirs) in set.words.iter_mut().zip(&other.words) {
            *mine = op(*mine, *theirs);
        }
        set
    }

    /// Returns the members of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine | theirs)
    }

    /// Returns the members that both sets have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine & theirs)
    }

    /// Returns the members of this set that are not in the other set.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine & !theirs)
    }

    /// Returns whether every member is also in the other set.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// Returns an iterator over the members, lowest first.
    #[must_use]
    pub fn iter(&self) -> Iter<WORDS> {
        Iter {
            rest: *self,
            word: 0,
        }
    }

    /// Creates the set of these numbers. To call `collect()` instead, collect into [`Collected`].
    ///
    /// # Errors
    /// [`QueueSetFull`] names the first number that does not fit.
    pub fn try_from_iter(queues: impl IntoIterator<Item = u16>) -> Result<Self, QueueSetFull> {
        let mut set = Self::new();
        for queue in queues {
            set.insert(queue)?;
        }
        Ok(set)
    }
}

impl<const WORDS: usize> Default for QueueSet<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> core::fmt::Debug for QueueSet<WORDS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(feature = "defmt")]
impl<const WORDS: usize> defmt::Format for QueueSet<WORDS> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "QueueSet({=[?]:08x})", &self.words[..]);
    }
}

impl<const WORDS: usize> IntoIterator for QueueSet<WORDS> {
    type Item = u16;
    type IntoIter = Iter<WORDS>;
    fn into_iter(self) -> Iter<WORDS> {
        self.iter()
    }
}

impl<const WORDS: usize> IntoIterator for &QueueSet<WORDS> {
    type Item = u16;
    type IntoIter = Iter<WORDS>;
    fn into_iter(self) -> Iter<WORDS> {
        self.iter()
    }
}

/// A set of queue numbers below `Q`, for a device with `Q` queues.
///
/// The set has `Q` words, but uses only the words that numbers below `Q` need. No operation takes
/// more than `Q.div_ceil(32)` steps. With up to 32 queues every operation is one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct QueueBits<const Q: usize>(QueueSet<Q>);

impl<const Q: usize> QueueBits<Q> {
    pub(crate) const fn new() -> Self {
        Self(QueueSet::new())
    }

    /// Creates the set of those numbers in `set` that are below `Q`.
    pub(crate) fn of(set: QueueSet<Q>) -> Self {
        let mut bits = Self(set);
        if let Some(beyond) = bits.0.words.get_mut(used(Q)..) {
            beyond.fill(0);
        }
        if let (Some(last), rest @ 1..) = (bits.words_mut().last_mut(), num::clamp_u32(Q) & 31) {
            *last &= (1_u32 << rest).wrapping_sub(1);
        }
        bits
    }

    #[inline(always)]
    fn words(&self) -> &[u32] {
        self.0.words.get(..used(Q)).unwrap_or(&[])
    }

    #[inline(always)]
    fn words_mut(&mut self) -> &mut [u32] {
        self.0.words.get_mut(..used(Q)).unwrap_or(&mut [])
    }

    /// Adds a queue number. The number is below `Q`.
    #[inline(always)]
    pub(crate) fn insert(&mut self, queue: u16) {
        let (word, bit) = word_and_bit(queue);
        if let Some(word) = self.words_mut().get_mut(word) {
            *word |= bit;
        }
    }

    #[inline(always)]
    pub(crate) fn contains(&self, queue: u16) -> bool {
        self.0.contains(queue)
    }

    /// Removes a number. Returns whether the set contained the number.
    #[inline(always)]
    pub(crate) fn remove(&mut self, queue: u16) -> bool {
        self.0.remove(queue)
    }

    /// Adds the members of another set.
    #[inline(always)]
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.words_mut().iter_mut().zip(other.words()) {
            *mine |= theirs;
        }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    pub(crate) fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    /// Returns an iterator over the members, lowest first.
    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let mut words = self.words().iter();
        // The members that are left in the current word, and the first number of that word.
        let (mut word, mut first) = (0_u32, 0_u16.wrapping_sub(32));
        core::iter::from_fn(move || {
            if Q == 1 {
                return words.next().filter(|word| **word != 0).map(|_| 0);
            }
            while word == 0 {
                word = *words.next()?;
                first = first.wrapping_add(32);
            }
            let bit = num::low16(word.trailing_zeros());
            word &= word.wrapping_sub(1);
            Some(first.wrapping_add(bit))
        })
    }

    /// Returns the lowest member from `start` on that is not in the other set. If there is none,
    /// returns the lowest member of all that is not in the other set. `start` is at most `Q`.
    #[inline(always)]
    pub(crate) fn next_from(&self, start: u16, other: &Self) -> Option<u16> {
        if Q == 1 {
            return (self.left(0, other) != 0).then_some(0);
        }
        if used(Q) == 1 {
            let left = self.left(0, other);
            let rotation = u32::from(start) & 31;
            let ahead = left.rotate_right(rotation).trailing_zeros();
            return (left != 0).then(|| num::low16(ahead.wrapping_add(rotation) & 31));
        }
        if used(Q) == 2 {
            let left = u64::from(self.left(1, other)) << 32 | u64::from(self.left(0, other));
            let rotation = u32::from(start) & 63;
            let ahead = left.rotate_right(rotation).trailing_zeros();
            return (left != 0).then(|| num::low16(ahead.wrapping_add(rotation) & 63));
        }
        let (word, bit) = word_and_bit(start);
        let left = self.left(word, other) & bit.wrapping_neg();
        if left != 0 {
            return Some(number(word, left));
        }
        let behind = self.first_left(word.wrapping_add(1), other);
        behind.or_else(|| self.first_left(0, other))
    }

    /// Returns the bits of a word of this set that are not set in the other set.
    #[inline(always)]
    fn left(&self, word: usize, other: &Self) -> u32 {
        match (self.words().get(word), other.words().get(word)) {
            (Some(mine), Some(theirs)) => mine & !theirs,
            _ => 0,
        }
    }

    /// Returns the lowest member that is in word `word` or later and is not in the other set.
    #[inline(always)]
    fn first_left(&self, mut word: usize, other: &Self) -> Option<u16> {
        while word < used(Q) {
            let left = self.left(word, other);
            if left != 0 {
                return Some(number(word, left));
            }
            word = word.wrapping_add(1);
        }
        None
    }
}

/// Returns the number of words that the numbers below `queues` need.
pub(crate) const fn used(queues: usize) -> usize {
    queues.div_ceil(32)
}

/// Returns the lowest queue number in a word. `bits`, the value of the word, is not 0.
#[inline(always)]
fn number(word: usize, bits: u32) -> u16 {
    let first = num::clamp_u16(word).wrapping_mul(32);
    first.wrapping_add(num::low16(bits.trailing_zeros()))
}

/// Returns an iterator over the indices of the bits that are set in a word, lowest first.
#[inline(always)]
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = u16> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| num::low16(word.trailing_zeros()));
        word &= word.wrapping_sub(1);
        bit
    })
}

/// Result of `collect()` on queue numbers: the set, or the first number that does not fit.
///
/// This type exists because only the standard library can implement `FromIterator<u16>` for
/// `Result`.
///
/// ```
/// use virtside::{QueueSet, queue_set::Collected};
/// let Collected(set) = [1, 5, 3].into_iter().collect::<Collected<1>>();
/// assert!(set.unwrap().iter().eq([1, 3, 5]));
/// let Collected(set) = [1, 99].into_iter().collect::<Collected<1>>();
/// assert_eq!(set.unwrap_err().0, 99);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Collected<const WORDS: usize>(
    /// The set, or the error.
    pub Result<QueueSet<WORDS>, QueueSetFull>,
);

impl<const WORDS: usize> FromIterator<u16> for Collected<WORDS> {
    fn from_iter<I: IntoIterator<Item = u16>>(queues: I) -> Self {
        Self(QueueSet::try_from_iter(queues))
    }
}

/// Iterator over the members of a [`QueueSet`], lowest first.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Iter<const WORDS: usize> {
    rest: QueueSet<WORDS>,
    word: u16,
}

impl<const WORDS: usize> Iterator for Iter<WORDS> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        loop {
            let bits = self.rest.words.get_mut(usize::from(self.word))?;
            if *bits != 0 {
                let bit = num::low16(bits.trailing_zeros());
                *bits &= bits.wrapping_sub(1);
                return Some(self.word.wrapping_mul(32).wrapping_add(bit));
            }
            self.word = self.word.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{QueueBits, QueueSet};
    use proptest::{collection::vec, prelude::*};
    use std::{collections::BTreeSet, vec::Vec};

    /// Creates a set and a model of the set, a `BTreeSet`, from those `queues` that are below `Q`.
    fn pair<const Q: usize>(queues: &[u16]) -> (QueueBits<Q>, BTreeSet<u16>) {
        let below = |queue: &u16| usize::from(*queue) < Q;
        let model: BTreeSet<u16> = queues.iter().copied().filter(below).collect();
        let mut set = QueueBits::new();
        for queue in &model {
            set.insert(*queue);
        }
        (set, model)
    }

    fn check<const Q: usize>(mine: &[u16], theirs: &[u16], start: u16) {
        let ((mut set, mut model), (other, others)) = (pair::<Q>(mine), pair::<Q>(theirs));
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(set.is_empty(), model.is_empty());
        let start = start.min(crate::num::clamp_u16(Q));
        let left: Vec<u16> = model.difference(&others).copied().collect();
        let next = left.iter().find(|queue| **queue >= start).or(left.first());
        assert_eq!(set.next_from(start, &other), next.copied());
        for queue in theirs {
            assert_eq!(set.remove(*queue), model.remove(queue));
        }
        assert!(set.iter().eq(model.iter().copied()));
        set.add(&other);
        model.extend(&others);
        assert!(set.iter().eq(model.iter().copied()));
        let mut beyond = QueueSet::<Q>::new();
        for queue in mine {
            let _ = beyond.insert(*queue);
        }
        assert_eq!(QueueBits::of(beyond), pair::<Q>(mine).0);
        set.clear();
        assert_eq!(set, QueueBits::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn queue_bits_behave_like_a_btree_set(
            mine in vec(0_u16..140, 0..20),
            theirs in vec(0_u16..140, 0..20),
            start in 0_u16..140,
        ) {
            check::<1>(&mine, &theirs, start);
            check::<2>(&mine, &theirs, start);
            check::<31>(&mine, &theirs, start);
            check::<32>(&mine, &theirs, start);
            check::<33>(&mine, &theirs, start);
            check::<64>(&mine, &theirs, start);
            check::<128>(&mine, &theirs, start);
        }
    }
}

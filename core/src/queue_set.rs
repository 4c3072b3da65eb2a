//! A fixed-capacity bitset of queue numbers.

use crate::num;

/// A set of queue numbers below `32 * WORDS`.
///
/// No operation panics: a number that does not fit is refused or simply not contained. Every
/// operation takes at most `WORDS` steps, iteration `WORDS` plus one step per member.
///
/// `WORDS` counts 32-bit words because `[u32; (N + 31) / 32]` is not stable Rust.
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

/// A queue number that the set has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct QueueSetFull(pub u16);

impl core::fmt::Display for QueueSetFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "queue {} is beyond the capacity of the set", self.0)
    }
}

impl core::error::Error for QueueSetFull {}

/// Word index and bit of a queue number.
const fn place(queue: u16) -> (usize, u32) {
    let [low, high] = queue.to_le_bytes();
    let mut bytes = [0; size_of::<usize>()];
    bytes[0] = low;
    bytes[1] = high;
    (usize::from_le_bytes(bytes) >> 5, 1 << (low & 31))
}

impl<const WORDS: usize> QueueSet<WORDS> {
    /// How many queue numbers fit: 0 up to this.
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

    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The numbers `0..count`, as far as they fit.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "`word < WORDS` is the loop's condition"
    )]
    pub const fn first(count: u16) -> Self {
        let mut set = Self::new();
        let (full, _) = place(count);
        let mut word = 0;
        while word < WORDS {
            if word < full {
                set.words[word] = u32::MAX;
            } else if word == full {
                let (_, bit) = place(count);
                set.words[word] = bit.wrapping_sub(1);
            }
            word = word.saturating_add(1);
        }
        set
    }

    /// The set of these numbers, or the first that does not fit.
    ///
    /// # Errors
    /// [`QueueSetFull`] names the number.
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

    /// Adds a number; says whether it is new.
    ///
    /// # Errors
    /// [`QueueSetFull`] if it does not fit; the set is unchanged.
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn insert(&mut self, queue: u16) -> Result<bool, QueueSetFull> {
        let (word, bit) = place(queue);
        if word < WORDS {
            let new = self.words[word] & bit == 0;
            self.words[word] |= bit;
            Ok(new)
        } else {
            Err(QueueSetFull(queue))
        }
    }

    /// Takes a number out; says whether it was there.
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn remove(&mut self, queue: u16) -> bool {
        let (word, bit) = place(queue);
        if word < WORDS {
            let there = self.words[word] & bit != 0;
            self.words[word] &= !bit;
            there
        } else {
            false
        }
    }

    /// Whether the number is in the set.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "guarded by `word < WORDS`")]
    pub const fn contains(&self, queue: u16) -> bool {
        let (word, bit) = place(queue);
        word < WORDS && self.words[word] & bit != 0
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().fold(0, |sum, word| {
            sum.wrapping_add(num::index(word.count_ones()))
        })
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32; WORDS] {
        &mut self.words
    }

    /// Takes every member out.
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

    /// Members of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine | theirs)
    }

    /// Members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine & theirs)
    }

    /// Members of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |mine, theirs| mine & !theirs)
    }

    /// Whether every member is in the other set too.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// The members, lowest first.
    #[must_use]
    pub fn iter(&self) -> Iter<WORDS> {
        Iter {
            rest: *self,
            word: 0,
        }
    }

    /// The set of these numbers; [`Collected`] is the same for `collect()`.
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

/// The same for the queues of a device of `Q`: a set of numbers below `Q`.
///
/// It has `Q` words, too, but looks at no more of them than numbers below `Q` need: no operation takes
/// more than `Q.div_ceil(32)` steps, and for up to 32 queues each is one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct QueueBits<const Q: usize>(QueueSet<Q>);

impl<const Q: usize> QueueBits<Q> {
    pub(crate) const fn new() -> Self {
        Self(QueueSet::new())
    }

    /// The numbers below `Q` in a set.
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

    /// Adds the number of a queue; it is below `Q`.
    #[inline(always)]
    pub(crate) fn insert(&mut self, queue: u16) {
        let (word, bit) = place(queue);
        if let Some(word) = self.words_mut().get_mut(word) {
            *word |= bit;
        }
    }

    #[inline(always)]
    pub(crate) fn contains(&self, queue: u16) -> bool {
        self.0.contains(queue)
    }

    /// Takes a number out; says whether it was there.
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

    /// The members, lowest first.
    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let mut words = self.words().iter();
        // The word that is being looked at, and its first number.
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

    /// The first member from `start` on that is not in the other set; if there is none, the first of
    /// all that are not. `start` is at most `Q`.
    #[inline(always)]
    pub(crate) fn next_from(&self, start: u16, other: &Self) -> Option<u16> {
        if Q == 1 {
            return (self.left(0, other) != 0).then_some(0);
        }
        if used(Q) == 1 {
            let left = self.left(0, other);
            let turn = u32::from(start) & 31;
            let ahead = left.rotate_right(turn).trailing_zeros();
            return (left != 0).then(|| num::low16(ahead.wrapping_add(turn) & 31));
        }
        if used(Q) == 2 {
            let left = u64::from(self.left(1, other)) << 32 | u64::from(self.left(0, other));
            let turn = u32::from(start) & 63;
            let ahead = left.rotate_right(turn).trailing_zeros();
            return (left != 0).then(|| num::low16(ahead.wrapping_add(turn) & 63));
        }
        let (word, bit) = place(start);
        let left = self.left(word, other) & bit.wrapping_neg();
        if left != 0 {
            return Some(number(word, left));
        }
        let behind = self.first_left(word.wrapping_add(1), other);
        behind.or_else(|| self.first_left(0, other))
    }

    /// The members in a word that are not in the other set.
    #[inline(always)]
    fn left(&self, word: usize, other: &Self) -> u32 {
        match (self.words().get(word), other.words().get(word)) {
            (Some(mine), Some(theirs)) => mine & !theirs,
            _ => 0,
        }
    }

    /// The first of them, from this word on.
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

/// How many words the numbers below `queues` need.
pub(crate) const fn used(queues: usize) -> usize {
    queues.div_ceil(32)
}

/// The lowest number in a word that is not 0.
#[inline(always)]
fn number(word: usize, bits: u32) -> u16 {
    let first = num::clamp_u16(word).wrapping_mul(32);
    first.wrapping_add(num::low16(bits.trailing_zeros()))
}

/// The bits of a word that are set, lowest first.
#[inline(always)]
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = u16> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| num::low16(word.trailing_zeros()));
        word &= word.wrapping_sub(1);
        bit
    })
}

/// What `collect()` makes of queue numbers: the set, or the first number that did not fit.
///
/// (`Result` itself cannot be collected into from plain numbers outside the standard library.)
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
    /// The set, unless a number did not fit.
    pub Result<QueueSet<WORDS>, QueueSetFull>,
);

impl<const WORDS: usize> FromIterator<u16> for Collected<WORDS> {
    fn from_iter<I: IntoIterator<Item = u16>>(queues: I) -> Self {
        Self(QueueSet::try_from_iter(queues))
    }
}

/// Members of a [`QueueSet`], lowest first.
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

    /// The set, with what the numbers that it takes make of a set of the standard library.
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
        fn bits_of_queues_are_a_set(
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

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

    pub(crate) fn words(&self) -> &[u32; WORDS] {
        &self.words
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

/// What `collect()` makes of queue numbers: the set, or the first number that did not fit.
///
/// (`Result` itself cannot be collected into from plain numbers outside the standard library.)
///
/// ```
/// use virtside::{Collected, QueueSet};
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

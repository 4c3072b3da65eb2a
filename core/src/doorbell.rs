//! The device's doorbell: which queues were kicked since the last poll.

use portable_atomic::{AtomicU32, Ordering};

use crate::queue_set::QueueSet;

/// A lock-free set of queues that were kicked.
///
/// An interrupt handler (or a thread behind an ioeventfd) [`ring`](Self::ring)s it; `poll` drains
/// it. Ringing is one atomic operation on one word.
///
/// ```
/// use virtside::Doorbell;
/// static BELL: Doorbell<1> = Doorbell::new();
/// BELL.ring(3);
/// assert!(BELL.drain().iter().eq([3]));
/// assert!(BELL.drain().is_empty());
/// ```
#[derive(Debug)]
pub struct Doorbell<const WORDS: usize> {
    words: [AtomicU32; WORDS],
}

#[cfg(feature = "defmt")]
impl<const WORDS: usize> defmt::Format for Doorbell<WORDS> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let mut set = QueueSet::<WORDS>::new();
        for (word, copy) in self.words.iter().zip(set.words_mut()) {
            *copy = word.load(Ordering::Relaxed);
        }
        defmt::write!(f, "Doorbell({})", set);
    }
}

impl<const WORDS: usize> Doorbell<WORDS> {
    /// Silent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [const { AtomicU32::new(0) }; WORDS],
        }
    }

    /// Notes a kick; a number beyond `32 * WORDS` is ignored. Says whether it was noted.
    pub fn ring(&self, queue: u16) -> bool {
        match self.words.get(usize::from(queue >> 5)) {
            Some(word) => {
                word.fetch_or(1 << (queue & 31), Ordering::AcqRel);
                true
            }
            None => false,
        }
    }

    /// Takes one queue's kick; says whether there was one.
    pub fn take(&self, queue: u16) -> bool {
        let bit = 1 << (queue & 31);
        match self.words.get(usize::from(queue >> 5)) {
            Some(word) if word.load(Ordering::Acquire) & bit != 0 => {
                word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
            }
            _ => false,
        }
    }

    /// Whether anything rang since the last drain.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.words
            .iter()
            .all(|word| word.load(Ordering::Acquire) == 0)
    }

    /// Takes what rang since the last drain. Up to two atomic operations on each word.
    pub fn drain(&self) -> QueueSet<WORDS> {
        self.drain_except(&QueueSet::new())
    }

    /// The same, but leaves the kicks of `others`.
    pub fn drain_except(&self, others: &QueueSet<WORDS>) -> QueueSet<WORDS> {
        let mut set = QueueSet::new();
        for ((word, mine), theirs) in self.words.iter().zip(set.words_mut()).zip(others.words()) {
            // A plain load first: most polls find nothing, and a write dirties the line.
            if word.load(Ordering::Acquire) & !theirs != 0 {
                *mine = word.fetch_and(*theirs, Ordering::AcqRel) & !theirs;
            }
        }
        set
    }
}

impl<const WORDS: usize> Default for Doorbell<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

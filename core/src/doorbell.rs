//! The doorbell: a device's lock-free set of kicked queues.

use portable_atomic::{AtomicU32, Ordering};

use crate::queue_set::{QueueSet, bits, used};

/// A lock-free set of the queues that were kicked, with numbers below `Q`.
///
/// An interrupt handler, or a thread behind an ioeventfd, calls [`ring`](Self::ring). The `poll` of
/// the device takes the kicks. Ringing takes one atomic operation on one word.
/// [`drain`](Self::drain) and [`is_silent`](Self::is_silent) read `Q.div_ceil(32)` words.
///
/// ```
/// use virtside::doorbell::Doorbell;
/// static BELL: Doorbell<4> = Doorbell::new();
/// BELL.ring(3);
/// assert!(BELL.drain().iter().eq([3]));
/// assert!(BELL.drain().is_empty());
/// ```
#[derive(Debug)]
pub struct Doorbell<const Q: usize> {
    /// Only the first `Q.div_ceil(32)` words are used; the others stay 0. Stable Rust has no
    /// `[AtomicU32; Q.div_ceil(32)]`.
    words: [AtomicU32; Q],
}

impl<const Q: usize> Doorbell<Q> {
    /// Creates a doorbell without kicks.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [const { AtomicU32::new(0) }; Q],
        }
    }

    fn words(&self) -> &[AtomicU32] {
        self.words.get(..used(Q)).unwrap_or(&[])
    }

    /// Records a kick. Returns false if there is no such queue.
    pub fn ring(&self, queue: u16) -> bool {
        match self.words.get(usize::from(queue >> 5)) {
            Some(word) if usize::from(queue) < Q => {
                word.fetch_or(1 << (queue & 31), Ordering::AcqRel);
                true
            }
            _ => false,
        }
    }

    /// Takes the kick of one queue. Returns whether the queue was kicked.
    pub fn take(&self, queue: u16) -> bool {
        let bit = 1 << (queue & 31);
        match self.words.get(usize::from(queue >> 5)) {
            Some(word) if word.load(Ordering::Acquire) & bit != 0 => {
                word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
            }
            _ => false,
        }
    }

    /// Returns whether there are no kicks that were not taken yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let mut words = self.words().iter();
        words.all(|word| word.load(Ordering::Acquire) == 0)
    }

    /// Removes and returns all kicks. Takes at most two atomic operations for each word.
    pub fn drain(&self) -> QueueSet<Q> {
        let mut set = QueueSet::new();
        for (word, taken) in self.words().iter().zip(set.words_mut()) {
            if word.load(Ordering::Acquire) != 0 {
                *taken = word.swap(0, Ordering::AcqRel);
            }
        }
        set
    }

    /// Takes the kicks of the kicked queues for which `wanted` returns true. `wanted` is called
    /// once for each kicked queue. Only one caller at a time may call this function.
    #[inline(always)]
    pub(crate) fn drain_where(&self, mut wanted: impl FnMut(u16) -> bool) {
        let mut first = 0_u16;
        for word in self.words() {
            // Most polls find no kick, and a load does not dirty the cache line.
            let rang = word.load(Ordering::Acquire);
            let mut taken = 0;
            if Q == 1 {
                // Only bit 0 can be set.
                if rang != 0 && wanted(0) {
                    taken = rang;
                }
            } else {
                for bit in bits(rang) {
                    if wanted(first.wrapping_add(bit)) {
                        taken |= 1_u32 << bit;
                    }
                }
            }
            first = first.wrapping_add(32);
            // The rings are read after this, so the chains of a kick in between are found.
            if taken != 0 {
                word.fetch_and(!taken, Ordering::AcqRel);
            }
        }
    }
}

impl<const Q: usize> Default for Doorbell<Q> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Doorbell;
    use std::{vec, vec::Vec};

    #[test]
    fn a_number_beyond_the_queues_is_not_noted() {
        let bell = Doorbell::<33>::new();
        for queue in [33, 34, 63, 64, 1055, 1056, u16::MAX] {
            assert!(!bell.ring(queue));
            assert!(!bell.take(queue));
        }
        assert!(bell.is_silent());
        assert!(bell.ring(32));
        assert!(bell.drain().iter().eq([32]));
    }

    #[test]
    fn kicks_of_queues_that_are_not_wanted_stay() {
        let bell = Doorbell::<70>::new();
        for queue in [0, 5, 31, 32, 69] {
            assert!(bell.ring(queue));
        }
        let mut asked = Vec::new();
        bell.drain_where(|queue| {
            asked.push(queue);
            queue % 2 == 1
        });
        assert_eq!(asked, vec![0, 5, 31, 32, 69]);
        assert!(bell.drain().iter().eq([0, 32]));
        assert!(bell.is_silent());
    }
}

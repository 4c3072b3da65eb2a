//! How far a queue is, and its chains in hand, as plain values.

use heapless::Vec;
#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::Segment;

/// How far a queue has come. Before the driver is live all of it is as at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct RingSnapshot {
    /// Where the device looks next. Split: the index of the next available entry. Packed: the slot,
    /// and the wrap counter in bit 15.
    pub next_avail: u16,
    /// Where it gives back next, in the same way.
    pub next_used: u16,
    /// What was given back since interrupts were last considered: elements, or slots; at most the
    /// queue's size.
    pub unsignalled: u16,
    /// What was taken and will not be given back: chains, or slots.
    pub abandoned: u16,
    /// The driver was told by flags not to kick.
    pub kicks_off: bool,
}

/// A chain in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct ChainSnapshot<const N: usize> {
    /// Queue number.
    pub queue: u16,
    /// Index of its head descriptor; in a packed ring, its buffer id.
    pub head: u16,
    /// Slots of a packed ring that it takes, at most as many as it has buffers; 1 in a split one.
    pub slots: u16,
    /// With IN_ORDER: it was answered with so many bytes, and waits for an older one.
    pub answered: Option<u32>,
    /// How many of its segments the device may read; they come first.
    pub readable: u16,
    /// Its buffers: at least one.
    pub segments: Vec<Segment, N>,
}

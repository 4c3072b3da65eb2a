//! The chains in flight of a queue, as plain values.

use heapless::Vec;
#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::Segment;

/// A chain in hand: popped, and not yet given back to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct ChainSnapshot<const N: usize> {
    /// Queue number.
    pub queue: u16,
    /// Split: index of the head descriptor. Packed: buffer id.
    pub head: u16,
    /// Packed: ring slots that the chain occupies, at most its number of buffers. Split: 1.
    pub slots: u16,
    /// Number of bytes written, if the model has answered the chain. `None` if the model has not
    /// answered. With IN_ORDER, an answered chain stays in hand until every older chain is
    /// answered. Without IN_ORDER, always `None`.
    pub answered: Option<u32>,
    /// Number of device-readable segments. They come first in `segments`.
    pub readable: u16,
    /// The buffers of the chain, at least one.
    pub segments: Vec<Segment, N>,
}

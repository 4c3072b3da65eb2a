//! The positions of a queue and its chains in flight, as plain values.

use heapless::Vec;
#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::Segment;

/// The positions of a queue in its rings.
///
/// Before DRIVER_OK every field has the value that it has at the start of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct RingSnapshot {
    /// Position from which the device takes the next available chain.
    ///
    /// Split: the index of the next available entry. Packed: the slot in bits 0 to 14, the wrap
    /// counter in bit 15.
    pub next_avail: u16,
    /// Position at which the device stores the next used element, in the format of `next_avail`.
    pub next_used: u16,
    /// Number of chains (split) or ring slots (packed) that were marked as used since the device
    /// last decided whether to interrupt the driver. At most the size of the queue.
    pub unsignalled: u16,
    /// Number of chains (split) or ring slots (packed) that were popped and abandoned. The device
    /// never marks them as used.
    pub abandoned: u16,
    /// Whether the flags in the device area tell the driver not to kick.
    pub kicks_off: bool,
}

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

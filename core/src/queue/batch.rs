//! Chains given back in order, of which the ring hears together (`VIRTIO_F_IN_ORDER`).

/// Chains that were given back one after the other and are not in the ring yet. The last one's
/// element stands for all of them, at the place of the first (split-used-07, packed-19).
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Chains of a split ring, slots of a packed one.
    pub(super) count: u16,
    /// The last one's head, or buffer id.
    pub(super) id: u16,
    /// Bytes written in the last one. A driver takes the others for full.
    pub(super) len: u32,
}

impl Batch {
    pub(super) const EMPTY: Self = Self {
        count: 0,
        id: 0,
        len: 0,
    };
}

//! Used chains that the device stores in the ring as one element (`VIRTIO_F_IN_ORDER`).

/// Consecutive chains that are marked as used, but whose used element is not stored in the ring
/// yet.
///
/// One used element stands for the whole batch (split-used-07, packed-19). The element has the id
/// and the length of the last chain. It is stored at the position of the first chain's element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Length of the batch: chains in a split ring, slots in a packed ring.
    pub(super) count: u16,
    /// Head (split) or buffer id (packed) of the last chain.
    pub(super) id: u16,
    /// Bytes written to the last chain. The driver assumes that the device wrote every
    /// device-writable byte of the earlier chains.
    pub(super) len: u32,
}

impl Batch {
    pub(super) const EMPTY: Self = Self {
        count: 0,
        id: 0,
        len: 0,
    };
}

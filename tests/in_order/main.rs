//! VIRTIO_F_IN_ORDER in both ring formats: buffers go back in the order in which they came, and
//! full buffers share a used entry.

mod batches;
mod i2c;
mod interrupts;
mod kept;
mod order;
mod random;
mod saved;
mod taken;

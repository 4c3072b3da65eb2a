//! VIRTIO_F_IN_ORDER, in either ring format: buffers go back in the order in which they came, and
//! those that are full do so together.

mod batches;
mod i2c;
mod interrupts;
mod kept;
mod order;
mod random;
mod saved;
mod taken;

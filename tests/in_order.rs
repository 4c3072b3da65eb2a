//! VIRTIO_F_IN_ORDER, in either ring format: buffers go back in the order in which they came, and
//! those that are full do so together.

#[path = "in_order/batches.rs"]
mod batches;
#[path = "in_order/i2c.rs"]
mod i2c;
#[path = "in_order/interrupts.rs"]
mod interrupts;
#[path = "in_order/kept.rs"]
mod kept;
#[path = "in_order/order.rs"]
mod order;
#[path = "in_order/random.rs"]
mod random;
#[path = "in_order/saved.rs"]
mod saved;
#[path = "in_order/taken.rs"]
mod taken;

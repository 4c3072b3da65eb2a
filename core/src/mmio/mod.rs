//! Registers of virtio-mmio version 2 (VirtIO 1.4), and the effect of each access in each phase.
//!
//! # Which queue registers may be written
//!
//! "Parameters" are QueueSize and the six halves of the three addresses. Rows for a queue that *was
//! reset* apply only with RING_RESET: QueueReset was written and reads 0 again. During a queue
//! reset QueueReady is 1.
//!
//! | phase | QueueReady | parameters | QueueReady := 1 | QueueReady := 0 |
//! |---|---|---|---|---|
//! | reset | 0 | written | checked | no effect |
//! | reset | 1 | refused | no effect | stops |
//! | negotiating | 0 | written | checked | no effect |
//! | negotiating | 1 | refused | no effect | stops |
//! | setting up | 0 | written | checked | no effect |
//! | setting up | 1 | refused | no effect | stops |
//! | live | 0 | refused | refused | no effect |
//! | live | 0, was reset | written | checked, then live | no effect |
//! | live | 1 | refused | no effect | stops |
//! | suspended, suspending | 0, was reset or not | refused | refused | no effect |
//! | suspended, suspending | 1 | refused | no effect | stops |
//! | failed | 0 | refused | refused | no effect |
//! | failed | 1 | refused | no effect | stops |
//!
//! If RING_RESET is negotiated, QueueReset := 1 resets a queue in every phase except *failed*. The
//! reset of a queue that is not ready completes at once. After the reset, the parameters of the
//! queue are 0. If RING_RESET is not negotiated, the write is refused.
//!
//! At DRIVER_OK, every ready queue is checked again, with the negotiated features.
//!
//! A device that reads a queue register after the check could use a value that was not checked.
//! This device therefore copies a queue's parameters when it checks the queue, and uses only the
//! copy.

mod access;
mod decode;
pub mod mailbox;
mod registers;

pub use access::{Access, RegisterBlock};
pub use registers::Register;

pub use crate::transport::{DeviceStatus, Notification, Phase, Reply, Ticket, Transport};

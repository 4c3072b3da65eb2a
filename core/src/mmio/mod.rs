//! virtio-mmio, version 2, as of VirtIO 1.4: what each register is, and what a driver's access to
//! it does in each phase.
//!
//! # Which queue registers may be written
//!
//! "Parameters" are QueueSize and the six halves of the three addresses. Only with RING_RESET there
//! are the rows of a queue that *was reset*: QueueReset was written and reads 0 again. While the reset
//! takes its time QueueReady is 1.
//!
//! | phase | QueueReady | parameters | QueueReady := 1 | QueueReady := 0 |
//! |---|---|---|---|---|
//! | reset | 0 | written | checked | nothing to do |
//! | reset | 1 | refused | nothing to do | stops |
//! | negotiating | 0 | written | checked | nothing to do |
//! | negotiating | 1 | refused | nothing to do | stops |
//! | setting up | 0 | written | checked | nothing to do |
//! | setting up | 1 | refused | nothing to do | stops |
//! | live | 0 | refused | refused | nothing to do |
//! | live | 0, was reset | written | checked, and live | nothing to do |
//! | live | 1 | refused | nothing to do | stops |
//! | suspended, suspending | 0, was reset or not | refused | refused | nothing to do |
//! | suspended, suspending | 1 | refused | nothing to do | stops |
//! | failed | 0 | refused | refused | nothing to do |
//! | failed | 1 | refused | nothing to do | stops |
//!
//! QueueReset = 1, with RING_RESET, resets a queue in any phase but *failed*; one that is not ready
//! at once. Its parameters are 0 then. Without RING_RESET it is refused.
//!
//! A queue that is checked before FEATURES_OK is checked once more, with the negotiated features,
//! when the driver goes live.
//!
//! Rewriting queue registers after activation is the worst class of bugs that virtio devices have
//! had; a queue's parameters are copied when it is checked, and the copy is what is used.

mod access;
mod decode;
pub mod mailbox;
mod registers;

pub use access::{Access, RegisterBlock};
pub use registers::Register;

pub use crate::transport::{DeviceStatus, Notification, Phase, Reply, Ticket, Transport};

//! virtio-mmio, version 2, as of VirtIO 1.4: what each register is, and what a driver's access to
//! it does in each phase.
//!
//! # Which queue registers may be written
//!
//! "Parameters" are QueueSize and the six halves of the three addresses. RING_RESET is never
//! negotiated yet, so its two columns are the same until it is; QueueReset is refused.
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
//! | live | 1 | refused | nothing to do | stops |
//! | failed | 0 | refused | refused | nothing to do |
//! | failed | 1 | refused | nothing to do | stops |
//!
//! A queue that is checked before FEATURES_OK is checked once more, with the negotiated features,
//! when the driver goes live.
//!
//! Rewriting queue registers after activation is the worst class of bugs that virtio devices have
//! had; a queue's parameters are copied when it is checked, and the copy is what is used.

mod access;
mod config;
pub mod mailbox;
mod queues;
mod registers;
mod status;
mod transport;

pub use access::{Access, RegisterBlock, Reply, Ticket};
pub use registers::Register;
pub use status::Phase;
pub(crate) use transport::Outstanding;
pub use transport::Transport;

//! [`virtside`] on a host: a blocking message loop over MMIO register accesses, and what it needs
//! around it.
//!
//! ```text
//!  vCPU exits, a socket, a channel          vhost-user, a channel of messages
//!               |                                        |
//!          AccessSource  -----  MmioMessages  -----  MessageSource
//!               |                                        |
//!             serve                       config_builder_from_stream
//!               |                                        |
//!         virtside::Engine                       virtside::Device
//!               \                                       /
//!           VmMem, FileDisk, OsEntropy, EventFdNotify, CondvarNotify
//! ```
//!
//! * [`serve`] runs an [`Engine`](virtside::Engine) over an [`AccessSource`], e.g. the
//!   [`channel`].
//! * [`Bus`] puts several devices behind one such source.
//! * [`config_builder_from_stream`] makes a [`Device`](virtside::Device) of a conversation in
//!   messages; [`MmioMessages`] makes such a conversation of register accesses.
//! * [`VmMem`] is driver memory over `vm-memory`.
//!
//! # Features
//!
//! * `packed` (default): packed rings, beside split ones.
//! * `guest`: the other side: unmodified `virtio-drivers` over a [`channel`].
//!
//! The `virtside` command is a package of its own, `virtside-cli`.
#![deny(unsafe_code, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod backend;
mod bus;
pub mod channel;
#[cfg(feature = "guest")]
pub mod guest;
mod io;
mod memory;
mod messages;
mod notify;
mod serve;

pub use access::{AccessSource, Event, Next, RegisterAccess};
pub use backend::{DiskError, DiskOperation, FileDisk, OsEntropy};
pub use bus::{Bus, BusError};
pub use io::{StdReader, StdWriter};
pub use memory::{KeptRegion, VmMem};
pub use messages::{MessageSource, MmioDevice, MmioMessages, config_builder_from_stream};
pub use notify::{CondvarNotify, EventFdNotify};
pub use serve::{BUDGET, Ended, Observer, OnAccess, Served, Until, serve};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

//! [`virtside`] on a host: a blocking loop over MMIO register accesses, guest memory, interrupts
//! and back ends.
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
//! * [`serve`] runs an [`Engine`](virtside::Engine) over an [`AccessSource`], such as a
//!   [`channel`].
//! * [`HostedDevice`] is a device with a thread of its own, which any vCPU thread may access.
//! * [`Bus`] puts several devices behind one [`AccessSource`].
//! * [`config_builder_from_stream`] sets a [`Device`](virtside::Device) up from a stream of
//!   messages. [`MmioMessages`] turns register accesses into such a stream.
//! * [`VmMem`] is driver memory over `vm-memory`.
//! * [`FileDisk`] and [`OsEntropy`] are back ends for the block and entropy models.
//! * [`EventFdNotify`] and [`CondvarNotify`] deliver the driver's interrupt.
//! * [`StdReader`] and [`StdWriter`] are the bytes of a chain as `std::io` streams.
//!
//! # Features
//!
//! * `packed` (default): packed rings, beside split rings.
//! * `vhost-user`: module `vhost_user`, a device behind a vhost-user socket.
//! * `kvm`: module `kvm`, interrupts and kicks of a KVM guest, and register accesses from the exits
//!   of its vCPUs.
//! * `io-uring`: `UringDisk`, a disk image whose requests complete later.
//! * `vm-device`: a [`HostedDevice`] on the buses of rust-vmm's `vm-device`.
//! * `guest`: module `guest`, which runs unmodified `virtio-drivers` over a [`channel`].
//!
//! The `virtside` command is in the package `virtside-cli`.
#![deny(unsafe_code, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod backend;
mod bus;
pub mod channel;
#[cfg(feature = "guest")]
pub mod guest;
mod hosted;
mod io;
#[cfg(feature = "kvm")]
pub mod kvm;
mod memory;
mod messages;
mod notify;
mod serve;
#[cfg(feature = "vhost-user")]
pub mod vhost_user;

pub use access::{AccessSource, Event, Next, RegisterAccess};
#[cfg(feature = "io-uring")]
pub use backend::UringDisk;
pub use backend::{DiskError, DiskOperation, FileDisk, OsEntropy};
pub use bus::{Bus, BusError};
pub use hosted::{AccessError, HostedDevice, HostedOptions};
pub use io::{StdReader, StdWriter};
pub use memory::{KeptRegion, VmMem};
pub use messages::{MessageSource, MmioDevice, MmioMessages, config_builder_from_stream};
pub use notify::{CondvarNotify, EventFdNotify};
pub use serve::{BUDGET, Ended, Observer, OnAccess, Served, Until, serve};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

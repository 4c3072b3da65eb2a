//! The device side of VirtIO 1.4 for places with no heap and no operating system.
//!
//! `virtside` is a synchronous, allocation-free, polled state machine. It takes a driver's register
//! accesses (or set-up messages), checks every queue that the driver wants, and then runs the
//! queues. It never blocks, and every call has a worst case that is written in its documentation,
//! so that it can be stepped from an interrupt handler.
//!
//! ```text
//!  virtio-mmio registers     vhost-user messages     a channel of messages
//!             \                      |                      /
//!     Message { ConfigureQueue, ResetQueue, Ready, NotifyQueue, Suspend, Reset, .. }
//!                                    |
//!                DeviceBuilder + QueueCheck + QueueSet
//!                                    |
//!                     queue table (sole owner of queues)
//!                                    |
//!              split or packed ring  ->  Chain  ->  DeviceModel
//!                                    |
//!                used ring, suppression  ->  DriverNotify
//! ```
//!
//! # Where to start
//!
//! The [`guide`] explains the layers, the life of a chain, how to write a device, sizes and worst cases.
//!
//! * A device behind virtio-mmio: [`Engine`], [`Engine::access`] and [`Engine::poll`].
//! * A device of your own: [`DeviceModel`]; the ready ones are in [`models`].
//! * A transport that speaks in messages: [`Configuring`] and [`Device`].
//! * What went wrong: [`Refusal`], [`DriverFault`], [`HostFault`].
//!
//! # What is supported
//!
//! The modern interface of virtio-mmio (version 2), split and packed rings with indirect descriptors
//! and EVENT_IDX, the devices in [`models`]. RING_RESET and SUSPEND are offered by every ready-made
//! device; IN_ORDER, NOTIFICATION_DATA, ACCESS_PLATFORM and ORDER_PLATFORM where the host asks for
//! them ([`Offer`]). Shared memory regions are the model's to name
//! ([`DeviceConfig::shared_memory`]). A device can be saved and restored ([`EngineSnapshot`]).
//! Never: the legacy interface.
//!
//! # Other crates in signatures
//!
//! `bitflags`, `embedded_io`, `heapless`, `virtio_spec` and, with its feature, `embedded_hal` show in
//! signatures and are re-exported: a user needs no matching versions of its own. So is
//! [`DeviceStatus`](transport::DeviceStatus), in [`transport`].
//!
//! # Features
//!
//! * `split`, `packed` (default): the ring formats that are built in, at least one.
//! * `ring-reset`, `suspend`, `in-order` (default): what is built in of RING_RESET, SUSPEND, IN_ORDER.
//!   A small build does without.
//! * `defmt`: `defmt::Format` on errors, events, states, configurations and snapshots; `DefmtTrace`, a
//!   device's events through defmt.
//! * `critical-section`: `EngineCell`; atomics on targets without compare-and-swap, by critical
//!   section.
//! * `embedded-hal`: `IrqLine`, the driver's interrupt as an output pin, and the models over
//!   embedded-hal: i2c, spi, gpio.
//! * `log`: `LogTrace`, a device's events through the `log` crate.
//! * `serde`: snapshots that serialise.
//! * `testing`: a fake driver and memories for tests and fuzzing.
//!
//! [`EngineSnapshot`]: crate::snapshot::EngineSnapshot
//! [`Offer`]: crate::features::Offer
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(test, doctest))]
extern crate std;

pub mod device;
pub mod doorbell;
mod engine;
pub mod error;
pub mod features;
pub mod guide;
pub mod interrupt;
pub mod memory;
pub mod message;
pub mod mmio;
pub mod model;
pub mod models;
mod num;
pub mod queue;
pub mod queue_set;
pub mod setup;
pub mod shared;
pub mod snapshot;
#[cfg(any(feature = "testing", test, doctest))]
pub mod testing;
pub mod trace;
pub mod transport;

pub use device::{ChainSlot, Device, Step};
pub use engine::Engine;
#[cfg(feature = "critical-section")]
pub use engine::EngineCell;
pub use error::{DriverFault, HostFault, Refusal};
pub use features::Features;
pub use interrupt::DriverNotify;
pub use memory::{DriverMem, FlatMem};
pub use message::{Message, QueueConfig};
pub use model::{Answer, DeviceConfig, DeviceModel, Request, Token};
pub use queue::QueueCheck;
pub use queue_set::QueueSet;
pub use setup::{Configuring, DeviceBuilder, ReadyResponder};
pub use shared::Shared;

/// Sets of flags such as [`InterruptStatus`](crate::shared::InterruptStatus): the trait `Flags` and the iterators.
pub use bitflags;
/// The buses and pins that models and [`IrqLine`](crate::interrupt::IrqLine) are made of.
#[cfg(feature = "embedded-hal")]
pub use embedded_hal;
/// `Read` and `Write` of [`ReadableChain`](crate::queue::ReadableChain) and [`WritableChain`](crate::queue::WritableChain), and the kinds of [`ChainError`](crate::queue::ChainError).
pub use embedded_io;
/// The vectors in snapshots.
pub use heapless;
/// The specification's flags and numbers: [`Features::from_spec`], [`transport::DeviceStatus`].
pub use virtio_spec;

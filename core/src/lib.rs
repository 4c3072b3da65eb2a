//! The device side of VirtIO 1.4, for systems without a heap or an operating system.
//!
//! `virtside` is a synchronous, allocation-free, polled state machine. It takes a driver's register
//! accesses or set-up messages, checks every queue that the driver configures, and serves the
//! queues. No call blocks, and each call has a documented worst case. A device can therefore run in
//! an interrupt handler.
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
//! The [`guide`] explains the layers, the lifecycle of a chain, how to write a device, sizes and
//! worst cases.
//!
//! * A device behind virtio-mmio: [`Engine`], [`Engine::access`] and [`Engine::poll`].
//! * A device type of your own: [`DeviceModel`]. The ready-made models are in [`models`].
//! * A transport that sends messages: [`Configuring`] and [`Device`].
//! * Errors: [`Refusal`], [`DriverFault`] and [`HostFault`].
//!
//! # Glossary
//!
//! | term | meaning |
//! |---|---|
//! | back end | the host's code behind a model, such as a disk, a port or a bus |
//! | chain | one request of the driver: a list of buffers, device-readable buffers first |
//! | clause | a requirement of the specification, with an id such as `split-desc-05`; listed in `tests/conformance.tsv` of the repository |
//! | conversation | the messages that set a device up, up to `Ready`: see [`Configuring`] |
//! | driver | the software that owns the rings and sends requests; not trusted |
//! | engine | a model with its queues, register block and slots: an [`Engine`] |
//! | epoch | time between two resets of the device; identified by a number |
//! | generation | time between two stops of one queue; identified by a number |
//! | host | the software that runs this crate and supplies the back end |
//! | in hand, in flight | taken from a ring and not yet given back to the driver |
//! | kick | the driver's notification that a queue has new chains (QueueNotify) |
//! | model | code of one device type that answers requests: a [`DeviceModel`] |
//! | phase | stage of the device's lifecycle, from reset to live, suspended or failed: a [`Phase`](transport::Phase) |
//! | pending chain | chain in a slot that its model has not answered yet ([`Answer::Pending`]) |
//! | segment | one buffer of a chain: driver address and length |
//! | slot | storage for one chain that the device serves: a [`ChainSlot`] |
//! | suspended | state after SUSPEND: the device accesses no driver memory and sends no interrupts |
//! | token | identifies a chain that a model answers later: a [`Token`] |
//!
//! # What is supported
//!
//! * The modern interface of virtio-mmio (version 2). The legacy interface is not supported.
//! * Split and packed rings, indirect descriptors and EVENT_IDX.
//! * The device types in [`models`].
//! * RING_RESET and SUSPEND: every ready-made model offers them.
//! * IN_ORDER, NOTIFICATION_DATA, ACCESS_PLATFORM and ORDER_PLATFORM: offered if the host adds them
//!   ([`Offer`]).
//! * Shared memory regions, which a model defines ([`DeviceConfig::shared_memory`]).
//! * Saving and restoring a device ([`EngineSnapshot`]).
//!
//! # Other crates in signatures
//!
//! `bitflags`, `embedded_io`, `heapless`, `virtio_spec` and, with its feature, `embedded_hal`
//! appear in signatures. This crate re-exports them, so that a user does not have to depend on the
//! same versions.
//! [`DeviceStatus`](transport::DeviceStatus) of `virtio_spec` is also re-exported in [`transport`].
//!
//! # Features
//!
//! * `split`, `packed` (default): the ring formats that are built in. At least one is required.
//! * `ring-reset`, `suspend`, `in-order` (default): build in RING_RESET, SUSPEND and IN_ORDER.
//!   Disable them for a smaller build.
//! * `defmt`: `defmt::Format` for errors, events, states, configurations and snapshots;
//!   `DefmtTrace`, which writes a device's events through defmt.
//! * `critical-section`: `EngineCell`. On targets without compare-and-swap, atomics use critical
//!   sections.
//! * `embedded-hal`: `IrqLine`, which drives the interrupt as an output pin; the models i2c, spi
//!   and gpio over embedded-hal.
//! * `log`: `LogTrace`, which writes a device's events through the `log` crate.
//! * `serde`: `Serialize` and `Deserialize` for snapshots.
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

/// Flag sets such as [`InterruptStatus`](crate::shared::InterruptStatus): the trait `Flags` and its
/// iterators.
pub use bitflags;
/// Buses and pins for the models and for [`IrqLine`](crate::interrupt::IrqLine).
#[cfg(feature = "embedded-hal")]
pub use embedded_hal;
/// `Read` and `Write` for [`ReadableChain`](crate::queue::ReadableChain) and
/// [`WritableChain`](crate::queue::WritableChain), and the error kinds of
/// [`ChainError`](crate::queue::ChainError).
pub use embedded_io;
/// Vectors of fixed capacity, which snapshots contain.
pub use heapless;
/// Flags and constants of the specification: see [`Features::from_spec`] and
/// [`transport::DeviceStatus`].
pub use virtio_spec;

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
//!           Message { ConfigureQueue, ResetQueue, Ready, NotifyQueue, Reset }
//!                                    |
//!                DeviceBuilder + QueueCheck + QueueSet
//!                                    |
//!                     queue table (sole owner of queues)
//!                                    |
//!                 split ring  ->  Chain  ->  DeviceModel
//!                                    |
//!                used ring, suppression  ->  DriverNotify
//! ```
//!
//! # Where to start
//!
//! * A device behind virtio-mmio: [`Engine`], [`Engine::access`] and [`Engine::poll`].
//! * A device of your own: [`DeviceModel`]; the ready ones are in [`models`].
//! * A transport that speaks in messages: [`Configuring`] and [`Device`].
//! * What went wrong: [`Refusal`], [`DriverFault`], [`HostFault`].
//!
//! # What is supported
//!
//! The modern interface of virtio-mmio (version 2), split rings with indirect descriptors and
//! EVENT_IDX, the entropy and the block device. Not yet: packed rings, IN_ORDER,
//! NOTIFICATION_DATA, RING_RESET, SUSPEND and shared memory regions, none of which is offered.
//! Never: the legacy interface.
//!
//! # Features
//!
//! * `defmt`: `defmt::Format` on every public type; `DefmtTrace`, a device's events through defmt.
//! * `critical-section`: `EngineCell`; atomics on targets without compare-and-swap, by critical
//!   section.
//! * `embedded-hal`: `IrqLine`, the driver's interrupt as an output pin, and the models over
//!   embedded-hal: i2c, spi, gpio.
//! * `log`: `LogTrace`, a device's events through the `log` crate.
//! * `testing`: a fake driver and memories for tests and fuzzing.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(test, doctest))]
extern crate std;

mod builder;
#[cfg(feature = "critical-section")]
mod cell;
mod check;
mod device;
mod engine;
mod error;
mod features;
mod memory;
mod message;
pub mod mmio;
mod model;
pub mod models;
mod notify;
mod num;
mod queue;
mod queue_set;
mod shared;
mod slots;
mod table;
mod taken;
#[cfg(any(feature = "testing", test, doctest))]
pub mod testing;
mod trace;

pub use builder::{Built, Configuring, DeviceBuilder, Progress, ReadyResponder};
#[cfg(feature = "critical-section")]
pub use cell::EngineCell;
pub use check::{CheckedQueue, QueueCheck, QueueCheckFn, translate_queue};
pub use device::{Device, Taken};
pub use engine::Engine;
pub use error::{Area, DeviceError, DriverFault, Frozen, HostFault, Refusal};
pub use features::Features;
pub use memory::{
    DeviceRange, DriverMem, DriverRange, FlatMem, MemFault, MemHooks, NoHooks, Permission,
    PtrWindow, Ram, RawDescriptor, Region, RegionMem, RingWindow,
};
/// The driver's memory as a guest has it at its simplest: one region.
pub type GuestMem = FlatMem;

pub use message::{Message, QueueConfig};
pub use model::{Answer, DeviceConfig, DeviceModel, Request, Start};
#[cfg(feature = "embedded-hal")]
pub use notify::IrqLine;
pub use notify::{BufferedNotify, CountingNotify, Doorbell, DriverNotify};
pub use queue::{Chain, ChainError, ReadableChain, Segment, SplitQueue, WritableChain};
pub use queue_set::{Collected, Iter as QueueSetIter, QueueSet, QueueSetFull};
pub use shared::{InterruptStatus, Shared, SharedHandle};
pub use slots::{ChainSlot, Counters, Step, Token};
pub use table::QueueState;
pub use taken::{Stop, TakenQueue};
#[cfg(feature = "defmt")]
pub use trace::DefmtTrace;
#[cfg(feature = "log")]
pub use trace::LogTrace;
pub use trace::{Event, NoTrace, Trace, Weight};

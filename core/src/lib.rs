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
//! * A device behind virtio-mmio: [`Engine`], [`Engine::access`] and [`Engine::poll`].
//! * A device of your own: [`DeviceModel`]; the ready ones are in [`models`].
//! * A transport that speaks in messages: [`Configuring`] and [`Device`].
//! * What went wrong: [`Refusal`], [`DriverFault`], [`HostFault`].
//!
//! # From an interrupt handler
//!
//! Every call may be made from one: it returns, whatever the driver does, and it neither waits nor
//! allocates. What works on `&Shared` needs nothing for that; what works on `&mut Engine` needs it
//! alone, be it that one handler owns it or that all use an `EngineCell`, in which interrupts are
//! off for as long.
//!
//! `Q` is the number of queues, `N` their largest size; accesses are to the driver's rings and
//! tables, and a table here is one of indirect descriptors. Instructions and bytes of stack are the
//! most that was measured on a Cortex-M4F at opt-level s, with one queue of 16, by
//! `tests/tools/worst`. The model's work and that of [`DriverNotify::assert`] come on top: there is
//! a model that gives one byte, and no interrupt.
//!
//! | call | needs | accesses, at most | instructions | stack |
//! |---|---|---|---|---|
//! | [`Doorbell::ring`] | `&Shared` | none | 26 | 20 |
//! | [`Shared::is_live`] | `&Shared` | none | 12 | 16 |
//! | [`Shared::needs_reset`] | `&Shared` | none | 12 | 16 |
//! | [`Engine::access`]: read of any register | `&mut Engine` | none | 202 | 468 |
//! | [`Engine::access`]: write of any other | `&mut Engine` | none | 343 | 484 |
//! | [`Engine::access`]: QueueNotify | `&mut Engine` | none | 69 | 104 |
//! | [`Engine::access`]: QueueReady := 1, all checks | `&mut Engine` | none | 1036 | 940 |
//! | [`Engine::access`]: QueueReady := 0 | `&mut Engine` | none | 253 | 484 |
//! | [`Engine::access`]: Status := FEATURES_OK | `&mut Engine` | none | 317 | 392 |
//! | [`Engine::access`]: Status := DRIVER_OK, all checks again | `&mut Engine` | `Q` | 820 | 708 |
//! | [`Engine::access`]: QueueReset := 1 | `&mut Engine` | none | 315 | 468 |
//! | [`Engine::access`]: Status := SUSPEND | `&mut Engine` | none | 282 | 468 |
//! | [`Engine::access`]: Status := DRIVER_OK, to resume | `&mut Engine` | none | 297 | 468 |
//! | [`Engine::access`]: Status := 0 | `&mut Engine` | none | 337 | 484 |
//! | [`Engine::access`]: read of configuration | `&mut Engine` | none | 176 | 244 |
//! | [`Engine::access`]: write of configuration | `&mut Engine` | none | 79 | 104 |
//! | [`Engine::finish`] | `&mut Engine` | `Q` | 247 | 148 |
//! | [`Engine::poll`]`(1)`: no kick | `&mut Engine` | none | 191 | 224 |
//! | [`Engine::poll`]`(1)`: a kick for nothing | `&mut Engine` | `N + 7` | 354 | 224 |
//! | [`Engine::poll`]`(1)`: a chain of 1 | `&mut Engine` | `N + 7` | 936 | 560 |
//! | [`Engine::poll`]`(1)`: a chain of 16 | `&mut Engine` | `N + 7` | 1646 | 560 |
//! | [`Engine::poll`]`(1)`: a chain of 16 in an indirect table | `&mut Engine` | `N + 7`, `N + 1` in tables | 2395 | 560 |
//! | [`Engine::poll`]`(1)`: a chain with no end | `&mut Engine` | `N + 7`, `N + 1` in tables | 2084 | 436 |
//! | [`Engine::poll`]`(4)`: four of the largest chains | `&mut Engine` | `4 * (N + 5) + 2`, `4 * (N + 1)` in tables | 8685 | 560 |
//! | [`Engine::complete`] | `&mut Engine` | 4 | 588 | 440 |
//! | [`Engine::backend_ready`] | `&mut Engine` | none | 35 | 20 |
//! | [`Engine::update_config`] | `&mut Engine` | none | 41 | 16 |
//! | [`Engine::notify_queue`] | `&Engine` | none | 24 | 28 |
//! | [`Engine::memory_changed`] | `&mut Engine` | none | 653 | 340 |
//! | [`Engine::take_queue`] | `&mut Engine` | `Q`, if it is the first call since a late answer | 1245 | 500 |
//! | [`Engine::save`] | `&mut Engine` | `Q`, if it is the first call since a late answer | 1373 | 1164 |
//! | [`Engine::restore`] | `&mut Engine` | none | 2901 | 1524 |
//! | [`Engine::put_back`] | `&mut Engine` | 3 | 2682 | 1284 |
//! | [`TakenQueue::pop`] | `&mut TakenQueue` | `N + 4`, `N + 1` in tables | 1878 | 412 |
//! | [`TakenQueue::complete`] | `&mut TakenQueue` | 3 | 136 | 112 |
//! | [`TakenQueue::flush`] | `&mut TakenQueue` | 3 | 51 | 40 |
//! | [`TakenQueue::enable_kicks`] | `&mut TakenQueue` | 2 | 64 | 64 |
//! | `EngineCell::with`: an empty closure | `&EngineCell` | none | 11 | 16 |
//! | `IrqLine::assert`: a pin of one store | `&IrqLine` | none | 14 | 8 |
//! | `MailboxServer::step`: a read | `&mut` it and `Engine` | 9 of the mailbox | 92 | 104 |
//!
//! # What is supported
//!
//! The modern interface of virtio-mmio (version 2), split and packed rings with indirect descriptors
//! and EVENT_IDX, the devices in [`models`]. RING_RESET and SUSPEND are offered by every ready-made
//! device; IN_ORDER, NOTIFICATION_DATA, ACCESS_PLATFORM and ORDER_PLATFORM where the host asks for
//! them ([`Offer`]). Shared memory regions are the model's to name
//! ([`DeviceConfig::shared_memory`]). A device can be saved and restored ([`WholeSnapshot`]).
//! Never: the legacy interface.
//!
//! # Features
//!
//! * `split`, `packed` (default): the ring formats that are built in, at least one.
//! * `ring-reset`, `suspend`, `in-order` (default): what is built in of RING_RESET, SUSPEND, IN_ORDER.
//!   A small build does without.
//! * `defmt`: `defmt::Format` on every public type; `DefmtTrace`, a device's events through defmt.
//! * `critical-section`: `EngineCell`; atomics on targets without compare-and-swap, by critical
//!   section.
//! * `embedded-hal`: `IrqLine`, the driver's interrupt as an output pin, and the models over
//!   embedded-hal: i2c, spi, gpio.
//! * `log`: `LogTrace`, a device's events through the `log` crate.
//! * `serde`: snapshots that serialise.
//! * `testing`: a fake driver and memories for tests and fuzzing.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(test, doctest))]
extern crate std;

mod device;
mod doorbell;
mod engine;
mod error;
mod features;
mod interrupt;
mod memory;
mod message;
pub mod mmio;
mod model;
pub mod models;
mod num;
mod queue;
mod queue_set;
mod setup;
mod shared;
mod snapshot;
#[cfg(any(feature = "testing", test, doctest))]
pub mod testing;
mod trace;
pub mod transport;

pub use device::{ChainSlot, Counters, Device, QueueState, Step, Stop, Taken, TakenQueue};
pub use doorbell::Doorbell;
pub use engine::Engine;
#[cfg(feature = "critical-section")]
pub use engine::EngineCell;
pub use error::{Area, DeviceError, DriverFault, FaultPolicy, Frozen, HostFault, Refusal};
pub use features::{Features, Offer};
#[cfg(feature = "embedded-hal")]
pub use interrupt::IrqLine;
pub use interrupt::{BufferedNotify, CountingNotify, DriverNotify};
pub use memory::{
    DeviceRange, DriverMem, DriverRange, FlatMem, MemFault, MemHooks, NoHooks, Permission,
    PtrWindow, Ram, RawDescriptor, Region, RegionMem, RingWindow,
};
/// The driver's memory as a guest has it at its simplest: one region.
pub type GuestMem = FlatMem;

pub use message::{Message, QueueConfig, ReadyQueues};
pub use model::{
    Answer, DeviceConfig, DeviceModel, Request, SaveModel, SavedWith, SharedMemory, Start, Token,
};
#[cfg(feature = "packed")]
pub use queue::PackedQueue;
#[cfg(feature = "split")]
pub use queue::SplitQueue;
pub use queue::{
    Chain, ChainError, CheckedQueue, QueueCheck, QueueCheckFn, ReadableChain, Segment, Virtqueue,
    WritableChain, translate_queue,
};
pub use queue_set::{Collected, Iter as QueueSetIter, QueueSet, QueueSetFull};
pub use setup::{Built, Configuring, DeviceBuilder, Progress, ReadyResponder};
pub use shared::{InterruptStatus, Shared, SharedHandle};
pub use snapshot::{
    ChainSnapshot, DeviceSnapshot, EngineSnapshot, LatchSnapshot, QueueSnapshot, RegisterSnapshot,
    RestSnapshot, RingSnapshot, SNAPSHOT_VERSION, SnapshotError, Stage, WholeSnapshot,
};
#[cfg(feature = "defmt")]
pub use trace::DefmtTrace;
#[cfg(feature = "log")]
pub use trace::LogTrace;
pub use trace::{Event, NoTrace, Trace, Weight};

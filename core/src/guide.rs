//! How to use this crate: layers, chains, writing a device, sizes, stale handles, worst cases.
//!
//! This module contains only documentation.
//!
//! # Layers
//!
//! A driver reaches a device through one of several transports. Every transport translates the
//! driver's accesses into the same [`Message`]s, so one set of checks covers all transports.
//!
//! ```text
//!   virtio-mmio registers    messages (a channel, vhost-user)
//!              \                 /
//!               v               v
//!                    Message                 ConfigureQueue, Ready, ResetQueue, Reset, ..
//!                       |
//!            checks, and QueueCheck          reject a bad queue
//!                       |
//!                    Device                  queues, kicks, interrupts
//!                       |
//!              split or packed ring          chains in, used elements out
//!                       |
//!                  DeviceModel               serves each request
//! ```
//!
//! | you have | use |
//! |---|---|
//! | register accesses, from a bus, a trap or a mailbox | [`Engine`]: [`access`](Engine::access) and [`poll`](Engine::poll) |
//! | a transport that sends messages | [`Configuring`], then [`Device`] |
//! | a second core or thread for one queue | [`Engine::take_queue`], then [`TakenQueue::serve`] |
//! | a queue that another device has served before | [`Device::enable_queue_at`], or [`Message::ConfigureQueueAt`] |
//! | memory or an interrupt that changes | [`Engine::memory_mut`], then [`Engine::memory_changed`]; [`Engine::notify_mut`] |
//! | a device type that [`models`] lacks | [`DeviceModel`] |
//!
//! An [`Engine`] consists of a model, a [`Device`], a [`Transport`](crate::transport::Transport)
//! and chain slots. An engine never blocks, allocates or starts a thread. It runs only inside the
//! calls of the host.
//!
//! # Lifecycle of a chain
//!
//! | step | who | call | what happens |
//! |---|---|---|---|
//! | 1 | driver | | writes descriptors and makes the chain available in the ring |
//! | 2 | driver | QueueNotify | [`Engine::access`] rings the [`Doorbell`] and accesses no driver memory |
//! | 3 | host | [`Engine::poll`] | drains the doorbell and selects the next queue, round-robin |
//! | 4 | device | | reads each descriptor once, copies the chain into a free [`ChainSlot`] and checks it |
//! | 5 | model | [`DeviceModel::serve`] | reads [`Request::readable`], writes [`Request::writable`] |
//! | 6a | model | [`Answer::Done`] | the device writes the used element and frees the slot |
//! | 6b | model | [`Answer::Pending`] | the chain keeps its slot; [`Request::token`] identifies the chain |
//! | 7 | host | [`Engine::complete`], [`Engine::backend_ready`] | a pending chain is served again, from its start |
//! | 8 | device | | at the end of `poll`: one interrupt for all chains that were given back, if the driver wants an interrupt |
//!
//! After step 4 the device works on its copy of the chain. The driver can still change the bytes in
//! the buffers, so a model reads each byte only once.
//!
//! If step 4 finds a fault, the model is not given the chain. [`FaultPolicy`] decides whether the
//! chain is given back unserved, the queue stops, or the device asks for a reset.
//!
//! # Writing a device
//!
//! Implement [`DeviceConfig`] (what a driver can see before DRIVER_OK) and [`DeviceModel`] (how the
//! device serves a request). `core/examples/echo.rs` is a complete device.
//!
//! - Return [`Answer::Done`] with the number of bytes written, counted from the start of
//!   [`Request::writable`].
//! - Return `Err(`[`DriverFault`]`)` only if the driver broke the protocol. If the host failed,
//!   call [`Request::report`] and answer with the error status that the device type defines.
//! - Return [`Answer::Pending`] if the answer is not available yet. The chain keeps its slot. When
//!   the answer is available, the host passes [`Request::token`] to [`Engine::complete`], or the
//!   model returns the token from [`DeviceModel::due`]. The chain is then served again from its
//!   start, so the model must still have every input that it needs.
//! - Return false from [`DeviceModel::can_serve`] while the model cannot use chains of a queue,
//!   such as receive buffers when there is no input. The chains stay in the ring and take no slots.
//! - If the model holds an answer back until the next request arrives, complete the answer in
//!   [`DeviceModel::drained`]. That method is called when the queue is empty, or no slot is left
//!   for the queue.
//! - Return true from [`DeviceModel::may_sleep`] for a queue whose pending chains may wait forever.
//!   A suspension then does not wait for those chains.
//! - Implement [`SaveModel`] if the model keeps state between two requests.
//!
//! # Handing a queue over
//!
//! A host that stops using a queue, moves it to another process, or changes what the queue works
//! with, first makes the device finish with it. Calls that wait for that return [`Quiesce`]: repeat
//! the call while it is `Pending`, and `poll` in between.
//!
//! | the host wants | call | afterwards |
//! |---|---|---|
//! | no more chains of one queue | [`quiesce`](Device::quiesce) | [`resume_queue`](Device::resume_queue), or one of the next two |
//! | the queue's position, for another device | [`ring_position`](Device::ring_position) | the other device starts there: [`enable_queue_at`](Device::enable_queue_at) |
//! | to stop the queue | [`stop_queue`](Device::stop_queue) | [`enable_queue`](Device::enable_queue) |
//! | other memory | [`memory_mut`](Device::memory_mut), [`memory_changed`](Device::memory_changed) | taken queues are put back and taken again |
//! | another interrupt for the queue | [`notify_mut`](Device::notify_mut) | a taken queue is put back and taken again |
//! | the whole device | [`Engine::save`] | [`Engine::restore`] |
//!
//! # Sizing
//!
//! | parameter | meaning | choose |
//! |---|---|---|
//! | `Q` | number of queues | as many as the device type needs; one more queue of 16 elements costs 384 bytes on a 64-bit target, 296 with only split rings |
//! | `N` | largest queue size in elements, a power of two for split rings, at most 32768 | the queue size to offer; not less than the longest chain that the driver sends |
//! | slots | number of chains that the device can hold at once | one for a model that always answers at once; otherwise one for each queue that the driver may use, and one for each further chain that may be pending: see [`ChainSlot`] |
//!
//! A slot takes `16 * N` bytes and a few words. A queue of `N` elements also stores which ids are
//! in flight: a packed queue takes `8 * N` bytes for this, a split queue `4 * N` bytes.
//!
//! # Stale handles
//!
//! A driver can reset a queue or the device while the host holds a handle to a chain, a queue or an
//! access. The handle is then stale. Each handle contains a number by which the device recognises a
//! stale handle.
//!
//! | handle | stale after | recognised by | result of a stale handle |
//! |---|---|---|---|
//! | [`Token`] | the chain was answered, or its queue stopped or was reset | serial number of the slot | [`Refusal::StaleToken`] |
//! | [`Chain`] of a [`TakenQueue`] | the chain was completed or abandoned, or its queue stopped | serial number of the chain | [`Refusal::StaleToken`] |
//! | [`TakenQueue`] | the queue was stopped or reset, or the device was reset | generation of the queue, epoch of the device | [`Refusal::StaleToken`] from [`put_back`](Device::put_back) |
//! | [`ReadyResponder`] | a device reset, or another answer | epoch of the device | [`accept`](ReadyResponder::accept) returns false |
//! | [`Ticket`](crate::transport::Ticket) | the access completed | ticket number | [`Refusal::StaleTicket`] |
//!
//! The number of the *epoch* counts resets of the device, and is stored in the [`Shared`] block.
//! The number of the *generation* counts stops of one queue. All these numbers wrap: a
//! [`TakenQueue`] is mistaken for a valid one only if the host keeps it over 2^29 resets or 2^32
//! stops, and a [`Token`] only if the host keeps it over 2^31 uses of its slot.
//!
//! A clone of a [`Chain`] is recognised for at least 2^29 further chains of its queue. Discard
//! every clone when the queue is stopped or reset: a queue that is set up again may repeat the
//! serial numbers of an earlier one.
//!
//! # Worst cases
//!
//! Every call may be made from an interrupt handler. Each call returns after a bounded number of
//! steps, whatever the driver does. No call waits or allocates. Calls on [`&Shared`](Shared) are
//! lock-free. Calls on `&mut Engine` need exclusive access: give the engine to one handler, or put
//! it in an `EngineCell`, which disables interrupts during the call.
//!
//! `Q` is the number of queues and `N` their largest size. The columns have these meanings:
//!
//! - *Accesses* are loads and stores in the driver's rings. Accesses "in tables" are loads from
//!   tables of indirect descriptors. The numbers hold for the default [`FaultPolicy`] and without
//!   IN_ORDER, unless the cell says otherwise. The documentation of each call states what IN_ORDER
//!   adds.
//! - *Instructions* and *stack* (in bytes) are the largest values that `tests/tools/worst` measured
//!   on a Cortex-M4F at opt-level s, with one queue of 16 elements, a model that answers with one
//!   byte, and no interrupt. The cost of the model and of [`DriverNotify::assert`] is not included.
//!
//! | call | needs | accesses, at most | instructions | stack |
//! |---|---|---|---|---|
//! | [`Doorbell::ring`] | `&Shared` | none | 21 | 20 |
//! | [`Shared::is_live`] | `&Shared` | none | 12 | 16 |
//! | [`Shared::needs_reset`] | `&Shared` | none | 12 | 16 |
//! | [`Engine::access`]: read of any register | `&mut Engine` | none | 199 | 264 |
//! | [`Engine::access`]: write of a register not listed here | `&mut Engine` | none | 334 | 280 |
//! | [`Engine::access`]: QueueNotify | `&mut Engine` | none | 69 | 104 |
//! | [`Engine::access`]: QueueReady := 1, all checks | `&mut Engine` | none; 1 after a queue reset | 1005 | 748 |
//! | [`Engine::access`]: QueueReady := 0 | `&mut Engine` | none | 254 | 252 |
//! | [`Engine::access`]: Status := FEATURES_OK | `&mut Engine` | none | 342 | 360 |
//! | [`Engine::access`]: Status := DRIVER_OK, all checks again | `&mut Engine` | `Q` | 1605 | 892 |
//! | [`Engine::access`]: QueueReset := 1 | `&mut Engine` | none | 305 | 252 |
//! | [`Engine::access`]: Status := SUSPEND | `&mut Engine` | none | 311 | 252 |
//! | [`Engine::access`]: Status := DRIVER_OK, to resume | `&mut Engine` | none | 334 | 252 |
//! | [`Engine::access`]: Status := 0 | `&mut Engine` | none | 376 | 252 |
//! | [`Engine::access`]: read of configuration | `&mut Engine` | none | 181 | 252 |
//! | [`Engine::access`]: write of configuration | `&mut Engine` | none | 78 | 104 |
//! | [`Engine::finish`] | `&mut Engine` | `Q` | 287 | 144 |
//! | [`Engine::poll`]`(1)`: no kick | `&mut Engine` | none | 171 | 396 |
//! | [`Engine::poll`]`(1)`: a kick, but an empty ring | `&mut Engine` | `N + 7` | 294 | 424 |
//! | [`Engine::poll`]`(1)`: a chain of 1 | `&mut Engine` | `N + 7` | 917 | 572 |
//! | [`Engine::poll`]`(1)`: a chain of 16 | `&mut Engine` | `N + 7` | 1635 | 572 |
//! | [`Engine::poll`]`(1)`: a chain of 16 in an indirect table | `&mut Engine` | `N + 7`, `N + 1` in tables | 2408 | 652 |
//! | [`Engine::poll`]`(1)`: a chain with no end | `&mut Engine` | `N + 7`, `N + 1` in tables | 2011 | 652 |
//! | [`Engine::poll`]`(4)`: four of the largest chains | `&mut Engine` | `4 * (N + 5) + 2`, `4 * (N + 1)` in tables | 8788 | 652 |
//! | [`Engine::complete`] | `&mut Engine` | 4 | 738 | 588 |
//! | [`Engine::backend_ready`] | `&mut Engine` | none | 44 | 32 |
//! | [`Engine::update_config`] | `&mut Engine` | none | 42 | 16 |
//! | [`Engine::notify_queue`] | `&Engine` | none | 24 | 28 |
//! | [`Engine::memory_changed`] | `&mut Engine` | none | 578 | 268 |
//! | [`Engine::take_queue`] | `&mut Engine` | `Q` as the first call after [`ReadyResponder::accept`], otherwise none | 1657 | 508 |
//! | [`Engine::save`] | `&mut Engine` | `Q` as the first call after [`ReadyResponder::accept`], otherwise none | 1375 | 1180 |
//! | [`Engine::restore`] | `&mut Engine` | none | 3018 | 1500 |
//! | [`Engine::put_back`] | `&mut Engine` | 1, with IN_ORDER 3 | 2564 | 1212 |
//! | [`TakenQueue::pop`] | `&mut TakenQueue` | `N + 4`, `N + 1` in tables | 1863 | 404 |
//! | [`TakenQueue::complete`] | `&mut TakenQueue` | 3 | 156 | 136 |
//! | [`TakenQueue::flush`] | `&mut TakenQueue` | 1, with IN_ORDER 3 | 51 | 40 |
//! | [`TakenQueue::enable_kicks`] | `&mut TakenQueue` | 2 | 64 | 64 |
//! | `EngineCell::with`: an empty closure | `&EngineCell` | none | 11 | 16 |
//! | `IrqLine::assert`: a pin of one store | `&IrqLine` | none | 14 | 8 |
//! | `MailboxServer::step`: a read | `&mut MailboxServer`, `&mut Engine` | 9 of the mailbox | 90 | 104 |
//!
//! [`Chain`]: crate::queue::Chain
//! [`Doorbell`]: crate::doorbell::Doorbell
//! [`Doorbell::ring`]: crate::doorbell::Doorbell::ring
//! [`FaultPolicy`]: crate::error::FaultPolicy
//! [`Quiesce`]: crate::device::Quiesce
//! [`SaveModel`]: crate::model::SaveModel
//! [`TakenQueue`]: crate::device::TakenQueue
//! [`TakenQueue::complete`]: crate::device::TakenQueue::complete
//! [`TakenQueue::enable_kicks`]: crate::device::TakenQueue::enable_kicks
//! [`TakenQueue::flush`]: crate::device::TakenQueue::flush
//! [`TakenQueue::pop`]: crate::device::TakenQueue::pop
//! [`TakenQueue::serve`]: crate::device::TakenQueue::serve

#[allow(unused_imports, reason = "links in the text above")]
use crate::*;

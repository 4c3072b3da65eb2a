//! Building a device from set-up messages: queue checks, the builder, the conversation and the
//! device.

mod checks;
mod conversation;
mod device;
mod offered;
mod parts;
mod queue_set;
mod queues;
mod relations;
mod responder;

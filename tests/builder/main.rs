//! From set-up messages to a device: queue checks, the builder, the conversation, and what it ends in.

mod checks;
mod conversation;
mod device;
mod offered;
mod queue_set;
mod queues;
mod relations;
mod responder;

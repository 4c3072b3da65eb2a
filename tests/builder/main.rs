//! From set-up messages to a device: policies, the builder, the conversation, and what it ends in.

mod conversation;
mod device;
mod offered;
mod policies;
mod queue_set;
mod queues;
mod responder;

//! From set-up messages to a device: policies, the builder, the conversation, and what it ends in.

#[path = "builder/conversation.rs"]
mod conversation;
#[path = "builder/device.rs"]
mod device;
#[path = "builder/offered.rs"]
mod offered;
#[path = "builder/policies.rs"]
mod policies;
#[path = "builder/queue_set.rs"]
mod queue_set;
#[path = "builder/queues.rs"]
mod queues;
#[path = "builder/responder.rs"]
mod responder;

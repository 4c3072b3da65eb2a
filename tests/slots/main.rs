//! Slots are shared by the queues, and no queue takes those that others need.

mod combining;
mod random;
mod reserve;

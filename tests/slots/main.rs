//! Slots are shared by all queues, and no queue takes the last slot of another.

mod combining;
mod random;
mod reserve;

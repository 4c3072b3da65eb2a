//! The device status field: what a driver may do to it, and what the device makes of it.

#[path = "status/before_live.rs"]
mod before_live;
#[path = "status/start.rs"]
mod start;
#[path = "status/steps.rs"]
mod steps;
#[path = "status/trouble.rs"]
mod trouble;

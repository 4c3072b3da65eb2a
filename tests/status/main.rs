//! The device status field: what a driver may do to it, and what the device makes of it.

mod before_live;
mod start;
mod steps;
mod trouble;

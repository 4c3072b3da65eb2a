//! The device status field: what a driver may write, and what the device does then.

mod before_live;
mod start;
mod steps;
mod trouble;

//! The driver's memory: ranges, regions, views, hooks, access checks, and memory that moves.

#[path = "memory/checked.rs"]
mod checked;
#[path = "memory/hooks.rs"]
mod hooks;
#[path = "memory/moving.rs"]
mod moving;
#[path = "memory/ranges.rs"]
mod ranges;
#[path = "memory/regions.rs"]
mod regions;
#[path = "memory/views.rs"]
mod views;

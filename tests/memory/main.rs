//! The driver's memory: ranges, regions, views, hooks, access checks, and memory that moves.

mod checked;
mod hooks;
mod moving;
mod ranges;
mod regions;
mod views;

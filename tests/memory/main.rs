//! The driver's memory: ranges, regions, views, hooks, access checks, and memory that moves.

mod checked;
mod hooks;
mod moving;
mod ram;
mod ranges;
mod regions;
mod views;

//! One program that contains a driver and its devices. The two sides share only RAM and two
//! interrupts.
//!
//! * [`shared`]: the RAM that both sides access. Neither side calls a function of the other.
//! * [`device`]: the devices, each a `static`, stepped only by the doorbell's interrupt handler.
//! * [`driver`]: unmodified `virtio-drivers`. It runs in `main`, and has the other interrupt.
//! * [`platform`]: the two interrupts, on a Cortex-M and on a RISC-V hart.
//! * [`measure`]: instruments that both sides may write to.
//!
//! The README of this crate contains the transcript.
#![no_std]

pub mod device;
pub mod driver;
pub mod measure;
pub mod platform;
pub mod shared;

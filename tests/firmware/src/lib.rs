//! A driver and the devices it drives in one program, with shared RAM and two interrupts between
//! them, and nothing else.
//!
//! * [`shared`]: the RAM that both sides know. Neither side calls a function of the other.
//! * [`device`]: the devices, each a `static`, stepped only by the doorbell's interrupt handler.
//! * [`driver`]: unmodified `virtio-drivers`; runs in `main`, and has the other interrupt.
//! * [`platform`]: the two interrupts, on a Cortex-M and on a RISC-V hart.
//! * [`measure`]: instruments, which either side may write to.
//!
//! The README beside this crate has the transcript.
#![no_std]

pub mod device;
pub mod driver;
pub mod measure;
pub mod platform;
pub mod shared;

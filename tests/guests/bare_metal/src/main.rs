//! A KVM guest without an operating system. It drives the devices of
//! `std-adapter/examples/vmm.rs` by unmodified `virtio-drivers` over their own `MmioTransport`.
//!
//! The VMM passes what to do: 0 runs the checks, 1 measures. A check that fails panics: the program
//! prints why and ends with exit code 101.
#![no_std]
#![no_main]

extern crate alloc;

mod blk;
mod interrupts;
mod machine;
mod measure;
mod memory;
mod rng;

use core::{fmt::Write, ptr::NonNull};

use alloc::string::String;
use virtio_drivers::{
    device::console::VirtIOConsole,
    transport::{
        Transport,
        mmio::{MmioTransport, VirtIOHeader},
    },
};

use memory::Memory;

pub struct Console(VirtIOConsole<Memory, MmioTransport<'static>>);

impl Console {
    /// Prints a line as one request.
    pub fn say(&mut self, line: core::fmt::Arguments<'_>) {
        let mut text = String::new();
        writeln!(text, "guest: {line}").expect("a string has room");
        self.0
            .send_bytes(text.as_bytes())
            .expect("the console fails");
    }
}

/// Finds the device whose registers are at this address.
pub fn find(address: usize) -> MmioTransport<'static> {
    let header = NonNull::new(address as *mut VirtIOHeader).expect("an address of a device");
    // SAFETY: only one driver at a time has these registers.
    unsafe { MmioTransport::new(header, machine::LEN) }.expect("there is a device")
}

#[unsafe(no_mangle)]
extern "C" fn main(what: u64, ticks_per_ms: u64) -> ! {
    interrupts::set_up();
    let console = VirtIOConsole::new(find(machine::CONSOLE)).expect("there is a console");
    let console = &mut Console(console);
    for address in [machine::CONSOLE, machine::ENTROPY, machine::DISK] {
        // The second transport of the console is only looked at.
        let found = core::mem::ManuallyDrop::new(find(address));
        console.say(format_args!("{:?} at {address:#x}", found.device_type()));
    }
    match what {
        0 => {
            rng::check(console, ticks_per_ms);
            blk::check(console, ticks_per_ms);
            console.say(format_args!("passed"));
        }
        _ => measure::run(console, ticks_per_ms),
    }
    machine::exit(0)
}

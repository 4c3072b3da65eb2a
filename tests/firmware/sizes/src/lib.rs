//! A device of each kind, chosen by feature. The devices are statics, with one entry for each call
//! that firmware makes. RAM, back ends and the interrupt are declared and not linked, so that they
//! add no size.
#![no_std]
#![cfg_attr(
    not(feature = "all"),
    allow(unused_imports, dead_code, reason = "each device has its own")
)]

mod back_ends;

use core::{cell::UnsafeCell, ptr::NonNull};

use back_ends::Elsewhere;
use virtside::{
    ChainSlot, DriverNotify, Engine, FlatMem, Shared, Step,
    mmio::{Access, Reply},
    models::{Block, BlockOptions, Console, Entropy, Gpio, I2c, Spi},
    models::{blk, console, gpio, spi},
};

unsafe extern "C" {
    safe fn elsewhere_panic() -> !;
    safe fn elsewhere_interrupt();
    static mut ELSEWHERE_RAM: [u8; RAM];
}

/// Bytes of shared RAM.
const RAM: usize = 128 << 10;
/// Elements of a queue.
const SIZE: usize = 16;
/// Bytes of a bus model's buffer.
const BYTES: usize = 32;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    elsewhere_panic()
}

/// The driver's interrupt.
#[derive(Clone, Copy)]
pub struct Line;

impl DriverNotify for Line {
    fn assert(&self) {
        elsewhere_interrupt();
    }
}

/// An engine with `Q` queues and `S` chain slots.
pub type TheEngine<D, const Q: usize, const S: usize> =
    Engine<D, FlatMem, Line, Q, SIZE, [ChainSlot<SIZE>; S], &'static Shared<Q>>;

const fn memory() -> FlatMem {
    let ram = (&raw mut ELSEWHERE_RAM).cast();
    // SAFETY: `RAM` bytes without references; this code is measured, and never runs.
    unsafe { FlatMem::new(0x8000_0000, NonNull::new_unchecked(ram), RAM) }
}

/// A cell that only one handler accesses.
#[repr(transparent)]
pub struct Alone<T>(UnsafeCell<T>);

// SAFETY: this code is measured, and never runs.
unsafe impl<T> Sync for Alone<T> {}

fn access(write: bool, offset: u32, width: u8, value: u64) -> Access {
    if write {
        Access::Write {
            offset,
            width,
            value,
        }
    } else {
        Access::Read { offset, width }
    }
}

fn value(reply: Reply) -> u64 {
    reply.bus_value().unwrap_or(0)
}

/// The statics and entries of one device. The arguments are its name and feature, model, queues,
/// chain slots, value, and the action of firmware when the back end is ready.
macro_rules! device {
    ($feature:literal, $module:ident, $model:ty, $queues:literal, $slots:literal, $new:expr, $tend:expr) => {
        #[cfg(feature = $feature)]
        pub mod $module {
            use super::*;

            #[unsafe(export_name = concat!("virtside_shared_", $feature))]
            static SHARED: Shared<$queues> = Shared::new();

            #[unsafe(export_name = concat!("virtside_engine_", $feature))]
            static ENGINE: Alone<TheEngine<$model, $queues, $slots>> =
                Alone(UnsafeCell::new(Engine::new(
                    $new,
                    memory(),
                    Line,
                    [const { ChainSlot::new() }; $slots],
                    &SHARED,
                )));

            /// The part of the engine's size that the chain slots take.
            #[unsafe(export_name = concat!("virtside_slots_", $feature))]
            pub static SLOTS: [u8; size_of::<[ChainSlot<SIZE>; $slots]>()] =
                [0; size_of::<[ChainSlot<SIZE>; $slots]>()];

            fn engine() -> &'static mut TheEngine<$model, $queues, $slots> {
                // SAFETY: this code is measured, and never runs.
                unsafe { &mut *ENGINE.0.get() }
            }

            /// The doorbell's handler takes a register access.
            #[unsafe(export_name = concat!("virtside_access_", $feature))]
            pub extern "C" fn take(write: bool, offset: u32, width: u8, stored: u64) -> u64 {
                value(engine().access(access(write, offset, width, stored)))
            }

            /// The doorbell's handler polls.
            #[unsafe(export_name = concat!("virtside_poll_", $feature))]
            pub extern "C" fn poll(budget: u16) -> bool {
                engine().poll(budget) == Step::More
            }

            /// The back end's handler.
            #[unsafe(export_name = concat!("virtside_tend_", $feature))]
            pub extern "C" fn tend(what: u16) {
                let tend: fn(&mut TheEngine<$model, $queues, $slots>, u16) = $tend;
                tend(engine(), what);
            }
        }
    };
}

device!(
    "entropy",
    entropy,
    Entropy<Elsewhere>,
    1,
    1,
    Entropy::new(Elsewhere),
    |engine, _| engine.backend_ready(0)
);
device!(
    "block",
    block,
    Block<blk::RamDisk<Elsewhere>>,
    1,
    1,
    Block::new(blk::RamDisk::new(Elsewhere), BlockOptions::new(16)),
    |_, _| {}
);
device!(
    "console",
    the_console,
    Console<Elsewhere>,
    2,
    3,
    Console::new(Elsewhere),
    |engine, _| {
        engine.backend_ready(console::receiveq(0));
        engine.backend_ready(console::transmitq(0));
    }
);
device!(
    "i2c",
    i2c,
    I2c<Elsewhere, BYTES>,
    1,
    1,
    I2c::new(Elsewhere),
    |_, _| {}
);
device!(
    "gpio",
    the_gpio,
    Gpio<[gpio::OpenDrainLine<Elsewhere>; 4], 4>,
    2,
    5,
    Gpio::new([const { gpio::OpenDrainLine::new(Elsewhere) }; 4]),
    |engine, line| {
        if let Some(token) = engine.model_mut().interrupt(line) {
            let _ = engine.complete(token);
        }
    }
);
device!(
    "spi",
    the_spi,
    Spi<spi::SpiDevices<Elsewhere, 1>, BYTES>,
    1,
    1,
    Spi::new(spi::SpiDevices::new([spi::SpiChip::new(
        Elsewhere,
        embedded_hal::spi::MODE_0,
        1_000_000
    )])),
    |_, _| {}
);

//! The image: start-up, and what each interrupt means.
#![no_std]
#![no_main]

use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::debug::{self, ExitStatus};
// Carries the transcript out.
use defmt_semihosting as _;
use firmware::{device, driver, platform};

fn exit(status: ExitStatus) -> ! {
    loop {
        debug::exit(status);
    }
}

#[entry]
fn main() -> ! {
    platform::init();
    device::init();
    match driver::run() {
        Ok(()) => {
            defmt::info!("passed");
            exit(Ok(()))
        }
        Err(failure) => {
            defmt::error!("failed: {}", failure);
            exit(Err(()))
        }
    }
}

#[exception]
fn PendSV() {
    device::doorbell();
}

#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == platform::DRIVER_IRQ as i16 {
        driver::interrupt();
    } else {
        defmt::error!("interrupt {=i16} is nobody's", number);
        exit(Err(()))
    }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {=u32:08x}", frame.pc());
    exit(Err(()))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    exit(Err(()))
}

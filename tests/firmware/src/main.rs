//! The image: start-up, and the handler of each interrupt.
#![no_std]
#![no_main]

mod ending;

use cortex_m_rt::{entry, exception};
// Prints the transcript.
use defmt_semihosting as _;
use ending::exit;
use firmware::{device, driver, platform};

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
        defmt::error!("interrupt {=i16} has no handler", number);
        exit(Err(()))
    }
}

//! Ends an image: with an exit code, and with a last line if it failed.

use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::debug::{self, ExitStatus};

pub(crate) fn exit(status: ExitStatus) -> ! {
    loop {
        debug::exit(status);
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

//! Cortex-M: PendSV is the doorbell, an external interrupt that nothing else uses the driver's.

use core::arch::asm;

use cortex_m::{
    Peripherals,
    interrupt::InterruptNumber,
    peripheral::{NVIC, SCB, SYST, scb::SystemHandler, syst::SystClkSource},
};

/// The driver's interrupt.
#[derive(Clone, Copy, Debug)]
pub struct DriverIrq;

/// Its number.
pub const DRIVER_IRQ: u16 = 31;

// SAFETY: every Cortex-M may have 32 external interrupts, and the number is constant.
unsafe impl InterruptNumber for DriverIrq {
    fn number(self) -> u16 {
        DRIVER_IRQ
    }
}

const SYSTICK_MAX: u32 = 0x00ff_ffff;

/// Sets both interrupts and the clock up.
pub fn init() {
    let Some(mut core) = Peripherals::take() else {
        return;
    };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(SYSTICK_MAX);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    // SAFETY: no critical section here relies on priorities: they mask all interrupts.
    unsafe {
        // The device is stepped when nothing else is to be done.
        core.SCB.set_priority(SystemHandler::PendSV, 0xff);
        core.NVIC.set_priority(DriverIrq, 0);
        NVIC::unmask(DriverIrq);
    }
}

/// From the driver: there is something for the device.
#[inline]
pub fn ring_doorbell() {
    SCB::set_pendsv();
    // The handler runs before the next instruction, if it may.
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// From the device: there is something for the driver.
#[inline]
pub fn raise_interrupt() {
    NVIC::pend(DriverIrq);
}

/// Ticks, modulo 2^24.
#[inline(always)]
pub fn now() -> u32 {
    SYSTICK_MAX - SYST::get_current()
}

/// Ticks between two calls of [`now`].
#[inline(always)]
pub fn ticks(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) & SYSTICK_MAX
}

/// Executes `2 * rounds` instructions and a few more.
#[inline(never)]
pub fn spin(rounds: u32) {
    // SAFETY: counts a register down.
    unsafe {
        asm!("2:", "subs {0}, {0}, #1", "bne 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
}

/// Sleeps until `done`, which an interrupt makes true.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    loop {
        // An interrupt between the question and the sleep ends the sleep, masked or not.
        let over = critical_section::with(|_| {
            let over = done();
            if !over {
                cortex_m::asm::wfi();
            }
            over
        });
        if over {
            return;
        }
    }
}

/// Where the stack ends now.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

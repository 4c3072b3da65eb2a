//! Cortex-M: PendSV is the doorbell. The driver's interrupt is an external interrupt without
//! another use.

use core::arch::asm;

use cortex_m::{
    Peripherals,
    interrupt::InterruptNumber,
    peripheral::{NVIC, SCB, SYST, scb::SystemHandler, syst::SystClkSource},
};

/// The driver's interrupt.
#[derive(Clone, Copy, Debug)]
pub struct DriverIrq;

/// The number of the driver's interrupt.
pub const DRIVER_IRQ: u16 = 31;

// SAFETY: every Cortex-M may have 32 external interrupts, and the number is constant.
unsafe impl InterruptNumber for DriverIrq {
    fn number(self) -> u16 {
        DRIVER_IRQ
    }
}

const SYSTICK_MAX: u32 = 0x00ff_ffff;

/// Sets up both interrupts and the clock.
pub fn init() {
    let Some(mut core) = Peripherals::take() else {
        return;
    };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(SYSTICK_MAX);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    // SAFETY: critical sections here mask all interrupts, and do not rely on priorities.
    unsafe {
        // The device runs at the lowest priority.
        core.SCB.set_priority(SystemHandler::PendSV, 0xff);
        core.NVIC.set_priority(DriverIrq, 0);
        NVIC::unmask(DriverIrq);
    }
}

/// Rings the doorbell: the driver has work for the device.
#[inline]
pub fn ring_doorbell() {
    SCB::set_pendsv();
    // If the handler may run, it runs before the next instruction.
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// Raises the driver's interrupt: the device has news for the driver.
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
    // SAFETY: the code counts a register down.
    unsafe {
        asm!("2:", "subs {0}, {0}, #1", "bne 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
}

/// Sleeps until `done` returns true, which an interrupt causes.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    loop {
        // An interrupt between the check and the sleep ends the sleep, even if it is masked.
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

/// The current stack pointer.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the code reads a register.
    unsafe { asm!("mov {0}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

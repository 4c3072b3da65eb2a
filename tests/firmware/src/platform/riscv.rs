//! A RISC-V hart in machine mode. The doorbell is the supervisor's software interrupt, and the
//! driver's interrupt is the supervisor's timer interrupt: software may set both bits. This module
//! is compiled, and never runs.

use core::arch::asm;

/// Bits of `mip` and `mie`.
const SOFTWARE: usize = 1 << 1;
const TIMER: usize = 1 << 5;

/// Sets up both interrupts.
pub fn init() {
    // SAFETY: enables two interrupts, whose handlers may run at any time.
    unsafe { asm!("csrs mie, {0}", "csrsi mstatus, 8", in(reg) SOFTWARE | TIMER) };
}

/// Rings the doorbell: the driver has work for the device.
#[inline]
pub fn ring_doorbell() {
    // SAFETY: makes an interrupt pending.
    unsafe { asm!("csrs mip, {0}", in(reg) SOFTWARE) };
}

/// Raises the driver's interrupt: the device has news for the driver.
#[inline]
pub fn raise_interrupt() {
    // SAFETY: makes an interrupt pending.
    unsafe { asm!("csrs mip, {0}", in(reg) TIMER) };
}

/// Instructions, modulo 2^32.
#[inline(always)]
pub fn now() -> u32 {
    let count: usize;
    // SAFETY: reads a counter.
    unsafe { asm!("csrr {0}, minstret", out(reg) count, options(nomem, nostack)) };
    #[allow(clippy::cast_possible_truncation)]
    let low = count as u32;
    low
}

/// Instructions between two calls of [`now`].
#[inline(always)]
pub fn ticks(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from)
}

/// Executes `2 * rounds` instructions and a few more.
#[inline(never)]
pub fn spin(rounds: u32) {
    // SAFETY: counts a register down.
    unsafe {
        asm!("2:", "addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
}

/// Sleeps until `done` returns true, which an interrupt causes.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    loop {
        // An interrupt between the check and the sleep ends the sleep, even if it is masked.
        let over = critical_section::with(|_| {
            let over = done();
            if !over {
                // SAFETY: the instruction waits for an interrupt.
                unsafe { asm!("wfi", options(nomem, nostack)) };
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
    // SAFETY: reads a register.
    unsafe { asm!("mv {0}, sp", out(reg) pointer, options(nomem, nostack)) };
    pointer
}

//! The machine that `std-adapter/examples/vmm.rs` makes: memory, registers, entry and exit.
//!
//! The program runs in user mode (CPL 3), because some hosts run only such code at full speed. All
//! memory below 4 GiB is mapped at its own address, with the registers of devices and interrupt
//! controllers.

use core::{arch::global_asm, fmt, panic::PanicInfo};

/// Addresses of the registers of the devices, and their length in bytes.
pub const CONSOLE: usize = 0xd000_0000;
pub const ENTROPY: usize = 0xd000_1000;
pub const DISK: usize = 0xd000_2000;
pub const LEN: usize = 0x200;
/// Interrupt lines of the devices.
pub const ENTROPY_LINE: usize = 17;
pub const DISK_LINE: usize = 18;
/// A store to this register ends the machine with that exit code. A load returns 0.
pub const EXIT: usize = 0xd000_f000;
/// The interrupt descriptor table: 256 gates of 16 bytes.
pub const GATES: usize = 0x8000;
/// Memory for the heap and for drivers, up to the end of the machine's memory.
pub const HEAP: core::ops::Range<usize> = 0x100_0000..0x400_0000;

/// Field `emerg_wr` of the console: prints a byte, even before the device is set up.
const EMERGENCY: usize = CONSOLE + 0x108;

/// Loads a 32-bit register.
pub fn load(address: usize) -> u32 {
    // SAFETY: all callers pass the address of a register.
    unsafe { (address as *const u32).read_volatile() }
}

/// Stores to a 32-bit register.
pub fn store(address: usize, value: u32) {
    // SAFETY: all callers pass the address of a register.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// Ends the machine.
pub fn exit(code: u32) -> ! {
    store(EXIT, code);
    loop {
        core::hint::spin_loop();
    }
}

/// Returns the time stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: user mode may read the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The console for a program that panics.
struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            store(EMERGENCY, byte.into());
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = fmt::Write::write_fmt(&mut Emergency, format_args!("guest: {info}\n"));
    exit(101)
}

// The VMM passes two numbers in the registers of the first two arguments.
global_asm!(
    ".globl _start",
    "_start: xor ebp, ebp",
    "and rsp, -16",
    "call main",
    "ud2"
);

/// Makes the functions on memory that the compiler calls. The linker finds no C library.
macro_rules! memory_functions {
    ($($name:ident, $out:ty, ($($arg:ident: $type:ty),*), $body:block;)*) => {$(
        /// # Safety
        /// As the C function of this name.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) -> $out $body
    )*};
}

memory_functions! {
    memcpy, *mut u8, (to: *mut u8, from: *const u8, len: usize), {
        // SAFETY: the caller owns `len` bytes at each pointer.
        unsafe {
            core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _,
                inout("rsi") from => _, options(nostack, preserves_flags));
        }
        to
    };
    memset, *mut u8, (to: *mut u8, byte: i32, len: usize), {
        // SAFETY: the caller owns `len` bytes at `to`.
        unsafe {
            core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _,
                in("al") byte as u8, options(nostack, preserves_flags));
        }
        to
    };
    memmove, *mut u8, (to: *mut u8, from: *const u8, len: usize), {
        if (to as usize).wrapping_sub(from as usize) >= len {
            // SAFETY: a copy upwards does not overwrite bytes before it has read them.
            return unsafe { memcpy(to, from, len) };
        }
        for at in (0..len).rev() {
            // SAFETY: the caller owns `len` bytes at each pointer. Volatile, so that the compiler
            // does not make a call of memmove from this.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
        to
    };
    memcmp, i32, (one: *const u8, other: *const u8, len: usize), {
        for at in 0..len {
            // SAFETY: the caller owns `len` bytes at each pointer. Volatile as above.
            let (one, other) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        0
    };
    bcmp, i32, (one: *const u8, other: *const u8, len: usize), {
        // SAFETY: as this function.
        unsafe { memcmp(one, other, len) }
    };
}

/// The compiled `core` names it for unwinding, which this program does not do.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

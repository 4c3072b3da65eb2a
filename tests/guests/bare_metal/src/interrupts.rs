//! Interrupts: the I/O APIC, the local APIC, and a handler for each line that only counts.

use core::{
    arch::global_asm,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::machine::{DISK_LINE, ENTROPY_LINE, EXIT, GATES, load, store, ticks};

/// Register select and window of the I/O APIC.
const SELECT: usize = 0xfec0_0000;
const WINDOW: usize = 0xfec0_0010;
/// Spurious interrupt vector register of the local APIC. Bit 8 enables the local APIC.
const SPURIOUS: usize = 0xfee0_00f0;
/// First vector of the lines.
const VECTOR: usize = 0x40;
/// Bit 15 of a redirection entry: the line is level-triggered.
const LEVEL: u32 = 1 << 15;
/// Selector of code in the kernel's mode. Handlers run there, since no gate may lead to user mode.
const KERNEL: u64 = 0x08;

#[unsafe(no_mangle)]
static entropy_count: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static disk_count: AtomicU32 = AtomicU32::new(0);

// Each handler counts, and ends the interrupt at the local APIC. A level-triggered interrupt then
// comes again until the driver has acknowledged it.
global_asm!(
    "disk_handler:",
    "lock inc dword ptr [disk_count]",
    "jmp 2f",
    "entropy_handler:",
    "lock inc dword ptr [entropy_count]",
    "2: push rax",
    "mov eax, 0xfee000b0",
    "mov dword ptr [rax], 0",
    "pop rax",
    "spurious_handler:",
    "iretq",
    ".globl disk_handler, entropy_handler, spurious_handler",
);

unsafe extern "C" {
    fn disk_handler();
    fn entropy_handler();
    fn spurious_handler();
}

/// How a line is triggered.
enum Trigger {
    Edge,
    Level,
}

/// Makes the handlers ready.
pub fn set_up() {
    gate(0xff, spurious_handler);
    store(SPURIOUS, 0x1ff);
    route(DISK_LINE, disk_handler, Trigger::Edge);
    route(ENTROPY_LINE, entropy_handler, Trigger::Level);
}

fn route(line: usize, handler: unsafe extern "C" fn(), trigger: Trigger) {
    let vector = VECTOR + line;
    gate(vector, handler);
    let level = match trigger {
        Trigger::Edge => 0,
        Trigger::Level => LEVEL,
    };
    // The destination is local APIC 0.
    for (register, value) in [(0x11, 0), (0x10, vector as u32 | level)] {
        store(SELECT, register + 2 * line as u32);
        store(WINDOW, value);
    }
    assert_eq!(load(WINDOW) & 0xff, vector as u32, "no I/O APIC");
}

/// Writes an interrupt gate: present, for interrupts only.
fn gate(vector: usize, handler: unsafe extern "C" fn()) {
    let address = handler as usize as u64;
    let low = address & 0xffff | KERNEL << 16 | 0x8e00 << 32 | (address >> 16 & 0xffff) << 48;
    let gate = (GATES + 16 * vector) as *mut u64;
    // SAFETY: the table has 256 gates, and only this program writes to it.
    unsafe {
        gate.write_volatile(low);
        gate.add(1).write_volatile(address >> 32);
    }
}

/// The interrupts of one line.
pub struct Line(&'static AtomicU32);

pub const DISK: Line = Line(&disk_count);
pub const ENTROPY: Line = Line(&entropy_count);

impl Line {
    /// Returns how many interrupts there were.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until `done` returns true. Asks once, and again after each interrupt after `count`.
    ///
    /// An interrupt may come that the driver no longer needs, so one interrupt need not be enough.
    pub fn wait(&self, mut count: u32, mut done: impl FnMut() -> bool) {
        let start = ticks();
        loop {
            while self.count() == count {
                // Some seconds, whatever the rate of the counter is.
                assert!(ticks() - start < 20_000_000_000, "no interrupt came");
                // The processor cannot halt in user mode. The exit lets other threads work.
                load(EXIT);
            }
            count = self.count();
            if done() {
                return;
            }
        }
    }

    /// Waits until no interrupt has come for `quiet` ticks.
    pub fn settle(&self, quiet: u64) {
        let begin = ticks();
        let (mut count, mut since) = (self.count(), begin);
        while ticks() - since < quiet {
            if self.count() != count {
                (count, since) = (self.count(), ticks());
            }
            assert!(ticks() - begin < 20_000_000_000, "interrupts do not end");
        }
    }
}

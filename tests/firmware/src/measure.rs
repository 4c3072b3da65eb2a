//! Instruments that measure stack, and instructions since the doorbell.
//!
//! Under `qemu-system-arm -icount shift=6` every instruction takes 64 ns. That is 1.6 ticks of
//! SysTick's 25 MHz clock, so that every instruction takes at least one tick. The ratio of ticks to
//! instructions is measured first, with a loop of known length.

use core::sync::atomic::{AtomicU32, Ordering};

use virtside::memory::{DeviceRange, RingWindow};
use virtside::{
    DriverMem, FlatMem,
    memory::{DriverRange, MemFault, Permission, PtrWindow, RawDescriptor},
};

use crate::platform;

static RANG: AtomicU32 = AtomicU32::new(0);
static PUBLISHED: AtomicU32 = AtomicU32::new(0);
static RAISED: AtomicU32 = AtomicU32::new(0);

fn since_doorbell(to: &AtomicU32) {
    let now = platform::now();
    to.store(
        platform::ticks(RANG.load(Ordering::Relaxed), now),
        Ordering::Relaxed,
    );
}

/// Records that the driver is about to ring the doorbell.
#[inline]
pub fn rang() {
    RANG.store(platform::now(), Ordering::Relaxed);
}

/// Records that the device has raised the driver's interrupt.
#[inline]
pub fn raised() {
    since_doorbell(&RAISED);
}

/// Converts ticks to instructions.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    ticks: u32,
    instructions: u32,
}

impl Scale {
    /// Measures the ratio with a loop of known length.
    pub fn measure() -> Self {
        let time = |rounds| {
            let start = platform::now();
            platform::spin(rounds);
            platform::ticks(start, platform::now())
        };
        // The difference of two loops removes the cost of the call and of the clock.
        let (long, short) = (time(1100), time(100));
        Self {
            ticks: long.wrapping_sub(short),
            instructions: 2000,
        }
    }

    /// Instructions that take this number of ticks, rounded to the nearest.
    pub fn instructions(self, ticks: u32) -> u32 {
        let scaled = u64::from(ticks) * u64::from(self.instructions);
        let half = u64::from(self.ticks / 2);
        u32::try_from((scaled + half) / u64::from(self.ticks.max(1))).unwrap_or(u32::MAX)
    }

    /// Instructions from the last doorbell to the last store of a used index after it.
    pub fn to_publish(self) -> u32 {
        self.instructions(PUBLISHED.load(Ordering::Relaxed))
    }

    /// Instructions from the last doorbell to the last driver's interrupt after it.
    pub fn to_interrupt(self) -> u32 {
        self.instructions(RAISED.load(Ordering::Relaxed))
    }

    /// Ticks of 1000 instructions: 1600 under `-icount shift=6`.
    pub fn ticks_of_a_thousand(self) -> u32 {
        self.ticks / 2
    }
}

/// Calls `work`; returns the ticks from just before the call to just after it.
#[inline(never)]
pub fn time<R>(work: impl FnOnce() -> R) -> (R, u32) {
    let start = platform::now();
    let result = apart(work);
    let ticks = platform::ticks(start, platform::now());
    (result, ticks)
}

/// The shared RAM, which reads the clock after each store of a used index. Before the store it adds
/// no work.
#[derive(Clone, Debug)]
pub struct Timed(pub FlatMem);

/// A window of [`Timed`].
#[derive(Debug)]
pub struct TimedWindow(PtrWindow);

impl DriverMem for Timed {
    type Window = TimedWindow;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<TimedWindow, MemFault> {
        self.0.window(range, permission).map(TimedWindow)
    }

    #[inline(always)]
    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        self.0.translate(range, permission)
    }

    #[inline(always)]
    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        self.0.is_mapped(start, len, permission)
    }
}

impl RingWindow for TimedWindow {
    #[inline(always)]
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor> {
        self.0.load_descriptor(index)
    }
    #[inline(always)]
    fn load_flags(&self) -> u16 {
        self.0.load_flags()
    }
    #[inline(always)]
    fn load_idx(&self) -> u16 {
        self.0.load_idx()
    }
    #[inline(always)]
    fn load_entry(&self, index: u16) -> u16 {
        self.0.load_entry(index)
    }
    #[inline(always)]
    fn load_event(&self) -> u16 {
        self.0.load_event()
    }
    #[inline(always)]
    fn store_flags(&self, flags: u16) {
        self.0.store_flags(flags);
    }
    #[inline(always)]
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16) {
        self.0.store_used_batch(index, element, count);
        since_doorbell(&PUBLISHED);
    }
    #[inline(always)]
    fn store_event(&self, event: u16) {
        self.0.store_event(event);
    }
    #[inline(always)]
    fn is_available(&self, index: u16, wrap: bool) -> bool {
        self.0.is_available(index, wrap)
    }
    #[inline(always)]
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor> {
        self.0.load_available(index, wrap)
    }
    #[inline(always)]
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool {
        let stored = self.0.store_used_descriptor(index, id, len, flags);
        since_doorbell(&PUBLISHED);
        stored
    }
    #[inline(always)]
    fn load_suppression(&self) -> u32 {
        self.0.load_suppression()
    }
    #[inline(always)]
    fn store_suppression(&self, word: u32) {
        self.0.store_suppression(word);
    }
}

/// Whether [`Stack`] paints the stack, which takes time.
static PAINTING: AtomicU32 = AtomicU32::new(0);

/// Turns the stack measurement on or off.
pub fn paint(on: bool) {
    PAINTING.store(u32::from(on), Ordering::Relaxed);
}

/// The most stack that a call has taken so far, in bytes.
#[derive(Debug)]
pub struct Stack(AtomicU32);

/// Words below the stack pointer that are painted and checked.
const WORDS: usize = 1024;
const PAINT: u32 = 0xa5a5_5a5a;

impl Stack {
    /// Starts at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The most stack so far, in bytes.
    pub fn most(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Calls `work` in a critical section, because handlers would put frames on the same stack.
    #[inline(always)]
    pub fn of<R>(&self, work: impl FnOnce() -> R) -> R {
        if PAINTING.load(Ordering::Relaxed) == 0 {
            return work();
        }
        self.watch(work)
    }

    #[inline(never)]
    fn watch<R>(&self, work: impl FnOnce() -> R) -> R {
        let top = platform::stack_pointer();
        let word = |at: usize| core::ptr::without_provenance_mut::<u32>(top - 4 * (at + 1));
        for at in 0..WORDS {
            // SAFETY: RAM that is reserved for the stack; nothing is below the stack pointer.
            unsafe { word(at).write_volatile(PAINT) };
        }
        let result = apart(work);
        // SAFETY: see above.
        let is_paint = |at: &usize| unsafe { word(*at).read_volatile() } == PAINT;
        let clean = (0..WORDS).rev().take_while(is_paint).count();
        let used = u32::try_from(4 * (WORDS - clean)).unwrap_or(u32::MAX);
        self.0.store(self.most().max(used), Ordering::Relaxed);
        result
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives `work` a frame of its own, below that of the function that paints.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

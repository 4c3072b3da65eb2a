//! Memories that count the accesses of the device, or change between two accesses.

use portable_atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::memory::DeviceRange;
use crate::memory::DriverMem;
use crate::memory::DriverRange;
use crate::memory::MemFault;
use crate::memory::Permission;
use crate::memory::RawDescriptor;
use crate::memory::RingWindow;

/// Counters of the accesses to driver memory.
#[derive(Debug, Default)]
pub struct Counts {
    loads: AtomicU32,
    stores: AtomicU32,
    elements: AtomicU32,
    descriptors: AtomicU32,
    translations: AtomicU32,
}

impl Counts {
    /// Creates counters of value 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            loads: AtomicU32::new(0),
            stores: AtomicU32::new(0),
            elements: AtomicU32::new(0),
            descriptors: AtomicU32::new(0),
            translations: AtomicU32::new(0),
        }
    }

    /// Returns the number of ring loads, except loads of whole descriptors.
    pub fn loads(&self) -> u32 {
        self.loads.load(Ordering::Relaxed)
    }

    /// Returns the number of ring stores, except stores of used elements and used descriptors:
    /// flags, event fields and used indices.
    pub fn stores(&self) -> u32 {
        self.stores.load(Ordering::Relaxed)
    }

    /// Returns the number of stores of used elements, or of used descriptors in a packed ring. A
    /// batch of a split ring counts as one element, and its used index as one
    /// [store](Self::stores).
    pub fn elements(&self) -> u32 {
        self.elements.load(Ordering::Relaxed)
    }

    /// Returns the number of descriptors loaded from a descriptor area.
    pub fn descriptors(&self) -> u32 {
        self.descriptors.load(Ordering::Relaxed)
    }

    /// Returns the number of translations of buffers and indirect tables.
    pub fn translations(&self) -> u32 {
        self.translations.load(Ordering::Relaxed)
    }

    /// Returns the number of ring accesses: loads, stores, elements and descriptors.
    pub fn rings(&self) -> u32 {
        [self.stores(), self.elements(), self.descriptors()]
            .iter()
            .fold(self.loads(), |sum, count| sum.wrapping_add(*count))
    }

    /// Sets all counters to 0.
    pub fn clear(&self) {
        for count in [
            &self.loads,
            &self.stores,
            &self.elements,
            &self.descriptors,
            &self.translations,
        ] {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn count(count: &AtomicU32) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A memory that counts its accesses.
///
/// ```
/// use virtside::{ChainSlot, Engine, Features, Shared, memory::Ram, models::Entropy};
/// use virtside::testing::{Buffer, CountingMem, Counts, Registers, fake_queue};
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let counts = Counts::new();
/// let source = |bytes: &mut [u8]| Ok(bytes.len());
/// let mem = CountingMem::new(RAM.flat(0), &counts);
/// let mut engine: Engine<_, _, _, 1, 8, _, _> =
///     Engine::new(Entropy::new(source), mem, (), [ChainSlot::new()], &SHARED);
/// let mut driver = fake_queue(RAM.flat(0), 0, 8);
/// assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));
///
/// driver.send(0, &[Buffer::writable(0x800, 16)]);
/// let _ = engine.kick(0);
/// counts.clear();
/// engine.poll(1);
/// assert_eq!((counts.descriptors(), counts.elements()), (1, 1));
/// ```
#[derive(Clone, Debug)]
pub struct CountingMem<'c, M> {
    inner: M,
    counts: &'c Counts,
}

impl<'c, M> CountingMem<'c, M> {
    /// Wraps `inner`, and counts its accesses in `counts`.
    pub const fn new(inner: M, counts: &'c Counts) -> Self {
        Self { inner, counts }
    }
}

/// A ring window that counts its accesses.
#[derive(Debug)]
pub struct CountingWindow<'c, W> {
    inner: W,
    counts: &'c Counts,
}

impl<W: RingWindow> RingWindow for CountingWindow<'_, W> {
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor> {
        let raw = self.inner.load_descriptor(index);
        if raw.is_some() {
            Counts::count(&self.counts.descriptors);
        }
        raw
    }
    fn load_flags(&self) -> u16 {
        Counts::count(&self.counts.loads);
        self.inner.load_flags()
    }
    fn load_idx(&self) -> u16 {
        Counts::count(&self.counts.loads);
        self.inner.load_idx()
    }
    fn load_event(&self) -> u16 {
        Counts::count(&self.counts.loads);
        self.inner.load_event()
    }
    fn load_entry(&self, index: u16) -> u16 {
        Counts::count(&self.counts.loads);
        self.inner.load_entry(index)
    }
    fn store_flags(&self, value: u16) {
        Counts::count(&self.counts.stores);
        self.inner.store_flags(value);
    }
    fn store_event(&self, value: u16) {
        Counts::count(&self.counts.stores);
        self.inner.store_event(value);
    }
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16) {
        Counts::count(&self.counts.elements);
        Counts::count(&self.counts.stores);
        self.inner.store_used_batch(index, element, count);
    }
    fn is_available(&self, index: u16, wrap: bool) -> bool {
        Counts::count(&self.counts.loads);
        self.inner.is_available(index, wrap)
    }
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor> {
        let raw = self.inner.load_available(index, wrap);
        match raw {
            Some(_) => Counts::count(&self.counts.descriptors),
            None if self.inner.load_descriptor(index).is_some() => {
                Counts::count(&self.counts.loads)
            }
            // An index outside the area causes no load.
            None => {}
        }
        raw
    }
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool {
        let stored = self.inner.store_used_descriptor(index, id, len, flags);
        if stored {
            Counts::count(&self.counts.elements);
        }
        stored
    }
    fn load_suppression(&self) -> u32 {
        Counts::count(&self.counts.loads);
        self.inner.load_suppression()
    }
    fn store_suppression(&self, word: u32) {
        Counts::count(&self.counts.stores);
        self.inner.store_suppression(word);
    }
    fn full_fence(&self) {
        self.inner.full_fence();
    }
}

impl<'c, M: DriverMem> DriverMem for CountingMem<'c, M> {
    type Window = CountingWindow<'c, M::Window>;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<Self::Window, MemFault> {
        Ok(CountingWindow {
            inner: self.inner.window(range, permission)?,
            counts: self.counts,
        })
    }

    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        Counts::count(&self.counts.translations);
        self.inner.translate(range, permission)
    }

    fn is_mapped(&self, start: u64, len: u32, permission: Permission) -> bool {
        self.inner.is_mapped(start, len, permission)
    }
}

/// A script of changes to a memory, one change before each ring load and each translation.
#[derive(Debug)]
pub struct Shift<'s> {
    script: &'s [u8],
    at: AtomicUsize,
    start: u64,
}

impl<'s> Shift<'s> {
    /// Creates a script of changes. Each change has three bytes:
    ///
    /// | bytes | meaning |
    /// |---|---|
    /// | 0 and 1 | little-endian: bits 0 to 14 are the offset from `start` of the byte to change; if bit 15 is set, nothing changes |
    /// | 2 | the new value of the byte |
    ///
    /// After the end of the script, nothing changes.
    #[must_use]
    pub const fn new(script: &'s [u8], start: u64) -> Self {
        Self {
            script,
            at: AtomicUsize::new(0),
            start,
        }
    }

    /// Applies the next change of the script to `mem`.
    fn apply<M: DriverMem>(&self, mem: &M) {
        let at = self.at.fetch_add(3, Ordering::Relaxed);
        let Some(&[low, high, byte]) = self.script.get(at..).and_then(<[u8]>::first_chunk) else {
            return;
        };
        // A random script leaves the memory unchanged before half of all loads.
        if high & 0x80 != 0 {
            return;
        }
        let addr = self
            .start
            .wrapping_add(u64::from(u16::from_le_bytes([low, high])));
        if let Some(range) = DriverRange::new(addr, 1)
            && let Ok(view) = mem.translate(range, Permission::Write)
        {
            view.copy_from(&[byte]);
        }
    }
}

/// A memory that changes before each ring load and each translation of the device, as a [`Shift`]
/// says.
#[derive(Clone, Debug)]
pub struct ShiftingMem<'s, M> {
    inner: M,
    shift: &'s Shift<'s>,
}

impl<'s, M> ShiftingMem<'s, M> {
    /// Wraps `inner`, and changes its bytes as `shift` says.
    pub const fn new(inner: M, shift: &'s Shift<'s>) -> Self {
        Self { inner, shift }
    }
}

/// A ring window whose memory changes before each load.
#[derive(Debug)]
pub struct ShiftingWindow<'s, M: DriverMem> {
    inner: M::Window,
    mem: M,
    shift: &'s Shift<'s>,
}

impl<M: DriverMem + Send> RingWindow for ShiftingWindow<'_, M> {
    fn load_descriptor(&self, index: u16) -> Option<RawDescriptor> {
        self.shift.apply(&self.mem);
        self.inner.load_descriptor(index)
    }
    fn load_flags(&self) -> u16 {
        self.shift.apply(&self.mem);
        self.inner.load_flags()
    }
    fn load_idx(&self) -> u16 {
        self.shift.apply(&self.mem);
        self.inner.load_idx()
    }
    fn load_event(&self) -> u16 {
        self.shift.apply(&self.mem);
        self.inner.load_event()
    }
    fn load_entry(&self, index: u16) -> u16 {
        self.shift.apply(&self.mem);
        self.inner.load_entry(index)
    }
    fn store_flags(&self, value: u16) {
        self.inner.store_flags(value);
    }
    fn store_event(&self, value: u16) {
        self.inner.store_event(value);
    }
    fn store_used_batch(&self, index: u16, element: [u32; 2], count: u16) {
        self.inner.store_used_batch(index, element, count);
    }
    fn is_available(&self, index: u16, wrap: bool) -> bool {
        self.shift.apply(&self.mem);
        self.inner.is_available(index, wrap)
    }
    fn load_available(&self, index: u16, wrap: bool) -> Option<RawDescriptor> {
        self.shift.apply(&self.mem);
        self.inner.load_available(index, wrap)
    }
    fn store_used_descriptor(&self, index: u16, id: u16, len: u32, flags: u16) -> bool {
        self.inner.store_used_descriptor(index, id, len, flags)
    }
    fn load_suppression(&self) -> u32 {
        self.shift.apply(&self.mem);
        self.inner.load_suppression()
    }
    fn store_suppression(&self, word: u32) {
        self.inner.store_suppression(word);
    }
}

impl<'s, M: DriverMem + Clone + Send> DriverMem for ShiftingMem<'s, M> {
    type Window = ShiftingWindow<'s, M>;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<Self::Window, MemFault> {
        let inner = self.inner.window(range, permission)?;
        Ok(ShiftingWindow {
            inner,
            mem: self.inner.clone(),
            shift: self.shift,
        })
    }

    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        self.shift.apply(&self.inner);
        self.inner.translate(range, permission)
    }
}

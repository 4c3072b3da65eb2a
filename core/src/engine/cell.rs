//! A place for an engine that `main` and interrupt handlers share.

use core::cell::RefCell;

/// An engine (or anything else) in a static, reached from `main` and from handlers.
///
/// Whoever has it works in a critical section: on one core nobody waits for it, and interrupts are
/// off for as long (with more cores, others may wait for as long), which a small budget for `poll` bounds. What needs no engine needs no
/// critical section: [`Doorbell::ring`](crate::doorbell::Doorbell::ring) and the rest of
/// [`Shared`](crate::Shared).
///
/// ```
/// use virtside::{mmio::Access, models::{Entropy, EntropyError}, ChainSlot, Engine, EngineCell};
/// use virtside::{FlatMem, Shared, memory::Ram};
/// type Source = fn(&mut [u8]) -> Result<usize, EntropyError>;
/// type Device = Engine<Entropy<Source>, FlatMem, ()>;
///
/// static RAM: Ram<4096> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// static DEVICE: EngineCell<Device> = EngineCell::new(Engine::new(
///     Entropy::new(|bytes| Ok(bytes.len())),
///     RAM.flat(0x2000_0000),
///     (),
///     [ChainSlot::new()],
///     &SHARED,
/// ));
///
/// // From `main` as from a handler:
/// let reply = DEVICE.with(|device| device.access(Access::read(0)).value());
/// assert_eq!(reply, Some(Some(0x7472_6976)));
/// // Inside, there is no second way in.
/// assert_eq!(DEVICE.with(|_| DEVICE.with(|_| ())), Some(None));
/// ```
pub struct EngineCell<E>(critical_section::Mutex<RefCell<E>>);

impl<E> EngineCell<E> {
    /// Around this engine.
    pub const fn new(engine: E) -> Self {
        Self(critical_section::Mutex::new(RefCell::new(engine)))
    }

    /// Calls `work` in a critical section; `None`, without calling it, from inside another
    /// `with` of the same cell.
    pub fn with<R>(&self, work: impl FnOnce(&mut E) -> R) -> Option<R> {
        critical_section::with(|token| {
            let mut engine = self.0.borrow(token).try_borrow_mut().ok()?;
            Some(work(&mut engine))
        })
    }

    /// The engine again.
    pub fn into_inner(self) -> E {
        self.0.into_inner().into_inner()
    }
}

impl<E> core::fmt::Debug for EngineCell<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EngineCell").finish_non_exhaustive()
    }
}

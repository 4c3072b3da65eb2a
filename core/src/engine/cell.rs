//! A cell for an engine that `main` and interrupt handlers share.

use core::cell::RefCell;

/// An engine (or anything else) in a static, reached from `main` and from handlers.
///
/// [`with`](Self::with) runs its closure in a critical section: interrupts are off during the call,
/// and with several cores other cores may wait for it. A small budget of `poll` bounds that time.
/// Calls on [`Shared`](crate::Shared), such as
/// [`Doorbell::ring`](crate::doorbell::Doorbell::ring), need no engine and no critical section.
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
/// // `main` and handlers make the same call:
/// let reply = DEVICE.with(|device| device.access(Access::read(0)).value());
/// assert_eq!(reply, Some(Some(0x7472_6976)));
/// // A nested call gets no engine.
/// assert_eq!(DEVICE.with(|_| DEVICE.with(|_| ())), Some(None));
/// ```
pub struct EngineCell<E>(critical_section::Mutex<RefCell<E>>);

impl<E> EngineCell<E> {
    /// Creates a cell with this engine.
    pub const fn new(engine: E) -> Self {
        Self(critical_section::Mutex::new(RefCell::new(engine)))
    }

    /// Calls `work` with the engine in a critical section. Inside another `with` of the same cell,
    /// returns `None` without calling `work`.
    pub fn with<R>(&self, work: impl FnOnce(&mut E) -> R) -> Option<R> {
        critical_section::with(|token| {
            let mut engine = self.0.borrow(token).try_borrow_mut().ok()?;
            Some(work(&mut engine))
        })
    }

    /// Returns the engine.
    pub fn into_inner(self) -> E {
        self.0.into_inner().into_inner()
    }
}

impl<E> core::fmt::Debug for EngineCell<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EngineCell").finish_non_exhaustive()
    }
}

//! Observes a device's accesses to memory, one by one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use virtside::memory::{DriverRange, MemHooks};

/// One access of the device to the driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The device is about to read this many bytes at this driver address.
    Read(u64, u32),
    /// The device has written this many bytes at this driver address.
    Write(u64, u32),
}

type Call = dyn Fn(Touch) + Send + Sync;

/// Memory hooks that call a function at each access.
#[derive(Clone)]
pub struct Hook(Arc<Call>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    /// Makes hooks that call this function.
    pub fn new(call: impl Fn(Touch) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl MemHooks for Hook {
    fn before_read(&self, range: DriverRange) {
        (self.0)(Touch::Read(range.start(), range.len()));
    }
    fn after_write(&self, range: DriverRange) {
        (self.0)(Touch::Write(range.start(), range.len()));
    }
}

/// The accesses of a device to its memory.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Touch>>>);

impl Log {
    /// Returns the hook that fills the log.
    pub fn hook(&self) -> Hook {
        let log = self.clone();
        Hook::new(move |touch| log.0.lock().unwrap().push(touch))
    }

    /// Takes all accesses since the last call.
    pub fn take(&self) -> Vec<Touch> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// An action that happens once, just before or just after a chosen access of the device. It stands
/// for what another processor may do at that moment.
#[derive(Clone)]
pub struct Interloper(Arc<Inside>);

struct Inside {
    armed: AtomicBool,
    left: Mutex<u32>,
    act: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl std::fmt::Debug for Interloper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interloper")
    }
}

impl Default for Interloper {
    fn default() -> Self {
        Self(Arc::new(Inside {
            armed: AtomicBool::new(false),
            left: Mutex::new(0),
            act: Mutex::new(None),
        }))
    }
}

impl Interloper {
    /// Returns the hook that triggers the action.
    pub fn hook(&self) -> Hook {
        let this = self.clone();
        Hook::new(move |_| this.step())
    }

    fn step(&self) {
        if !self.0.armed.load(Ordering::SeqCst) {
            return;
        }
        let mut left = self.0.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return;
        }
        self.0.armed.store(false, Ordering::SeqCst);
        if let Some(act) = self.0.act.lock().unwrap().as_mut() {
            act();
        }
    }

    /// Skips `skip` accesses, then acts.
    pub fn arm(&self, skip: u32, act: impl FnMut() + Send + 'static) {
        *self.0.act.lock().unwrap() = Some(Box::new(act));
        *self.0.left.lock().unwrap() = skip;
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Returns whether the action has happened.
    pub fn has_acted(&self) -> bool {
        !self.0.armed.load(Ordering::SeqCst)
    }
}
